//! Revoking tokens: one desk at which every revocation is handed in, to be entered
//! first where it outlives the process and then where verifications see it.

mod clerk;
pub mod journal;
pub mod record;

use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use clerk::Clerk;
use countersign_engine::{Revocation, RevocationCapacityError, Revocations, RevocationsWriter};
use tokio::{
    sync::{oneshot, watch},
    time::timeout,
};

use crate::clock::Stopwatch;

/// Where revocations outlive the process. A file today; a database may be one.
pub trait RevocationStore: Send {
    /// What was appended, by anybody, since the last time; the first time, and after
    /// an error, everything. `None` if it cannot be told now because somebody is
    /// writing.
    ///
    /// # Errors
    /// It cannot be read, or not all of it: then nothing may be served as if it had
    /// been. [`io::ErrorKind::NotFound`] if what was read before is gone,
    /// [`io::ErrorKind::NotConnected`] if it cannot be asked now.
    fn read_new(&mut self) -> io::Result<Option<Vec<Revocation>>>;

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
    fn rewrite(
        &mut self,
        keep: &mut dyn FnMut(Vec<Revocation>) -> Vec<Revocation>,
    ) -> io::Result<()>;
}

/// Why a revocation was not entered.
#[derive(Clone, Debug)]
pub enum RevokeFault {
    /// There is no room for it.
    Full(RevocationCapacityError),
    /// It cannot be kept.
    Store(String),
}

impl fmt::Display for RevokeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(full) => write!(f, "{full}: raise capacity in [revocation]"),
            Self::Store(reason) => write!(f, "the revocation cannot be kept: {reason}"),
        }
    }
}

/// What is entered.
#[derive(Clone, Debug)]
pub enum Entry {
    /// Somebody with the right to do so named it, or the token is genuine.
    Proven(Revocation),
    /// A token that nobody can tell from a forged one, because its key is not known.
    /// It may take a small part of the room, for a bounded time.
    Unproven(Revocation),
}

/// How the revocations stand.
#[derive(Clone, Debug)]
pub struct Status {
    /// How many there are.
    pub count: usize,
    /// How many there may be.
    pub capacity: usize,
    /// Why the ones that were kept cannot be read, if they cannot.
    pub fault: Option<String>,
    /// Since they were last looked after.
    looked: Stopwatch,
}

/// Where revocations are handed in.
pub struct Desk {
    table: Arc<Revocations>,
    orders: SyncSender<Order>,
    /// Whether the clerk has been told to look, and has not yet.
    is_noticed: Arc<AtomicBool>,
    status: watch::Receiver<Status>,
}

/// What the clerk is told.
enum Order {
    /// To enter something.
    Enter(Request),
    /// That another process may have entered something.
    Look,
}

struct Request {
    entry: Entry,
    answer: oneshot::Sender<Result<(), RevokeFault>>,
}

/// How many requests may wait, and how many are kept in one write.
const QUEUE: usize = 256;
/// How long a request waits, and how long nobody need have looked after the
/// revocations before something is wrong.
const PATIENCE: Duration = Duration::from_secs(15);

impl Desk {
    /// Opens a desk over a store, reads it, and goes on on a thread that ends with
    /// the desk. While the store cannot be read no token can be verified. Without a
    /// store nothing can be revoked, and the reason is told. Who keeps the store tidy
    /// says how often to forget what is over.
    ///
    /// # Errors
    /// The operating system has no thread to give.
    pub fn open(
        store: Result<Box<dyn RevocationStore>, String>,
        capacity: usize,
        tidy_every: Option<Duration>,
    ) -> io::Result<Self> {
        let revoker = if store.is_ok() {
            RevocationsWriter::unavailable(capacity)
        } else {
            RevocationsWriter::new(capacity)
        };
        let table = Arc::clone(revoker.revocations());
        let (orders, queue) = sync_channel(QUEUE);
        let (publish, status) =
            watch::channel(Status { count: 0, capacity, fault: None, looked: Stopwatch::start() });
        let is_noticed = Arc::new(AtomicBool::new(false));
        let mut clerk = Clerk::new(revoker, store, tidy_every, publish, Arc::clone(&is_noticed));
        clerk.look();
        thread::Builder::new().name("revocations".into()).spawn(move || clerk.work(&queue))?;
        Ok(Self { table, orders, is_noticed, status })
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
        let status = self.status.borrow();
        self.table.are_available() && status.fault.is_none() && status.looked.elapsed() < PATIENCE
    }

    /// Has the store looked at before it would be: another process has written there.
    pub fn notice(&self) -> impl Fn() + Send + Sync + use<> {
        let (orders, is_noticed) = (self.orders.clone(), Arc::clone(&self.is_noticed));
        move || {
            // Once is enough, however long it takes: the queue is for those who wait.
            if !is_noticed.swap(true, Ordering::AcqRel) {
                let _busy = orders.try_send(Order::Look);
            }
        }
    }

    /// Revokes. When this returns it is kept, and in force.
    ///
    /// # Errors
    /// Why it is neither.
    pub async fn revoke(&self, entry: Entry) -> Result<(), RevokeFault> {
        let busy = || RevokeFault::Store("too many requests at once".into());
        let (answer, answered) = oneshot::channel();
        self.orders.try_send(Order::Enter(Request { entry, answer })).map_err(|_| busy())?;
        let late =
            || RevokeFault::Store("it takes too long; it may or may not have come to pass".into());
        timeout(PATIENCE, answered).await.map_err(|_| late())?.map_err(|_| busy())?
    }
}
