//! The first start after an upgrade: logs the defaults that have changed for the configuration.
//!
//! A file in the state directory has the version of the defaults that the server last ran with.

use std::fs;

use super::{ConfigSource, atomic_file};
use crate::{config::changed_defaults::DEFAULTS_VERSION, store::migrations};

/// File in the state directory with the [`DEFAULTS_VERSION`] of the last start.
const VERSION_FILE: &str = "defaults-version";

/// Logs the changed defaults if a server with earlier ones ran here before: the state directory
/// says so, or a database of an earlier version was migrated at this start. To be called once the
/// databases are open.
pub(super) fn log_changed_defaults(source: &ConfigSource, changes: &[String]) {
    // Without a state directory no start can be told from the first.
    let Ok(directory) = source.state_dir() else { return };
    let file = directory.join(VERSION_FILE);
    #[expect(clippy::disallowed_methods, reason = "a file of our own in the state directory")]
    let last = fs::read_to_string(&file).ok().and_then(|text| text.trim().parse::<u32>().ok());
    if last.is_some_and(|last| last >= DEFAULTS_VERSION) {
        return;
    }
    if last.is_some() || migrations::has_upgraded() {
        for change in changes {
            tracing::warn!("changed in this version (docs/upgrading.md): {change}");
        }
    }
    // If this fails, the next start reports the changes again.
    let _ignored = atomic_file::create_directory(&directory).and_then(|()| {
        atomic_file::replace(&file, &format!("{DEFAULTS_VERSION}\n"), atomic_file::PRIVATE)
    });
}
