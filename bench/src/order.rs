//! Random access order. A working set is only as large as the order makes it: a generator with a
//! short period, or one that a prefetcher can follow, would leave most of the set untouched.

use crate::{parameters::TOKEN_BYTES, tokens::Tokens};

/// SplitMix64 generator, for numbers below a bound. The numbers are equally likely, and independent
/// as far as any cache can detect: a counter goes through the SplitMix64 mixer, a bijection of 64
/// bits that passes the statistical test suites. One seed gives the same numbers in every run.
pub struct SplitMix64 {
    counter: u64,
}

impl SplitMix64 {
    /// Creates the generator for a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { counter: mix(seed) }
    }

    /// Returns the next number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.counter = self.counter.wrapping_add(0x9e37_79b9_7f4a_7c15);
        scale(mix(self.counter), bound)
    }
}

fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Scales by the high half of the product: no division, and no bias large enough to matter.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "below a bound that is a usize"
)]
fn scale(bits: u64, bound: usize) -> usize {
    ((u128::from(bits) * bound as u128) >> 64) as usize
}

/// Number of tokens in a [`TokenBatch`]. Few enough to stay in the L1 cache, like a token that a
/// server has just read from a socket.
pub const BATCH: usize = 32;

/// A batch of tokens, copied into one reused buffer as a server's reads would be. The tokens they
/// were copied from stay as cold as they happen to be.
pub struct TokenBatch {
    buffer: Vec<u8>,
}

impl Default for TokenBatch {
    fn default() -> Self {
        Self { buffer: vec![0; BATCH * TOKEN_BYTES] }
    }
}

impl TokenBatch {
    /// Copies [`BATCH`] random tokens into the buffer.
    pub fn fill(&mut self, tokens: &Tokens, order: &mut SplitMix64) {
        self.fill_with(|| tokens.get(order.below(tokens.len())));
    }

    /// Copies [`BATCH`] tokens into the buffer, each chosen by `choose`.
    pub fn fill_with<'t>(&mut self, mut choose: impl FnMut() -> &'t [u8]) {
        for slot in self.buffer.chunks_exact_mut(TOKEN_BYTES) {
            slot.copy_from_slice(choose());
        }
    }

    /// Iterates over the tokens of the batch.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.buffer.chunks_exact(TOKEN_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitmix64_covers_the_range_without_repeating() {
        const COUNT: usize = 10_000;
        let mut order = SplitMix64::new(1);
        let numbers: Vec<_> = (0..COUNT * 2).map(|_| order.below(COUNT)).collect();
        let reached = |numbers: &[usize]| {
            let mut reached = vec![false; COUNT];
            numbers.iter().for_each(|number| reached[*number] = true);
            reached.into_iter().filter(|reached| *reached).count()
        };
        // Drawing with replacement reaches 1 - 1/e of the numbers in one round.
        assert!(
            (6_200..6_450).contains(&reached(&numbers[..COUNT])),
            "{}",
            reached(&numbers[..COUNT])
        );
        assert!((8_550..8_750).contains(&reached(&numbers)), "{}", reached(&numbers));
        assert_ne!(numbers[..COUNT], numbers[COUNT..]);
    }

    #[test]
    fn splitmix64_sequence_depends_only_on_the_seed() {
        let start = |seed| {
            let mut order = SplitMix64::new(seed);
            [(); 8].map(|()| order.below(1_000_000))
        };
        assert_eq!(start(7), start(7));
        assert_ne!(start(7), start(8));
    }
}
