//! The first start after an upgrade: logs the defaults that have changed for the configuration.
//!
//! A file in the state directory has the version of the defaults that the server last ran with.

use std::{fs, path::Path};

use super::{ConfigSource, REVOCATIONS_FILE, atomic_file};
use crate::{
    config::{Config, changed_defaults::DEFAULTS_VERSION},
    store::DATABASE_FILE,
};

/// File in the state directory with the [`DEFAULTS_VERSION`] of the last start.
const VERSION_FILE: &str = "defaults-version";

/// Logs the changed defaults, unless a server with the present ones ran here before. To be called
/// before the server creates its state.
pub(super) fn log_changed_defaults(source: &ConfigSource, config: &Config) {
    // Without a state directory no start can be told from the first.
    let Ok(directory) = source.state_dir() else { return };
    let file = directory.join(VERSION_FILE);
    #[expect(clippy::disallowed_methods, reason = "a file of our own in the state directory")]
    let last = fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok());
    if last.unwrap_or(0) >= DEFAULTS_VERSION {
        return;
    }
    if last.is_some() || has_run_before(&directory, config) {
        for change in &config.changed_defaults {
            tracing::warn!("changed in this version: {change}");
        }
    }
    // If this fails, the next start reports the changes again.
    let _ignored = atomic_file::create_directory(&directory).and_then(|()| {
        atomic_file::replace(&file, &format!("{DEFAULTS_VERSION}\n"), atomic_file::PRIVATE)
    });
}

/// Whether a server has used the state directory or the configured database.
fn has_run_before(directory: &Path, config: &Config) -> bool {
    let state = [REVOCATIONS_FILE, DATABASE_FILE];
    config.database.is_configured || state.into_iter().any(|file| directory.join(file).exists())
}
