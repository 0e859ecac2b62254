//! `[limits]`: timeouts of connections, and the most that may be open.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use countersign_front::Timeouts;

use super::{problem::Problem, reader::SectionReader, setting::Section};

/// Reads the limits of connections.
///
/// # Defaults
/// The idle timeout is longer than that of proxies (nginx keeps idle connections for a
/// minute), so that the proxy closes first.
pub(super) fn read(sections: &BTreeMap<String, Section>, problems: &mut Vec<Problem>) -> Timeouts {
    let mut reader = SectionReader::new(sections, "limits", problems);
    let mut seconds = |option, range: RangeInclusive<u64>, default| {
        Duration::from_secs(reader.number(option, range).unwrap_or(default))
    };
    let (head, body) =
        (seconds("head_timeout", 1..=3600, 10), seconds("body_timeout", 1..=3600, 30));
    let (idle, drain) =
        (seconds("idle_timeout", 1..=86_400, 120), seconds("drain_timeout", 0..=3600, 10));
    let connections = reader.number("connections", 1..=1 << 20).unwrap_or(16_384);
    Timeouts { connections, head, body, idle, drain }
}
