//! Ratios that a drifting machine does not bend: two contestants in turn, a few
//! hundred short rounds, the median of the rounds' ratios. Criterion's suites track
//! change; this decides claims.

use std::time::Instant;

const ROUNDS: usize = 301;
/// Long enough for the clock, short enough that the machine is the same for both.
const ROUND_NANOSECONDS: f64 = 300_000.0;

/// Prints how long `one` takes in terms of `other`.
///
/// # Panics
/// A contestant gives a wrong answer, which is `false`.
#[expect(clippy::print_stdout, reason = "the report")]
pub fn compare(name: &str, one: &dyn Fn() -> bool, other: &dyn Fn() -> bool) {
    // Also warms both up.
    let (one_count, other_count) = (calibrate(one), calibrate(other));
    let mut ratios = Vec::new();
    let (mut one_times, mut other_times) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (one_time, other_time) = (round(one, one_count), round(other, other_count));
        one_times.push(one_time);
        other_times.push(other_time);
        ratios.push(one_time / other_time);
    }
    let [low, median, high] = [0.25, 0.5, 0.75].map(|share| quantile(&mut ratios, share));
    let times = [quantile(&mut one_times, 0.5), quantile(&mut other_times, 0.5)];
    println!("{name:32} {median:.3}  (quartiles {low:.3} to {high:.3}; {:.0} ns and {:.0} ns)", times[0], times[1]);
}

/// How many calls make one round.
fn calibrate(work: &dyn Fn() -> bool) -> u32 {
    let each = round(work, 200);
    #[expect(clippy::as_conversions, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small positive count")]
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
