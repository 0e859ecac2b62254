//! The tables of `docs/scaling.md`.

use std::fmt::Write as _;

use super::{Delivery, FleetModel, SECOND, fan_out, key_fetches};

/// Sizes of fleets.
const FLEETS: [usize; 6] = [3, 10, 100, 1000, 3000, 10_000];
const SEED: u64 = 1;

/// Returns the tables of a model.
#[must_use]
pub fn report(model: &FleetModel) -> String {
    [revocations(model), database(model), keys(model)].join("\n")
}

fn revocations(model: &FleetModel) -> String {
    let mut table = "| nodes | notified: p50 | p99 | all | notifications lost: p50 | p99 | all |\n\
                     |---|---|---|---|---|---|---|\n"
        .to_owned();
    for nodes in FLEETS {
        let mut row = format!("| {nodes} |");
        if model.is_overloaded_by(nodes) {
            row.push_str(" overloaded | | | | | |");
        } else {
            for delivery in [Delivery::Notified, Delivery::Polled] {
                let found = fan_out(model, nodes, delivery, SEED);
                for time in [found.p50, found.p99, found.max] {
                    write(&mut row, format_args!(" {} ms |", tenths(time, 1000)));
                }
            }
        }
        write(&mut table, format_args!("{row}\n"));
    }
    table
}

fn database(model: &FleetModel) -> String {
    let mut table = "| nodes | queries a second | cores for them | connections, idle | at most |\n\
                     |---|---|---|---|---|\n"
        .to_owned();
    for nodes in FLEETS {
        let queries = model.queries(nodes);
        let cores = tenths(model.demand(nodes), SECOND);
        let (idle, most) = (nodes * model.idle_connections, nodes * model.most_connections);
        write(&mut table, format_args!("| {nodes} | {queries} | {cores} | {idle} | {most} |\n"));
    }
    table
}

fn keys(model: &FleetModel) -> String {
    let mut table = "| nodes | at a common start | an hour later | the same without jitter |\n\
                     |---|---|---|---|\n"
        .to_owned();
    for nodes in FLEETS {
        let [with, without] = [true, false].map(|jitter| key_fetches(model, nodes, jitter, SEED));
        let (start, later) = (with.at_start, with.an_hour_later);
        let row = format_args!("| {nodes} | {start} | {later} | {} |\n", without.an_hour_later);
        write(&mut table, row);
    }
    table
}

/// Writes to a string, which does not fail.
fn write(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    let _ignored = text.write_fmt(arguments);
}

/// Formats a quotient with one decimal.
fn tenths(number: u64, unit: u64) -> String {
    let tenths = (number * 10 + unit / 2) / unit;
    format!("{}.{}", tenths / 10, tenths % 10)
}
