//! `[limits]`: budgets for bad signatures.

use std::collections::BTreeMap;

use super::Share;
use crate::config::{problem::Problems, reader::SectionReader, setting::Section};

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
    pub(crate) fn read(sections: &BTreeMap<String, Section>, problems: &mut Problems) -> Self {
        let mut reader = SectionReader::new(sections, "limits", problems);
        Self {
            core: read_share(&mut reader, "bad_signatures_per_core"),
            issuer: read_share(&mut reader, "bad_signatures_per_issuer"),
            source: read_share(&mut reader, "bad_signatures_per_source"),
            sources: reader.number("sources"),
        }
    }
}

fn read_share(reader: &mut SectionReader<'_>, option: &str) -> Option<Share> {
    reader.number_or_off(option).and_then(Share::new)
}
