//! How often the nodes of a fleet ask a provider for its keys.

use super::{FleetModel, SECOND};
use crate::order::SplitMix64;

/// Fetches of all nodes in a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyFetches {
    /// In the busiest second after the nodes have started at the same time.
    pub at_start: usize,
    /// In the busiest second of an interval, an hour later.
    pub an_hour_later: usize,
}

/// Simulates a fleet that starts together and then fetches the keys of one provider again and
/// again. With jitter, each node does so at its own point between 70 and 80 percent of the
/// interval, as `engine/src/rotation.rs` describes; without, at 80 percent.
#[must_use]
pub fn key_fetches(model: &FleetModel, nodes: usize, has_jitter: bool, seed: u64) -> KeyFetches {
    let hour = 3600 * SECOND;
    let end = hour + model.key_interval;
    let mut seconds = vec![0; index(end / SECOND + 1)];
    let mut order = SplitMix64::new(seed);
    let mut below = |bound: u64| u64::try_from(order.below(index(bound))).unwrap_or_default();
    for _ in 0..nodes {
        let mut fetch = below(model.start_window);
        let drawn = below(model.key_interval / 10);
        let jitter = if has_jitter { drawn } else { 0 };
        while fetch < end {
            seconds[index(fetch / SECOND)] += 1;
            fetch += model.key_interval / 10 * 8 - jitter;
        }
    }
    let busiest = |part: &[usize]| part.iter().copied().max().unwrap_or_default();
    let (first, last) = (index(model.start_window / SECOND) + 1, index(hour / SECOND));
    KeyFetches { at_start: busiest(&seconds[..first]), an_hour_later: busiest(&seconds[last..]) }
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_spreads_a_fleet_within_an_hour() {
        let model = FleetModel::default();
        let [with, without] = [true, false].map(|jitter| key_fetches(&model, 3000, jitter, 1));
        assert_eq!(with.at_start, without.at_start);
        assert!(without.an_hour_later * 10 > without.at_start * 9, "{without:?}");
        assert!(with.an_hour_later * 5 < without.an_hour_later, "{with:?} {without:?}");
    }
}
