//! The time of day as a [`UnixTime`], and the clocks of [`countersign_front::clock`].

use countersign_engine::UnixTime;
use countersign_front::clock::unix_seconds;
pub use countersign_front::clock::{Stopwatch, instant};

/// Returns the wall-clock time. A system clock before 1970 reads as the maximum time, so
/// that every token with an expiry counts as expired.
#[must_use]
pub fn now() -> UnixTime {
    UnixTime(unix_seconds())
}
