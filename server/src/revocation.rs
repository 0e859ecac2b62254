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

use clerk::RevocationWriter;
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
pub enum RevokeError {
    /// There is no room for it.
    Full(RevocationCapacityError),
    /// It cannot be kept.
    Store(String),
}

impl fmt::Display for RevokeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(full) => write!(f, "{full}: raise capacity in [revocation]"),
            Self::Store(reason) => write!(f, "the revocation cannot be kept: {reason}"),
        }
    }
}

/// What is entered.
#[derive(Clone, Debug)]
pub enum RevocationEntry {
    /// Somebody with the right to do so named it, or the token is genuine.
    Proven(Revocation),
    /// A token that nobody can tell from a forged one, because its key is not known.
    /// It may take a small part of the room, for a bounded time.
    Unproven(Revocation),
}

/// How the revocations stand.
#[derive(Clone, Debug)]
pub struct RevocationStatus {
    /// How many there are.
    pub count: usize,
    /// How many there may be.
    pub capacity: usize,
    /// Why the ones that were kept cannot be read, if they cannot.
    pub error: Option<String>,
    /// Since they were last looked after.
    polled: Stopwatch,
}

/// Where revocations are handed in.
pub struct RevocationService {
    table: Arc<Revocations>,
    commands: SyncSender<WriterCommand>,
    /// Whether the clerk has been told to look, and has not yet.
    poll_requested: Arc<AtomicBool>,
    status: watch::Receiver<RevocationStatus>,
}

/// What the clerk is told.
enum WriterCommand {
    /// To enter something.
    Revoke(PendingRevocation),
    /// That another process may have entered something.
    Poll,
}

struct PendingRevocation {
    entry: RevocationEntry,
    answer: oneshot::Sender<Result<(), RevokeError>>,
}

/// How many requests may wait, and how many are kept in one write.
const MAX_QUEUED: usize = 256;
/// How long a request waits, and how long nobody need have looked after the
/// revocations before something is wrong.
const WRITER_TIMEOUT: Duration = Duration::from_secs(15);

impl RevocationService {
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
        compaction_interval: Option<Duration>,
    ) -> io::Result<Self> {
        let revoker = if store.is_ok() {
            RevocationsWriter::unavailable(capacity)
        } else {
            RevocationsWriter::new(capacity)
        };
        let table = Arc::clone(revoker.revocations());
        let (commands, queue) = sync_channel(MAX_QUEUED);
        let (publish, status) = watch::channel(RevocationStatus {
            count: 0,
            capacity,
            error: None,
            polled: Stopwatch::start(),
        });
        let poll_requested = Arc::new(AtomicBool::new(false));
        let mut writer = RevocationWriter::new(
            revoker,
            store,
            compaction_interval,
            publish,
            Arc::clone(&poll_requested),
        );
        writer.poll();
        thread::Builder::new().name("revocations".into()).spawn(move || writer.run(&queue))?;
        Ok(Self { table, commands, poll_requested, status })
    }

    /// What verifications look into.
    #[must_use]
    pub fn table(&self) -> &Arc<Revocations> {
        &self.table
    }

    /// How the revocations stand.
    #[must_use]
    pub fn status(&self) -> RevocationStatus {
        self.status.borrow().clone()
    }

    /// Whether all that was ever revoked is known.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let status = self.status.borrow();
        self.table.are_available()
            && status.error.is_none()
            && status.polled.elapsed() < WRITER_TIMEOUT
    }

    /// Has the store looked at before it would be: another process has written there.
    pub fn poll_trigger(&self) -> impl Fn() + Send + Sync + use<> {
        let (commands, poll_requested) = (self.commands.clone(), Arc::clone(&self.poll_requested));
        move || {
            // Once is enough, however long it takes: the queue is for those who wait.
            if !poll_requested.swap(true, Ordering::AcqRel) {
                let _busy = commands.try_send(WriterCommand::Poll);
            }
        }
    }

    /// Revokes. When this returns it is kept, and in force.
    ///
    /// # Errors
    /// Why it is neither.
    pub async fn revoke(&self, entry: RevocationEntry) -> Result<(), RevokeError> {
        let busy = || RevokeError::Store("too many requests at once".into());
        let (answer, answered) = oneshot::channel();
        self.commands
            .try_send(WriterCommand::Revoke(PendingRevocation { entry, answer }))
            .map_err(|_| busy())?;
        let late =
            || RevokeError::Store("it takes too long; it may or may not have come to pass".into());
        timeout(WRITER_TIMEOUT, answered).await.map_err(|_| late())?.map_err(|_| busy())?
    }
}
