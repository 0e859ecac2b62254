//! A thread that checks the databases of a running server and records their state.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::Duration,
};

use super::{KnownDatabases, UnexpectedDatabase};
use crate::base::clock::Stopwatch;

/// Interval at which the state is checked, and recorded if it is as expected.
const INTERVAL: Duration = Duration::from_secs(30);
/// Interval at which the newest rows are read. The state is recorded at once if they changed, so
/// that a crash does not hide that they were lost.
const CHANGE_INTERVAL: Duration = Duration::from_millis(500);

/// A running thread that records the state. It must be [stopped](Self::stop).
pub(in crate::cli) struct DatabaseFollower {
    stop: Sender<()>,
    stopped: Receiver<()>,
}

impl KnownDatabases {
    /// Checks the databases, then records their state whenever it changed. `unexpected` has the
    /// number of databases that are not as expected.
    pub(in crate::cli) fn follow(
        self,
        unexpected: Arc<AtomicUsize>,
    ) -> io::Result<DatabaseFollower> {
        let ((stop, commands), (end, stopped)) = (channel(), channel());
        thread::Builder::new().name("known-databases".into()).spawn(move || {
            let mut state = FollowState {
                databases: self,
                logged: Vec::new(),
                newest: Vec::new(),
                last_step: Stopwatch::start(),
            };
            state.step(&unexpected);
            while commands.recv_timeout(CHANGE_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                if state.last_step.elapsed() >= INTERVAL || state.has_changed() {
                    state.step(&unexpected);
                }
            }
            state.step(&unexpected);
            let _ignored = end.send(());
        })?;
        Ok(DatabaseFollower { stop, stopped })
    }
}

impl DatabaseFollower {
    /// Records the last state. To be called before the databases are closed.
    pub(in crate::cli) fn stop(self) {
        /// The databases may not answer.
        const STOP_TIMEOUT: Duration = Duration::from_secs(2);
        let _ignored = self.stop.send(());
        let _ignored = self.stopped.recv_timeout(STOP_TIMEOUT);
    }
}

struct FollowState {
    databases: KnownDatabases,
    /// The databases that were logged last.
    logged: Vec<UnexpectedDatabase>,
    /// Numbers of the newest rows at the last step; `None` for a database that does not answer.
    newest: Vec<Option<i64>>,
    last_step: Stopwatch,
}

impl FollowState {
    /// Whether there are newer rows to record.
    fn has_changed(&self) -> bool {
        self.logged.is_empty() && self.databases.newest() != self.newest
    }

    fn step(&mut self, count: &AtomicUsize) {
        // Rows that are newer than this may be recorded too, and are recorded again.
        (self.newest, self.last_step) = (self.databases.newest(), Stopwatch::start());
        // An unreachable database is reported by its queries, and checked later.
        let Ok(unexpected) = self.databases.check() else { return };
        // Relaxed: only for metrics.
        count.store(unexpected.len(), Ordering::Relaxed);
        for UnexpectedDatabase { text, help, .. } in &unexpected {
            if !self.logged.iter().any(|logged| logged.text == *text) {
                tracing::error!("{text}; {help}");
            }
        }
        self.logged = unexpected;
        if self.logged.is_empty()
            && let Err(error) = self.databases.record()
        {
            tracing::debug!("{}: {error}", self.databases.file.display());
        }
    }
}
