//! Paired measurement: ratios that a drifting machine does not distort. Two contestants take turns
//! for a few hundred short rounds; the figure is the median of the rounds' ratios. Criterion's
//! suites track changes; these ratios decide claims.

use std::{
    cell::RefCell,
    hint::black_box,
    sync::atomic::{Ordering, fence},
    time::Instant,
};

use crate::{
    budget,
    order::{BATCH, SplitMix64, TokenBatch},
    tokens::Tokens,
};

const ROUNDS: usize = 301;
/// Long enough for the clock's resolution, short enough that the machine's speed is the same for
/// both contestants.
const ROUND_NANOSECONDS: f64 = 300_000.0;

/// Prints the time of `one` divided by the time of `other`.
///
/// # Panics
/// A contestant returns `false`, which is a wrong answer.
pub fn compare(name: &str, one: &dyn Fn() -> bool, other: &dyn Fn() -> bool) {
    // Calibration also warms both up.
    let (one_count, other_count) = (calibrate(one), calibrate(other));
    let mut one = |_| round(one, one_count);
    let mut other = |_| round(other, other_count);
    let [ratios, one_times, other_times] = measure(ROUNDS, &mut one, &mut other);
    report(name, ratios, &times(one_times, other_times));
}

/// Returns the number of calls in one round.
fn calibrate(work: &dyn Fn() -> bool) -> u32 {
    let each = round(work, 200);
    #[expect(
        clippy::as_conversions,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a small positive count"
    )]
    let count = (ROUND_NANOSECONDS / each) as u32;
    count.max(1)
}

/// Returns the nanoseconds of one call, averaged over a round. Every answer is checked.
fn round(work: &dyn Fn() -> bool, count: u32) -> f64 {
    let start = Instant::now();
    for _ in 0..count {
        assert!(work(), "a good token was rejected");
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(count)
}

/// Returns the ratios of the rounds and both contestants' times. The order alternates, because the
/// second contestant finds the caches as the first has left them.
fn measure(
    rounds: usize,
    one: &mut dyn FnMut(usize) -> f64,
    other: &mut dyn FnMut(usize) -> f64,
) -> [Vec<f64>; 3] {
    let (mut ratios, mut one_times, mut other_times) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let (one_time, other_time) = if round % 2 == 0 {
            let first = one(round);
            (first, other(round))
        } else {
            let first = other(round);
            (one(round), first)
        };
        one_times.push(one_time);
        other_times.push(other_time);
        ratios.push(one_time / other_time);
    }
    [ratios, one_times, other_times]
}

fn times(mut one: Vec<f64>, mut other: Vec<f64>) -> String {
    format!("; {:.0} ns and {:.0} ns", quantile(&mut one, 0.5), quantile(&mut other, 0.5))
}

/// Prints the median of the rounds' values as a figure ([`budget::print`]), with its quartiles.
///
/// # Panics
/// `values` is empty.
pub fn report(name: &str, mut values: Vec<f64>, detail: &str) {
    let [low, median, high] = [0.25, 0.5, 0.75].map(|share| quantile(&mut values, share));
    let [low, high] = [low, high].map(budget::number);
    budget::print(name, median, &format!("quartiles {low} to {high}{detail}"));
}

fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    #[expect(
        clippy::as_conversions,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index"
    )]
    let index = ((values.len() - 1) as f64 * share) as usize;
    values[index]
}

/// A lookup of one token in a table; returns whether the table has it.
pub type Lookup<'l> = &'l dyn Fn(&[u8]) -> bool;

/// Paired lookups of a working set in random order.
pub struct RandomLookups<'t> {
    tokens: &'t Tokens,
    batch: RefCell<TokenBatch>,
}

impl<'t> RandomLookups<'t> {
    /// Looks up all of these tokens.
    #[must_use]
    pub fn over(tokens: &'t Tokens) -> Self {
        Self { tokens, batch: RefCell::default() }
    }

    /// Prints the time of `one` divided by the time of `other`. Both look up the same tokens in the
    /// same order.
    ///
    /// # Panics
    /// A table lacks one of the tokens.
    pub fn compare(&self, name: &str, one: Lookup<'_>, other: Lookup<'_>) {
        // A round takes between half a millisecond and one.
        const BATCHES: usize = 64;
        let mut one = |round| self.round(round, BATCHES, one);
        let mut other = |round| self.round(round, BATCHES, other);
        let [ratios, one_times, other_times] = measure(ROUNDS, &mut one, &mut other);
        report(name, ratios, &times(one_times, other_times));
    }

    fn round(&self, round: usize, batches: usize, lookup: Lookup<'_>) -> f64 {
        let mut order = SplitMix64::new(u64::try_from(round).unwrap_or_default());
        let mut batch = self.batch.borrow_mut();
        let mut elapsed = 0.0;
        for _ in 0..batches {
            batch.fill(self.tokens, &mut order);
            elapsed += timed(&batch, lookup);
        }
        #[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "a small count")]
        let calls = (batches * BATCH) as f64;
        elapsed / calls
    }
}

/// Returns the nanoseconds of looking up one [`TokenBatch`]. A server runs thousands of
/// instructions between two requests, so that no lookup overlaps another there. The fence prevents
/// such overlap here. It costs some nanoseconds, the same for both contestants.
fn timed(batch: &TokenBatch, lookup: Lookup<'_>) -> f64 {
    let start = Instant::now();
    let mut found = 0;
    for token in batch.iter() {
        fence(Ordering::SeqCst);
        found += usize::from(lookup(black_box(token)));
    }
    let elapsed = start.elapsed();
    assert_eq!(found, BATCH, "the table lacks a token of its set");
    elapsed.as_secs_f64() * 1e9
}
