//! Test data that may lie beside the project: vectors of other projects, and
//! recordings of the systems we are compatible with.

use std::path::Path;

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

#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn skipped(name: &str) {
    eprintln!("SKIPPED: ../shared/{name} is not beside this checkout");
}
