//! The reasons why a tier verifies no token, and the log of them.

use std::{
    cell::{Cell, RefCell},
    fmt, mem,
    path::Path,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use tokio::time::sleep;

use super::{connection::FeedError, settings::FeedSettings};
use crate::{base::clock::since_boot, revocation::freshness::FollowedFreshness};

/// The state of a connection, which explains why the feed is stale, by times of [`since_boot`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FeedReception {
    /// When the last line was read.
    pub(super) last_line: Option<Duration>,
    /// Whether the snapshot is complete.
    pub(super) is_complete: bool,
    /// Age of the last line with a time, when it was read.
    pub(super) age: Duration,
}

/// Why the feed is stale.
#[derive(Clone, Debug, PartialEq, Eq)]
enum StalenessReason {
    /// The connection has ended, or none was possible.
    Interrupted(FeedError),
    /// The server writes nothing, since so long if it has written before.
    Silence(Option<Duration>),
    /// The snapshot is not complete. The last line arrived so long ago.
    Snapshot(Duration),
    /// The lines are too old when they are read.
    Clock(Duration),
}

impl FeedReception {
    /// Returns why this connection leaves the feed stale at `now`.
    fn reason(self, now: Duration) -> StalenessReason {
        let Some(last_line) = self.last_line else { return StalenessReason::Silence(None) };
        let silence = now.saturating_sub(last_line);
        match self {
            Self { is_complete: false, .. } => StalenessReason::Snapshot(silence),
            // Both together are more than `max_staleness`.
            Self { age, .. } if age > silence => StalenessReason::Clock(age),
            _ => StalenessReason::Silence(Some(silence)),
        }
    }
}

impl fmt::Display for StalenessReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interrupted(FeedError(text)) => f.write_str(text),
            Self::Silence(None) => {
                f.write_str("the server is silent: it has accepted the connection, and no more")
            }
            Self::Silence(Some(time)) => {
                write!(f, "the server is silent: its last line is {} s old", seconds(*time))
            }
            Self::Snapshot(time) => write!(
                f,
                "the snapshot is not complete: its last line arrived {} s ago",
                seconds(*time)
            ),
            Self::Clock(age) => write!(
                f,
                "its lines are {} s old when they are read, by the clock of this process: run the \
                 server and the proxy on one machine, in one time namespace; a proxy that gets too \
                 little time of the processor reads them late, too",
                seconds(*age)
            ),
        }
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64())
}

/// Logs when no token can be verified, and why, and when the feed is current again.
pub(super) struct StalenessLog<'s> {
    socket: &'s Path,
    max_staleness: Duration,
    freshness: Arc<FollowedFreshness>,
    reception: Rc<Cell<FeedReception>>,
    /// Whether a connection is open.
    is_connected: Cell<bool>,
    /// Why the last connection has ended.
    error: RefCell<Option<FeedError>>,
}

impl<'s> StalenessLog<'s> {
    pub(super) fn new(
        settings: &'s FeedSettings,
        freshness: Arc<FollowedFreshness>,
        reception: Rc<Cell<FeedReception>>,
    ) -> Self {
        let FeedSettings { socket, max_staleness, .. } = settings;
        Self {
            socket,
            max_staleness: *max_staleness,
            freshness,
            reception,
            is_connected: Cell::default(),
            error: RefCell::default(),
        }
    }

    /// Records that a connection is open.
    pub(super) fn connected(&self) {
        self.is_connected.set(true);
    }

    /// Records why a connection has ended, and logs it if it is another reason than before.
    pub(super) fn interrupted(&self, error: FeedError) {
        self.is_connected.set(false);
        let is_new = self.error.borrow().as_ref() != Some(&error);
        if is_new {
            tracing::warn!("the feed at {} is interrupted: {error}", self.socket.display());
        }
        self.error.replace(Some(error));
    }

    /// Follows the freshness. Never returns.
    pub(super) async fn run(&self) {
        const INTERVAL: Duration = Duration::from_millis(100);
        // A start takes a moment.
        sleep(self.max_staleness.min(Duration::from_secs(1))).await;
        let mut logged = Vec::new();
        loop {
            let left = self.freshness.left();
            match left {
                Some(_) if logged.is_empty() => {}
                Some(_) => {
                    let socket = self.socket.display();
                    tracing::info!("the feed at {socket} is current again: tokens are verified");
                    logged.clear();
                }
                None => self.log(&mut logged),
            }
            sleep(left.unwrap_or(INTERVAL)).await;
        }
    }

    /// Logs the reason, unless one of its kind was logged since the feed is stale.
    fn log(&self, logged: &mut Vec<StalenessReason>) {
        let reason = self.reason();
        let is_same_kind =
            |one: &StalenessReason| mem::discriminant(one) == mem::discriminant(&reason);
        // Another interruption is logged by itself.
        let is_interruption = matches!(reason, StalenessReason::Interrupted(_));
        if logged.iter().any(is_same_kind) || (is_interruption && !logged.is_empty()) {
            return;
        }
        let (socket, state) = (self.socket.display(), self.state());
        tracing::error!("no token is verified, because the feed at {socket} {state}: {reason}");
        logged.push(reason);
    }

    /// Returns how the feed is stale.
    fn state(&self) -> String {
        if self.freshness.was_current() {
            format!("is older than {} s (max_staleness)", self.max_staleness.as_secs_f64())
        } else {
            "has not been received yet".into()
        }
    }

    fn reason(&self) -> StalenessReason {
        let of_connection = self.reception.get().reason(since_boot());
        match self.error.borrow().clone() {
            Some(error) if !self.is_connected.get() => StalenessReason::Interrupted(error),
            // A server that has just accepted the connection has had no time to write.
            Some(error) if of_connection == StalenessReason::Silence(None) => {
                StalenessReason::Interrupted(error)
            }
            _ => of_connection,
        }
    }
}

#[cfg(test)]
mod tests {
    use countersign_front::accept::SocketPermissions;

    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    fn settings() -> FeedSettings {
        let (permissions, max_staleness) = (SocketPermissions::default(), Duration::from_secs(5));
        FeedSettings { socket: "/run/feed.sock".into(), permissions, max_staleness }
    }

    fn reason(silence: u64, is_complete: bool, age: u64) -> StalenessReason {
        let last_line = Some(NOW - Duration::from_secs(silence));
        FeedReception { last_line, is_complete, age: Duration::from_secs(age) }.reason(NOW)
    }

    #[test]
    fn reason_of_staleness_is_clock_snapshot_or_silence() {
        let seconds = Duration::from_secs;
        assert_eq!(FeedReception::default().reason(NOW), StalenessReason::Silence(None));
        assert_eq!(reason(5, true, 0), StalenessReason::Silence(Some(seconds(5))));
        assert_eq!(reason(1, false, 0), StalenessReason::Snapshot(seconds(1)));
        assert_eq!(reason(1, true, 60), StalenessReason::Clock(seconds(60)));
        assert_eq!(reason(4, true, 2), StalenessReason::Silence(Some(seconds(4))));
        for (reason, expected) in [
            (StalenessReason::Silence(None), "is silent: it has accepted"),
            (reason(5, true, 0), "is silent: its last line is 5.0 s old"),
            (reason(1, false, 0), "the snapshot is not complete: its last line arrived 1.0 s ago"),
            (reason(1, true, 60), "its lines are 60.0 s old when they are read, by the clock"),
        ] {
            assert!(reason.to_string().contains(expected), "{reason}");
        }
    }

    #[test]
    fn reason_is_that_of_the_open_connection() {
        let settings = settings();
        let reception = Rc::new(Cell::new(FeedReception::default()));
        let log = StalenessLog::new(&settings, Arc::default(), Rc::clone(&reception));
        assert_eq!(log.reason(), StalenessReason::Silence(None));
        let error = FeedError("cannot connect".into());
        log.interrupted(error.clone());
        assert_eq!(log.reason(), StalenessReason::Interrupted(error.clone()));
        log.connected();
        assert_eq!(log.reason(), StalenessReason::Interrupted(error), "it has not written yet");
        reception.set(FeedReception { last_line: Some(since_boot()), ..reception.get() });
        assert!(matches!(log.reason(), StalenessReason::Snapshot(_)));
    }

    #[test]
    fn feed_that_never_came_is_not_older_than_a_limit() {
        let settings = settings();
        let freshness = Arc::new(FollowedFreshness::default());
        let log = StalenessLog::new(&settings, Arc::clone(&freshness), Rc::default());
        assert_eq!(log.state(), "has not been received yet");
        freshness.extend(Duration::from_millis(1));
        assert_eq!(log.state(), "is older than 5 s (max_staleness)");
    }

    #[test]
    fn each_kind_of_reason_is_logged_once() {
        let settings = settings();
        let log = StalenessLog::new(&settings, Arc::default(), Rc::default());
        let mut logged = Vec::new();
        for _ in 0..2 {
            log.log(&mut logged);
            log.interrupted(FeedError("cannot connect".into()));
            log.log(&mut logged);
            log.connected();
        }
        assert_eq!(logged, [StalenessReason::Silence(None)]);
    }
}
