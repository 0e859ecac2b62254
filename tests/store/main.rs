//! The stores: one suite that both databases pass, and what only one of them has.

/// What every store does.
mod contract;
/// How a database comes to have the schema that is needed.
mod migrations;

use countersign_server::{
    config::{Config, RawConfig},
    store::Store,
};
use tempfile::TempDir;

/// The store that `[database]` with these options means.
fn store(directory: &TempDir, options: &str) -> Store {
    let file = directory.path().join("c.cfg");
    std::fs::write(&file, format!("[database]\n{options}\n")).unwrap();
    let config = Config::from_raw(RawConfig::load(&[file], []).unwrap()).unwrap();
    Store::new(&config.database, || Ok(directory.path().to_owned())).unwrap()
}
