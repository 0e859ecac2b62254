//! Reconnect delay after abuse closes, per source address.
//!
//! A client whose connection was closed for abuse can reconnect at once. Each new connection
//! costs a handshake and may use a full abuse budget again. [`ReconnectDelay`] therefore delays
//! new connections of a [`Source`] with more than a few abuse closes.
//!
//! The delay is short and no connection is refused, because other clients may share the
//! address. A client with a hundred parallel connections is consequently slowed down less than
//! a client with one.

use std::time::Duration;

use super::{
    bucket::Nanos,
    source::{Source, SourceLimiter},
};

/// Charge for one abuse close: sequential connections are limited to five per second.
const ABUSE_COST: Nanos = 200_000_000;
/// Ten closes are free.
const BURST: Nanos = 10 * ABUSE_COST;
/// Upper bound of the delay, whatever the number of abuse closes. Connect timeouts of clients
/// and proxies are five seconds or more, so a delayed connection still succeeds.
const MAX_DELAY: Duration = Duration::from_secs(2);
/// Capacity of the source table. It is smaller than that for bad signatures, because every
/// source here has completed a handshake and cannot be a spoofed address.
const MAX_SOURCES: usize = 1024;

/// Buckets of the sources with abuse closes.
pub(super) struct ReconnectDelay(SourceLimiter);

impl ReconnectDelay {
    pub(super) fn new() -> Self {
        Self(SourceLimiter::new(MAX_SOURCES, BURST))
    }

    /// Records an abuse close of a connection from `source`.
    pub(super) fn charge(&mut self, source: Source, now: Nanos) {
        if self.wait(source, now) < MAX_DELAY {
            self.0.charge(source, ABUSE_COST, now);
        }
    }

    /// Returns how long the next connection from `source` is delayed.
    pub(super) fn wait(&self, source: Source, now: Nanos) -> Duration {
        Duration::from_nanos(self.0.wait(source, now)).min(MAX_DELAY)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    const MS: Nanos = 1_000_000;

    #[test]
    fn reconnect_delay_is_bounded() {
        let (mut delay, source) = (ReconnectDelay::new(), Source::of(IpAddr::from([192, 0, 2, 1])));
        (0..10_000).for_each(|_| delay.charge(source, 0));
        assert_eq!(delay.wait(source, 0), MAX_DELAY);
    }

    #[test]
    fn reconnect_delay_starts_after_ten_closes() {
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
            "another source is not delayed"
        );
    }
}
