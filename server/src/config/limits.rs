//! `[limits]`: budgets for bad signatures, and timeouts of connections.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use super::{problem::Problem, reader::SectionReader, setting::Section};
use crate::admission::Share;

/// CPU budgets for bad signatures, as a [`Share`] of a core. `None` for no limit.
///
/// # Defaults
/// Half of a core per issuer leaves time for a second issuer under attack. Three quarters
/// in all leave time for requests that need no signature check. Twenty sources at their
/// limit fill a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignatureLimits {
    /// All bad signatures together.
    pub core: Option<Share>,
    /// Bad signatures of tokens that name one issuer.
    pub issuer: Option<Share>,
    /// Bad signatures from one source.
    pub source: Option<Share>,
    /// Number of sources tracked separately, per core.
    pub sources: usize,
}

/// Limit and timeouts of connections.
///
/// # Defaults
/// The idle timeout is longer than that of proxies (nginx keeps idle connections for a
/// minute), so that the proxy closes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Maximum number of open connections, on all listeners together.
    pub connections: usize,
    /// From the first byte of a request to the end of its head. Also for TLS handshakes.
    pub head: Duration,
    /// From the end of the head to the end of the body.
    pub body: Duration,
    /// From a response to the next request.
    pub idle: Duration,
    /// From the stop signal to closing the remaining connections.
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
        reader.problem(option, message, "write a percentage of a core's time, or off for no limit");
    }
    share
}
