//! Whose connections had to be cut off, since they asked for so much in vain.
//!
//! One that is cut off comes back at once, and may do as much again: what it costs to
//! shake hands with it, and all that a connection may do before it is one too many. So
//! the connections of an address that was cut off more than a few times wait. None waits
//! long, or is turned away, as others may be behind the same address, who would pay for
//! it: who has a hundred connections at a time is slowed down less than who has one.

use std::time::Duration;

use super::{
    bucket::{Nanos, Share},
    source::{Source, SourceTable},
};

/// Of the time in which a bucket fills, what a connection that was cut off takes: ten are
/// free, and after that there are five a second, if they come one after the other.
const ABUSE_COST: Nanos = 200_000_000;
/// The longest wait, however many connections were cut off: clients and proxies have five
/// seconds and more to connect.
const MAX_DELAY: Duration = Duration::from_secs(2);
/// How many sources are known. There are fewer of them than of bad signatures, as each
/// has shaken hands from where it says that it is.
const MAX_SOURCES: usize = 1024;

/// What the sources of such connections have left.
pub(super) struct ReconnectDelay(SourceTable);

impl ReconnectDelay {
    pub(super) fn new() -> Self {
        Self(SourceTable::new(MAX_SOURCES))
    }

    /// A connection of this source was cut off.
    pub(super) fn charge(&mut self, source: Source, now: Nanos) {
        if self.wait(source, now) < MAX_DELAY {
            self.0.charge(source, Share::WHOLE, ABUSE_COST, now);
        }
    }

    /// How long its next connection waits.
    pub(super) fn wait(&self, source: Source, now: Nanos) -> Duration {
        Duration::from_nanos(self.0.get(source).wait(now)).min(MAX_DELAY)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    const MS: Nanos = 1_000_000;

    #[test]
    fn nobody_waits_without_end() {
        let (mut delay, source) = (ReconnectDelay::new(), Source::of(IpAddr::from([192, 0, 2, 1])));
        (0..10_000).for_each(|_| delay.charge(source, 0));
        assert_eq!(delay.wait(source, 0), MAX_DELAY);
    }

    #[test]
    fn ten_connections_are_free_and_then_there_are_five_a_second() {
        let (mut delay, source) = (ReconnectDelay::new(), Source::of(IpAddr::from([192, 0, 2, 1])));
        for _ in 0..10 {
            assert_eq!(delay.wait(source, 0), Duration::ZERO);
            delay.charge(source, 0);
        }
        let mut now = 0;
        for _ in 0..10 {
            delay.charge(source, now);
            assert_eq!(delay.wait(source, now), Duration::from_millis(200));
            now += 200 * MS;
            assert_eq!(delay.wait(source, now), Duration::ZERO);
        }
        assert_eq!(
            delay.wait(Source::of(IpAddr::from([192, 0, 2, 2])), now),
            Duration::ZERO,
            "others are others"
        );
    }
}
