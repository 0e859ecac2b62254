//! The one place where the time is asked for.

use std::time::SystemTime;

use countersign_engine::UnixTime;

/// The current time. A system clock before 1970 reads as the far end of time, so
/// that every token with an expiry has expired.
#[must_use]
pub fn now() -> UnixTime {
    #[expect(clippy::disallowed_methods, reason = "the one place where the time is asked for")]
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    UnixTime(since.map_or(u64::MAX, |since| since.as_secs()))
}
