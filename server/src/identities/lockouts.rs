//! Lockout of clients that fail to log in with a client id: by client id and source, so that an
//! attacker locks out no other source.
//!
//! Only failures count, so that any number of machines may log in at once from one source. An
//! attacker who guesses in parallel gains a few guesses of a secret with 256 random bits.

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
    /// Checks that a source may attempt to log in.
    ///
    /// # Errors
    /// The source is locked out.
    pub fn check(
        &self,
        settings: LockoutSettings,
        (method, source): (&str, Source),
        now: UnixTime,
    ) -> Result<(), LockedOutError> {
        let all = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let failures = all.get(&LockoutKey { method: method.into(), source });
        let is_locked = failures.is_some_and(|failures| {
            now < failures.over && failures.count >= settings.threshold && settings.enabled
        });
        if is_locked { Err(LockedOutError) } else { Ok(()) }
    }

    /// Counts a failed attempt.
    pub fn fail(&self, settings: LockoutSettings, (method, source): (&str, Source), now: UnixTime) {
        if !settings.enabled {
            return;
        }
        let mut all = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let key = LockoutKey { method: method.into(), source };
        let earlier = all.get(&key).copied().filter(|failures| now < failures.over);
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
        let check = |last, now| lockouts.check(SETTINGS, ("m", source(last)), UnixTime(now));
        for now in 0..3 {
            assert_eq!(check(1, now), Ok(()));
            lockouts.fail(SETTINGS, ("m", source(1)), UnixTime(now));
        }
        assert_eq!(check(1, 3), Err(LockedOutError));
        assert_eq!(check(1, 301), Err(LockedOutError));
        assert_eq!(check(2, 3), Ok(()), "another source");
        assert_eq!(lockouts.check(SETTINGS, ("n", source(1)), UnixTime(3)), Ok(()));
        assert_eq!(check(1, 302), Ok(()), "once it is over");
    }

    #[test]
    fn failures_are_forgotten_by_time_and_success() {
        let lockouts = ClientLockouts::default();
        let check = |now| lockouts.check(SETTINGS, ("m", source(1)), UnixTime(now));
        let fail = |now| lockouts.fail(SETTINGS, ("m", source(1)), UnixTime(now));
        [0, 1, 31, 32].into_iter().for_each(fail);
        assert_eq!(check(33), Ok(()), "the first two are over");
        lockouts.succeed("m", source(1));
        [33, 34].into_iter().for_each(fail);
        assert_eq!(check(35), Ok(()));
        fail(35);
        assert_eq!(check(36), Err(LockedOutError));
        assert_eq!(lockouts.clear("n"), 0);
        assert_eq!(lockouts.clear("m"), 1);
        assert_eq!(check(37), Ok(()));
        let off = LockoutSettings { enabled: false, ..SETTINGS };
        for now in 40..50 {
            lockouts.fail(off, ("x", source(1)), UnixTime(now));
        }
        assert_eq!(lockouts.check(SETTINGS, ("x", source(1)), UnixTime(50)), Ok(()));
    }
}
