//! The simulation of fleets: what `docs/scaling.md` shows, and what it assumes.

use std::fs;

use countersign_bench::sim::{Delivery, FleetModel, fan_out, report};

const RECORD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/record/2026-12-01/cluster.md");
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/scaling.md");

/// Returns the first numbers of the cells after the one with this name.
fn measured(name: &str) -> Vec<f64> {
    let record = fs::read_to_string(RECORD).unwrap();
    let start = format!("| {name} | ");
    let row = record.lines().find_map(|line| line.strip_prefix(&start));
    let row = row.unwrap_or_else(|| panic!("{name} is not in {RECORD}"));
    let numbers = row.split('|').filter_map(|cell| cell.split_whitespace().next());
    numbers.map(|number| number.parse().unwrap()).collect()
}

#[test]
fn page_shows_what_the_simulation_prints() {
    let page = fs::read_to_string(PAGE).unwrap();
    let printed = report(&FleetModel::default());
    for table in printed.split("\n\n") {
        assert!(page.contains(table.trim()), "docs/scaling.md lacks this table:\n{table}");
    }
}

#[test]
#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "small numbers")]
fn assumed_load_is_the_measured_one() {
    let model = FleetModel::default();
    let assumed = model.queries(60) as f64 / 60.0;
    let queries = measured("transactions of a node each second")[0];
    assert!((assumed / queries - 1.0).abs() < 0.2, "{assumed} and {queries}");
    let cpu = measured("CPU of the database for a transaction")[0];
    let assumed = model.query as f64;
    assert!((cpu..cpu * 4.0).contains(&assumed), "{assumed} and {cpu}");
    let connections = measured("connections of 3 nodes")[0];
    let assumed = 3.0 * model.idle_connections as f64;
    assert!((assumed / connections - 1.0).abs() < 0.2, "{assumed} and {connections}");
}

/// The measured times contain the call and its commit, which the simulation leaves out.
#[test]
#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "milliseconds")]
fn simulated_times_are_the_measured_ones() {
    const CALL: f64 = 60.0;
    for (name, delivery) in
        [("notified", Delivery::Notified), ("notifications lost", Delivery::Polled)]
    {
        let mut times: Vec<_> =
            (0..300).map(|seed| fan_out(&FleetModel::default(), 2, delivery, seed).max).collect();
        times.sort_unstable();
        let simulated = times[150] as f64 / 1e3;
        let median = measured(name)[0];
        let possible = simulated * 0.8..simulated * 1.2 + CALL;
        assert!(possible.contains(&median), "{name}: {simulated} ms and {median} ms");
    }
}
