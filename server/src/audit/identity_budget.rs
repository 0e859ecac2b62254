//! The budget of events that a machine identity causes without any right: its logins, and the
//! renewals and revocations of its own tokens.
//!
//! Each identity has a budget for each operation, so that none fills the rows of the others. An
//! event beyond it is counted, and stored as a part of one event with a count.
//!
//! The memory is bounded: only authenticated identities have events that are done.

use std::{
    collections::{HashMap, hash_map::Entry},
    time::Duration,
};

use super::{
    event::{AuditEvent, AuditOperation, AuditOrigin},
    refusal_budget::MINUTE,
};
use crate::{admission::KeyedBudget, base::clock::Stopwatch};

/// Events of each identity and operation that are stored one by one.
pub(super) struct IdentityBudget(KeyedBudget);

/// Events beyond the budget, one for each identity and operation.
pub(super) struct ExcessEvents {
    /// Time since the first one.
    age: Stopwatch,
    events: HashMap<(AuditOperation, Option<String>), AuditEvent>,
}

/// Events of an identity that are stored at once.
const BURST: u64 = 60;
/// Time in which one more is stored.
const INTERVAL: Duration = Duration::from_secs(1);
/// Number of identities and operations that are counted separately.
const MAX_COUNTED: usize = 4096;

impl IdentityBudget {
    pub(super) fn new() -> Self {
        Self(KeyedBudget::new(MAX_COUNTED, BURST, INTERVAL))
    }

    /// Counts an event that is to be stored. `false` if the budget is used up. Other operations have
    /// no budget.
    pub(super) fn admit(&self, event: &AuditEvent) -> bool {
        let operation = event.operation;
        !operation.is_by_identity() || self.0.take((operation, &event.target.user)).is_ok()
    }
}

impl ExcessEvents {
    pub(super) fn new() -> Self {
        Self { age: Stopwatch::start(), events: HashMap::new() }
    }

    /// Counts an event. `false` if there are too many identities.
    pub(super) fn add(&mut self, event: AuditEvent) -> bool {
        if self.events.is_empty() {
            self.age = Stopwatch::start();
        }
        let is_full = self.events.len() >= MAX_COUNTED;
        match self.events.entry((event.operation, event.target.user.clone())) {
            Entry::Occupied(mut counted) => counted.get_mut().count += 1,
            Entry::Vacant(_) if is_full => return false,
            Entry::Vacant(new) => {
                new.insert(summary_of(event));
            }
        }
        true
    }

    /// Removes and returns the events of the last minute, once it is over; or at once.
    pub(super) fn take(&mut self, at_once: bool) -> Vec<AuditEvent> {
        if !at_once && self.age.elapsed() < MINUTE {
            return Vec::new();
        }
        self.events.drain().map(|(_, event)| event).collect()
    }
}

/// Returns an event without the parts that differ in others of its identity and operation.
fn summary_of(mut event: AuditEvent) -> AuditEvent {
    event.target.token = None;
    event.origin = AuditOrigin::default();
    event
}

#[cfg(test)]
mod tests {
    use countersign_engine::UnixTime;

    use super::*;

    fn renewal(identity: &str, token: &str) -> AuditEvent {
        let origin = AuditOrigin { client: Some("192.0.2.1".into()), peer: None };
        let mut event = AuditEvent::new(AuditOperation::IdentityRenewal, origin, UnixTime(1));
        event.target.user = Some(identity.into());
        event.target.token = Some(token.into());
        event
    }

    #[test]
    fn identity_uses_up_no_budget_of_others() {
        let budget = IdentityBudget::new();
        let admitted = |event: &AuditEvent| (0..200).filter(|_| budget.admit(event)).count();
        for identity in ["a", "b"] {
            let count = admitted(&renewal(identity, "t"));
            assert!((60..70).contains(&count), "{identity}: {count}");
        }
        let login = AuditEvent { operation: AuditOperation::IdentityLogin, ..renewal("a", "t") };
        assert!(budget.admit(&login), "another operation");
        let change = AuditEvent { operation: AuditOperation::ModifyIdentity, ..renewal("a", "t") };
        assert_eq!(admitted(&change), 200, "a change has no budget");
    }

    #[test]
    fn excess_events_are_counted_by_identity() {
        let mut excess = ExcessEvents::new();
        for number in 0..5 {
            assert!(excess.add(renewal("a", &format!("t-{number}"))));
        }
        assert!(excess.add(renewal("b", "t")));
        assert_eq!(excess.take(false), [], "the minute is not over");
        let mut events = excess.take(true);
        events.sort_by_key(|event| event.count);
        let shown = |event: &AuditEvent| (event.target.user.clone(), event.count);
        let shown: Vec<_> = events.iter().map(shown).collect();
        assert_eq!(shown, [(Some("b".into()), 1), (Some("a".into()), 5)]);
        assert!(events.iter().all(|one| one.target.token.is_none() && one.origin.client.is_none()));
        assert_eq!(excess.take(true), []);
    }

    #[test]
    fn number_of_counted_identities_is_bounded() {
        let mut excess = ExcessEvents::new();
        let added = (0..2 * MAX_COUNTED).filter(|id| excess.add(renewal(&id.to_string(), "t")));
        assert_eq!(added.count(), MAX_COUNTED);
        assert!(excess.add(renewal("1", "t")), "known");
    }
}
