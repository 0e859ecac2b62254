//! The budget of refusals: how many are stored in a minute.
//!
//! Each reason of each kind has a budget of its own, so that a flood for one reason hides no
//! refusal for another. A source gets a quarter of it, and the last third is for sources without a
//! stored refusal, so that no source hides another.
//!
//! The memory is bounded: only what is stored is counted, and only for [`MAX_REASONS`].

use std::{collections::HashMap, net::IpAddr, time::Duration};

use super::event::{AuditEvent, AuditOperation};
use crate::{admission::Source, base::clock::Stopwatch};

/// The kind of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum RefusalKind {
    /// A login of a user.
    Login,
    /// A login of a machine identity.
    IdentityLogin,
    /// A call with a token.
    Call,
    /// A call without one, and what no caller causes.
    Anonymous,
}

/// Refusals that were stored in this minute.
pub(super) struct RefusalBudget {
    minute: Stopwatch,
    stored: HashMap<(RefusalKind, Box<str>), StoredRefusals>,
}

/// Refusals of one kind for one reason.
#[derive(Default)]
struct StoredRefusals {
    count: usize,
    by_source: HashMap<Option<Source>, usize>,
}

/// The unit of the budget.
pub(super) const MINUTE: Duration = Duration::from_secs(60);
/// Maximum number of reasons with a budget of their own. Others share one for each kind.
const MAX_REASONS: usize = 128;

impl RefusalBudget {
    /// Starts the first minute.
    pub(super) fn start() -> Self {
        Self { minute: Stopwatch::start(), stored: HashMap::new() }
    }

    /// Starts a new minute if this one is over. Returns whether it was.
    pub(super) fn start_next_minute(&mut self) -> bool {
        let is_over = self.minute.elapsed() >= MINUTE;
        if is_over {
            *self = Self::start();
        }
        is_over
    }

    /// Counts a refusal that is to be stored. `false` if the budget is used up.
    pub(super) fn admit(&mut self, event: &AuditEvent) -> bool {
        let kind = RefusalKind::of(event);
        let reason = event.reason.as_deref().unwrap_or_default();
        let mut key: (RefusalKind, Box<str>) = (kind, reason.into());
        if self.stored.len() >= MAX_REASONS && !self.stored.contains_key(&key) {
            key.1 = Box::default();
        }
        let address = event.origin.client.as_deref().and_then(|text| text.parse::<IpAddr>().ok());
        self.stored.entry(key).or_default().admit(kind.per_minute(), address.map(Source::of))
    }
}

impl StoredRefusals {
    fn admit(&mut self, per_minute: usize, source: Option<Source>) -> bool {
        let own = self.by_source.get(&source).copied().unwrap_or(0);
        let (per_source, shared) = (per_minute / 4, per_minute * 2 / 3);
        let is_admitted = match own {
            0 => self.count < per_minute,
            own => own < per_source && self.count < shared,
        };
        if is_admitted {
            self.count += 1;
            self.by_source.insert(source, own + 1);
        }
        is_admitted
    }
}

impl RefusalKind {
    fn of(event: &AuditEvent) -> Self {
        match event.operation {
            AuditOperation::Login => Self::Login,
            AuditOperation::IdentityLogin => Self::IdentityLogin,
            _ if event.caller.issuer.is_some() => Self::Call,
            _ => Self::Anonymous,
        }
    }

    /// Returns the number of refusals for each reason that are stored in a minute. Requests without
    /// a token cost nothing to send.
    const fn per_minute(self) -> usize {
        match self {
            Self::Login | Self::IdentityLogin | Self::Call => 60,
            Self::Anonymous => 20,
        }
    }
}

#[cfg(test)]
mod tests {
    use countersign_engine::UnixTime;

    use super::*;
    use crate::audit::AuditOrigin;

    fn login(reason: &str, client: &str) -> AuditEvent {
        let origin = AuditOrigin { client: Some(client.to_owned()), peer: None };
        let event = AuditEvent::new(AuditOperation::IdentityLogin, origin, UnixTime(1));
        AuditEvent { reason: Some(reason.to_owned()), ..event }
    }

    #[test]
    fn source_hides_no_other_source_or_reason() {
        let mut budget = RefusalBudget::start();
        let mut admitted = |reason: &str, client: &str| {
            (0..100).filter(|_| budget.admit(&login(reason, client))).count()
        };
        assert_eq!(admitted("credentials", "192.0.2.1"), 15);
        assert_eq!(admitted("credentials", "192.0.2.2"), 15);
        assert_eq!(admitted("credentials", "192.0.2.3"), 10);
        // The rest is for others, one for each.
        assert_eq!(admitted("credentials", "192.0.2.4"), 1);
        assert_eq!(admitted("certificate_header_untrusted", "192.0.2.1"), 15);
        // The addresses of one network are one source.
        let others = (0..100).map(|number| format!("2001:db8::{number:x}"));
        assert_eq!(others.map(|client| admitted("credentials", &client)).sum::<usize>(), 1);
        let networks = (1..100).map(|number| format!("2001:db8:0:{number:x}::1"));
        assert_eq!(networks.map(|client| admitted("credentials", &client)).sum::<usize>(), 18);
    }

    #[test]
    fn number_of_reasons_is_bounded() {
        let mut budget = RefusalBudget::start();
        let reasons = (0..10 * MAX_REASONS).map(|number| format!("reason-{number}"));
        let admitted = reasons.filter(|reason| budget.admit(&login(reason, "192.0.2.1"))).count();
        assert_eq!(admitted, MAX_REASONS + 15);
        assert_eq!(budget.stored.len(), MAX_REASONS + 1);
    }
}
