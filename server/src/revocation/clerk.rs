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

use super::{Entry, Order, QUEUE, RevocationStore, RevokeFault, Status};
use crate::clock::{self, Stopwatch};

/// How soon a revocation by another process is seen.
const FOLLOW: Duration = Duration::from_millis(500);
/// How long another process may keep the store to itself.
const LOCKED: Duration = Duration::from_secs(5);
/// How long a database may be away that was read before, until this node is not ready:
/// all nodes of a database lose it together, and go on with what they know.
const AWAY: Duration = Duration::from_secs(300);
/// How much longer than it need be an entry is kept: clocks are set, and the leeway
/// configured today may be less than tomorrow's.
const GRACE: u64 = 86_400;
/// How far the clock may be from where it should be, in seconds, for anything to be
/// forgotten by it.
const JUMP: u64 = 3600;
/// How long a token is revoked whose key is not known.
const UNPROVEN: u64 = 30 * 86_400;
/// How many parts of the capacity there are for one of them.
const UNPROVEN_SHARE: usize = 100;

pub(super) struct Clerk {
    revoker: RevocationsWriter,
    store: Result<Box<dyn RevocationStore>, String>,
    /// Whether it was said that there are more than there may be.
    is_overfull: bool,
    /// When entries that nobody proved end, oldest first.
    unproven: VecDeque<UnixTime>,
    tidy_every: Option<Duration>,
    publish: watch::Sender<Status>,
    /// Since what was over was last forgotten.
    forgot: Stopwatch,
    /// What time it was when the watch beside it was started.
    base: UnixTime,
    since: Stopwatch,
    /// Whether that was because the clock had jumped.
    has_jumped: bool,
    /// Since the store could last be read; `None` if it never was.
    read: Option<Stopwatch>,
    /// Whether it was said that it cannot be asked.
    is_away: bool,
    is_noticed: Arc<AtomicBool>,
}

impl Clerk {
    pub(super) fn new(
        revoker: RevocationsWriter,
        store: Result<Box<dyn RevocationStore>, String>,
        tidy_every: Option<Duration>,
        publish: watch::Sender<Status>,
        is_noticed: Arc<AtomicBool>,
    ) -> Self {
        let now = Stopwatch::start();
        Self {
            revoker,
            store,
            is_overfull: false,
            unproven: VecDeque::new(),
            tidy_every,
            publish,
            forgot: now,
            base: clock::now(),
            since: now,
            has_jumped: false,
            read: None,
            is_away: false,
            is_noticed,
        }
    }

    pub(super) fn work(mut self, queue: &Receiver<Order>) {
        let mut untidied = Stopwatch::start();
        loop {
            if self.tidy_every.is_some_and(|pause| untidied.elapsed() >= pause) {
                self.tidy();
                untidied = Stopwatch::start();
            }
            let received = queue.recv_timeout(FOLLOW);
            self.look();
            match received {
                Ok(first) => self.serve(iter::once(first).chain(queue.try_iter()).take(QUEUE)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Enters what was appended by others, or by an earlier life. While there is
    /// something that cannot be read, whether a token was revoked cannot be told. A
    /// file that is gone held nothing that is not known.
    pub(super) fn look(&mut self) {
        // What is told from now on is perhaps not seen by this look.
        self.is_noticed.store(false, Ordering::Release);
        let looked = match &mut self.store {
            Ok(store) => store.read_new(),
            Err(_) => Ok(Some(Vec::new())),
        };
        let fault = match looked {
            Ok(Some(new)) => {
                (self.read, self.is_away) = (Some(Stopwatch::start()), false);
                self.restore(new);
                None
            }
            Ok(None) if self.has_not_read_for(LOCKED) => {
                Some("another process keeps the revocations to itself".into())
            }
            Ok(None) => self.publish.borrow().fault.clone(),
            Err(error)
                if error.kind() == io::ErrorKind::NotConnected && !self.has_not_read_for(AWAY) =>
            {
                if !mem::replace(&mut self.is_away, true) {
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
        self.note(fault);
    }

    fn has_not_read_for(&self, limit: Duration) -> bool {
        self.read.is_none_or(|read| read.elapsed() > limit)
    }

    /// Enters what is kept already, unless it is over.
    fn restore(&mut self, mut kept: Vec<Revocation>) {
        let over = self.over();
        kept.retain(|one| one.until.is_none_or(|until| until > over));
        self.revoker.restore(&kept);
        if self.revoker.count() > self.revoker.capacity()
            && !mem::replace(&mut self.is_overfull, true)
        {
            tracing::error!(
                "there are more revocations than there may be: raise capacity in [revocation]"
            );
        }
    }

    /// Checks that there is room for what is asked for, if need be after forgetting
    /// what is over.
    fn check_capacity(&mut self, revocations: &[Revocation]) -> Result<(), RevokeFault> {
        let room = self.revoker.check_capacity(revocations);
        let room = if room.is_err() && self.purge_expired() > 0 {
            self.revoker.check_capacity(revocations)
        } else {
            room
        };
        room.map_err(RevokeFault::Full)
    }

    fn serve(&mut self, orders: impl Iterator<Item = Order>) {
        let requests = orders.filter_map(|order| match order {
            Order::Enter(request) => Some((request.entry, request.answer)),
            Order::Look => None,
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
                    Err(RevokeFault::Full(_)) => self.revoke(&[revocation])?,
                    together => together.clone()?,
                }
                self.unproven.extend(until.filter(|_| unproven));
                Ok(())
            });
            if let Err(fault) = &result {
                tracing::error!("a token was not revoked: {fault}");
            }
            let _nobody_waits = answer.send(result);
        }
        let fault = self.publish.borrow().fault.clone();
        self.note(fault);
    }

    /// What is entered for an entry: for one that nobody proved, with an end, and
    /// only while its kind has not taken its share. Otherwise whoever can have tokens
    /// revoked that he made up himself could fill the table. Says whether it is one.
    fn admit(&mut self, entry: Entry, ends: &mut usize) -> Result<(Revocation, bool), RevokeFault> {
        let revocation = match entry {
            Entry::Proven(revocation) => return Ok((revocation, false)),
            Entry::Unproven(revocation) => revocation,
        };
        let now = clock::now();
        let end = now.plus(UNPROVEN);
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
            return Err(RevokeFault::Store(text));
        }
        *ends += 1;
        Ok((Revocation { until: Some(end), ..revocation }, true))
    }

    fn revoke(&mut self, revocations: &[Revocation]) -> Result<(), RevokeFault> {
        self.check_capacity(revocations)?;
        let store = self.store.as_mut().map_err(|reason| RevokeFault::Store(reason.clone()))?;
        let others =
            store.append(revocations).map_err(|error| RevokeFault::Store(error.to_string()))?;
        self.read = Some(Stopwatch::start());
        self.restore([others, revocations.to_vec()].concat());
        Ok(())
    }

    /// Forgets what is over; not for every request that finds no room.
    fn purge_expired(&mut self) -> usize {
        const PAUSE: Duration = Duration::from_secs(1);
        if self.forgot.elapsed() < PAUSE {
            return 0;
        }
        self.forgot = Stopwatch::start();
        let over = self.over();
        self.revoker.purge_expired(over)
    }

    /// Forgets what is over, and rewrites the store once most of it is.
    fn tidy(&mut self) {
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
    fn over(&mut self) -> UnixTime {
        let now = clock::now();
        let expected = self.base.plus(self.since.elapsed().as_secs());
        if now.0.abs_diff(expected.0) > JUMP {
            tracing::warn!("the clock has jumped: no revocation is forgotten for a day");
            (self.base, self.since, self.has_jumped) = (now, Stopwatch::start(), true);
        }
        if self.has_jumped && self.since.elapsed().as_secs() < GRACE {
            return UnixTime(0);
        }
        // A clock before 1970 reads as the far end of time.
        if now.0 == u64::MAX { UnixTime(0) } else { UnixTime(now.0.saturating_sub(GRACE)) }
    }

    fn note(&self, fault: Option<String>) {
        if fault.is_some() && fault != self.publish.borrow().fault {
            tracing::error!(
                "the revocations are not all known: {}",
                fault.as_deref().unwrap_or_default()
            );
        }
        let (count, capacity) = (self.revoker.count(), self.revoker.capacity());
        self.publish.send_replace(Status { count, capacity, fault, looked: Stopwatch::start() });
    }
}
