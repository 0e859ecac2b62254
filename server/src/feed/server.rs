//! The server's side of the feed: one thread, which serves all clients.

use std::{
    io,
    ops::ControlFlow::{self, Break, Continue},
    os::unix::net::UnixStream as StdUnixStream,
    rc::Rc,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use countersign_front::{
    accept::{AcceptedConnection, Acceptor},
    worker_pool::runtime,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{
        UnixStream,
        unix::{ReadHalf, WriteHalf},
    },
    sync::oneshot,
    task::{LocalSet, spawn_local},
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use super::{
    configuration::SectionDigests,
    feed_socket,
    figures::FeedClosure,
    line::{FeedLine, FeedRequest},
    places::{ClientPlaces, MAX_CLIENTS},
    publisher::{FeedPublisher, FeedSubscription, HEARTBEAT_INTERVAL, PublishedKeys, text_of},
    settings::FeedSettings,
};
use crate::revocation::record::RevocationRecord;

/// Time in which a client takes a part of the snapshot, or a message.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// Number of requests of a client that are read at once.
const MAX_REQUESTS: usize = 16;
/// Time after them without reading. Further requests wait in the socket.
const REQUEST_PAUSE: Duration = Duration::from_millis(50);

/// The thread that serves the feed. It ends when this is dropped, and the file of the socket is
/// removed.
pub struct FeedServer {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl FeedServer {
    /// Binds the socket and starts the thread.
    ///
    /// # Errors
    /// All users may write to the socket's directory, the socket cannot be bound, or the operating
    /// system cannot create a thread.
    pub fn start(settings: &FeedSettings, publisher: Arc<FeedPublisher>) -> io::Result<Self> {
        let runtime = runtime()?;
        let bound = {
            let _guard = runtime.enter();
            feed_socket::bind(settings)
        };
        let acceptor = match bound {
            Ok(acceptor) => acceptor,
            Err(error) => {
                // Dropping it would wait for its threads, which another runtime does not allow.
                runtime.shutdown_background();
                return Err(error);
            }
        };
        publisher.publish_keys();
        let (settings, (stop, stopped)) = (settings.clone(), oneshot::channel());
        let thread = thread::Builder::new().name("feed".into()).spawn(move || {
            LocalSet::new().block_on(&runtime, async move {
                tokio::select! {
                    () = serve(acceptor, &settings, publisher) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for FeedServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        // So that the file is removed before the process ends.
        let _panicked = self.thread.take().map(JoinHandle::join);
    }
}

async fn serve(acceptor: Acceptor, settings: &FeedSettings, publisher: Arc<FeedPublisher>) {
    let (clients, places) = (Arc::clone(&publisher), Rc::new(ClientPlaces::default()));
    let accept = feed_socket::accept(acceptor, settings, move |accepted| {
        spawn_local(serve_client(Arc::clone(&clients), Rc::clone(&places), accepted));
    });
    let follow_keys = async {
        loop {
            publisher.changed_keys().await;
            publisher.publish_keys();
        }
    };
    let heartbeats = async {
        let mut ticks = interval(HEARTBEAT_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            publisher.publish_heartbeat();
        }
    };
    tokio::select! {
        () = accept => {}
        () = follow_keys => {}
        () = publisher.publish_configurations() => {}
        () = heartbeats => {}
    }
}

/// Serves a client until it leaves or is disconnected.
async fn serve_client(
    publisher: Arc<FeedPublisher>,
    places: Rc<ClientPlaces>,
    accepted: AcceptedConnection,
) {
    let figures = &publisher.figures;
    let Ok(mut stream) = UnixStream::from_std(StdUnixStream::from(accepted.socket)) else { return };
    let Ok(client) = stream.peer_cred() else { return };
    let Some(_place) = places.enter(client.uid()) else {
        figures.record(FeedClosure::UserLimit);
        return;
    };
    let Some(_counted) = figures.enter(MAX_CLIENTS) else {
        figures.record(FeedClosure::Limit);
        return;
    };
    let (reader, writer) = stream.split();
    let closure = tokio::select! {
        closure = write_all(&publisher, writer) => closure,
        closure = read_requests(&publisher, reader) => closure,
    };
    if let Some(closure) = closure {
        figures.record(closure);
        tracing::debug!(reason = closure.name(), "disconnected a client of the feed");
    }
}

/// Reads requests, each of a fixed size and a bounded number in any time. Returns why the client is
/// disconnected; `None` if it has left.
async fn read_requests(publisher: &FeedPublisher, reader: ReadHalf<'_>) -> Option<FeedClosure> {
    let mut reader = BufReader::with_capacity(MAX_REQUESTS * FeedRequest::BYTES, reader);
    let mut request = [0; FeedRequest::BYTES];
    loop {
        reader.read_exact(&mut request).await.ok()?;
        if !publisher.request_fetch(FeedRequest::from_bytes(request)) {
            return Some(FeedClosure::Sent);
        }
        if reader.buffer().len() < request.len() {
            sleep(REQUEST_PAUSE).await;
        }
    }
}

/// Writes the snapshot and the changes. Returns why the client is disconnected; `None` if it has
/// left.
async fn write_all(publisher: &FeedPublisher, writer: WriteHalf<'_>) -> Option<FeedClosure> {
    let mut client = FeedWriter(writer);
    let mut subscription = publisher.subscribe();
    match client.write_snapshot(publisher, &subscription).await {
        Continue(()) => {}
        Break(closure) => return closure,
    }
    loop {
        // An error if this client is too far behind.
        let Ok(message) = subscription.messages.recv().await else {
            return Some(FeedClosure::Slow);
        };
        match client.write(&message).await {
            Continue(()) => {}
            Break(closure) => return closure,
        }
    }
}

/// The connection to a client.
struct FeedWriter<'c>(WriteHalf<'c>);

/// Whether to go on, or why the client is disconnected.
type FeedProgress = ControlFlow<Option<FeedClosure>>;

impl FeedWriter<'_> {
    async fn write_snapshot(
        &mut self,
        publisher: &FeedPublisher,
        subscription: &FeedSubscription,
    ) -> FeedProgress {
        let sections = SectionDigests::clone(&subscription.configuration);
        let configuration = FeedLine::Configuration { generation: None, sections };
        self.write_lines(&[publisher.hello(subscription.generation), configuration]).await?;
        for PublishedKeys { number, keys } in &subscription.keys {
            let (number, keys) = (*number, Box::new((**keys).clone()));
            self.write_lines(&[FeedLine::Keys { generation: None, number, keys }]).await?;
        }
        for part in publisher.table().parts() {
            let line = |revocation| FeedLine::Revocation {
                generation: None,
                revocation: RevocationRecord::from(revocation),
            };
            let lines: Vec<_> = part.iter().map(line).collect();
            self.write_lines(&lines).await?;
        }
        self.write_lines(&[FeedLine::Complete(publisher.state(subscription.generation))]).await
    }

    async fn write_lines(&mut self, lines: &[FeedLine]) -> FeedProgress {
        match text_of(lines) {
            Ok(text) if text.is_empty() => Continue(()),
            Ok(text) => self.write(&text).await,
            Err(error) => {
                tracing::error!("cannot write a line of the feed: {error}");
                Break(None)
            }
        }
    }

    async fn write(&mut self, text: &str) -> FeedProgress {
        match timeout(WRITE_TIMEOUT, self.0.write_all(text.as_bytes())).await {
            Ok(Ok(())) => Continue(()),
            Ok(Err(_)) => Break(None),
            Err(_elapsed) => Break(Some(FeedClosure::Slow)),
        }
    }
}
