//! The one place where the time is asked for: of the day, which may jump, and
//! since the start, which never goes back.

use std::time::{Duration, Instant, SystemTime};

use countersign_engine::UnixTime;

/// The current time. A system clock before 1970 reads as the far end of time, so
/// that every token with an expiry has expired.
#[must_use]
pub fn now() -> UnixTime {
    #[expect(clippy::disallowed_methods, reason = "the one place where the time is asked for")]
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    UnixTime(since.map_or(u64::MAX, |since| since.as_secs()))
}

/// A moment as HTTP writes it; none that has no four-digit year.
#[must_use]
pub fn http_date(at: UnixTime) -> Option<String> {
    let moment = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(at.0))?;
    (at.0 < YEAR_10000).then(|| httpdate::fmt_http_date(moment))
}

/// The first second that HTTP has no date for.
const YEAR_10000: u64 = 253_402_300_800;

/// The present moment on the clock that never goes back, for those who reckon with such
/// moments themselves.
#[must_use]
pub fn instant() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "the one place where the time is asked for")]
    Instant::now()
}

/// Measures the time since it was started, whatever happens to the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts measuring.
    #[must_use]
    pub fn start() -> Self {
        Self(instant())
    }

    /// The time since then.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
