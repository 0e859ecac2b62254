//! `[audit]`: how long events are stored, and their file.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use crate::config::{problem::Problems, reader::SectionReader, setting::Section};

/// Settings of the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditSettings {
    /// Time that events are stored.
    pub retention: Duration,
    /// Maximum number of stored events of each kind: refusals, those of machine identities
    /// with their own tokens, and all others.
    pub max_rows: u64,
    /// File for the events as lines of JSON.
    pub file: Option<PathBuf>,
}

impl AuditSettings {
    pub(crate) fn read(sections: &BTreeMap<String, Section>, problems: &mut Problems) -> Self {
        let mut reader = SectionReader::new(sections, "audit", problems);
        let days: u64 = reader.number("retention_days");
        Self {
            retention: Duration::from_secs(days * 86_400),
            max_rows: reader.number("max_rows"),
            file: reader.given("file").map(PathBuf::from),
        }
    }
}
