//! Revoking tokens: one desk that enters every revocation, first where it outlives
//! the process and then where verifications see it.

pub mod journal;
pub mod record;

use std::{
    fmt, io,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use countersign_engine::{Revocation, Revocations, RevocationsFull, Revoker};
use tokio::sync::{oneshot, watch};

use crate::clock;

/// Where revocations outlive the process. A file today; a database may be one.
pub trait RevocationStore: Send {
    /// What was appended, by anybody, since the last time; the first time
    /// everything.
    ///
    /// # Errors
    /// It cannot be read, or not all of it: then nothing may be served as if it had
    /// been.
    fn read_new(&mut self) -> io::Result<Vec<Revocation>>;

    /// Keeps these: when it returns, they survive whatever becomes of the process.
    /// Returns what others appended before.
    ///
    /// # Errors
    /// They are not kept.
    fn append(&mut self, revocations: &[Revocation]) -> io::Result<Vec<Revocation>>;

    /// How many were appended, those that are over or said twice included.
    fn records(&self) -> usize;

    /// Keeps what `keep` returns in place of everything. It is handed what others
    /// appended and this process has not read yet.
    ///
    /// # Errors
    /// Everything is as it was.
    fn rewrite(&mut self, keep: &mut dyn FnMut(Vec<Revocation>) -> Vec<Revocation>) -> io::Result<()>;
}

/// Why a revocation was not entered.
#[derive(Clone, Debug)]
pub enum RevokeFault {
    /// There is no room for it.
    Full(RevocationsFull),
    /// It cannot be kept.
    Store(String),
}

impl fmt::Display for RevokeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(full) => full.fmt(f),
            Self::Store(reason) => write!(f, "the revocation cannot be kept: {reason}"),
        }
    }
}

/// How the revocations stand.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// How many there are.
    pub count: usize,
    /// How many there may be.
    pub capacity: usize,
    /// Why the ones that were kept cannot be read, if they cannot.
    pub fault: Option<String>,
}

/// Where revocations are handed in.
pub struct Desk {
    table: Arc<Revocations>,
    requests: SyncSender<Request>,
    status: watch::Receiver<Status>,
}

struct Request {
    revocation: Revocation,
    answer: oneshot::Sender<Result<(), RevokeFault>>,
}

/// How soon a revocation by another process is seen.
const FOLLOW: Duration = Duration::from_millis(500);
/// How many requests may wait, and how many are kept in one write.
const QUEUE: usize = 256;
/// How often entries that are over are looked for, counted in looks at the store.
const TIDY: u32 = 120;

impl Desk {
    /// Opens a desk over a store, reads it, and goes on on a thread that ends with
    /// the desk. While the store could not be read no token can be verified. Without
    /// a store nothing can be revoked, and the reason is told.
    ///
    /// # Errors
    /// The operating system has no thread to give.
    pub fn open(store: Result<Box<dyn RevocationStore>, String>, capacity: usize) -> io::Result<Self> {
        let revoker = if store.is_ok() { Revoker::unknown(capacity) } else { Revoker::new(capacity) };
        let table = Arc::clone(revoker.revocations());
        let (requests, queue) = sync_channel(QUEUE);
        let (publish, status) = watch::channel(Status { capacity, ..Status::default() });
        let mut clerk = Clerk { revoker, store, pending: Vec::new(), publish };
        clerk.look();
        thread::Builder::new().name("revocations".into()).spawn(move || clerk.work(&queue))?;
        Ok(Self { table, requests, status })
    }

    /// What verifications look into.
    #[must_use]
    pub fn table(&self) -> &Arc<Revocations> {
        &self.table
    }

    /// How the revocations stand.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Whether all that was ever revoked is known.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.table.are_known() && self.status.borrow().fault.is_none()
    }

    /// Revokes. When this returns it is kept, and in force.
    ///
    /// # Errors
    /// Why it is neither.
    pub async fn revoke(&self, revocation: Revocation) -> Result<(), RevokeFault> {
        let busy = || RevokeFault::Store("too many requests at once".into());
        let (answer, answered) = oneshot::channel();
        self.requests.try_send(Request { revocation, answer }).map_err(|_| busy())?;
        answered.await.map_err(|_| busy())?
    }
}

/// Who sits at the desk.
struct Clerk {
    revoker: Revoker,
    store: Result<Box<dyn RevocationStore>, String>,
    /// Read from the store and not entered: there was no room.
    pending: Vec<Revocation>,
    publish: watch::Sender<Status>,
}

impl Clerk {
    fn work(mut self, queue: &Receiver<Request>) {
        let mut looks = 0u32;
        loop {
            if looks.is_multiple_of(TIDY) {
                self.tidy();
            }
            looks = looks.wrapping_add(1);
            let received = queue.recv_timeout(FOLLOW);
            self.look();
            match received {
                Ok(first) => self.serve(std::iter::once(first).chain(queue.try_iter()).take(QUEUE).collect()),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Enters what was appended by others, or by an earlier life.
    fn look(&mut self) {
        let looked = match &mut self.store {
            Ok(store) => store.read_new(),
            Err(_) => Ok(Vec::new()),
        };
        let entered = looked.map_err(|error| error.to_string()).and_then(|new| self.enter_kept(new));
        self.note(entered.err());
    }

    /// Enters what is kept already. What finds no room is not forgotten: it is
    /// tried again each time, and the server is not ready meanwhile.
    fn enter_kept(&mut self, new: Vec<Revocation>) -> Result<(), String> {
        self.pending.extend(new);
        self.revoker.enter(&self.pending).map_err(|full| full.to_string())?;
        self.pending.clear();
        Ok(())
    }

    fn serve(&mut self, requests: Vec<Request>) {
        let (revocations, answers): (Vec<_>, Vec<_>) =
            requests.into_iter().map(|request| (request.revocation, request.answer)).unzip();
        // All in one write; if that does not fit, as many as do.
        let together = self.revoke(&revocations);
        for (revocation, answer) in revocations.iter().zip(answers) {
            let result = match &together {
                Err(RevokeFault::Full(_)) => self.revoke(std::slice::from_ref(revocation)),
                together => together.clone(),
            };
            if let Err(fault) = &result {
                tracing::error!("a token was not revoked: {fault}");
            }
            let _nobody_waits = answer.send(result);
        }
        let fault = self.publish.borrow().fault.clone();
        self.note(fault);
    }

    fn revoke(&mut self, revocations: &[Revocation]) -> Result<(), RevokeFault> {
        self.revoker.check_room(revocations).map_err(RevokeFault::Full)?;
        let store = self.store.as_mut().map_err(|reason| RevokeFault::Store(reason.clone()))?;
        let others = store.append(revocations).map_err(|error| RevokeFault::Store(error.to_string()))?;
        self.pending.extend(others);
        let kept = self.enter_kept(revocations.to_vec());
        kept.map_err(RevokeFault::Store)
    }

    /// Forgets what is over, and rewrites the store once most of it is.
    fn tidy(&mut self) {
        const MARGIN: usize = 1024;
        let forgotten = self.revoker.forget_over(clock::now());
        if forgotten > 0 {
            tracing::info!(forgotten, left = self.revoker.count(), "revocations of tokens that are over were forgotten");
        }
        let Ok(store) = &mut self.store else { return };
        let wasted = store.records().saturating_sub(self.revoker.count());
        if wasted <= self.revoker.count().saturating_add(MARGIN) || !self.pending.is_empty() {
            return;
        }
        let (revoker, pending) = (&mut self.revoker, &mut self.pending);
        let rewritten = store.rewrite(&mut |new| {
            pending.extend(new);
            if revoker.enter(pending).is_ok() {
                pending.clear();
            }
            revoker.all().into_iter().chain(pending.iter().cloned()).collect()
        });
        if let Err(error) = rewritten {
            tracing::warn!("the revocations could not be rewritten without what is over: {error}");
        }
    }

    fn note(&self, fault: Option<String>) {
        if fault.is_some() && fault != self.publish.borrow().fault {
            tracing::error!("the revocations are not all known: {}", fault.as_deref().unwrap_or_default());
        }
        self.publish.send_replace(Status { count: self.revoker.count(), capacity: self.revoker.capacity(), fault });
    }
}
