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
        self.print_added()?;
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
        let ours = self.rounds(measure, of)?;
        let Some(over) = over else {
            let [low, middle, high] = quartiles(ours).ok_or("no rounds")?;
            return Ok((middle, spread(low, high)));
        };
        let theirs = self.rounds(measure, over)?;
        let ratios = ours.iter().zip(&theirs).map(|(one, other)| one / other).collect();
        let [[low, middle, high], one, other] =
            [quartiles(ratios), quartiles(ours), quartiles(theirs)].map(Option::unwrap_or_default);
        Ok(if measure == Measure::Added {
            let [[low, one, high], [least, other, most]] = [one, other];
            (
                one / other,
                format!(
                    "{} ({}) / {} ({})",
                    budget::number(one),
                    spread(low, high),
                    budget::number(other),
                    spread(least, most)
                ),
            )
        } else {
            let [one, other] = [one[1], other[1]].map(budget::number);
            (middle, format!("{}; {one} / {other}", spread(low, high)))
        })
    }

    /// Returns the values of a turn by round.
    fn rounds(&self, measure: Measure, turn: &str) -> Result<Vec<f64>> {
        let index = self.index(turn)?;
        let values = self.measured[index].iter().map(|measured| measured.value(measure));
        let values = values.collect::<Option<Vec<_>>>();
        let values = values.ok_or_else(|| format!("{measure:?} of {turn} was not measured"))?;
        match &self.scenario.baseline {
            Some(baseline) if measure == Measure::Added => {
                let baseline = self.rounds(Measure::Cpu, baseline)?;
                Ok(values.iter().zip(baseline).map(|(value, less)| value - less).collect())
            }
            _ => Ok(values),
        }
    }

    fn index(&self, turn: &str) -> Result<usize> {
        let index = self.turns.iter().position(|name| name == turn);
        index.ok_or_else(|| format!("unknown turn {turn}").into())
    }

    /// Prints the CPU time that each turn adds to the baseline.
    #[expect(clippy::print_stdout, reason = "the report")]
    fn print_added(&self) -> Result<()> {
        let Some(baseline) = &self.scenario.baseline else { return Ok(()) };
        println!(
            "\nadded us, median and quartiles of the rounds; lowest tenth less that of the baseline"
        );
        for turn in &self.turns {
            let [low, middle, high] =
                quartiles(self.rounds(Measure::Added, turn)?).ok_or("no rounds")?;
            let quiet = tenth(self.rounds(Measure::Cpu, turn)?)
                - tenth(self.rounds(Measure::Cpu, baseline)?);
            println!("{turn:28}{middle:>9.2}  [{low:.2} to {high:.2}]  {quiet:>8.2}");
        }
        Ok(())
    }
}

fn spread(low: f64, high: f64) -> String {
    format!("quartiles {} to {}", budget::number(low), budget::number(high))
}

/// Returns the first decile, which an otherwise idle machine would have as median.
fn tenth(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 10).copied().unwrap_or(f64::NAN)
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
