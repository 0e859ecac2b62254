//! `[revocation]`: storage and capacity of revocations.

use std::{collections::BTreeMap, path::PathBuf};

use crate::config::{problem::Problem, reader::SectionReader, setting::Section};

/// Storage and capacity of revocations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationSettings {
    /// The journal file. `None` for `revocations` in the state directory.
    pub file: Option<PathBuf>,
    /// Maximum number of revocations in force.
    pub capacity: usize,
}

impl RevocationSettings {
    pub(crate) fn read(sections: &BTreeMap<String, Section>, problems: &mut Vec<Problem>) -> Self {
        let mut reader = SectionReader::new(sections, "revocation", problems);
        Self {
            file: reader.text("file").filter(|path| !path.is_empty()).map(PathBuf::from),
            capacity: reader.number("capacity", 1..=100_000_000).unwrap_or(1_000_000),
        }
    }
}
