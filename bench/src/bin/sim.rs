//! Prints the tables of `docs/scaling.md`, from a simulation of fleets of up to 10,000 nodes.
//!
//! Usage: `cargo run -p countersign-bench --bin sim`. Every run prints the same.

use std::io::Write as _;

use countersign_bench::sim::{FleetModel, report};

fn main() -> std::io::Result<()> {
    std::io::stdout().write_all(report(&FleetModel::default()).as_bytes())
}
