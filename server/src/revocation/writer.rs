//! The revocation writer thread.
//!
//! [`RevocationWriter`] stores requested revocations, publishes them and those of other
//! processes to the engine, and purges expired ones.

use std::{
    collections::VecDeque,
    io, iter, mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Duration,
};

use countersign_engine::{Revocation, RevocationsWriter, UnixTime};
use tokio::sync::watch;

use super::{
    MAX_QUEUED, RevocationEntry, RevocationStatus, RevokeError, WriterCommand,
    store::RevocationStore,
};
use crate::base::clock::{self, Stopwatch};

/// Interval at which the store is read for revocations of other processes.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Time that another process may lock the store until this one is not ready.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// Time that a database may be unreachable until this node is not ready. All nodes of a
/// database lose it at the same time, and continue with the last known revocations.
const OUTAGE_TIMEOUT: Duration = Duration::from_secs(300);
/// Seconds that an expired entry is kept, because a clock may be adjusted and the configured
/// leeway may be raised.
const EXPIRY_GRACE: u64 = 86_400;
/// Limit of the difference between the wall clock and the monotonic clock, in seconds. Beyond
/// it nothing is purged.
const MAX_CLOCK_JUMP: u64 = 3600;
/// Seconds that the revocation of a token with an unknown key lasts.
const UNPROVEN_LIFETIME: u64 = 30 * 86_400;
/// Divisor of the capacity that gives the limit of such revocations.
const UNPROVEN_SHARE: usize = 100;

/// State of the writer thread.
pub(super) struct RevocationWriter {
    table: RevocationsWriter,
    store: Result<RevocationStore, String>,
    /// Whether an exceeded capacity has been logged.
    overfull_logged: bool,
    /// Expiry times of [`RevocationEntry::Unproven`] entries, oldest first.
    unproven: VecDeque<UnixTime>,
    compaction_interval: Option<Duration>,
    status: watch::Sender<RevocationStatus>,
    /// Time since the last purge.
    last_purge: Stopwatch,
    /// Wall-clock time at which `clock_reference` was started.
    clock_base: UnixTime,
    clock_reference: Stopwatch,
    /// Whether the reference was restarted after a clock jump.
    clock_jumped: bool,
    /// Time since the last successful read of the store; `None` before the first one.
    last_read: Option<Stopwatch>,
    /// Whether an unreachable database has been logged.
    outage_logged: bool,
    poll_requested: Arc<AtomicBool>,
}

impl RevocationWriter {
    pub(super) fn new(
        table: RevocationsWriter,
        store: Result<RevocationStore, String>,
        compaction_interval: Option<Duration>,
        status: watch::Sender<RevocationStatus>,
        poll_requested: Arc<AtomicBool>,
    ) -> Self {
        let now = Stopwatch::start();
        Self {
            table,
            store,
            overfull_logged: false,
            unproven: VecDeque::new(),
            compaction_interval,
            status,
            last_purge: now,
            clock_base: clock::now(),
            clock_reference: now,
            clock_jumped: false,
            last_read: None,
            outage_logged: false,
            poll_requested,
        }
    }

    pub(super) fn run(mut self, queue: &Receiver<WriterCommand>) {
        let mut last_compaction = Stopwatch::start();
        loop {
            if self.compaction_interval.is_some_and(|pause| last_compaction.elapsed() >= pause) {
                self.compact();
                last_compaction = Stopwatch::start();
            }
            let received = queue.recv_timeout(POLL_INTERVAL);
            self.poll();
            match received {
                Ok(first) => {
                    self.process(iter::once(first).chain(queue.try_iter()).take(MAX_QUEUED))
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Reads the store and publishes what other processes, or earlier runs, have appended.
    ///
    /// If a part of the store cannot be read, the revocation state of every token is unknown. A
    /// missing file is not such a case: everything it contained was read before.
    pub(super) fn poll(&mut self) {
        // Cleared before the read, because this read may miss later appends.
        self.poll_requested.store(false, Ordering::Release);
        let polled = match &mut self.store {
            Ok(store) => store.read_new(),
            Err(_) => Ok(Some(Vec::new())),
        };
        let error = match polled {
            Ok(Some(new)) => {
                (self.last_read, self.outage_logged) = (Some(Stopwatch::start()), false);
                self.restore(new);
                None
            }
            Ok(None) if self.has_not_read_for(LOCK_TIMEOUT) => {
                Some("another process keeps the revocations locked".into())
            }
            Ok(None) => self.status.borrow().error.clone(),
            Err(error)
                if error.kind() == io::ErrorKind::NotConnected
                    && !self.has_not_read_for(OUTAGE_TIMEOUT) =>
            {
                if !mem::replace(&mut self.outage_logged, true) {
                    tracing::warn!(
                        "cannot read revocations from the database, continuing with the last known set: {error}"
                    );
                }
                None
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotConnected
                ) =>
            {
                Some(error.to_string())
            }
            Err(error) => {
                self.table.mark_unavailable();
                Some(error.to_string())
            }
        };
        self.publish_status(error);
    }

    fn has_not_read_for(&self, limit: Duration) -> bool {
        self.last_read.is_none_or(|read| read.elapsed() > limit)
    }

    /// Publishes stored revocations that have not expired.
    fn restore(&mut self, mut kept: Vec<Revocation>) {
        let cutoff = self.purge_cutoff();
        kept.retain(|one| one.until.is_none_or(|until| until > cutoff));
        self.table.restore(&kept);
        if self.table.count() > self.table.capacity()
            && !mem::replace(&mut self.overfull_logged, true)
        {
            tracing::error!(
                "the number of revocations exceeds the capacity: raise capacity in [revocation]"
            );
        }
    }

    /// Checks that the table has room for `revocations`, if necessary after a purge.
    fn check_capacity(&mut self, revocations: &[Revocation]) -> Result<(), RevokeError> {
        let room = self.table.check_capacity(revocations);
        let room = if room.is_err() && self.purge_expired() > 0 {
            self.table.check_capacity(revocations)
        } else {
            room
        };
        room.map_err(RevokeError::Full)
    }

    fn process(&mut self, commands: impl Iterator<Item = WriterCommand>) {
        let requests = commands.filter_map(|command| match command {
            WriterCommand::Revoke(request) => Some((request.entry, request.result)),
            WriterCommand::Poll => None,
        });
        let (entries, results): (Vec<_>, Vec<_>) = requests.unzip();
        if entries.is_empty() {
            return;
        }
        let mut ends = self.unproven.len();
        let admitted: Vec<_> =
            entries.into_iter().map(|entry| self.admit(entry, &mut ends)).collect();
        let revocations: Vec<_> =
            admitted.iter().flatten().map(|(revocation, _)| revocation.clone()).collect();
        // All in one write. If the table has no room for all, each one is tried on its own.
        let together = self.revoke(&revocations);
        for (admitted, result_sender) in admitted.into_iter().zip(results) {
            let result = admitted.and_then(|(revocation, unproven)| {
                let until = revocation.until;
                match &together {
                    Err(RevokeError::Full(_)) => self.revoke(&[revocation])?,
                    together => together.clone()?,
                }
                self.unproven.extend(until.filter(|_| unproven));
                Ok(())
            });
            if let Err(error) = &result {
                tracing::error!("revocation failed: {error}");
            }
            let _ignored = result_sender.send(result);
        }
        let error = self.status.borrow().error.clone();
        self.publish_status(error);
    }

    /// Returns the revocation to store for `entry`, and whether it counts as unproven.
    ///
    /// An unproven revocation gets an expiry time, and is refused once the unproven ones have used
    /// their share of the capacity. Otherwise a client could fill the table with revocations of
    /// forged tokens.
    fn admit(
        &mut self,
        entry: RevocationEntry,
        ends: &mut usize,
    ) -> Result<(Revocation, bool), RevokeError> {
        let revocation = match entry {
            RevocationEntry::Proven(revocation) => return Ok((revocation, false)),
            RevocationEntry::Unproven(revocation) => revocation,
        };
        let now = clock::now();
        let end = now.plus(UNPROVEN_LIFETIME);
        if self.table.contains(&revocation.target) {
            return Ok((Revocation { until: Some(end), ..revocation }, false));
        }
        while self.unproven.front().is_some_and(|end| *end <= now) {
            self.unproven.pop_front();
            *ends = ends.saturating_sub(1);
        }
        let capacity = (self.table.capacity() / UNPROVEN_SHARE).max(1);
        if *ends >= capacity {
            let text = format!(
                "the limit of {capacity} revoked tokens with unknown keys is reached; revoke this one once its key is known"
            );
            return Err(RevokeError::Store(text));
        }
        *ends += 1;
        Ok((Revocation { until: Some(end), ..revocation }, true))
    }

    fn revoke(&mut self, revocations: &[Revocation]) -> Result<(), RevokeError> {
        self.check_capacity(revocations)?;
        let store = self.store.as_mut().map_err(|reason| RevokeError::Store(reason.clone()))?;
        let others =
            store.append(revocations).map_err(|error| RevokeError::Store(error.to_string()))?;
        self.last_read = Some(Stopwatch::start());
        self.restore([others, revocations.to_vec()].concat());
        Ok(())
    }

    /// Purges expired revocations, at most once a second, since a full table would otherwise
    /// cause a purge with every request. Returns how many were removed.
    fn purge_expired(&mut self) -> usize {
        const PURGE_INTERVAL: Duration = Duration::from_secs(1);
        if self.last_purge.elapsed() < PURGE_INTERVAL {
            return 0;
        }
        self.last_purge = Stopwatch::start();
        let cutoff = self.purge_cutoff();
        self.table.purge_expired(cutoff)
    }

    /// Purges expired revocations, and rewrites the store once most of its records are expired.
    fn compact(&mut self) {
        const MARGIN: usize = 1024;
        let forgotten = self.purge_expired();
        if forgotten > 0 {
            tracing::info!(forgotten, left = self.table.count(), "expired revocations removed");
        }
        let Ok(store) = &mut self.store else { return };
        let live = self.table.count();
        if store.records().saturating_sub(live) <= live + MARGIN {
            return;
        }
        let (table, mut others) = (&self.table, Vec::new());
        let rewritten = store.rewrite(&mut |new| {
            others.clone_from(&new);
            table.all().into_iter().chain(new).collect()
        });
        self.restore(others);
        if let Err(error) = rewritten {
            tracing::warn!("cannot rewrite the store without the expired revocations: {error}");
        }
    }

    /// Returns the time up to which expired entries are purged.
    ///
    /// The wall clock is compared with a monotonic one. After a jump nothing is purged for a day:
    /// a clock that is wrong for a minute would otherwise purge revocations that still apply.
    fn purge_cutoff(&mut self) -> UnixTime {
        let now = clock::now();
        let expected = self.clock_base.plus(self.clock_reference.elapsed().as_secs());
        if now.0.abs_diff(expected.0) > MAX_CLOCK_JUMP {
            tracing::warn!("the system clock has jumped: no revocations are purged for a day");
            (self.clock_base, self.clock_reference, self.clock_jumped) =
                (now, Stopwatch::start(), true);
        }
        if self.clock_jumped && self.clock_reference.elapsed().as_secs() < EXPIRY_GRACE {
            return UnixTime(0);
        }
        // A clock before 1970 reads as `u64::MAX`.
        if now.0 == u64::MAX { UnixTime(0) } else { UnixTime(now.0.saturating_sub(EXPIRY_GRACE)) }
    }

    fn publish_status(&self, error: Option<String>) {
        if error.is_some() && error != self.status.borrow().error {
            tracing::error!(
                "cannot read all revocations: {}",
                error.as_deref().unwrap_or_default()
            );
        }
        let (count, capacity) = (self.table.count(), self.table.capacity());
        self.status.send_replace(RevocationStatus {
            count,
            capacity,
            error,
            polled: Stopwatch::start(),
        });
    }
}
