//! Test data that may lie beside the project: vectors of other projects, and
//! recordings of the systems we are compatible with.

use std::{io::Write as _, path::Path};

use serde_json::Value;

/// Reads a JSON file of `../shared`. `None` where the project stands alone; the
/// test that asked then says that it was skipped.
pub fn json(name: &str) -> Option<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join(name);
    match std::fs::read(&path) {
        Ok(text) => Some(serde_json::from_slice(&text).unwrap()),
        Err(_) => {
            skipped(name);
            None
        }
    }
}

/// Past the test runner, which keeps what a passing test prints to itself.
fn skipped(name: &str) {
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    drop(writeln!(
        std::io::stderr(),
        "SKIPPED: {test}: ../shared/{name} is not beside this checkout"
    ));
}
