//! Threads: one accepts and hands each connection to the least-loaded worker;
//! every worker is one thread with a runtime of its own, and a connection never
//! leaves its worker.

use std::{
    io,
    net::IpAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    task::{AbortHandle, LocalSet, spawn_local},
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    admission::Peer,
    app::App,
    config::{Place, Serves},
    keysource,
    listen::{
        accept::{Accepted, Acceptor},
        http1::{Connection, exchange::Link},
        peer::UNIX,
        proxy_protocol,
        stream::{Socket, Stream},
        watch::{TICK, Watch},
    },
    metrics::Metrics,
    worker::Local,
};

/// Where the server listens, once it does: of each listener its name, and its places.
#[derive(Clone, Debug)]
pub struct Bound(pub Vec<BoundListener>);

/// A listener that is bound.
#[derive(Clone, Debug)]
pub struct BoundListener {
    /// Its name.
    pub name: String,
    /// What it answers.
    pub serves: Serves,
    /// Its places.
    pub places: Vec<Place>,
    /// `http` or `https`.
    pub scheme: &'static str,
}

/// How many threads serve requests.
#[must_use]
pub fn threads(configured: Option<usize>) -> usize {
    configured.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from))
}

/// Serves until SIGTERM or SIGINT. Calls `listening` once every socket is bound.
///
/// # Errors
/// An address that cannot be bound, or a system out of threads.
pub fn serve(app: &Arc<App>, threads: usize, listening: impl FnOnce(&Bound)) -> io::Result<()> {
    let crew = (0..threads).map(|index| Worker::start(index, app)).collect::<io::Result<Vec<_>>>()?;
    LocalSet::new().block_on(&runtime()?, supervise(app, crew, listening))
}

/// Listens, hands connections out, and in the end waits for them.
async fn supervise(app: &Arc<App>, crew: Vec<Worker>, listening: impl FnOnce(&Bound)) -> io::Result<()> {
    let acceptors = bind_all(app)?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    keysource::spawn(app)?;
    listening(&bound(app, &acceptors));

    let operations = Rc::new(Local::new(Arc::clone(app)));
    spawn_local(sweep(Rc::clone(&operations)));
    let crew = Rc::new(crew);
    let mut accepting = Vec::new();
    for (listener, acceptor) in acceptors {
        if app.server().listeners[listener].serves == Serves::Operations {
            // Rarely asked, and not quickly answered: not for the workers.
            let local = Rc::clone(&operations);
            spawn_local(acceptor.accept(move |accepted| drop(spawn_local(connection(Rc::clone(&local), listener, accepted)))));
        } else {
            let (app, crew) = (Arc::clone(app), Rc::clone(&crew));
            let hand_over = move |accepted| distribute(&app, &crew, listener, accepted);
            accepting.push(spawn_local(acceptor.accept(hand_over)).abort_handle());
        }
    }
    told_to_stop(&mut terminate, &mut interrupt).await;
    tracing::info!("stopping: connections get {} s to finish", operations.patience.drain.as_secs());
    app.stop();
    accepting.iter().for_each(AbortHandle::abort);
    let drained = async {
        let Some(crew) = alone(crew).await else { return };
        // All are told before any is waited for.
        let ends: Vec<_> = crew.into_iter().map(Worker::close).collect();
        for end in ends {
            end.wait().await;
        }
    };
    tokio::select! {
        () = drained => {}
        () = told_to_stop(&mut terminate, &mut interrupt) => tracing::warn!("told twice: what is open is cut off"),
    }
    Ok(())
}

async fn told_to_stop(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// What is shared, once the tasks that share it have ended.
async fn alone<T>(mut shared: Rc<T>) -> Option<T> {
    for _ in 0..1000 {
        match Rc::try_unwrap(shared) {
            Ok(alone) => return Some(alone),
            Err(still) => shared = still,
        }
        tokio::task::yield_now().await;
    }
    None
}

/// Every socket, with the listener it belongs to.
fn bind_all(app: &App) -> io::Result<Vec<(usize, Acceptor)>> {
    let mut acceptors = Vec::new();
    for (index, listener) in app.server().listeners.iter().enumerate() {
        for place in &listener.places {
            acceptors.push((index, Acceptor::bind(place, &listener.option)?));
        }
    }
    Ok(acceptors)
}

fn bound(app: &App, acceptors: &[(usize, Acceptor)]) -> Bound {
    let server = app.server();
    let bound = server.listeners.iter().enumerate().map(|(index, listener)| {
        let own = acceptors.iter().filter(|(of, _)| *of == index);
        BoundListener {
            name: listener.name.clone(),
            serves: listener.serves,
            places: own.map(|(_, acceptor)| acceptor.place().clone()).collect(),
            scheme: listener.scheme(),
        }
    });
    Bound(bound.collect())
}

/// Hands a connection to the worker with the fewest, unless there are too many.
fn distribute(app: &App, crew: &[Worker], listener: usize, accepted: Accepted) {
    let open: usize = crew.iter().map(Worker::load).sum();
    let server = app.server();
    if open >= server.patience.connections {
        app.metrics.connection_refused();
        let is_plain = server.listeners[listener].tls.is_none();
        return if is_plain { accepted.refuse(TOO_MANY) } else { drop(accepted) };
    }
    if let Some(worker) = crew.iter().min_by_key(|worker| worker.load()) {
        worker.hand_over(listener, accepted);
    }
}

/// What a client is told that is one too many.
const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nx-auth-error: connections\r\n\
                          cache-control: no-store\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// One thread that serves connections.
struct Worker {
    connections: mpsc::UnboundedSender<(usize, Accepted)>,
    /// Connections handed over and not ended. Counted relaxed: a stale count only
    /// means a slightly less even spread.
    load: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
    end: mpsc::Receiver<()>,
}

impl Worker {
    fn start(index: usize, app: &Arc<App>) -> io::Result<Self> {
        let (connections, queue) = mpsc::unbounded_channel();
        let (ended, end) = mpsc::channel(1);
        let load = Arc::new(AtomicUsize::new(0));
        let (app, open) = (Arc::clone(app), Arc::clone(&load));
        let runtime = runtime()?;
        let thread = thread::Builder::new().name(format!("worker:{index}")).spawn(move || {
            Metrics::use_shard(index);
            LocalSet::new().block_on(&runtime, work(Rc::new(Local::new(app)), queue, open));
            drop(ended);
        })?;
        Ok(Self { connections, load, thread, end })
    }

    fn load(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }

    fn hand_over(&self, listener: usize, accepted: Accepted) {
        self.load.fetch_add(1, Ordering::Relaxed);
        if self.connections.send((listener, accepted)).is_err() {
            self.load.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Takes no more connections, and lets those end that are open.
    fn close(self) -> End {
        End { end: self.end, thread: self.thread }
    }
}

/// The end of a worker.
struct End {
    end: mpsc::Receiver<()>,
    thread: JoinHandle<()>,
}

impl End {
    async fn wait(mut self) {
        let _nothing_is_sent = self.end.recv().await;
        let _panicked_worker = self.thread.join();
    }
}

async fn work(local: Rc<Local>, mut queue: mpsc::UnboundedReceiver<(usize, Accepted)>, load: Arc<AtomicUsize>) {
    spawn_local(sweep(Rc::clone(&local)));
    while let Some((listener, accepted)) = queue.recv().await {
        let (local, open) = (Rc::clone(&local), Open(Arc::clone(&load)));
        spawn_local(async move {
            connection(local, listener, accepted).await;
            drop(open);
        });
    }
    // The acceptor is gone. Whatever is still open after the deadline is cut off.
    local.watches.drain();
    let drained = async {
        while load.load(Ordering::Relaxed) > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let _deadline = timeout(local.patience.drain, drained).await;
}

/// One open connection, counted until it is gone, however it goes.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Looks after the connections of the thread, for ever.
async fn sweep(local: Rc<Local>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        local.watches.sweep();
    }
}

async fn connection(local: Rc<Local>, listener: usize, accepted: Accepted) {
    let watch = local.watches.watch().await;
    watch.due_within(local.patience.head);
    // Apart, so that it takes no memory any more when it is over.
    let opened = Box::pin(open(&local, &watch, listener, accepted)).await;
    if let Some((stream, address)) = opened {
        let peer = Peer { gate: &local.gate, address, listener };
        Connection::new(Link { local: &local, peer }, watch, stream).serve().await;
    }
}

/// What comes before the first request: whom it is from, and keys to talk in secret.
async fn open(local: &Local, watch: &Watch, listener: usize, accepted: Accepted) -> Option<(Stream, IpAddr)> {
    let Accepted { socket, mut address } = accepted;
    let opened = async {
        let mut socket = Socket::new(socket, address == UNIX)?;
        let (speaks_proxy_protocol, tls) = {
            let server = local.app.server();
            let one = &server.listeners[listener];
            (one.proxy_protocol && one.proxies.trust(address), one.tls.as_ref().map(|tls| tls.config()))
        };
        if speaks_proxy_protocol {
            address = proxy_protocol::read(&mut socket).await?.unwrap_or(address);
        }
        match tls {
            None => Ok(Stream::Plain(socket)),
            Some(tls) => TlsAcceptor::from(tls).accept(socket).await.map(|stream| Stream::Tls(Box::new(stream))),
        }
    };
    match watch.finish(opened).await {
        Ok(Ok(stream)) => return Some((stream, address)),
        Ok(Err(error)) => tracing::debug!(client = %address, "a connection did not come about: {error}"),
        Err(_) => tracing::debug!(client = %address, "a connection took too long to come about"),
    }
    None
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}
