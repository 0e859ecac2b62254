//! Lockout of clients that fail to log in with a client id: by client id and source, so that an
//! attacker locks out nobody else.
//!
//! An attempt counts as failed from its start until it succeeds, so parallel attempts gain nothing.

#[expect(clippy::disallowed_types, reason = "held for a look-up")]
use std::sync::Mutex;
use std::{collections::HashMap, sync::PoisonError};

use countersign_engine::UnixTime;

use crate::{admission::Source, store::universal_auth_methods::LockoutSettings};

/// Failed logins by login method and source.
#[derive(Default)]
pub struct ClientLockouts {
    #[expect(clippy::disallowed_types, reason = "as above")]
    failures: Mutex<HashMap<LockoutKey, ClientFailures>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct LockoutKey {
    method: Box<str>,
    source: Source,
}

#[derive(Clone, Copy, Debug)]
struct ClientFailures {
    count: u64,
    last: UnixTime,
    /// Time at which none of them counts any more.
    over: UnixTime,
}

/// A client is locked out for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockedOutError;

/// Most methods and sources whose failures are counted.
const MAX_COUNTED: usize = 16_384;

impl ClientLockouts {
    /// Begins an attempt, which counts as failed until it [succeeds](Self::succeed).
    ///
    /// # Errors
    /// The source is locked out.
    pub fn begin(
        &self,
        settings: LockoutSettings,
        (method, source): (&str, Source),
        now: UnixTime,
    ) -> Result<(), LockedOutError> {
        if !settings.enabled {
            return Ok(());
        }
        let mut all = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let key = LockoutKey { method: method.into(), source };
        let earlier = all.get(&key).copied().filter(|failures| now < failures.over);
        if earlier.is_some_and(|failures| failures.count >= settings.threshold) {
            return Err(LockedOutError);
        }
        let count = earlier.map_or(0, |failures| failures.count) + 1;
        let time =
            if count >= settings.threshold { settings.duration } else { settings.counter_reset };
        if all.len() >= MAX_COUNTED {
            all.retain(|_, failures| now < failures.over);
        }
        // A full table is that of an attack from very many sources. Their oldest failures go first.
        if all.len() >= MAX_COUNTED
            && let Some(oldest) =
                all.iter().min_by_key(|(_, failures)| failures.last).map(|(key, _)| key.clone())
        {
            all.remove(&oldest);
        }
        all.insert(key, ClientFailures { count, last: now, over: now.plus(time) });
        Ok(())
    }

    /// Forgets the failures of a source that has logged in.
    pub fn succeed(&self, method: &str, source: Source) {
        let key = LockoutKey { method: method.into(), source };
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }

    /// Forgets the failures of all sources with a login method. Returns how many sources were
    /// locked out or had failures.
    pub fn clear(&self, method: &str) -> usize {
        let mut all = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let before = all.len();
        all.retain(|key, _| *key.method != *method);
        before - all.len()
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    const SETTINGS: LockoutSettings =
        LockoutSettings { enabled: true, threshold: 3, duration: 300, counter_reset: 30 };

    fn source(last: u8) -> Source {
        Source::of(IpAddr::from([192, 0, 2, last]))
    }

    #[test]
    fn source_is_locked_out_after_its_failures() {
        let lockouts = ClientLockouts::default();
        let begin = |last, now| lockouts.begin(SETTINGS, ("m", source(last)), UnixTime(now));
        assert_eq!([begin(1, 0), begin(1, 1), begin(1, 2)], [Ok(()); 3]);
        assert_eq!(begin(1, 3), Err(LockedOutError));
        assert_eq!(begin(1, 301), Err(LockedOutError));
        assert_eq!(begin(2, 3), Ok(()), "another source");
        assert_eq!(lockouts.begin(SETTINGS, ("n", source(1)), UnixTime(3)), Ok(()));
        assert_eq!(begin(1, 302), Ok(()), "once it is over");
    }

    #[test]
    fn failures_are_forgotten_by_time_and_success() {
        let lockouts = ClientLockouts::default();
        let begin = |now| lockouts.begin(SETTINGS, ("m", source(1)), UnixTime(now));
        assert_eq!([begin(0), begin(1), begin(31), begin(32)], [Ok(()); 4]);
        lockouts.succeed("m", source(1));
        assert_eq!([begin(33), begin(34), begin(35)], [Ok(()); 3]);
        assert_eq!(begin(36), Err(LockedOutError));
        assert_eq!(lockouts.clear("n"), 0);
        assert_eq!(lockouts.clear("m"), 1);
        assert_eq!(begin(37), Ok(()));
        let off = LockoutSettings { enabled: false, ..SETTINGS };
        for now in 40..50 {
            assert_eq!(lockouts.begin(off, ("x", source(1)), UnixTime(now)), Ok(()));
        }
    }
}
