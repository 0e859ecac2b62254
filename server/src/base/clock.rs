//! The time of day as a [`UnixTime`], and the clocks of [`countersign_front::clock`].

use countersign_engine::UnixTime;
use countersign_front::clock::unix_seconds;
pub use countersign_front::clock::{Stopwatch, instant};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Returns the wall-clock time. A system clock before 1970 reads as the maximum time, so
/// that every token with an expiry counts as expired.
#[must_use]
pub fn now() -> UnixTime {
    UnixTime(unix_seconds())
}

/// Formats a time in UTC as the Inmanta server does: `2026-11-29T10:25:00.000000+00:00`.
#[must_use]
pub fn python_time(at: UnixTime) -> Option<String> {
    rfc3339(at).map(|text| text.replace('Z', ".000000+00:00"))
}

/// Formats a time in UTC (RFC 3339). `None` for a time that the format cannot express.
#[must_use]
pub fn rfc3339(at: UnixTime) -> Option<String> {
    let seconds = i64::try_from(at.0).ok()?;
    OffsetDateTime::from_unix_timestamp(seconds).ok()?.format(&Rfc3339).ok()
}
