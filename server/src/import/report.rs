//! The report of an import.

use std::{collections::BTreeMap, fmt};

use super::plan::ImportAction;
use crate::base::printable::printable;

/// What an import did, or would do.
#[derive(Clone, Debug, Default)]
pub struct ImportReport {
    /// One entry for each kind of object.
    pub kinds: Vec<KindReport>,
    /// Number of tokens that are revoked here because they are revoked in the source.
    pub revoked_tokens: usize,
}

/// What an import did with the objects of one kind. Each object of the source is counted once.
#[derive(Clone, Debug, Default)]
pub struct KindReport {
    /// The kind, in the plural.
    pub name: &'static str,
    /// Number of objects that were added.
    pub new: u64,
    /// Number of objects that are here already, and are left as they are.
    pub unchanged: u64,
    /// Number of objects with values that changed in the source.
    pub changed: u64,
    /// Number of objects that were not imported.
    pub skipped: u64,
    /// Names of objects that need attention, by the reason.
    pub notes: BTreeMap<&'static str, Vec<String>>,
}

impl ImportReport {
    /// Returns the numbers of all kinds together: new, unchanged, changed and skipped.
    #[must_use]
    pub fn totals(&self) -> [u64; 4] {
        let sum = |count: fn(&KindReport) -> u64| self.kinds.iter().map(count).sum();
        [
            sum(|kind| kind.new),
            sum(|kind| kind.unchanged),
            sum(|kind| kind.changed),
            sum(|kind| kind.skipped),
        ]
    }
}

impl KindReport {
    pub(super) fn of(name: &'static str) -> Self {
        Self { name, ..Self::default() }
    }

    /// Counts an object of the source. Returns whether it is here as imported.
    pub(super) fn count(&mut self, name: &str, action: ImportAction) -> bool {
        let counter = match action {
            ImportAction::Keep => &mut self.unchanged,
            ImportAction::Add => &mut self.new,
            ImportAction::Change => &mut self.changed,
            ImportAction::Skip(reason) => {
                self.notes.entry(reason).or_default().push(name.to_owned());
                &mut self.skipped
            }
        };
        *counter += 1;
        !matches!(action, ImportAction::Skip(_))
    }

    /// Notes an object here that the source does not have, if an earlier import copied it.
    pub(super) fn note_missing(&mut self, name: &str, was_imported: bool) {
        const MISSING: &str = "no longer in the source, and kept here";
        if was_imported {
            self.notes.entry(MISSING).or_default().push(name.to_owned());
        }
    }
}

impl fmt::Display for ImportReport {
    /// Writes a table of the numbers, then one line for each reason.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Names in a line. The number of the others follows.
        const MAX_NAMES: usize = 100;
        write!(f, "{:18}{:>9}{:>11}{:>9}{:>9}", "", "new", "unchanged", "changed", "skipped")?;
        for KindReport { name, new, unchanged, changed, skipped, .. } in &self.kinds {
            write!(f, "\n{name:18}{new:>9}{unchanged:>11}{changed:>9}{skipped:>9}")?;
        }
        for kind in &self.kinds {
            for (reason, names) in &kind.notes {
                let shown = names.iter().take(MAX_NAMES).map(|name| match &**name {
                    "" => "(no name)".to_owned(),
                    name => printable(name),
                });
                write!(f, "\n{}: {}", kind.name, shown.collect::<Vec<_>>().join(", "))?;
                if let further @ 1.. = names.len().saturating_sub(MAX_NAMES) {
                    write!(f, " and {further} more")?;
                }
                write!(f, ": {reason}")?;
            }
        }
        if self.revoked_tokens > 0 {
            write!(f, "\ntokens revoked as in the source: {}", self.revoked_tokens)?;
        }
        Ok(())
    }
}
