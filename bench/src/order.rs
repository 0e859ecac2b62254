//! Which token comes next. A working set is only as large as the order makes it: a
//! generator of short period, or one that a prefetcher can follow, would leave most
//! of it untouched.

use crate::tokens::{TOKEN_BYTES, Tokens};

/// Numbers below a bound, equally likely and independent as far as any cache can
/// tell: a counter through the mixer of SplitMix64, a bijection of 64 bits that
/// passes the statistical test suites. The same numbers in every run.
pub struct Order {
    counter: u64,
}

impl Order {
    /// One of many orders.
    #[must_use]
    pub fn new(which: u64) -> Self {
        Self { counter: mix(which) }
    }

    /// The next number below `bound`.
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

/// The high half of the product: no division, and no bias that could be seen here.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "below a bound that is a usize"
)]
fn scale(bits: u64, bound: usize) -> usize {
    ((u128::from(bits) * bound as u128) >> 64) as usize
}

/// How many tokens lie ready at a time: few enough that they stay in the innermost
/// cache, as a token does that a server has just read from a socket.
pub const BATCH: usize = 32;

/// Tokens copied to where a server would have them: into one buffer, used again and
/// again. Those that they were copied from are as cold as they happen to be.
pub struct Presented {
    buffer: Vec<u8>,
}

impl Default for Presented {
    fn default() -> Self {
        Self { buffer: vec![0; BATCH * TOKEN_BYTES] }
    }
}

impl Presented {
    /// Copies the next [`BATCH`] of them.
    pub fn fill(&mut self, tokens: &Tokens, order: &mut Order) {
        self.fill_with(|| tokens.get(order.below(tokens.len())));
    }

    /// Copies [`BATCH`] that are chosen one by one.
    pub fn fill_with<'t>(&mut self, mut choose: impl FnMut() -> &'t [u8]) {
        for place in self.buffer.chunks_exact_mut(TOKEN_BYTES) {
            place.copy_from_slice(choose());
        }
    }

    /// The tokens that lie ready.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.buffer.chunks_exact(TOKEN_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_meets_nearly_everything_and_does_not_come_round() {
        const COUNT: usize = 10_000;
        let mut order = Order::new(1);
        let numbers: Vec<_> = (0..COUNT * 2).map(|_| order.below(COUNT)).collect();
        let met = |numbers: &[usize]| {
            let mut met = vec![false; COUNT];
            numbers.iter().for_each(|number| met[*number] = true);
            met.into_iter().filter(|met| *met).count()
        };
        // Drawn with replacement: 1 - 1/e of them in one turn.
        assert!((6_200..6_450).contains(&met(&numbers[..COUNT])), "{}", met(&numbers[..COUNT]));
        assert!((8_550..8_750).contains(&met(&numbers)), "{}", met(&numbers));
        assert_ne!(numbers[..COUNT], numbers[COUNT..]);
    }

    #[test]
    fn two_orders_differ_and_each_is_the_same_again() {
        let start = |which| {
            let mut order = Order::new(which);
            [(); 8].map(|()| order.below(1_000_000))
        };
        assert_eq!(start(7), start(7));
        assert_ne!(start(7), start(8));
    }
}
