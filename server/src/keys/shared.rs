//! The keys that are fetched over a network, as one process of a machine passes them on to others.
//!
//! Only public keys are passed on. Times are microseconds of
//! [`since_boot`](crate::base::clock::since_boot), which all processes of a machine share; those
//! before the start of the machine are negative.

use std::time::Duration;

use countersign_engine::{KeyError, jwks::SkippedKey, limits, rotation::WithdrawalReason};
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
    /// Whether a fetch is under way.
    pub(super) is_fetching: bool,
    /// Whether the last ended one failed.
    pub(super) is_failing: bool,
    /// When the keys in use were last confirmed, if there are any.
    pub(super) confirmed: Option<i64>,
    /// When the last successful fetch of the process began and ended.
    pub(super) success: Option<[i64; 2]>,
    /// When the next fetch begins, if none is under way.
    pub(super) next_fetch: Option<i64>,
    /// When a token with an unknown `kid` may cause a fetch, if there are keys.
    pub(super) refetch_from: Option<i64>,
    /// Whether they were withdrawn because the issuer publishes an empty set (`true`) or because
    /// they were not confirmed for too long (`false`).
    pub(super) is_emptied: Option<bool>,
    /// The JWK Set of the keys in use. Absent without keys, and if they cannot be passed on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) keys: Option<Box<RawValue>>,
    /// The members of the provider's set that cannot be used, with their `kid`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) skipped: Vec<SharedSkippedKey>,
}

/// A [`SkippedKey`] with a `kid`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SharedSkippedKey {
    index: usize,
    kid: String,
    /// The text of the [`KeyError`].
    reason: String,
}

impl PartialEq for SharedKeys {
    fn eq(&self, other: &Self) -> bool {
        let Self {
            section,
            source,
            fetches,
            is_fetching,
            is_failing,
            confirmed,
            success,
            next_fetch,
            refetch_from,
            is_emptied,
            keys,
            skipped,
        } = self;
        (section, source, fetches) == (&other.section, &other.source, &other.fetches)
            && (is_fetching, is_failing) == (&other.is_fetching, &other.is_failing)
            && (confirmed, success) == (&other.confirmed, &other.success)
            && (next_fetch, refetch_from) == (&other.next_fetch, &other.refetch_from)
            && (is_emptied, skipped) == (&other.is_emptied, &other.skipped)
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

    /// Returns the number of ended fetches; `None` while another one is under way.
    #[must_use]
    pub fn known_fetches(&self) -> Option<u64> {
        (!self.is_fetching).then_some(self.fetches)
    }

    /// Whether both have the same keys in use, and the same that cannot be used.
    pub(super) fn has_same_keys(&self, other: &Self) -> bool {
        self.jwks() == other.jwks() && self.skipped == other.skipped
    }

    /// Returns the JWK Set.
    pub(super) fn jwks(&self) -> Option<&str> {
        text(self.keys.as_deref())
    }

    /// Returns the keys that the other process cannot use.
    pub(super) fn skipped_keys(&self) -> Vec<SkippedKey> {
        let key = |SharedSkippedKey { index, kid, reason }: &SharedSkippedKey| SkippedKey {
            index: *index,
            kid: Some(kid.as_str().into()),
            // A server of another version may have other texts.
            error: KeyError::from_text(reason).unwrap_or(KeyError::Invalid),
        };
        self.skipped.iter().map(key).collect()
    }
}

impl SharedSkippedKey {
    /// `None` for a key that no token can name.
    fn of(skipped: &SkippedKey) -> Option<Self> {
        let kid = skipped.kid.as_ref().filter(|kid| kid.len() <= limits::MAX_KID_BYTES)?;
        let reason = skipped.error.to_string();
        Some(Self { index: skipped.index, kid: kid.to_string(), reason })
    }
}

impl KeySources {
    /// Returns the keys of every section that are fetched over a network.
    #[must_use]
    pub fn shared(&self) -> Vec<SharedKeys> {
        self.all().iter().filter_map(|source| source.shared()).collect()
    }
}

impl IssuerKeys {
    fn shared(&self) -> Option<SharedKeys> {
        let source = source(&self.section)?;
        // Before the progress: keys that replace these are then reported, too.
        let Progress { state, confirmed, withdrawn, .. } = self.progress();
        let FetchState { rounds, fetching, is_failing, success, refetch_from, fetch_at } = state;
        let public = self.public.load_full().filter(|_| confirmed.is_some());
        let skipped = public.iter().flat_map(|public| public.keys.skipped());
        let jwks = public.as_ref().map(|public| String::clone(&public.jwks));
        let at = KeyClock::to_boot;
        Some(SharedKeys {
            section: self.section.section().to_owned(),
            source,
            fetches: rounds,
            is_fetching: fetching,
            is_failing,
            confirmed: confirmed.map(at),
            success: success.map(|success| [at(success.began), at(success.ended)]),
            next_fetch: fetch_at.map(at),
            refetch_from: refetch_from.map(at),
            is_emptied: withdrawn.map(|reason| reason == WithdrawalReason::Emptied),
            keys: jwks.and_then(|jwks| RawValue::from_string(jwks).ok()),
            skipped: skipped.filter_map(SharedSkippedKey::of).collect(),
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
    /// Converts a time on this clock to microseconds since the start of the machine.
    fn to_boot(time: Duration) -> i64 {
        microseconds(time).saturating_sub(microseconds(Self::START))
    }

    /// Converts microseconds since the start of the machine to a time on this clock.
    pub(super) fn of_boot(time: i64) -> Duration {
        let time = time.saturating_add(microseconds(Self::START));
        Duration::from_micros(u64::try_from(time).unwrap_or_default())
    }
}

fn microseconds(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_before_the_boot_survives_the_conversion() {
        for time in [KeyClock::now(), KeyClock::START.saturating_sub(Duration::from_secs(86_400))] {
            let rounded = KeyClock::of_boot(KeyClock::to_boot(time));
            assert!(time.abs_diff(rounded) <= Duration::from_micros(1), "{time:?} {rounded:?}");
        }
        assert_eq!(KeyClock::of_boot(i64::MIN), Duration::ZERO);
    }
}
