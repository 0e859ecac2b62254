//! `[limits]`: budgets for bad signatures.

use std::collections::BTreeMap;

use super::Share;
use crate::config::{problem::Problem, reader::SectionReader, setting::Section};

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

impl SignatureLimits {
    pub(crate) fn read(sections: &BTreeMap<String, Section>, problems: &mut Vec<Problem>) -> Self {
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
