//! Numbers and times as the console writes them.

use countersign_engine::UnixTime;
use maud::{Markup, html};
use serde_json::Value;

use crate::base::clock;

/// Between groups of three digits.
const THIN_SPACE: char = '\u{2009}';

/// Returns a whole number with thin spaces between groups of three digits.
pub(super) fn whole(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(THIN_SPACE);
        }
        text.push(digit);
    }
    text
}

/// Returns a rate with as many digits as are of use.
pub(super) fn rate(per_second: f64) -> String {
    match per_second {
        none if none <= 0.0 => "0".into(),
        small if small < 0.95 => format!("{small:.1}").replace("0.0", "< 0.1"),
        medium if medium < 99.5 => format!("{medium:.1}"),
        large => format!("{large:.0}").parse().map_or_else(|_| format!("{large:.0}"), whole),
    }
}

/// Returns a part of a whole in percent; `None` for an empty whole.
pub(super) fn percent(part: u64, whole: u64) -> Option<String> {
    if whole == 0 {
        return None;
    }
    let percent = part as f64 * 100.0 / whole as f64;
    Some(match percent {
        _ if part == 0 => "0 %".into(),
        _ if part == whole => "100 %".into(),
        small if small < 0.1 => "< 0.1 %".into(),
        large if large > 99.9 => "> 99.9 %".into(),
        other => format!("{other:.1} %"),
    })
}

/// Returns a time in seconds with its unit.
pub(super) fn duration(seconds: f64) -> String {
    match seconds {
        small if small < 1e-3 => format!("{:.0} µs", small * 1e6),
        medium if medium < 1.0 => format!("{:.1} ms", medium * 1e3),
        large => format!("{large:.1} s"),
    }
}

/// Returns how long ago a time was, in words.
pub(super) fn ago(at: UnixTime, now: UnixTime) -> String {
    if at > now {
        return until(at.0 - now.0);
    }
    match now.0 - at.0 {
        0 => "now".into(),
        seconds => format!("{} ago", span(seconds)),
    }
}

/// Returns the time until an event in words.
pub(super) fn until(seconds: u64) -> String {
    if seconds == 0 { "now".into() } else { format!("in {}", span(seconds)) }
}

/// Returns the time to wait in words, in whole minutes from one on: never too short.
pub(super) fn wait(seconds: u64) -> String {
    if seconds < 60 { span(seconds) } else { counted(seconds.div_ceil(60), "minute") }
}

/// Returns a number of seconds in its largest unit.
fn span(seconds: u64) -> String {
    let (count, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3600 => (seconds / 60, "minute"),
        3600..172_800 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    counted(count, unit)
}

fn counted(count: u64, unit: &str) -> String {
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

/// Returns a time in words, with the exact one in UTC beside it.
pub(super) fn moment(at: UnixTime, now: UnixTime) -> Markup {
    let exact = clock::rfc3339(at).unwrap_or_default();
    html! {
        time datetime=(exact) { (ago(at, now)) }
        " " span.exact { (exact.replace('T', " ").replace('Z', " UTC")) }
    }
}

/// Returns a time of the API without parts of a second. The script adds the local one.
pub(super) fn utc(time: &Value) -> Markup {
    html! {
        @match time.as_str().and_then(|time| time.get(..19)) {
            None => "never",
            Some(time) => {
                time.utc datetime={ (time) "Z" } { (time.replace('T', " ")) " UTC" }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_grouped() {
        assert_eq!(whole(0), "0");
        assert_eq!(whole(999), "999");
        assert_eq!(whole(1_234_567), "1\u{2009}234\u{2009}567");
        let rates = [0.0, 0.01, 0.5, 3.25, 99.4, 1234.4].map(rate);
        assert_eq!(rates, ["0", "< 0.1", "0.5", "3.2", "99.4", "1\u{2009}234"]);
        let percents = [(0, 5), (5, 5), (1, 5000), (4999, 5000), (1, 3)];
        let percents = percents.map(|(part, whole)| percent(part, whole).unwrap());
        assert_eq!(percents, ["0 %", "100 %", "< 0.1 %", "> 99.9 %", "33.3 %"]);
        assert_eq!(percent(0, 0), None);
        assert_eq!([1e-6, 0.0015, 2.0].map(duration), ["1 µs", "1.5 ms", "2.0 s"]);
    }

    #[test]
    fn times_are_in_words() {
        let now = UnixTime(1_000_000);
        for (at, expected) in [
            (1_000_000, "now"),
            (999_999, "1 second ago"),
            (999_940, "1 minute ago"),
            (999_000, "16 minutes ago"),
            (900_000, "27 hours ago"),
            (0, "11 days ago"),
            (1_000_090, "in 1 minute"),
        ] {
            assert_eq!(ago(UnixTime(at), now), expected);
        }
        assert_eq!(utc(&Value::Null).into_string(), "never");
        assert_eq!(
            utc(&"2026-11-30T20:29:00.5Z".into()).into_string(),
            "<time class=\"utc\" datetime=\"2026-11-30T20:29:00Z\">2026-11-30 20:29:00 UTC</time>"
        );
        let waits = [1, 59, 60, 61, 3700].map(wait);
        assert_eq!(waits, ["1 second", "59 seconds", "1 minute", "2 minutes", "62 minutes"]);
    }
}
