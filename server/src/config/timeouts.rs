//! `[limits]`: timeouts of connections, and their maximum number.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use countersign_front::Timeouts;

use super::{problem::Problem, reader::SectionReader, setting::Section};

/// Reads the limits of connections; the defaults are those of the front.
pub(super) fn read(sections: &BTreeMap<String, Section>, problems: &mut Vec<Problem>) -> Timeouts {
    let mut reader = SectionReader::new(sections, "limits", problems);
    let Timeouts { connections, head, body, idle, drain } = Timeouts::default();
    let mut seconds = |option, range: RangeInclusive<u64>, default: Duration| {
        reader.number(option, range).map_or(default, Duration::from_secs)
    };
    Timeouts {
        head: seconds("head_timeout", 1..=3600, head),
        body: seconds("body_timeout", 1..=3600, body),
        idle: seconds("idle_timeout", 1..=86_400, idle),
        drain: seconds("drain_timeout", 0..=3600, drain),
        connections: reader.number("connections", 1..=1 << 20).unwrap_or(connections),
    }
}
