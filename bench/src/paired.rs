//! Ratios that a drifting machine does not bend: contestants in turn, a few hundred
//! short rounds, the median of the rounds' ratios. Criterion's suites track change;
//! this decides claims.

use std::{
    cell::RefCell,
    hint::black_box,
    sync::atomic::{Ordering, fence},
    time::Instant,
};

use crate::{
    budget,
    order::{BATCH, Order, Presented},
    tokens::Tokens,
};

const ROUNDS: usize = 301;
/// Long enough for the clock, short enough that the machine is the same for all.
const ROUND_NANOSECONDS: f64 = 300_000.0;

/// Prints how long `one` takes in terms of `other`.
///
/// # Panics
/// A contestant gives a wrong answer, which is `false`.
pub fn compare(name: &str, one: &dyn Fn() -> bool, other: &dyn Fn() -> bool) {
    // Also warms both up.
    let (one_count, other_count) = (calibrate(one), calibrate(other));
    let mut one = |_| round(one, one_count);
    let mut other = |_| round(other, other_count);
    let [ratios, one_times, other_times] = measure(ROUNDS, &mut one, &mut other);
    report(name, ratios, &times(one_times, other_times));
}

/// How many calls make one round.
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

/// Nanoseconds of one call, over a round of them; every answer is checked.
fn round(work: &dyn Fn() -> bool, count: u32) -> f64 {
    let start = Instant::now();
    for _ in 0..count {
        assert!(work(), "a token that should be good was refused");
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(count)
}

/// The ratios of the rounds and the times of both. Who goes first alternates: the
/// second finds the machine as the first has left it.
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

/// Prints the median of the rounds' values as a figure, with its quartiles.
///
/// # Panics
/// There was no round.
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
    let place = ((values.len() - 1) as f64 * share) as usize;
    values[place]
}

/// A table that tokens are looked up in, and whether it had the token.
pub type Lookup<'l> = &'l dyn Fn(&[u8]) -> bool;

/// Lookups of a working set in random order.
pub struct AtRandom<'t> {
    tokens: &'t Tokens,
    presented: RefCell<Presented>,
}

impl<'t> AtRandom<'t> {
    /// Over these tokens, all of them.
    #[must_use]
    pub fn over(tokens: &'t Tokens) -> Self {
        Self { tokens, presented: RefCell::default() }
    }

    /// Prints how long `one` takes in terms of `other`, which look up the same tokens
    /// in the same order.
    ///
    /// # Panics
    /// One of them does not have a token.
    pub fn compare(&self, name: &str, one: Lookup<'_>, other: Lookup<'_>) {
        // Half a millisecond to a whole one.
        const BATCHES: usize = 64;
        let mut one = |round| self.round(round, BATCHES, one);
        let mut other = |round| self.round(round, BATCHES, other);
        let [ratios, one_times, other_times] = measure(ROUNDS, &mut one, &mut other);
        report(name, ratios, &times(one_times, other_times));
    }

    fn round(&self, round: usize, batches: usize, lookup: Lookup<'_>) -> f64 {
        let mut order = Order::new(u64::try_from(round).unwrap_or_default());
        let mut presented = self.presented.borrow_mut();
        let mut spent = 0.0;
        for _ in 0..batches {
            presented.fill(self.tokens, &mut order);
            spent += timed(&presented, lookup);
        }
        #[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "a small count")]
        let calls = (batches * BATCH) as f64;
        spent / calls
    }
}

/// Nanoseconds of looking up what lies ready. Between two requests of a server there
/// are thousands of instructions, so that no lookup hides behind another: the fence
/// says so to the processor. It costs some nanoseconds, the same for everyone.
fn timed(presented: &Presented, lookup: Lookup<'_>) -> f64 {
    let start = Instant::now();
    let mut found = 0;
    for token in presented.iter() {
        fence(Ordering::SeqCst);
        found += usize::from(lookup(black_box(token)));
    }
    let spent = start.elapsed();
    assert_eq!(found, BATCH, "a token that should be there was not");
    spent.as_secs_f64() * 1e9
}
