//! Revocation of tokens.
//!
//! A single writer thread appends each revocation to durable storage, a [`RevocationStore`],
//! then publishes it to the engine's [`Revocations`]. [`RevocationService`] is the handle of
//! that thread.

pub mod follower;
pub mod freshness;
mod import;
pub mod inspection;
pub mod record;
mod recovery;
pub mod repair;
pub mod settings;
pub mod store;
mod writer;

use std::{
    fmt, io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    },
    thread,
    time::Duration,
};

use countersign_engine::{
    Revocation, RevocationCapacityError, Revocations, RevocationsWriter, UnixTime,
};
use tokio::{
    sync::{oneshot, watch},
    time::timeout,
};

use self::{
    follower::RevocationFollower, freshness::FollowedFreshness, settings::RevocationSettings,
    store::RevocationStore, writer::RevocationWriter,
};
use crate::{
    base::clock::Stopwatch,
    store::{Store, StoreError},
};

/// Error of [`RevocationService::revoke`].
#[derive(Clone, Debug)]
pub enum RevokeError {
    /// The table of revocations is full.
    Full(RevocationCapacityError),
    /// The revocation cannot be stored, for this reason.
    Store(String),
}

impl fmt::Display for RevokeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(full) => write!(f, "{full}: raise capacity in [revocation]"),
            Self::Store(reason) => write!(f, "cannot store the revocation: {reason}"),
        }
    }
}

/// A revocation to store.
#[derive(Clone, Debug)]
pub enum RevocationEntry {
    /// An authorized client named its target, or the signature of the token was verified.
    Proven(Revocation),
    /// A session that its user ends or renews. Such entries leave a reserve of the capacity to
    /// those that need a right.
    Session(Revocation),
    /// A token that the machine identity which has it revokes. Such entries leave a larger reserve
    /// of the capacity to others.
    MachineToken(Revocation),
    /// A token that may be forged, because its key is unknown. Such entries are limited to a
    /// small part of the capacity, and expire.
    Unproven(Revocation),
}

/// State of the revocations, for health checks and metrics.
#[derive(Clone, Debug)]
pub struct RevocationStatus {
    /// Number of revocations.
    pub count: usize,
    /// Limit of that number.
    pub capacity: usize,
    /// Number of times that the store was replaced by another one.
    pub replaced: usize,
    /// Error of reading the store, if it failed.
    pub error: Option<String>,
    /// Time since the writer last read the store, or tried to.
    polled: Stopwatch,
    /// Time since it was last read successfully.
    read: Option<Stopwatch>,
}

/// Handle of the revocation writer thread.
pub struct RevocationService {
    table: Arc<Revocations>,
    /// The database that has the table; `None` if nothing can be revoked.
    database: Option<Store>,
    commands: SyncSender<WriterCommand>,
    /// Whether a [`WriterCommand::Poll`] is queued.
    poll_requested: Arc<AtomicBool>,
    status: watch::Receiver<RevocationStatus>,
    observer: Arc<OnceLock<RevocationObserver>>,
    freshness: Option<Arc<FollowedFreshness>>,
}

/// A change of the revocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevocationChange<'r> {
    /// These are in force, and the request is not answered yet.
    Added(&'r [Revocation]),
    /// Those that had expired at this time were dropped.
    Expired(UnixTime),
    /// They have become unavailable, or available again.
    Availability,
}

/// Called by the writer thread after each change.
pub type RevocationObserver = Box<dyn Fn(RevocationChange<'_>) + Send + Sync>;

/// Command to the writer thread.
enum WriterCommand {
    /// Store a revocation.
    Revoke(PendingRevocation),
    /// Read the store: another process may have appended to it.
    Poll,
    /// End the thread, then acknowledge.
    Stop(Sender<()>),
}

struct PendingRevocation {
    entry: RevocationEntry,
    result: oneshot::Sender<Result<(), RevokeError>>,
}

/// Limit of queued requests, and of revocations in one write.
const MAX_QUEUED: usize = 256;
/// Timeout of a request, and the age of the last read from which the service counts as not
/// ready.
const WRITER_TIMEOUT: Duration = Duration::from_secs(15);

const THREAD_NAME: &str = "revocations";

impl RevocationStatus {
    /// Returns how long ago the store was last read; `None` before the first time.
    #[must_use]
    pub fn staleness(&self) -> Option<Duration> {
        self.read.map(|read| read.elapsed())
    }

    /// The state before the store was read.
    fn unread(capacity: usize) -> Self {
        Self {
            count: 0,
            capacity,
            replaced: 0,
            error: None,
            polled: Stopwatch::start(),
            read: None,
        }
    }
}

impl RevocationService {
    /// Reads `store` and starts the writer thread, which ends with [`stop`](Self::stop) or when this
    /// handle is dropped.
    ///
    /// While the store cannot be read, no token is verified. If `store` is an error, nothing can
    /// be revoked, and every [`revoke`](Self::revoke) returns that error. The process that
    /// maintains the store passes a `deletion_interval`, at which expired records are deleted. With
    /// a `max_staleness` in the settings, [`freshness`](Self::freshness) ends that long after the
    /// store was last read.
    ///
    /// # Errors
    /// The operating system cannot create a thread.
    pub fn open(
        store: Result<RevocationStore, String>,
        settings: &RevocationSettings,
        deletion_interval: Option<Duration>,
    ) -> io::Result<Self> {
        let (service, mut writer, queue) = Self::new(store, settings, deletion_interval);
        writer.poll();
        thread::Builder::new().name(THREAD_NAME.into()).spawn(move || writer.run(&queue))?;
        Ok(service)
    }

    /// Starts the writer thread as [`open`](Self::open) does, and leaves the first reading of the
    /// store to it: this does not wait for a database that is unreachable.
    ///
    /// # Errors
    /// The operating system cannot create a thread.
    pub fn open_in_background(
        store: Result<RevocationStore, String>,
        settings: &RevocationSettings,
    ) -> io::Result<Self> {
        let (service, mut writer, queue) = Self::new(store, settings, None);
        let run = move || {
            writer.poll();
            writer.run(&queue);
        };
        thread::Builder::new().name(THREAD_NAME.into()).spawn(run)?;
        Ok(service)
    }

    /// Creates the handle, the state of the thread, and the queue between them.
    fn new(
        store: Result<RevocationStore, String>,
        settings: &RevocationSettings,
        deletion_interval: Option<Duration>,
    ) -> (Self, RevocationWriter, Receiver<WriterCommand>) {
        let capacity = settings.capacity;
        let writer = if store.is_ok() {
            RevocationsWriter::unavailable(capacity)
        } else {
            RevocationsWriter::new(capacity)
        };
        let table = Arc::clone(writer.revocations());
        let database = store.as_ref().ok().map(|store| store.database().clone());
        let (commands, queue) = sync_channel(MAX_QUEUED);
        let (publish, status) = watch::channel(RevocationStatus::unread(capacity));
        let (poll_requested, observer) = (Arc::default(), Arc::default());
        let freshness_limit = settings.max_staleness.map(|limit| (Arc::default(), limit));
        let freshness = freshness_limit.as_ref().map(|(freshness, _)| Arc::clone(freshness));
        let writer = RevocationWriter::new(
            (writer, store),
            freshness_limit,
            deletion_interval,
            publish,
            Arc::clone(&poll_requested),
            Arc::clone(&observer),
        );
        let service =
            Self { table, database, commands, poll_requested, status, observer, freshness };
        (service, writer, queue)
    }

    /// Creates the handle of revocations that another process of this machine has, and the
    /// [`RevocationFollower`] that applies them. Nothing can be revoked here. While its
    /// [`freshness`](Self::freshness) has ended, no token is to be verified.
    #[must_use]
    pub fn followed(capacity: usize) -> (Self, RevocationFollower) {
        let writer = RevocationsWriter::unavailable(capacity);
        let table = Arc::clone(writer.revocations());
        let (publish, status) = watch::channel(RevocationStatus::unread(capacity));
        // Without a receiver, every command fails.
        let (commands, _) = sync_channel(0);
        let (poll_requested, observer) = (Arc::default(), Arc::default());
        let followed = Arc::default();
        let follower = RevocationFollower::new(writer, publish, Arc::clone(&followed));
        let (database, freshness) = (None, Some(followed));
        let service =
            Self { table, database, commands, poll_requested, status, observer, freshness };
        (service, follower)
    }

    /// Returns how long they may be relied on, if they are those of another process, or if their
    /// store has a limit of staleness. Afterwards no token is to be verified.
    #[must_use]
    pub fn freshness(&self) -> Option<&Arc<FollowedFreshness>> {
        self.freshness.as_ref()
    }

    /// Sets the observer of later revocations, once. Those of before are in the
    /// [`table`](Self::table).
    pub fn observe(&self, observer: RevocationObserver) {
        let _ignored = self.observer.set(observer);
    }

    /// Returns the table that verifications look up.
    #[must_use]
    pub fn table(&self) -> &Arc<Revocations> {
        &self.table
    }

    /// State of the revocations, for health checks and metrics.
    #[must_use]
    pub fn status(&self) -> RevocationStatus {
        self.status.borrow().clone()
    }

    /// Returns the stored revocations after the one with a number, in their order, each with its
    /// number.
    ///
    /// # Errors
    /// There is no store, it cannot be queried, or a revocation cannot be parsed.
    pub async fn list(&self, after: i64, limit: u32) -> Result<Vec<(i64, Revocation)>, StoreError> {
        let missing = || StoreError::Unavailable("revocations are not stored".into());
        let database = self.database.as_ref().ok_or_else(missing)?;
        // A file is created with the first revocation.
        if !database.exists()? {
            return Ok(Vec::new());
        }
        database.revocations_after(after, limit).await
    }

    /// Returns whether they may be relied on: [`freshness`](Self::freshness) has not ended.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.freshness.as_ref().is_none_or(|freshness| freshness.is_current())
    }

    /// Returns whether every stored revocation is in force.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let status = self.status.borrow();
        self.table.are_available()
            && self.is_fresh()
            && status.error.is_none()
            && status.polled.elapsed() < WRITER_TIMEOUT
    }

    /// Returns a function that makes the writer read the store at once, for notifications that
    /// another process has written to it.
    pub fn poll_trigger(&self) -> impl Fn() + Send + Sync + use<> {
        let (commands, poll_requested) = (self.commands.clone(), Arc::clone(&self.poll_requested));
        move || {
            // At most one in the queue, so that notifications cannot displace requests.
            if !poll_requested.swap(true, Ordering::AcqRel) {
                let _ignored = commands.try_send(WriterCommand::Poll);
            }
        }
    }

    /// Ends the writer thread after the queued requests. Later ones fail.
    pub fn stop(&self) {
        /// The database may not answer.
        const STOP_TIMEOUT: Duration = Duration::from_secs(2);
        let (stopped, done) = channel();
        if self.commands.try_send(WriterCommand::Stop(stopped)).is_ok() {
            let _ignored = done.recv_timeout(STOP_TIMEOUT);
        }
    }

    /// Revokes. When this returns `Ok`, the revocation is stored and in force.
    ///
    /// # Errors
    /// The table is full, the store cannot be written, or the writer did not answer in time.
    pub async fn revoke(&self, entry: RevocationEntry) -> Result<(), RevokeError> {
        let busy = || RevokeError::Store("too many requests at once".into());
        let (result, received) = oneshot::channel();
        self.commands
            .try_send(WriterCommand::Revoke(PendingRevocation { entry, result }))
            .map_err(|_| busy())?;
        let timed_out =
            || RevokeError::Store("no answer in time; it may or may not have been stored".into());
        timeout(WRITER_TIMEOUT, received).await.map_err(|_| timed_out())?.map_err(|_| busy())?
    }

    /// Revokes several times. When this returns `Ok`, all revocations are stored and in force.
    ///
    /// # Errors
    /// As [`revoke`](Self::revoke). Some of them may have been made.
    pub async fn revoke_all(
        &self,
        entries: impl IntoIterator<Item = RevocationEntry>,
    ) -> Result<(), RevokeError> {
        for entry in entries {
            self.revoke(entry).await?;
        }
        Ok(())
    }
}

impl Drop for RevocationService {
    /// Commands close the database next.
    fn drop(&mut self) {
        self.stop();
    }
}
