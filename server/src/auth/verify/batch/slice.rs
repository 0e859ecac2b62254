//! The number of tokens that a worker verifies before it serves its other connections.

use std::time::Duration;

/// Number of tokens in a slice. It adapts to the time that slices take, since a signature check
/// costs between half a microsecond and a third of a millisecond.
pub(super) struct SliceLength(usize);

/// Most tokens in a slice, which fill several groups of lanes.
const MAX_TOKENS: usize = 64;
const MIN_TOKENS: usize = 4;
/// Time above which slices become shorter.
const MAX_TIME: Duration = Duration::from_millis(1);

impl Default for SliceLength {
    fn default() -> Self {
        Self(16)
    }
}

impl SliceLength {
    pub(super) fn get(&self) -> usize {
        self.0
    }

    /// Halves the number if a slice with these tokens took too long, and doubles it if twice as many
    /// would not have.
    pub(super) fn adapt(&mut self, tokens: usize, took: Duration) {
        if took > MAX_TIME {
            self.0 = (self.0 / 2).max(MIN_TOKENS);
        } else if tokens == self.0 && took < MAX_TIME / 2 {
            self.0 = (self.0 * 2).min(MAX_TOKENS);
        }
    }

    /// Shortens the next slice, after a token that had to wait.
    pub(super) fn shrink(&mut self) {
        self.0 = MIN_TOKENS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the number of tokens after some slices, given the time of a token.
    fn after(slices: usize, of_token: Duration) -> usize {
        let mut length = SliceLength::default();
        for _ in 0..slices {
            let tokens = length.get();
            length.adapt(tokens, of_token * u32::try_from(tokens).unwrap());
        }
        length.get()
    }

    #[test]
    fn slice_length_adapts_to_the_time_of_a_token() {
        assert_eq!(after(9, Duration::from_micros(1)), MAX_TOKENS);
        assert_eq!(after(9, Duration::from_micros(15)), MAX_TOKENS);
        assert_eq!(after(9, Duration::from_micros(50)), 16);
        assert_eq!(after(9, Duration::from_micros(300)), MIN_TOKENS);
        let mut partial = SliceLength::default();
        partial.adapt(3, Duration::ZERO);
        assert_eq!(partial.get(), 16);
        partial.shrink();
        assert_eq!(partial.get(), MIN_TOKENS);
    }
}
