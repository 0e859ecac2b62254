//! The result of a soak test.

use std::{fmt, time::Duration};

use super::{
    SoakOptions,
    answers::AnswerSet,
    disturbances::{DisturbanceCounts, RevocationDelay, SoakDisturbance},
    memory::MemoryGrowth,
    target::{FaultList, LoadTarget},
};

/// Figures of a test, and its faults.
pub(super) struct SoakReport {
    options: SoakOptions,
    duration: Duration,
    /// Numbers of answers by proxy, in the order of [`AnswerSet::NAMES`].
    answers: Vec<(&'static str, Vec<u64>)>,
    disturbances: Vec<(SoakDisturbance, u32)>,
    /// Delays of revocations by proxy.
    delays: [Vec<RevocationDelay>; 2],
    growth: Vec<MemoryGrowth>,
    fault_count: u64,
    faults: Vec<String>,
}

impl SoakReport {
    pub(super) fn new(
        options: SoakOptions,
        duration: Duration,
        targets: &[LoadTarget<'_>],
        counts: &DisturbanceCounts,
        growth: Vec<MemoryGrowth>,
        faults: &FaultList,
    ) -> Self {
        Self {
            options,
            duration,
            answers: targets.iter().map(|target| (target.name, target.counts())).collect(),
            disturbances: counts.named().collect(),
            delays: counts.delays.clone(),
            growth,
            fault_count: faults.count(),
            faults: faults.texts(),
        }
    }

    /// Whether no answer was wrong, no process crashed, and none grew.
    pub(super) fn is_good(&self) -> bool {
        self.fault_count == 0
    }
}

impl fmt::Display for SoakReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SoakOptions { rate, seed, .. } = self.options;
        let minutes = self.duration.as_secs_f64() / 60.0;
        writeln!(formatter, "{minutes:.1} minutes, {rate} requests a second, seed {seed}\n")?;
        self.write_answers(formatter)?;
        writeln!(formatter, "\ndisturbances")?;
        for (kind, count) in &self.disturbances {
            writeln!(formatter, "  {count:>6}  {kind:?}")?;
        }
        writeln!(formatter, "\nrevocations, after the server's answer: median, highest, in ms")?;
        for ((name, _), delays) in self.answers.iter().zip(&self.delays) {
            let refusal = delays.iter().map(|delay| delay.first_refusal);
            let acceptance = delays.iter().map(|delay| delay.last_acceptance);
            writeln!(formatter, "  {name:<14} first refusal    {}", spread(refusal))?;
            writeln!(formatter, "  {name:<14} last acceptance  {}", spread(acceptance))?;
        }
        writeln!(formatter, "\nmemory, medians of the second and the last quarter, in MiB")?;
        for MemoryGrowth { role, second_quarter, last_quarter } in &self.growth {
            let mebibytes = |bytes: &u64| *bytes as f64 / f64::from(1 << 20);
            let (before, after) = (mebibytes(second_quarter), mebibytes(last_quarter));
            writeln!(formatter, "  {role:<14} {before:>8.1} {after:>8.1}")?;
        }
        writeln!(formatter, "\n{} faults", self.fault_count)?;
        self.faults.iter().try_for_each(|fault| writeln!(formatter, "  {fault}"))
    }
}

impl SoakReport {
    fn write_answers(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "answers ")?;
        for (_, name) in AnswerSet::NAMES {
            write!(formatter, "{name:>12}")?;
        }
        writeln!(formatter)?;
        for (name, counts) in &self.answers {
            write!(formatter, "  {name:<6}")?;
            for count in counts {
                write!(formatter, "{count:>12}")?;
            }
            writeln!(formatter)?;
        }
        Ok(())
    }
}

/// Returns the median and the maximum, in milliseconds.
fn spread(times: impl Iterator<Item = Duration>) -> String {
    let mut times: Vec<_> = times.collect();
    times.sort_unstable();
    let shown = |time: Option<&Duration>| {
        time.map_or_else(|| "-".to_owned(), |time| format!("{:.1}", time.as_secs_f64() * 1e3))
    };
    format!("{:>8} {:>8}", shown(times.get(times.len() / 2)), shown(times.last()))
}
