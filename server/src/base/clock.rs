//! The time of day as a [`UnixTime`], and the clocks of [`countersign_front::clock`].

use std::time::{Duration, SystemTime};

use countersign_engine::UnixTime;
use countersign_front::clock::unix_seconds;
pub use countersign_front::clock::{Stopwatch, instant, since_boot};
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

/// Formats a time as HTTP does; a number if it is beyond the [`LAST_DATE`].
#[must_use]
pub fn date_of(seconds: u64) -> String {
    if seconds > LAST_DATE {
        return seconds.to_string();
    }
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

/// Last second of the year 9999.
pub const LAST_DATE: u64 = 253_402_300_799;

/// Formats the distance of a time from now.
#[must_use]
pub fn distance(seconds: u64, now: UnixTime) -> String {
    let apart = seconds.abs_diff(now.0);
    let (count, unit) = match apart {
        0..=119 => (apart, "seconds"),
        120..=7199 => (apart / 60, "minutes"),
        7200..=172_799 => (apart / 3600, "hours"),
        _ => (apart / 86_400, "days"),
    };
    if seconds > now.0 { format!("in {count} {unit}") } else { format!("{count} {unit} ago") }
}
