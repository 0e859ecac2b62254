//! The revocation writer thread.
//!
//! [`RevocationWriter`] stores requested revocations, and publishes them and those of other
//! processes to the engine. Everything that is read is published, whatever the clock says. Expired
//! entries are dropped from memory by their own end, and from the store by
//! [`expiry`](crate::store::expiry).

use std::{
    collections::{HashSet, VecDeque},
    io, iter, mem,
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Duration,
};

use countersign_engine::{Revocation, RevocationsWriter, UnixTime};
use tokio::sync::{oneshot, watch};

use super::{
    MAX_QUEUED, RevocationChange, RevocationEntry, RevocationObserver, RevocationStatus,
    RevokeError, WriterCommand, freshness::FollowedFreshness, record::RevocationRecord,
    store::RevocationStore,
};
use crate::{
    base::clock::{self, Stopwatch, since_boot},
    store::sqlite::directory,
};

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
/// it the store is read again and nothing is dropped.
const MAX_CLOCK_JUMP: u64 = 3600;
/// Time after the start, or after a jump of the clock, without dropping entries from memory, unless
/// the capacity is reached.
const FIRST_HOUR: Duration = Duration::from_secs(3600);
/// Seconds that the revocation of a token with an unknown key lasts.
const UNPROVEN_LIFETIME: u64 = 30 * 86_400;
/// Divisor of the capacity that gives the limit of such revocations.
const UNPROVEN_SHARE: usize = 100;
/// Divisor of the capacity that gives the part which [`RevocationEntry::Session`] leaves free.
const SESSION_RESERVE: usize = 20;
/// Divisor of the capacity that gives the part which [`RevocationEntry::MachineToken`] leaves free.
const MACHINE_RESERVE: usize = 10;

type RevokeResult = Result<(), RevokeError>;

/// State of the writer thread.
pub(super) struct RevocationWriter {
    table: RevocationsWriter,
    store: Result<RevocationStore, String>,
    /// Until when the known revocations may be relied on, and for how long after a read.
    freshness_limit: Option<(Arc<FollowedFreshness>, Duration)>,
    /// Whether an exceeded capacity has been logged.
    overfull_logged: bool,
    /// Expiry times of [`RevocationEntry::Unproven`] entries, oldest first.
    unproven: VecDeque<UnixTime>,
    deletion_interval: Option<Duration>,
    /// Revocations that were acknowledged and that a restored store lacks.
    lost: Vec<Revocation>,
    /// Number of times that the store was replaced by another one.
    replaced: usize,
    status: watch::Sender<RevocationStatus>,
    /// Time since the last purge; `None` before the first one.
    last_purge: Option<Stopwatch>,
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
    observer: Arc<OnceLock<RevocationObserver>>,
}

impl RevocationWriter {
    pub(super) fn new(
        (table, store): (RevocationsWriter, Result<RevocationStore, String>),
        freshness_limit: Option<(Arc<FollowedFreshness>, Duration)>,
        deletion_interval: Option<Duration>,
        status: watch::Sender<RevocationStatus>,
        poll_requested: Arc<AtomicBool>,
        observer: Arc<OnceLock<RevocationObserver>>,
    ) -> Self {
        let now = Stopwatch::start();
        Self {
            table,
            store,
            freshness_limit,
            overfull_logged: false,
            unproven: VecDeque::new(),
            deletion_interval,
            lost: Vec::new(),
            replaced: 0,
            status,
            last_purge: None,
            clock_base: clock::now(),
            clock_reference: now,
            clock_jumped: false,
            last_read: None,
            outage_logged: false,
            poll_requested,
            observer,
        }
    }

    pub(super) fn run(mut self, queue: &Receiver<WriterCommand>) {
        let mut last_deletion = Stopwatch::start();
        loop {
            if self.deletion_interval.is_some_and(|pause| last_deletion.elapsed() >= pause) {
                self.drop_expired();
                last_deletion = Stopwatch::start();
            }
            let received = queue.recv_timeout(POLL_INTERVAL);
            self.poll();
            match received {
                Ok(first) => {
                    let mut stopped = None;
                    let commands = iter::once(first).chain(queue.try_iter()).take(MAX_QUEUED);
                    self.process(commands.filter_map(|command| match command {
                        WriterCommand::Revoke(request) => Some((request.entry, request.result)),
                        WriterCommand::Poll => None,
                        WriterCommand::Stop(done) => {
                            stopped = Some(done);
                            None
                        }
                    }));
                    if let Some(done) = stopped {
                        let _ignored = done.send(());
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Reads the store and publishes what other processes, or earlier runs, have appended.
    ///
    /// If a part of the store cannot be read, the revocation state of every token is unknown. A
    /// missing file is not such a case: everything it contained was read before, and is written to
    /// a new one.
    pub(super) fn poll(&mut self) {
        // Cleared before the read, because this read may miss later appends.
        self.poll_requested.store(false, Ordering::Release);
        if self.has_clock_jumped()
            && let Ok(store) = &mut self.store
        {
            // Entries may have been dropped by the wrong clock.
            store.read_from_start();
        }
        // What is committed after this moment may be missed.
        let began = since_boot();
        let polled = match &mut self.store {
            Ok(store) => store.read_new(),
            Err(_) => Ok(Some(Vec::new())),
        };
        let polled = match polled {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.replace_missing(error),
            polled => polled,
        };
        let error = match polled {
            Ok(Some(new)) => {
                (self.last_read, self.outage_logged) = (Some(Stopwatch::start()), false);
                self.find_lost(&new);
                self.restore(&new);
                self.write_back();
                self.extend_freshness(began);
                None
            }
            Ok(None) if self.has_not_read_for(LOCK_TIMEOUT) => {
                Some("another process keeps the revocations locked".into())
            }
            Ok(None) => self.status.borrow().error.clone(),
            Err(error)
                if error.kind() == io::ErrorKind::NotConnected
                    && !self.has_not_read_for(self.outage_timeout()) =>
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
                self.notify_observer(RevocationChange::Availability);
                Some(error.to_string())
            }
        };
        self.publish_status(error);
    }

    /// Writes what this process knows to a new file in place of a missing one, and reads it.
    fn replace_missing(&mut self, error: io::Error) -> io::Result<Option<Vec<Revocation>>> {
        let Ok(store) = &mut self.store else { return Err(error) };
        // Otherwise the file was damaged before, and memory lacks a part of it.
        if !self.table.revocations().are_available() {
            return Err(error);
        }
        let known = self.table.all();
        let (count, location) = (known.len(), store.database().location().to_owned());
        store.replace_missing(&known).map_err(|error| {
            let place = directory(Path::new(&location)).display();
            let text = format!(
                "{location} is missing, and no new file can be written: {error}; do not restart: \
                 {count} revocations are only in memory; make {place} writable for the server's user"
            );
            io::Error::new(io::ErrorKind::NotFound, text)
        })?;
        tracing::error!(
            "{location} was missing while this server runs: wrote {count} revocations from memory \
             to a new file"
        );
        store.read_new()
    }

    /// Lets the known revocations be relied on for the configured time after a read that began at
    /// this time of [`since_boot`].
    fn extend_freshness(&self, began: Duration) {
        if let Some((freshness, limit)) = &self.freshness_limit {
            freshness.extend(began.saturating_add(*limit));
        }
    }

    /// Returns the time that the database may be unreachable until this node is not ready.
    fn outage_timeout(&self) -> Duration {
        let limit = self.freshness_limit.as_ref().map(|(_, limit)| *limit);
        limit.unwrap_or(OUTAGE_TIMEOUT).min(OUTAGE_TIMEOUT)
    }

    fn has_not_read_for(&self, limit: Duration) -> bool {
        self.last_read.is_none_or(|read| read.elapsed() > limit)
    }

    /// Publishes stored revocations, expired ones too: the clock may be wrong.
    fn restore(&mut self, stored: &[Revocation]) {
        let was_available = self.table.revocations().are_available();
        self.table.restore(stored);
        if !stored.is_empty() {
            self.notify_observer(RevocationChange::Added(stored));
        } else if !was_available {
            self.notify_observer(RevocationChange::Availability);
        }
        if self.table.count() > self.table.capacity()
            && self.purge_expired() == 0
            && !mem::replace(&mut self.overfull_logged, true)
        {
            tracing::error!(
                "the number of revocations exceeds the capacity: raise capacity in [revocation]"
            );
        }
    }

    fn notify_observer(&self, change: RevocationChange<'_>) {
        if let Some(observer) = self.observer.get() {
            observer(change);
        }
    }

    /// Finds what this process knows and a replaced store lacks, after it was read from its start.
    fn find_lost(&mut self, stored: &[Revocation]) {
        let Ok(store) = &mut self.store else { return };
        if !store.was_replaced() {
            return;
        }
        let now = clock::now();
        let stored: HashSet<_> = stored.iter().map(RevocationRecord::from).collect();
        let mut lost = self.table.all();
        lost.retain(|known| {
            known.until.is_none_or(|until| until > now)
                && !stored.contains(&RevocationRecord::from(known))
        });
        tracing::warn!(
            read = stored.len(),
            lost = lost.len(),
            "the stored revocations are not those that were read before (restored from a backup, or \
             a failover?): all are read again, and those that are missing are written back"
        );
        self.replaced += 1;
        self.lost = lost;
    }

    /// Stores lost revocations again. They were acknowledged.
    fn write_back(&mut self) {
        let Ok(store) = &mut self.store else { return };
        if self.lost.is_empty() {
            return;
        }
        match store.append(&self.lost) {
            Ok(others) => {
                self.lost.clear();
                self.restore(&others);
            }
            Err(error) => tracing::warn!("cannot write lost revocations back yet: {error}"),
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

    fn process(
        &mut self,
        requests: impl Iterator<Item = (RevocationEntry, oneshot::Sender<RevokeResult>)>,
    ) {
        let (entries, results): (Vec<_>, Vec<_>) = requests.unzip();
        if entries.is_empty() {
            return;
        }
        let mut ends = self.unproven.len();
        let entries = entries.into_iter().enumerate();
        let admitted: Vec<_> =
            entries.map(|(earlier, entry)| self.admit(entry, earlier, &mut ends)).collect();
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

    /// Returns the revocation to store for `entry`, and whether it counts as unproven. `earlier` is
    /// the number of entries before it in the same write.
    fn admit(
        &mut self,
        entry: RevocationEntry,
        earlier: usize,
        ends: &mut usize,
    ) -> Result<(Revocation, bool), RevokeError> {
        let (revocation, reserve) = match entry {
            RevocationEntry::Proven(revocation) => return Ok((revocation, false)),
            RevocationEntry::Session(revocation) => (revocation, SESSION_RESERVE),
            RevocationEntry::MachineToken(revocation) => (revocation, MACHINE_RESERVE),
            RevocationEntry::Unproven(revocation) => return self.admit_unproven(revocation, ends),
        };
        self.check_reserve(&revocation, reserve, earlier)?;
        Ok((revocation, false))
    }

    /// Checks that a revocation which needs no right leaves the reserve of the capacity to others.
    fn check_reserve(
        &mut self,
        revocation: &Revocation,
        divisor: usize,
        earlier: usize,
    ) -> Result<(), RevokeError> {
        let capacity = self.table.capacity();
        let limit = capacity - capacity.div_ceil(divisor);
        let is_full = |table: &RevocationsWriter| table.count() + earlier >= limit;
        if self.table.contains(&revocation.target)
            || !is_full(&self.table)
            || self.purge_expired() > 0 && !is_full(&self.table)
        {
            return Ok(());
        }
        let reserved = capacity - limit;
        Err(RevokeError::Store(format!(
            "the last {reserved} entries are reserved for administrators: raise capacity in [revocation]"
        )))
    }

    /// Returns the revocation to store for an unproven one, and whether it counts as such.
    ///
    /// It gets an expiry time, and is refused once the unproven ones have used their share of the
    /// capacity. Otherwise a client could fill the table with revocations of forged tokens.
    fn admit_unproven(
        &mut self,
        revocation: Revocation,
        ends: &mut usize,
    ) -> Result<(Revocation, bool), RevokeError> {
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
        self.restore(&[others, revocations.to_vec()].concat());
        Ok(())
    }

    /// Purges expired revocations, at most once a second, since a full table would otherwise
    /// cause a purge with every request. Returns how many were removed.
    fn purge_expired(&mut self) -> usize {
        const PURGE_INTERVAL: Duration = Duration::from_secs(1);
        if self.last_purge.is_some_and(|last| last.elapsed() < PURGE_INTERVAL) {
            return 0;
        }
        self.last_purge = Some(Stopwatch::start());
        let cutoff = self.purge_cutoff();
        let dropped = self.table.purge_expired(cutoff);
        if dropped > 0 {
            self.notify_observer(RevocationChange::Expired(cutoff));
        }
        dropped
    }

    /// Drops expired revocations from memory and from the store.
    fn drop_expired(&mut self) {
        // A clock that is wrong at the start is often set soon.
        let is_settled = self.clock_reference.elapsed() >= FIRST_HOUR;
        let dropped = if is_settled { self.purge_expired() } else { 0 };
        if dropped > 0 {
            tracing::info!(dropped, left = self.table.count(), "expired revocations dropped");
        }
        let Ok(store) = &self.store else { return };
        match store.delete_expired() {
            Ok(0) => {}
            Ok(deleted) => tracing::info!(deleted, "expired revocations deleted from the store"),
            Err(error) => tracing::warn!("cannot delete expired revocations: {error}"),
        }
    }

    /// Whether the wall clock has jumped against the monotonic one since the last call.
    fn has_clock_jumped(&mut self) -> bool {
        let now = clock::now();
        let expected = self.clock_base.plus(self.clock_reference.elapsed().as_secs());
        if now.0.abs_diff(expected.0) <= MAX_CLOCK_JUMP {
            return false;
        }
        tracing::warn!(
            "the system clock has jumped: revocations are read again, and none is dropped for a day"
        );
        (self.clock_base, self.clock_reference, self.clock_jumped) =
            (now, Stopwatch::start(), true);
        true
    }

    /// Returns the time up to which expired entries are dropped from memory: none for a day after a
    /// jump of the clock, which may be wrong now.
    fn purge_cutoff(&self) -> UnixTime {
        let now = clock::now();
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
            replaced: self.replaced,
            error,
            polled: Stopwatch::start(),
            read: self.last_read,
        });
    }
}
