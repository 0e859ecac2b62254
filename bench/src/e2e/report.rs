//! Table and figures of a scenario.

use super::{
    Result,
    rounds::Measurement,
    scenario::{Measure, Scenario},
    tally::Quantiles,
};
use crate::budget;

/// Results of a scenario.
pub struct Report<'a> {
    /// The scenario.
    pub scenario: &'a Scenario,
    /// Names of its turns.
    pub turns: Vec<String>,
    /// Measurements by turn, then by round.
    pub measured: Vec<Vec<Measurement>>,
}

impl Report<'_> {
    /// Prints the medians of all turns, then the figures.
    ///
    /// # Errors
    /// A figure names a quantity that was not measured.
    #[expect(clippy::print_stdout, reason = "the report")]
    pub fn print(&self) -> Result<()> {
        let Scenario { name, decides, figures, .. } = self.scenario;
        println!("\n== {name}\n{decides}\n{}\n", self.scenario.load());
        for line in self.table() {
            println!("{line}");
        }
        println!();
        for figure in figures {
            let (value, detail) =
                self.figure(figure.measure, &figure.of, figure.over.as_deref())?;
            budget::print(&figure.name, value, &detail);
        }
        Ok(())
    }

    fn table(&self) -> Vec<String> {
        if self.scenario.idle.is_some() {
            let row = |(name, rounds): (&String, &Vec<Measurement>)| {
                format!(
                    "{name:28} {:>8.2} KiB",
                    median_of(rounds, |measured| measured.memory).unwrap_or(f64::NAN)
                )
            };
            return self.turns.iter().zip(&self.measured).map(row).collect();
        }
        let head = [
            "CPU us", "ours /", "/CPU s", "busiest", "/s", "p50 us", "p99", "p99.9", "max",
            "bad p99",
        ];
        let head = head.map(|name| format!("{name:>9}")).concat();
        let rows = self
            .turns
            .iter()
            .zip(&self.measured)
            .map(|(name, rounds)| format!("{name:28}{}", self.row(rounds)));
        std::iter::once(format!("{:28}{head}", "")).chain(rows).collect()
    }

    fn row(&self, rounds: &[Measurement]) -> String {
        let valid = |of: fn(&Quantiles) -> f64| {
            median_of(rounds, |measured| measured.valid.as_ref().map(of))
        };
        let ours = |measured: &Measurement| measured.value(Measure::Cpu);
        let ratios = self.measured[0]
            .iter()
            .zip(rounds)
            .filter_map(|(one, other)| Some(ours(one)? / ours(other)?))
            .collect();
        let cells = [
            (median_of(rounds, |measured| Some(measured.cpu)), 2),
            (quartiles(ratios).map(|quartiles| quartiles[1]), 3),
            (median_of(rounds, |measured| measured.value(Measure::PerCpuSecond)), 0),
            (median_of(rounds, |measured| Some(measured.busiest)), 3),
            (median_of(rounds, |measured| Some(measured.rate)), 0),
            (valid(|quantiles| quantiles.p50), 0),
            (valid(|quantiles| quantiles.p99), 0),
            (valid(|quantiles| quantiles.p999), 0),
            (valid(|quantiles| quantiles.max), 0),
            (median_of(rounds, |measured| Some(measured.invalid?.p99)), 0),
        ];
        let cell = |(value, digits): (Option<f64>, usize)| match value {
            Some(value) => format!("{value:>9.digits$}"),
            None => format!("{:>9}", "-"),
        };
        cells.map(cell).concat()
    }

    /// Returns the median over the rounds, and details for the report.
    fn figure(&self, measure: Measure, of: &str, over: Option<&str>) -> Result<(f64, String)> {
        let rounds = |name: &str| {
            let index = self
                .turns
                .iter()
                .position(|turn| turn == name)
                .ok_or_else(|| format!("unknown turn {name}"))?;
            let values = self.measured[index].iter().map(|measured| measured.value(measure));
            values
                .collect::<Option<Vec<_>>>()
                .ok_or_else(|| format!("{measure:?} of {name} was not measured"))
        };
        let ours = rounds(of)?;
        let (values, what) = match over {
            None => (ours, String::new()),
            Some(over) => {
                let theirs = rounds(over)?;
                let ratios = ours.iter().zip(&theirs).map(|(one, other)| one / other).collect();
                let median = |values| quartiles(values).map_or(f64::NAN, |quartiles| quartiles[1]);
                (
                    ratios,
                    format!(
                        "; {} / {}",
                        budget::number(median(ours)),
                        budget::number(median(theirs))
                    ),
                )
            }
        };
        let [low, middle, high] = quartiles(values).ok_or("no rounds")?;
        Ok((middle, format!("quartiles {} to {}{what}", budget::number(low), budget::number(high))))
    }
}

fn median_of(rounds: &[Measurement], of: impl Fn(&Measurement) -> Option<f64>) -> Option<f64> {
    quartiles(rounds.iter().filter_map(of).collect()).map(|quartiles| quartiles[1])
}

/// Returns the quartiles and the median between them; `None` without values.
fn quartiles(mut values: Vec<f64>) -> Option<[f64; 3]> {
    values.sort_by(f64::total_cmp);
    let at = |quarter: usize| {
        values.get((values.len() * quarter / 4).min(values.len().saturating_sub(1))).copied()
    };
    Some([at(1)?, at(2)?, at(3)?])
}
