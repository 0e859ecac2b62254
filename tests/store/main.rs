//! Storage tests: one suite for both databases ([`contract`]), and tests of a single database.

/// Behaviour of every store.
mod contract;
/// Projects and environments.
mod projects;
/// Machine identities, their login methods and tokens.
mod identities;
/// Deletions of machine identities and of their login methods, beside other changes.
mod identity_deletions;
/// Sessions of the console.
mod console_sessions;
/// Key sets of providers.
mod key_sets;
/// The key in force of a section that signs.
mod signing_keys;
/// Files of revocations.
mod files;
/// Databases that are restored, and clocks that are wrong.
mod restored;
/// Import of journals of earlier versions.
mod journal;
/// Schema migrations.
mod migrations;

use countersign_server::{
    config::{Config, load_raw},
    store::Store,
};
use tempfile::TempDir;

/// Creates the store configured by `[database]` with these options.
fn store(directory: &TempDir, options: &str) -> Store {
    let file = directory.path().join("c.cfg");
    std::fs::write(&file, format!("[database]\n{options}\n")).unwrap();
    let config = Config::from_raw(load_raw(&[file], [])).unwrap();
    Store::new(&config.database, || Ok(directory.path().to_owned())).unwrap()
}
