//! Threads: one accepts and hands each connection to the least-loaded worker;
//! every worker is one thread with a runtime of its own, and a connection never
//! leaves its worker.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::{LocalSet, spawn_local},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    admission::{Gate, Peer},
    app::App,
    keysource,
    listen::{drain::Drain, http1, tcp},
    metrics::Metrics,
    routes,
};

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long open connections get to finish on shutdown.
const DRAIN: Duration = Duration::from_secs(10);

/// Where the server listens, once it does.
#[derive(Clone, Debug)]
pub struct Bound {
    /// The main listener's addresses.
    pub main: Vec<SocketAddr>,
    /// The address for metrics and probes.
    pub metrics: SocketAddr,
    /// `http` or `https`, for the main listener.
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
    let workers = Rc::new((0..threads).map(|index| Worker::start(index, app)).collect::<io::Result<Vec<_>>>()?);
    // What accepts ends with its tasks, and gives its workers back.
    LocalSet::new().block_on(&runtime()?, accept_until_told(app, &workers, listening))?;
    // All are told before any is waited for.
    let joins: Vec<_> = Rc::into_inner(workers).into_iter().flatten().map(Worker::close).collect();
    for join in joins {
        let _panicked_worker = join.join();
    }
    Ok(())
}

async fn accept_until_told(app: &Arc<App>, workers: &Rc<Vec<Worker>>, listening: impl FnOnce(&Bound)) -> io::Result<()> {
    let option = "bind_address and bind_port in [server]";
    let main = app.server.addresses.iter().map(|address| tcp::bind(*address, option)).collect::<io::Result<Vec<_>>>()?;
    let metrics = tcp::bind(app.server.metrics_address, "bind_address and bind_port in [metrics]")?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    keysource::spawn(app)?;
    listening(&Bound {
        main: main.iter().map(TcpListener::local_addr).collect::<io::Result<_>>()?,
        metrics: metrics.local_addr()?,
        scheme: if app.server.tls.is_some() { "https" } else { "http" },
    });
    for listener in main {
        let workers = Rc::clone(workers);
        spawn_local(tcp::accept(listener, move |stream, peer| least_loaded(&workers).hand_over(stream, peer)));
    }
    let operations = Arc::clone(app);
    spawn_local(tcp::accept(metrics, move |stream, _| drop(spawn_local(serve_operations(Arc::clone(&operations), stream)))));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping: connections get {} s to finish", DRAIN.as_secs());
    Ok(())
}

/// Metrics and probes are asked for rarely, and answered on the accepting thread.
async fn serve_operations(app: Arc<App>, stream: TcpStream) {
    let answer = |request| std::future::ready(routes::operations(&app, &request));
    http1::serve(stream, &Drain::default(), answer).await;
}

/// A connection between two threads, and the address it comes from: asked for once,
/// not with every request.
type Accepted = (std::net::TcpStream, IpAddr);

/// One thread that serves connections.
struct Worker {
    connections: mpsc::UnboundedSender<Accepted>,
    /// Connections handed over and not ended. Counted relaxed: a stale count only
    /// means a slightly less even spread.
    load: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

impl Worker {
    fn start(index: usize, app: &Arc<App>) -> io::Result<Self> {
        let (connections, queue) = mpsc::unbounded_channel();
        let load = Arc::new(AtomicUsize::new(0));
        let (app, open) = (Arc::clone(app), Arc::clone(&load));
        let runtime = runtime()?;
        let thread = thread::Builder::new().name(format!("worker:{index}")).spawn(move || {
            Metrics::use_shard(index);
            LocalSet::new().block_on(&runtime, work(app, queue, open));
        })?;
        Ok(Self { connections, load, thread })
    }

    fn hand_over(&self, stream: TcpStream, peer: IpAddr) {
        // Taken out of this thread's runtime, to be put into the worker's.
        match stream.into_std() {
            Ok(stream) => {
                self.load.fetch_add(1, Ordering::Relaxed);
                if self.connections.send((stream, peer)).is_err() {
                    self.load.fetch_sub(1, Ordering::Relaxed);
                }
            }
            Err(error) => tracing::warn!("handing over a connection failed: {error}"),
        }
    }

    /// Takes no more connections and ends those that are open.
    fn close(self) -> JoinHandle<()> {
        self.thread
    }
}

fn least_loaded(workers: &[Worker]) -> &Worker {
    let least = workers.iter().min_by_key(|worker| worker.load.load(Ordering::Relaxed));
    least.unwrap_or_else(|| unreachable!("there is at least one worker"))
}

async fn work(app: Arc<App>, mut queue: mpsc::UnboundedReceiver<Accepted>, load: Arc<AtomicUsize>) {
    // Counted on this thread: a reference taken by every connection on every core
    // to one shared counter would be a write that all of them wait for.
    let gate = Gate::new(app.server.limits);
    let (work, drain) = (Rc::new((app, gate)), Rc::new(Drain::default()));
    while let Some((stream, address)) = queue.recv().await {
        let (work, drain, open) = (Rc::clone(&work), Rc::clone(&drain), Open(Arc::clone(&load)));
        spawn_local(async move {
            let (app, gate) = &*work;
            match TcpStream::from_std(stream) {
                Ok(stream) => connection(app, Peer { gate, address }, stream, &drain).await,
                Err(error) => tracing::warn!("taking over a connection failed: {error}"),
            }
            drop(open);
        });
    }
    // The acceptor is gone. Whatever is still open after the deadline is cut off.
    drain.start();
    let drained = async {
        while load.load(Ordering::Relaxed) > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let _deadline = tokio::time::timeout(DRAIN, drained).await;
}

/// One open connection, counted until it is gone, however it goes.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn connection(app: &Arc<App>, peer: Peer<'_>, stream: TcpStream, drain: &Drain) {
    let answer = |request| routes::main(app, peer, request);
    let Some(tls) = &app.server.tls else {
        return http1::serve(stream, drain, answer).await;
    };
    match tokio::time::timeout(HANDSHAKE, TlsAcceptor::from(tls.config()).accept(stream)).await {
        Ok(Ok(stream)) => http1::serve(stream, drain, answer).await,
        Ok(Err(error)) => tracing::debug!("TLS handshake failed: {error}"),
        Err(_) => tracing::debug!("TLS handshake took too long"),
    }
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}
