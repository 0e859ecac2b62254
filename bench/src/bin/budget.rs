//! Judges a record: reads the figures from all its files, takes the median of several runs, and
//! compares it with `budget.toml`.
//!
//! Usage: `target/dist/budget bench/record/2026-11-22`. It prints the table, and fails if a
//! figure is past its limit or was not measured.

use std::{collections::BTreeMap, error::Error, path::Path, process::ExitCode};

use countersign_bench::budget::{Bound, Budget, number, parse};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let directory = std::env::args()
        .nth(1)
        .ok_or("usage: budget DIRECTORY, such as bench/record/2026-11-22")?;
    let measured = measured(Path::new(&directory))?;
    let rows = rows(Budget::read(), &measured);
    print(&rows);
    let good = rows.iter().all(|row| row.verdict != PAST && row.verdict != MISSING);
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Reads the runs of every figure from the text files of this directory.
fn measured(directory: &Path) -> std::io::Result<BTreeMap<String, Vec<f64>>> {
    let mut measured: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            for (name, value) in std::fs::read_to_string(path)?.lines().filter_map(parse) {
                measured.entry(name.to_owned()).or_default().push(value);
            }
        }
    }
    Ok(measured)
}

const OK: &str = "ok";
const PAST: &str = "PAST";
const MISSING: &str = "NOT MEASURED";
const UNBOUNDED: &str = "";

#[derive(Debug, PartialEq)]
struct Row {
    figure: String,
    bound: String,
    measured: String,
    verdict: &'static str,
}

/// Returns the figures with a limit first, then the others that were measured. Instructions are
/// judged when they are counted. Counts in a record are judged again; a record without them is
/// valid.
fn rows(budget: &Budget, measured: &BTreeMap<String, Vec<f64>>) -> Vec<Row> {
    let bounded =
        budget.figures.iter().map(|(name, bound)| row(name, Some(*bound), measured.get(name)));
    let others = measured.iter().filter(|(name, _)| !budget.figures.contains_key(*name));
    bounded.chain(others.map(|(name, runs)| row(name, budget.bound(name), Some(runs)))).collect()
}

fn row(figure: &str, bound: Option<Bound>, runs: Option<&Vec<f64>>) -> Row {
    let verdict = |value| match bound {
        None => UNBOUNDED,
        Some(bound) if bound.allows(value) => OK,
        Some(_) => PAST,
    };
    let (measured, verdict) = match runs {
        None => ("-".to_owned(), MISSING),
        Some(runs) => {
            let (least, median, most) = spread(runs.clone());
            let several = if runs.len() > 1 {
                format!(" ({} to {})", number(least), number(most))
            } else {
                String::new()
            };
            (number(median) + &several, verdict(median))
        }
    };
    Row {
        figure: figure.to_owned(),
        bound: bound.map_or(String::new(), |bound| bound.to_string()),
        measured,
        verdict,
    }
}

fn spread(mut runs: Vec<f64>) -> (f64, f64, f64) {
    runs.sort_by(f64::total_cmp);
    (runs[0], runs[runs.len() / 2], runs[runs.len() - 1])
}

#[expect(clippy::print_stdout, reason = "the report")]
fn print(rows: &[Row]) {
    println!("| figure | bound | measured | |\n|---|---|---|---|");
    for Row { figure, bound, measured, verdict } in rows {
        println!("| {figure} | {bound} | {measured} | {verdict} |");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_several_runs_is_judged() {
        let verdict = |runs: Option<&Vec<f64>>, bound| row("a / b", Some(bound), runs).verdict;
        assert_eq!(verdict(Some(&vec![0.9, 0.2, 0.3]), Bound::AtMost(0.4)), OK);
        assert_eq!(verdict(Some(&vec![0.9, 0.5, 0.3]), Bound::AtMost(0.4)), PAST);
        assert_eq!(verdict(Some(&vec![1.8]), Bound::AtLeast(1.9)), PAST);
        assert_eq!(verdict(None, Bound::AtMost(0.4)), MISSING);
    }

    #[test]
    fn figure_without_a_limit_is_shown() {
        let runs = vec![2.0, 1.0, 3.0];
        let expected = Row {
            figure: "a / b".into(),
            bound: String::new(),
            measured: "2.0000 (1.0000 to 3.0000)".into(),
            verdict: "",
        };
        assert_eq!(row("a / b", None, Some(&runs)), expected);
    }
}
