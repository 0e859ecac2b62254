//! Who sits at the desk: enters what is handed in and what other processes appended,
//! and forgets what is over.

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
    MAX_QUEUED, RevocationEntry, RevocationStatus, RevocationStore, RevokeError, WriterCommand,
};
use crate::clock::{self, Stopwatch};

/// How soon a revocation by another process is seen.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// How long another process may keep the store to itself.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a database may be away that was read before, until this node is not ready:
/// all nodes of a database lose it together, and go on with what they know.
const OUTAGE_TIMEOUT: Duration = Duration::from_secs(300);
/// How much longer than it need be an entry is kept: clocks are set, and the leeway
/// configured today may be less than tomorrow's.
const EXPIRY_GRACE: u64 = 86_400;
/// How far the clock may be from where it should be, in seconds, for anything to be
/// forgotten by it.
const MAX_CLOCK_JUMP: u64 = 3600;
/// How long a token is revoked whose key is not known.
const UNPROVEN_LIFETIME: u64 = 30 * 86_400;
/// How many parts of the capacity there are for one of them.
const UNPROVEN_SHARE: usize = 100;

pub(super) struct RevocationWriter {
    revoker: RevocationsWriter,
    store: Result<Box<dyn RevocationStore>, String>,
    /// Whether it was said that there are more than there may be.
    overfull_logged: bool,
    /// When entries that nobody proved end, oldest first.
    unproven: VecDeque<UnixTime>,
    compaction_interval: Option<Duration>,
    status: watch::Sender<RevocationStatus>,
    /// Since what was over was last forgotten.
    last_purge: Stopwatch,
    /// What time it was when the watch beside it was started.
    clock_base: UnixTime,
    clock_reference: Stopwatch,
    /// Whether that was because the clock had jumped.
    clock_jumped: bool,
    /// Since the store could last be read; `None` if it never was.
    last_read: Option<Stopwatch>,
    /// Whether it was said that it cannot be asked.
    outage_logged: bool,
    poll_requested: Arc<AtomicBool>,
}

impl RevocationWriter {
    pub(super) fn new(
        revoker: RevocationsWriter,
        store: Result<Box<dyn RevocationStore>, String>,
        compaction_interval: Option<Duration>,
        status: watch::Sender<RevocationStatus>,
        poll_requested: Arc<AtomicBool>,
    ) -> Self {
        let now = Stopwatch::start();
        Self {
            revoker,
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

    /// Enters what was appended by others, or by an earlier life. While there is
    /// something that cannot be read, whether a token was revoked cannot be told. A
    /// file that is gone held nothing that is not known.
    pub(super) fn poll(&mut self) {
        // What is told from now on is perhaps not seen by this look.
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
                Some("another process keeps the revocations to itself".into())
            }
            Ok(None) => self.status.borrow().error.clone(),
            Err(error)
                if error.kind() == io::ErrorKind::NotConnected
                    && !self.has_not_read_for(OUTAGE_TIMEOUT) =>
            {
                if !mem::replace(&mut self.outage_logged, true) {
                    tracing::warn!("the revocations of others are not seen for now: {error}");
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
                self.revoker.mark_unavailable();
                Some(error.to_string())
            }
        };
        self.publish_status(error);
    }

    fn has_not_read_for(&self, limit: Duration) -> bool {
        self.last_read.is_none_or(|read| read.elapsed() > limit)
    }

    /// Enters what is kept already, unless it is over.
    fn restore(&mut self, mut kept: Vec<Revocation>) {
        let cutoff = self.purge_cutoff();
        kept.retain(|one| one.until.is_none_or(|until| until > cutoff));
        self.revoker.restore(&kept);
        if self.revoker.count() > self.revoker.capacity()
            && !mem::replace(&mut self.overfull_logged, true)
        {
            tracing::error!(
                "there are more revocations than there may be: raise capacity in [revocation]"
            );
        }
    }

    /// Checks that there is room for what is asked for, if need be after forgetting
    /// what is over.
    fn check_capacity(&mut self, revocations: &[Revocation]) -> Result<(), RevokeError> {
        let room = self.revoker.check_capacity(revocations);
        let room = if room.is_err() && self.purge_expired() > 0 {
            self.revoker.check_capacity(revocations)
        } else {
            room
        };
        room.map_err(RevokeError::Full)
    }

    fn process(&mut self, commands: impl Iterator<Item = WriterCommand>) {
        let requests = commands.filter_map(|order| match order {
            WriterCommand::Revoke(request) => Some((request.entry, request.answer)),
            WriterCommand::Poll => None,
        });
        let (entries, answers): (Vec<_>, Vec<_>) = requests.unzip();
        if entries.is_empty() {
            return;
        }
        let mut ends = self.unproven.len();
        let admitted: Vec<_> =
            entries.into_iter().map(|entry| self.admit(entry, &mut ends)).collect();
        let revocations: Vec<_> =
            admitted.iter().flatten().map(|(revocation, _)| revocation.clone()).collect();
        // All in one write; if that does not fit, as many as do.
        let together = self.revoke(&revocations);
        for (admitted, answer) in admitted.into_iter().zip(answers) {
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
                tracing::error!("a token was not revoked: {error}");
            }
            let _nobody_waits = answer.send(result);
        }
        let error = self.status.borrow().error.clone();
        self.publish_status(error);
    }

    /// What is entered for an entry: for one that nobody proved, with an end, and
    /// only while its kind has not taken its share. Otherwise whoever can have tokens
    /// revoked that he made up himself could fill the table. Says whether it is one.
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
        if self.revoker.contains(&revocation.target) {
            return Ok((Revocation { until: Some(end), ..revocation }, false));
        }
        while self.unproven.front().is_some_and(|end| *end <= now) {
            self.unproven.pop_front();
            *ends = ends.saturating_sub(1);
        }
        let capacity = (self.revoker.capacity() / UNPROVEN_SHARE).max(1);
        if *ends >= capacity {
            let text = format!(
                "{capacity} tokens of unknown keys are revoked already; revoke this one once its key is known"
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

    /// Forgets what is over; not for every request that finds no room.
    fn purge_expired(&mut self) -> usize {
        const PURGE_INTERVAL: Duration = Duration::from_secs(1);
        if self.last_purge.elapsed() < PURGE_INTERVAL {
            return 0;
        }
        self.last_purge = Stopwatch::start();
        let cutoff = self.purge_cutoff();
        self.revoker.purge_expired(cutoff)
    }

    /// Forgets what is over, and rewrites the store once most of it is.
    fn compact(&mut self) {
        const MARGIN: usize = 1024;
        let forgotten = self.purge_expired();
        if forgotten > 0 {
            tracing::info!(
                forgotten,
                left = self.revoker.count(),
                "revocations of tokens that are over were forgotten"
            );
        }
        let Ok(store) = &mut self.store else { return };
        let live = self.revoker.count();
        if store.records().saturating_sub(live) <= live + MARGIN {
            return;
        }
        let (revoker, mut others) = (&self.revoker, Vec::new());
        let rewritten = store.rewrite(&mut |new| {
            others.clone_from(&new);
            revoker.all().into_iter().chain(new).collect()
        });
        self.restore(others);
        if let Err(error) = rewritten {
            tracing::warn!("the revocations could not be rewritten without what is over: {error}");
        }
    }

    /// Entries that end by this moment can be forgotten. None can for a day after the
    /// clock was not where it should be by a watch that never jumps: set wrong for a
    /// minute, it would bring back to life what was revoked.
    fn purge_cutoff(&mut self) -> UnixTime {
        let now = clock::now();
        let expected = self.clock_base.plus(self.clock_reference.elapsed().as_secs());
        if now.0.abs_diff(expected.0) > MAX_CLOCK_JUMP {
            tracing::warn!("the clock has jumped: no revocation is forgotten for a day");
            (self.clock_base, self.clock_reference, self.clock_jumped) =
                (now, Stopwatch::start(), true);
        }
        if self.clock_jumped && self.clock_reference.elapsed().as_secs() < EXPIRY_GRACE {
            return UnixTime(0);
        }
        // A clock before 1970 reads as the far end of time.
        if now.0 == u64::MAX { UnixTime(0) } else { UnixTime(now.0.saturating_sub(EXPIRY_GRACE)) }
    }

    fn publish_status(&self, error: Option<String>) {
        if error.is_some() && error != self.status.borrow().error {
            tracing::error!(
                "the revocations are not all known: {}",
                error.as_deref().unwrap_or_default()
            );
        }
        let (count, capacity) = (self.revoker.count(), self.revoker.capacity());
        self.status.send_replace(RevocationStatus {
            count,
            capacity,
            error,
            polled: Stopwatch::start(),
        });
    }
}
