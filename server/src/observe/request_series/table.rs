//! The counters of one thread: a hash table of fixed size.

use std::sync::atomic::{AtomicU64, Ordering};

/// Upper bounds of the histogram in seconds: those of Prometheus clients, but for infinity.
pub const LATENCY_BOUNDS: [f64; 11] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Key of all combinations that a table has no room for. No combination has it.
const OTHERS: u64 = u64::MAX;

/// Counters of one combination of labels.
#[derive(Default)]
pub(super) struct Series {
    /// The labels; 0 for a slot that is not used.
    pub(super) key: AtomicU64,
    pub(super) count: AtomicU64,
    /// The last one counts times above all bounds.
    pub(super) buckets: [AtomicU64; LATENCY_BOUNDS.len() + 1],
    pub(super) nanos: AtomicU64,
}

/// The series of one thread.
pub(super) struct SeriesTable {
    /// A power of two.
    slots: Box<[Series]>,
    others: Series,
}

impl SeriesTable {
    /// Creates a table with this number of slots, a power of two.
    pub(super) fn new(slots: usize) -> Self {
        Self { slots: (0..slots).map(|_| Series::default()).collect(), others: Series::default() }
    }

    /// Returns the counters of a combination of labels, or those that are counted together.
    pub(super) fn series(&self, key: u64) -> &Series {
        self.slot(key).unwrap_or_else(|| {
            self.others.key.store(OTHERS, Ordering::Relaxed);
            &self.others
        })
    }

    /// Returns the slot of a combination of labels; `None` if every slot that it may have is
    /// taken by another.
    pub(super) fn slot(&self, key: u64) -> Option<&Series> {
        /// Slots in which a key is looked for, from that of its hash on.
        const MAX_PROBES: usize = 64;
        /// The golden ratio, as in Fibonacci hashing.
        const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
        let first = usize::try_from(key.wrapping_mul(FACTOR) >> 32).unwrap_or_default();
        let probes = (first..).take(MAX_PROBES.min(self.slots.len()));
        let mut slots = probes.map(|index| &self.slots[index & (self.slots.len() - 1)]);
        slots.find(|slot| {
            let found = match slot.key.load(Ordering::Relaxed) {
                0 => {
                    let relaxed = Ordering::Relaxed;
                    slot.key.compare_exchange(0, key, relaxed, relaxed).err().unwrap_or(key)
                }
                found => found,
            };
            found == key
        })
    }

    /// Returns the series that are used, with their keys.
    pub(super) fn used(&self) -> impl Iterator<Item = (u64, &Series)> {
        let all = self.slots.iter().chain([&self.others]);
        all.map(|series| (series.key.load(Ordering::Relaxed), series)).filter(|(key, _)| *key != 0)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn combinations_without_room_are_counted_together() {
        let table = SeriesTable::new(4);
        for key in 1..=6 {
            table.series(key).count.fetch_add(1, Ordering::Relaxed);
        }
        let counts = |key| {
            let used = table.used().filter(|(of, _)| (*of == OTHERS) == (key == OTHERS));
            used.map(|(_, series)| series.count.load(Ordering::Relaxed)).collect::<Vec<_>>()
        };
        assert_eq!((counts(0), counts(OTHERS)), (vec![1; 4], vec![2]));
    }

    #[test]
    fn threads_never_claim_a_series_twice() {
        let table = SeriesTable::new(64);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for key in (1..=32).cycle().take(3200) {
                        table.series(key).count.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        let counts = table.used().map(|(_, series)| series.count.load(Ordering::Relaxed));
        assert_eq!(counts.collect::<Vec<_>>(), [400; 32]);
    }
}
