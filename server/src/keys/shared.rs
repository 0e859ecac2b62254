//! The keys that are fetched over a network, as one process of a machine passes them on to others.
//!
//! Only public keys are passed on. Times are milliseconds of
//! [`since_boot`](crate::base::clock::since_boot), which all processes of a machine share; those
//! before the start of the machine are negative.

use std::{sync::Arc, time::Duration};

use countersign_engine::rotation::WithdrawalReason;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    FetchState, IssuerKeys, IssuerSection, KeyClock, KeySource, KeySources, Progress,
    stored::source_digest,
};

/// The keys of one section, and the progress of fetching them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SharedKeys {
    /// The name of the section.
    pub section: String,
    /// Its [`source`], on which the keys depend.
    pub(super) source: String,
    /// Number of ended fetches.
    pub(super) fetches: u64,
    /// Whether the last one failed.
    pub(super) is_failing: bool,
    /// When the keys in use were last confirmed, if there are any.
    pub(super) confirmed: Option<i64>,
    /// When the last successful fetch of the process began and ended.
    pub(super) success: Option<[i64; 2]>,
    /// When the next fetch begins, if none is under way.
    pub(super) next_fetch: Option<i64>,
    /// Whether they were withdrawn because the issuer publishes an empty set (`true`) or because
    /// they were not confirmed for too long (`false`).
    pub(super) is_emptied: Option<bool>,
    /// The JWK Set of the keys in use. Absent without keys, and if they cannot be passed on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) keys: Option<Box<RawValue>>,
}

impl PartialEq for SharedKeys {
    fn eq(&self, other: &Self) -> bool {
        let Self {
            section,
            source,
            fetches,
            is_failing,
            confirmed,
            success,
            next_fetch,
            is_emptied,
            keys,
        } = self;
        (section, source, fetches, is_failing)
            == (&other.section, &other.source, &other.fetches, &other.is_failing)
            && (confirmed, success, next_fetch, is_emptied)
                == (&other.confirmed, &other.success, &other.next_fetch, &other.is_emptied)
            && text(keys.as_deref()) == text(other.keys.as_deref())
    }
}

fn text(json: Option<&RawValue>) -> Option<&str> {
    json.map(RawValue::get)
}

impl SharedKeys {
    /// Whether there are keys in use that cannot be passed on.
    #[must_use]
    pub fn are_withheld(&self) -> bool {
        self.confirmed.is_some() && self.keys.is_none()
    }

    /// Returns the JWK Set.
    pub(super) fn jwks(&self) -> Option<&str> {
        text(self.keys.as_deref())
    }
}

impl KeySources {
    /// Returns the keys of every section that are fetched over a network.
    #[must_use]
    pub fn shared(&self) -> Vec<SharedKeys> {
        self.all().iter().filter_map(|source| source.shared(self.clock)).collect()
    }
}

impl IssuerKeys {
    fn shared(&self, clock: KeyClock) -> Option<SharedKeys> {
        let source = source(&self.section)?;
        // Before the progress: keys that replace these are then reported, too.
        let Progress { state, confirmed, withdrawn, .. } = self.progress();
        let FetchState { rounds, is_failing, success, fetch_at, .. } = state;
        let jwks = self.jwks.load_full().filter(|_| confirmed.is_some());
        let at = |time| clock.to_boot(time);
        Some(SharedKeys {
            section: self.section.section().to_owned(),
            source,
            fetches: rounds,
            is_failing,
            confirmed: confirmed.map(at),
            success: success.map(|success| [at(success.began), at(success.ended)]),
            next_fetch: fetch_at.map(at),
            is_emptied: withdrawn.map(|reason| reason == WithdrawalReason::Emptied),
            keys: jwks.and_then(|jwks| RawValue::from_string(Arc::unwrap_or_clone(jwks)).ok()),
        })
    }
}

/// Returns a text that two sections have in common whose keys are the same: the digest of the
/// location and of what authenticates it, and the issuer. Each key has its own algorithm, so those
/// of the section do not count. `None` for keys that are not fetched over a network.
pub(super) fn source(section: &IssuerSection) -> Option<String> {
    let KeySource::Refreshed(refreshed) = &section.keys else { return None };
    Some(format!("{} {}", source_digest(refreshed)?, section.issuer.name))
}

impl KeyClock {
    /// Converts a time on this clock to milliseconds since the start of the machine.
    fn to_boot(self, time: Duration) -> i64 {
        let offset = milliseconds(self.boot).saturating_sub(milliseconds(Self::START));
        milliseconds(time).saturating_add(offset)
    }

    /// Converts milliseconds since the start of the machine to a time on this clock.
    pub(super) fn of_boot(self, time: i64) -> Duration {
        let offset = milliseconds(Self::START).saturating_sub(milliseconds(self.boot));
        Duration::from_millis(u64::try_from(time.saturating_add(offset)).unwrap_or_default())
    }
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_before_the_boot_survives_the_conversion() {
        let clock = KeyClock::start();
        for time in [clock.now(), KeyClock::START.saturating_sub(Duration::from_secs(86_400))] {
            let rounded = clock.of_boot(clock.to_boot(time));
            assert!(time.abs_diff(rounded) <= Duration::from_millis(2), "{time:?} {rounded:?}");
        }
        assert_eq!(clock.of_boot(i64::MIN), Duration::ZERO);
    }
}
