//! `[limits]`: what requests and connections may take.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use super::{problem::Problem, reader::SectionReader, setting::Section};
use crate::admission::Share;

/// How much of a core's time bad signatures may take; `None` for as much as they
/// will.
///
/// # Defaults
/// Half of a core for one issuer leaves room for another that is flooded too, and
/// three quarters of it in all leave room for what needs no signature. Twenty sources
/// that do all they may fill a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignatureLimits {
    /// All of them together.
    pub core: Option<Share>,
    /// Those in the name of one issuer.
    pub issuer: Option<Share>,
    /// Those from one source.
    pub source: Option<Share>,
    /// How many sources are told apart, for each core.
    pub sources: usize,
}

/// How many connections there may be, and how long they may take.
///
/// # Defaults
/// A connection that does nothing outlives the idle connections of proxies (nginx
/// keeps its own for a minute), so that it is the proxy that closes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Connections open at a time, on all listeners together.
    pub connections: usize,
    /// From the first byte of a request to the end of its head; TLS likewise.
    pub head: Duration,
    /// From there to the end of its body.
    pub body: Duration,
    /// From an answer to the next request.
    pub idle: Duration,
    /// From the signal to stop to the end of what is open.
    pub drain: Duration,
}

impl Timeouts {
    pub(super) fn read(sections: &BTreeMap<String, Section>, problems: &mut Vec<Problem>) -> Self {
        let mut reader = SectionReader::new(sections, "limits", problems);
        let mut seconds = |option, range: RangeInclusive<u64>, default| {
            Duration::from_secs(reader.number(option, range).unwrap_or(default))
        };
        let (head, body) =
            (seconds("head_timeout", 1..=3600, 10), seconds("body_timeout", 1..=3600, 30));
        let (idle, drain) =
            (seconds("idle_timeout", 1..=86_400, 120), seconds("drain_timeout", 0..=3600, 10));
        Self {
            connections: reader.number("connections", 1..=1 << 20).unwrap_or(16_384),
            head,
            body,
            idle,
            drain,
        }
    }
}

impl SignatureLimits {
    pub(super) fn read(sections: &BTreeMap<String, Section>, problems: &mut Vec<Problem>) -> Self {
        let mut reader = SectionReader::new(sections, "limits", problems);
        Self {
            core: read_share(&mut reader, "bad_signatures_per_core", 75),
            issuer: read_share(&mut reader, "bad_signatures_per_issuer", 50),
            source: read_share(&mut reader, "bad_signatures_per_source", 5),
            sources: reader.number("sources", 8..=1 << 20).unwrap_or(4096),
        }
    }
}

fn read_share(reader: &mut SectionReader<'_>, option: &str, default: u8) -> Option<Share> {
    let Some(text) = reader.text(option) else { return Share::new(default) };
    if text == "off" {
        return None;
    }
    let share = text.parse().ok().and_then(Share::new);
    if share.is_none() {
        let message =
            format!("{option} in limits must be a number from 1 to 100 or off, not {text:?}");
        reader.problem(
            option,
            message,
            "write how many percent of a core's time they may take, or off for no limit",
        );
    }
    share
}
