//! Threads: one accepts and hands each connection to the least-loaded worker;
//! every worker is one thread with a runtime of its own, and a connection never
//! leaves its worker.

use std::{
    io,
    net::IpAddr,
    rc::Rc,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sd_notify::NotifyState;
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
        accept::{self, Accepted, Acceptor},
        http1::{Connection, exchange::Link},
        peer::UNIX,
        proxy_protocol,
        stream::{Socket, Stream},
        watch::{TICK, Watch},
    },
    metrics::{Metrics, Open},
    reload::{self, Watched},
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
pub fn serve(app: &Arc<App>, threads: usize, watched: Watched, listening: impl FnOnce(&Bound)) -> io::Result<()> {
    allow_many_files(app);
    let crew = (0..threads).map(|index| Worker::start(index, app)).collect::<io::Result<Vec<_>>>()?;
    LocalSet::new().block_on(&runtime()?, supervise(app, crew, watched, listening))
}

/// Connections are files to the system, which allows a process few of them unless it
/// asks for more.
fn allow_many_files(app: &App) {
    let limits = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limits.maximum, ..limits };
    // What counts is the limit there is in the end.
    let _not_allowed = setrlimit(Resource::Nofile, raised);
    let wanted = app.server().patience.connections;
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if u64::try_from(wanted).is_ok_and(|wanted| allowed < wanted.saturating_add(OTHER_FILES)) {
        tracing::warn!(
            "the system allows this process {allowed} open files, which is too few for {wanted} connections: raise the limit \
             (LimitNOFILE= of systemd, ulimit -n), or lower connections in [limits]"
        );
    }
}

/// Files that are no connections: logs, keys, sockets that listen.
const OTHER_FILES: u64 = 64;

/// Listens, hands connections out, and in the end waits for them.
async fn supervise(app: &Arc<App>, crew: Vec<Worker>, watched: Watched, listening: impl FnOnce(&Bound)) -> io::Result<()> {
    let acceptors = bind_all(app)?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (tell, told) = std::sync::mpsc::channel();
    spawn_local(reload_when_told(signal(SignalKind::hangup())?, tell));
    keysource::spawn(app)?;
    reload::spawn(app, watched, told)?;
    listening(&bound(app, &acceptors));
    reload::notify(&[NotifyState::Ready]);

    let operations = Rc::new(Local::new(Arc::clone(app)));
    let (watches, orders) = (Rc::clone(&operations.watches), orders_of(&crew));
    spawn_local(sweep(move || {
        watches.sweep();
        for orders in &orders {
            if let Some(orders) = orders.upgrade() {
                let _ended = orders.send(Order::Sweep);
            }
        }
    }));
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
    reload::notify(&[NotifyState::Stopping]);
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

/// The ways to the workers, which do not keep them from ending.
fn orders_of(crew: &[Worker]) -> Vec<mpsc::WeakUnboundedSender<Order>> {
    crew.iter().map(|worker| worker.orders.downgrade()).collect()
}

async fn told_to_stop(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// SIGHUP: to read everything again that can be.
async fn reload_when_told(mut hangup: Signal, tell: std::sync::mpsc::Sender<()>) {
    while hangup.recv().await.is_some() && tell.send(()).is_ok() {}
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

/// Every socket, with the listener it belongs to. Those that are open already are
/// taken where they are configured.
fn bind_all(app: &App) -> io::Result<Vec<(usize, Acceptor)>> {
    let mut inherited = accept::inherited()?;
    let mut acceptors = Vec::new();
    for (index, listener) in app.server().listeners.iter().enumerate() {
        for place in &listener.places {
            let acceptor = match inherited.iter().position(|acceptor| acceptor.place() == place) {
                Some(open) => inherited.swap_remove(open),
                None => Acceptor::bind(place, &listener.option)?,
            };
            acceptors.push((index, acceptor));
        }
    }
    if let Some(left) = inherited.first() {
        let text = format!("a socket was passed on that listens on {}, and no listener is configured there", left.place());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
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
    let loads = app.metrics.connections();
    let server = app.server();
    if loads.iter().sum::<usize>() >= server.patience.connections {
        app.metrics.connection_refused();
        let is_plain = server.listeners[listener].tls.is_none();
        return if is_plain { accepted.refuse(TOO_MANY) } else { drop(accepted) };
    }
    if let Some((worker, index)) = crew.iter().zip(0..).min_by_key(|(_, index)| loads.get(*index)) {
        let open = app.metrics.connection(index);
        // A worker that has ended takes nothing more, and what is not taken is closed.
        let _ended = worker.orders.send(Order::Serve { listener, accepted, open });
    }
}

/// What a client is told that is one too many.
const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nx-auth-error: connections\r\n\
                          cache-control: no-store\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// What a worker is to do.
enum Order {
    /// To serve a connection.
    Serve { listener: usize, accepted: Accepted, open: Open },
    /// To look after its connections. It has no timer of its own, as that would cost
    /// the system some work every time the worker waits.
    Sweep,
}

/// One thread that serves connections.
struct Worker {
    orders: mpsc::UnboundedSender<Order>,
    thread: JoinHandle<()>,
    end: mpsc::Receiver<()>,
}

impl Worker {
    fn start(index: usize, app: &Arc<App>) -> io::Result<Self> {
        let (orders, queue) = mpsc::unbounded_channel();
        let (ended, end) = mpsc::channel(1);
        let app = Arc::clone(app);
        let runtime = runtime()?;
        let thread = thread::Builder::new().name(format!("worker:{index}")).spawn(move || {
            Metrics::use_shard(index);
            LocalSet::new().block_on(&runtime, work(Rc::new(Local::new(app)), index, queue));
            drop(ended);
        })?;
        Ok(Self { orders, thread, end })
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

async fn work(local: Rc<Local>, index: usize, mut queue: mpsc::UnboundedReceiver<Order>) {
    while let Some(order) = queue.recv().await {
        match order {
            Order::Serve { listener, accepted, open } => {
                let local = Rc::clone(&local);
                spawn_local(async move {
                    connection(local, listener, accepted).await;
                    drop(open);
                });
            }
            Order::Sweep => local.watches.sweep(),
        }
    }
    // The acceptor is gone. Whatever is still open after the deadline is cut off.
    local.watches.drain();
    let drained = async {
        let mut looks = interval(Duration::from_millis(10));
        while local.app.metrics.connections()[index] > 0 {
            looks.tick().await;
        }
    };
    tokio::select! {
        () = sweep(|| local.watches.sweep()) => {}
        _deadline = timeout(local.patience.drain, drained) => {}
    }
}

/// Calls with every tick, for ever.
async fn sweep(mut all: impl FnMut()) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        all();
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
