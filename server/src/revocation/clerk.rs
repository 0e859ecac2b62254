//! Who sits at the desk: enters what is handed in and what other processes appended,
//! and forgets what is over.

use std::{
    collections::VecDeque,
    io, iter,
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::Duration,
};

use countersign_engine::{Revocation, RevocationsFull, Revoker, UnixTime};
use tokio::sync::watch;

use super::{Entry, QUEUE, Request, RevocationStore, RevokeFault, Status};
use crate::clock::{self, Stopwatch};

/// How soon a revocation by another process is seen.
const FOLLOW: Duration = Duration::from_millis(500);
/// How long another process may keep the store to itself.
const LOCKED: Duration = Duration::from_secs(5);
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
    revoker: Revoker,
    store: Result<Box<dyn RevocationStore>, String>,
    /// Read from the store and not entered: there was no room.
    pending: Vec<Revocation>,
    /// When entries that nobody proved end, oldest first.
    unproven: VecDeque<UnixTime>,
    tidy_every: Option<Duration>,
    publish: watch::Sender<Status>,
    /// What time it was when this watch was started.
    started: (UnixTime, Stopwatch),
    /// Since the store could last be read.
    read: Stopwatch,
}

impl Clerk {
    pub(super) fn new(
        revoker: Revoker,
        store: Result<Box<dyn RevocationStore>, String>,
        tidy_every: Option<Duration>,
        publish: watch::Sender<Status>,
    ) -> Self {
        let started = (clock::now(), Stopwatch::start());
        let (pending, unproven) = (Vec::new(), VecDeque::new());
        Self { revoker, store, pending, unproven, tidy_every, publish, started, read: Stopwatch::start() }
    }

    pub(super) fn work(mut self, queue: &Receiver<Request>) {
        let mut untidied = Stopwatch::start();
        loop {
            if self.tidy_every.is_some_and(|pause| untidied.elapsed() >= pause) {
                self.tidy();
                untidied = Stopwatch::start();
            }
            let received = queue.recv_timeout(FOLLOW);
            self.look();
            match received {
                Ok(first) => self.serve(iter::once(first).chain(queue.try_iter()).take(QUEUE).collect()),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Enters what was appended by others, or by an earlier life. While there is
    /// something that cannot be read, whether a token was revoked cannot be told. A
    /// file that is gone held nothing that is not known.
    pub(super) fn look(&mut self) {
        let looked = match &mut self.store {
            Ok(store) => store.read_new(),
            Err(_) => Ok(Some(Vec::new())),
        };
        let fault = match looked {
            Ok(Some(new)) => {
                self.read = Stopwatch::start();
                self.enter_kept(new).err()
            }
            Ok(None) if self.read.elapsed() > LOCKED => Some("another process keeps the revocations to itself".into()),
            Ok(None) => self.publish.borrow().fault.clone(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some(error.to_string()),
            Err(error) => {
                self.revoker.lose_track();
                Some(error.to_string())
            }
        };
        self.note(fault);
    }

    /// Enters what is kept already. What finds no room is not forgotten: it is
    /// tried again each time, and no token is answered meanwhile.
    fn enter_kept(&mut self, new: Vec<Revocation>) -> Result<(), String> {
        let over = self.over();
        self.pending.extend(new);
        self.pending.retain(|one| one.until.is_none_or(|until| until > over));
        if self.revoker.enter(&self.pending).is_err() {
            self.revoker.forget_over(over);
            if let Err(full) = self.revoker.enter(&self.pending) {
                self.revoker.lose_track();
                return Err(RevokeFault::Full(full).to_string());
            }
        }
        self.pending.clear();
        Ok(())
    }

    /// Checks that there is room, if need be after forgetting what is over.
    fn make_room(&mut self, revocations: &[Revocation]) -> Result<(), RevocationsFull> {
        if self.revoker.check_room(revocations).is_ok() {
            return Ok(());
        }
        self.revoker.forget_over(self.over());
        self.revoker.check_room(revocations)
    }

    fn serve(&mut self, requests: Vec<Request>) {
        let (entries, answers): (Vec<_>, Vec<_>) = requests.into_iter().map(|request| (request.entry, request.answer)).unzip();
        let admitted: Vec<_> = entries.into_iter().map(|entry| self.admit(entry)).collect();
        let revocations: Vec<_> = admitted.iter().flatten().cloned().collect();
        // All in one write; if that does not fit, as many as do.
        let together = self.revoke(&revocations);
        for (admitted, answer) in admitted.into_iter().zip(answers) {
            let result = admitted.and_then(|revocation| match &together {
                Err(RevokeFault::Full(_)) => self.revoke(&[revocation]),
                together => together.clone(),
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
    /// revoked that he made up himself could fill the table.
    fn admit(&mut self, entry: Entry) -> Result<Revocation, RevokeFault> {
        let revocation = match entry {
            Entry::Proven(revocation) => return Ok(revocation),
            Entry::Unproven(revocation) => revocation,
        };
        let now = clock::now();
        while self.unproven.front().is_some_and(|end| *end <= now) {
            self.unproven.pop_front();
        }
        let capacity = (self.revoker.capacity() / UNPROVEN_SHARE).max(1);
        if self.unproven.len() >= capacity {
            let text = format!("{capacity} tokens of unknown keys are revoked already; revoke this one once its key is known");
            return Err(RevokeFault::Store(text));
        }
        let end = now.plus(UNPROVEN);
        self.unproven.push_back(end);
        Ok(Revocation { until: Some(end), ..revocation })
    }

    fn revoke(&mut self, revocations: &[Revocation]) -> Result<(), RevokeFault> {
        self.make_room(revocations).map_err(RevokeFault::Full)?;
        let store = self.store.as_mut().map_err(|reason| RevokeFault::Store(reason.clone()))?;
        let others = store.append(revocations).map_err(|error| RevokeFault::Store(error.to_string()))?;
        self.pending.extend(others);
        self.enter_kept(revocations.to_vec()).map_err(RevokeFault::Store)
    }

    /// Forgets what is over, and rewrites the store once most of it is.
    fn tidy(&mut self) {
        const MARGIN: usize = 1024;
        let forgotten = self.revoker.forget_over(self.over());
        if forgotten > 0 {
            tracing::info!(forgotten, left = self.revoker.count(), "revocations of tokens that are over were forgotten");
        }
        let Ok(store) = &mut self.store else { return };
        let live = self.revoker.count() + self.pending.len();
        if store.records().saturating_sub(live) <= live + MARGIN {
            return;
        }
        let (revoker, pending) = (&mut self.revoker, &mut self.pending);
        let rewritten = store.rewrite(&mut |new| {
            pending.extend(new);
            revoker.all().into_iter().chain(pending.iter().cloned()).collect()
        });
        if let Err(error) = rewritten {
            tracing::warn!("the revocations could not be rewritten without what is over: {error}");
        }
    }

    /// Entries that end by this moment can be forgotten. None can while the clock is
    /// not where it should be by a watch that never jumps: set wrong for a minute, it
    /// would bring back to life what was revoked.
    fn over(&self) -> UnixTime {
        let (now, (then, watch)) = (clock::now(), self.started);
        if now.0.abs_diff(then.plus(watch.elapsed().as_secs()).0) > JUMP {
            return UnixTime(0);
        }
        UnixTime(now.0.saturating_sub(GRACE))
    }

    fn note(&self, fault: Option<String>) {
        if fault.is_some() && fault != self.publish.borrow().fault {
            tracing::error!("the revocations are not all known: {}", fault.as_deref().unwrap_or_default());
        }
        let (count, capacity) = (self.revoker.count(), self.revoker.capacity());
        self.publish.send_replace(Status { count, capacity, fault, looked: Stopwatch::start() });
    }
}
