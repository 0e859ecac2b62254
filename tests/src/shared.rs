//! Optional test data next to the checkout: test vectors of other projects, and
//! recordings of the systems Countersign is compatible with.

use std::{io::Write as _, path::Path};

use serde_json::Value;

/// Reads a JSON file from `../shared`. Returns `None` if the directory is absent. The
/// calling test is then reported as skipped.
pub fn json(name: &str) -> Option<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join(name);
    match std::fs::read(&path) {
        Ok(text) => Some(serde_json::from_slice(&text).unwrap()),
        Err(_) => {
            skipped(&format!("../shared/{name} is not beside this checkout"));
            None
        }
    }
}

/// Reports a skipped test on standard error directly, because the test runner captures
/// the output of passing tests.
pub fn skipped(reason: &str) {
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    drop(writeln!(std::io::stderr(), "SKIPPED: {test}: {reason}"));
}
