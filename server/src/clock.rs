//! The one place where the time is asked for.

use std::time::SystemTime;

use countersign_engine::UnixTime;

/// The current time; a system clock before 1970 reads as 1970.
#[must_use]
pub fn now() -> UnixTime {
    #[expect(clippy::disallowed_methods, reason = "the one place where the time is asked for")]
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    UnixTime(since.map_or(0, |since| since.as_secs()))
}
