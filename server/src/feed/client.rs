//! The thread of a tier that reads the feed, and requests keys.

use std::{convert::Infallible, io, pin::pin, sync::Arc, thread, time::Duration};

use countersign_front::worker_pool::runtime;
use memchr::memchr;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::UnixStream,
    sync::{oneshot, watch},
    time::{sleep, timeout},
};

use super::{
    configuration::SectionDigests,
    connection::{FeedError, FeedFollower},
    difference_log::DifferenceLog,
    line::{FeedLine, FeedRequest, MAX_LINE_BYTES},
    peer::TrustedOwners,
    settings::FeedSettings,
    staleness::StalenessLog,
};
use crate::{
    base::clock::since_boot, keys::follower::KeyFollower, revocation::follower::RevocationFollower,
};

/// Time before the first attempt to connect again; it doubles each time.
const MIN_BACKOFF: Duration = Duration::from_millis(20);
/// Longest time between attempts to connect.
const MAX_BACKOFF: Duration = Duration::from_millis(500);
/// Memory for lines that were received and not read.
const BUFFER_BYTES: usize = 64 * 1024;

/// The thread that follows the feed. It ends soon after this is dropped.
pub struct FeedClient {
    _running: oneshot::Sender<()>,
}

impl FeedClient {
    /// Starts the thread, which applies the feed to keys and revocations, and compares the
    /// configuration of the server with that of this process.
    ///
    /// # Errors
    /// The operating system cannot create a thread.
    pub fn start(
        settings: FeedSettings,
        owners: TrustedOwners,
        (keys, revocations): (KeyFollower, RevocationFollower),
        configuration: watch::Receiver<Arc<SectionDigests>>,
    ) -> io::Result<Self> {
        let runtime = runtime()?;
        let (running, stopped) = oneshot::channel();
        thread::Builder::new().name("feed".into()).spawn(move || {
            let freshness = Arc::clone(revocations.freshness());
            let follower = FeedFollower::new(keys, revocations, settings.max_staleness);
            let staleness = StalenessLog::new(&settings, freshness, follower.reception());
            let mut differences =
                DifferenceLog::new(&settings.socket, follower.configuration(), configuration);
            let mut connections = FeedConnections { settings: &settings, owners, follower };
            runtime.block_on(async {
                tokio::select! {
                    () = connections.run(&staleness) => {}
                    () = staleness.run() => {}
                    () = differences.run() => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { _running: running })
    }
}

/// Connects, and connects again.
struct FeedConnections<'s> {
    settings: &'s FeedSettings,
    owners: TrustedOwners,
    follower: FeedFollower,
}

impl FeedConnections<'_> {
    async fn run(&mut self, log: &StalenessLog<'_>) {
        let mut backoff = MIN_BACKOFF;
        loop {
            let Err(error) = self.follow(log).await;
            log.interrupted(error);
            // Received revocations are in force, although more may be missing.
            let _too_many = self.follower.apply();
            if self.follower.is_complete() {
                backoff = MIN_BACKOFF;
            }
            self.pause(backoff).await;
            backoff = backoff.saturating_mul(2).min(MAX_BACKOFF);
        }
    }

    /// Follows one connection to its end.
    async fn follow(&mut self, log: &StalenessLog<'_>) -> Result<Infallible, FeedError> {
        self.follower.begin();
        let socket = &*self.settings.socket;
        let stream = UnixStream::connect(socket).await.map_err(|error| connect_error(&error))?;
        self.owners.check(&stream, socket)?;
        log.connected();
        let mut reader = LineReader::new(stream);
        loop {
            tokio::select! {
                line = timeout(self.settings.max_staleness, reader.next_line()) => {
                    let line = line.map_err(|_elapsed| FeedError("the server is silent".into()))??;
                    let line = FeedLine::parse(line)?;
                    self.follower.receive(line, since_boot())?;
                    reader.end_line();
                    // Revocations that arrive together are applied together.
                    if self.follower.is_complete() && !reader.has_line() {
                        self.follower.apply()?;
                    }
                }
                () = self.follower.keys().changed() => self.follower.apply_keys(),
                () = self.follower.keys().refetch_requested(), if self.follower.is_complete() => {
                    for request in self.follower.requests(since_boot()) {
                        reader.send(request)?;
                    }
                }
            }
        }
    }

    /// Waits before the next attempt. A reload may need keys meanwhile.
    async fn pause(&mut self, backoff: Duration) {
        let mut elapsed = pin!(sleep(backoff));
        loop {
            tokio::select! {
                () = &mut elapsed => return,
                () = self.follower.keys().changed() => self.follower.apply_keys(),
            }
        }
    }
}

pub(super) fn connect_error(error: &io::Error) -> FeedError {
    let remedy = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "add the user of the proxy to the group of the socket: see group in [feed]"
        }
        // The queue of the socket is full.
        io::ErrorKind::WouldBlock => "the server accepts no connections: it is stopped or too busy",
        _ => "start the server with the same configuration",
    };
    FeedError(format!("cannot connect: {error}; {remedy}"))
}

const CLOSED: &str = "the server has closed the connection: it stops, or has too many clients of \
                      this user, as its log states";

/// Reads lines of bounded length. A part of a line stays if the future is dropped.
pub(super) struct LineReader {
    stream: BufReader<UnixStream>,
    line: Vec<u8>,
    is_whole: bool,
}

impl LineReader {
    pub(super) fn new(stream: UnixStream) -> Self {
        let stream = BufReader::with_capacity(BUFFER_BYTES, stream);
        Self { stream, line: Vec::new(), is_whole: false }
    }

    /// Reads the next line, without its end. Call [`end_line`](Self::end_line) after its use.
    pub(super) async fn next_line(&mut self) -> Result<&[u8], FeedError> {
        while !self.is_whole {
            let bytes = self.stream.fill_buf().await;
            let bytes = bytes.map_err(|error| FeedError(format!("cannot read: {error}")))?;
            if bytes.is_empty() {
                return Err(FeedError(CLOSED.into()));
            }
            let end = memchr(b'\n', bytes);
            let part = &bytes[..end.unwrap_or(bytes.len())];
            if self.line.len() + part.len() > MAX_LINE_BYTES {
                return Err(FeedError(format!("a line is longer than {MAX_LINE_BYTES} bytes")));
            }
            self.line.extend_from_slice(part);
            self.is_whole = end.is_some();
            let read = part.len() + usize::from(self.is_whole);
            self.stream.consume(read);
        }
        Ok(&self.line)
    }

    /// Ends the use of a line.
    pub(super) fn end_line(&mut self) {
        /// Memory that is kept for the next line.
        const MAX_KEPT: usize = 64 * 1024;
        self.line.clear();
        self.line.shrink_to(MAX_KEPT);
        self.is_whole = false;
    }

    /// Sends a request, without a wait: if the server has not read the earlier ones yet, it is
    /// busy, and this one is dropped.
    fn send(&self, request: FeedRequest) -> Result<(), FeedError> {
        match self.stream.get_ref().try_write(&request.to_bytes()) {
            Ok(FeedRequest::BYTES) => Ok(()),
            Ok(_) => Err(FeedError("a request was cut off".into())),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(FeedError(format!("cannot write: {error}"))),
        }
    }

    /// Whether the next line was received, so that reading it does not wait.
    fn has_line(&self) -> bool {
        memchr(b'\n', self.stream.buffer()).is_some()
    }
}
