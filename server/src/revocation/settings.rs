//! `[revocation]`: storage and capacity of revocations.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use crate::config::{problem::Problems, reader::SectionReader, setting::Section};

/// Storage and capacity of revocations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationSettings {
    /// The SQLite file. `None` for `revocations` in the state directory, or for the shared
    /// database.
    pub file: Option<PathBuf>,
    /// Maximum number of revocations in force.
    pub capacity: usize,
    /// Time for which tokens are verified while the store cannot be read; `None` without a limit.
    pub max_staleness: Option<Duration>,
}

impl RevocationSettings {
    pub(crate) fn read(sections: &BTreeMap<String, Section>, problems: &mut Problems) -> Self {
        let mut reader = SectionReader::new(sections, "revocation", problems);
        Self {
            file: reader.given("file").map(PathBuf::from),
            capacity: reader.number("capacity"),
            max_staleness: reader.number_or_off("max_staleness").map(Duration::from_secs),
        }
    }
}
