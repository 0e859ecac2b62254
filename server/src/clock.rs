//! Wall clock and monotonic clock. No other module reads the time.

use std::time::{Duration, Instant, SystemTime};

use countersign_engine::UnixTime;

/// Returns the wall-clock time. A system clock before 1970 reads as the maximum time, so
/// that every token with an expiry counts as expired.
#[must_use]
pub fn now() -> UnixTime {
    #[expect(clippy::disallowed_methods, reason = "only this module reads the clock")]
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    UnixTime(since.map_or(u64::MAX, |since| since.as_secs()))
}

/// Formats a time as an HTTP date. `None` for years after 9999.
#[must_use]
pub fn http_date(at: UnixTime) -> Option<String> {
    let moment = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(at.0))?;
    (at.0 < YEAR_10000).then(|| httpdate::fmt_http_date(moment))
}

/// First second that an HTTP date cannot express.
const YEAR_10000: u64 = 253_402_300_800;

/// Returns the time of the monotonic clock.
#[must_use]
pub fn instant() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "only this module reads the clock")]
    Instant::now()
}

/// Stopwatch on the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts measuring.
    #[must_use]
    pub fn start() -> Self {
        Self(instant())
    }

    /// Returns the time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
