//! The one place that reads the clocks: the time of day, which may jump, and the monotonic
//! clock, which never goes back.

use std::time::{Duration, Instant, SystemTime};

use nix::time::{ClockId, clock_gettime};

/// Returns the time of day in seconds since 1970. A system clock before 1970 reads as
/// [`u64::MAX`], so that everything with an expiry has expired.
#[must_use]
pub fn unix_seconds() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the time of day")]
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(u64::MAX, |since| since.as_secs())
}

/// Formats a time of day as an HTTP date (RFC 9110 section 5.6.7); `None` from the year
/// 10000 on, which the format cannot express.
#[must_use]
pub fn http_date(unix_seconds: u64) -> Option<String> {
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(unix_seconds))?;
    (unix_seconds < YEAR_10000).then(|| httpdate::fmt_http_date(time))
}

/// The first second that has no HTTP date.
const YEAR_10000: u64 = 253_402_300_800;

/// Returns the present moment on the monotonic clock.
#[must_use]
pub fn instant() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the monotonic clock")]
    Instant::now()
}

/// Returns the time on the monotonic clock of the machine, which all its processes share. It
/// starts at about the start of the machine. [`Duration::MAX`] if the system has no such clock, so
/// that everything is too old.
#[must_use]
pub fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::MAX, Duration::from)
}

/// Measures the time since it was started, on the monotonic clock.
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
