//! The threads that serve connections: each has a runtime of its own, and a
//! connection never leaves its thread.
//!
//! A server of one thread has none but that which accepts, so that nothing is handed
//! over. Otherwise accepting has a thread to itself: it would have to wait where it is
//! needed most, behind the work of its own connections.

use std::{
    cell::RefCell,
    io,
    net::IpAddr,
    rc::Rc,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc,
    task::{LocalSet, spawn_local},
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    admission::Peer,
    app::App,
    config::Serves,
    listen::{
        accept::AcceptedConnection,
        exchange::ConnectionContext,
        http1::Http1Connection,
        http2::{self, preface},
        peer::UNIX_PEER,
        proxy_protocol, quic,
        stream::{MaybeTlsStream, Socket},
        watch::{Deadline, TICK},
    },
    metrics::{MetricEvent, Metrics, OpenConnection},
    worker::WorkerContext,
};

/// All threads that serve connections.
pub struct WorkerPool {
    /// The thread that accepts.
    worker: Rc<WorkerContext>,
    /// The others; none once they are to end.
    workers: RefCell<Vec<Worker>>,
}

/// What a worker is to do.
enum WorkerCommand {
    /// To serve a connection.
    Serve { listener: usize, accepted: AcceptedConnection, open: OpenConnection },
    /// To serve what comes over QUIC.
    Receive(quic::UdpBinding),
    /// To look after its connections. It has no timer of its own, as that would cost
    /// the system some work every time the worker waits.
    Sweep,
}

impl WorkerPool {
    /// Starts the threads beside the one that accepts.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(worker: Rc<WorkerContext>, threads: usize) -> io::Result<Self> {
        let others = if threads > 1 { threads } else { 0 };
        let workers = (0..others)
            .map(|index| Worker::start(index, &worker.app))
            .collect::<io::Result<_>>()?;
        Ok(Self { worker, workers: RefCell::new(workers) })
    }

    /// Hands a connection to the thread with the fewest, unless there are too many.
    pub fn serve(&self, listener: usize, accepted: AcceptedConnection) {
        let app = &self.worker.app;
        let loads = app.metrics.connections();
        let server = app.server();
        if loads.iter().sum::<usize>() >= server.timeouts.connections {
            app.metrics.connection_refused();
            let is_plain = server.listeners[listener].tls.is_none();
            return if is_plain {
                accepted.refuse(CONNECTION_LIMIT_RESPONSE)
            } else {
                drop(accepted)
            };
        }
        let workers = self.workers.borrow();
        match workers.iter().zip(0..).min_by_key(|(_, index)| loads.get(*index)) {
            Some((worker, index)) => {
                let open = app.metrics.connection(index);
                // A worker that has ended takes nothing more, and what is not taken is closed.
                let _ended =
                    worker.commands.send(WorkerCommand::Serve { listener, accepted, open });
            }
            None => serve(Rc::clone(&self.worker), listener, accepted, app.metrics.connection(0)),
        }
    }

    /// Has the threads receive at these places, each at those that are its own.
    pub fn receive_udp(&self, places: Vec<quic::UdpBinding>) {
        let workers = self.workers.borrow();
        for place in places {
            match workers.get(usize::from(place.thread)) {
                Some(worker) => drop(worker.commands.send(WorkerCommand::Receive(place))),
                None => receive_udp(&self.worker, place),
            }
        }
    }

    /// Looks after all connections, with every tick, for ever.
    pub async fn sweep(&self) {
        every_tick(|| {
            self.worker.deadlines.sweep();
            for worker in &*self.workers.borrow() {
                let _ended = worker.commands.send(WorkerCommand::Sweep);
            }
        })
        .await;
    }

    /// Lets connections answer what they were asked, and returns when they have, or
    /// when their time is over.
    pub async fn drain(&self) {
        let workers = self.workers.take();
        if workers.is_empty() {
            return drain(&self.worker, 0).await;
        }
        // All are told before any is waited for.
        let ends: Vec<_> = workers.into_iter().map(|worker| (worker.end, worker.thread)).collect();
        for (mut end, thread) in ends {
            let _nothing_is_sent = end.recv().await;
            let _panicked = thread.join();
        }
    }
}

/// What a client is told that is one too many.
const CONNECTION_LIMIT_RESPONSE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nx-auth-error: connections\r\n\
                          cache-control: no-store\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// One thread that serves connections, until nobody can order it to any more.
struct Worker {
    commands: mpsc::UnboundedSender<WorkerCommand>,
    thread: JoinHandle<()>,
    end: mpsc::Receiver<()>,
}

impl Worker {
    fn start(index: usize, app: &Arc<App>) -> io::Result<Self> {
        let (commands, queue) = mpsc::unbounded_channel();
        let (ended, end) = mpsc::channel(1);
        let app = Arc::clone(app);
        let runtime = runtime()?;
        let thread = thread::Builder::new().name(format!("worker:{index}")).spawn(move || {
            Metrics::use_shard(index);
            LocalSet::new()
                .block_on(&runtime, run_worker(Rc::new(WorkerContext::new(app)), index, queue));
            drop(ended);
        })?;
        Ok(Self { commands, thread, end })
    }
}

async fn run_worker(
    worker: Rc<WorkerContext>,
    index: usize,
    mut queue: mpsc::UnboundedReceiver<WorkerCommand>,
) {
    while let Some(command) = queue.recv().await {
        match command {
            WorkerCommand::Serve { listener, accepted, open } => {
                serve(Rc::clone(&worker), listener, accepted, open)
            }
            WorkerCommand::Receive(place) => receive_udp(&worker, place),
            WorkerCommand::Sweep => worker.deadlines.sweep(),
        }
    }
    tokio::select! {
        () = every_tick(|| worker.deadlines.sweep()) => {}
        () = drain(&worker, index) => {}
    }
}

/// Whatever is still open after the deadline is cut off.
async fn drain(worker: &WorkerContext, index: usize) {
    worker.deadlines.drain();
    let drained = async {
        let mut looks = interval(Duration::from_millis(10));
        while worker.app.metrics.connections()[index] > 0 {
            looks.tick().await;
        }
    };
    let _deadline = timeout(worker.timeouts.drain, drained).await;
}

/// Calls with every tick, for ever.
async fn every_tick(mut call: impl FnMut()) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        call();
    }
}

/// Receives over QUIC on this thread.
fn receive_udp(worker: &Rc<WorkerContext>, place: quic::UdpBinding) {
    match quic::QuicEndpoint::new(Rc::clone(worker), place) {
        Ok(endpoint) => drop(spawn_local(endpoint.serve())),
        Err(error) => tracing::error!("there is no HTTP/3 on this thread: {error}"),
    }
}

/// Serves a connection on this thread.
pub fn serve(
    worker: Rc<WorkerContext>,
    listener: usize,
    accepted: AcceptedConnection,
    open: impl Sized + 'static,
) {
    spawn_local(async move {
        serve_connection(&worker, listener, accepted).await;
        drop(open);
    });
}

async fn serve_connection(worker: &WorkerContext, listener: usize, accepted: AcceptedConnection) {
    let deadline = worker.deadlines.register().await;
    deadline.due_within(worker.timeouts.head);
    // Apart, so that it takes no memory any more when it is over.
    let opened = Box::pin(establish(worker, &deadline, listener, accepted)).await;
    if let Some((stream, address)) = opened {
        let certificate = stream.client_certificate().cloned();
        let peer = Peer {
            admission: &worker.admission,
            address,
            listener,
            certificate: certificate.as_ref(),
        };
        serve_http(ConnectionContext { worker, peer }, deadline, stream).await;
    }
}

/// Speaks the version of HTTP that the client has chosen, if there is one of ours.
async fn serve_http(
    context: ConnectionContext<'_>,
    deadline: Rc<Deadline>,
    mut stream: MaybeTlsStream,
) {
    let protocols = context.worker.app.server().listeners[context.peer.listener].protocols;
    let (is_http2, ahead) = match &stream {
        MaybeTlsStream::Tls(tls) => (tls.get_ref().1.alpn_protocol() == Some(b"h2"), Vec::new()),
        MaybeTlsStream::Plain(_) if protocols.http2 => {
            match preface::read(context, &deadline, &mut stream).await {
                Some(read) => read,
                None => return,
            }
        }
        MaybeTlsStream::Plain(_) => (false, Vec::new()),
    };
    if is_http2 {
        Box::pin(http2::serve(context, deadline, stream, ahead)).await;
    } else if protocols.http1 {
        Http1Connection::new(context, deadline, stream, ahead).serve().await;
    }
}

/// What comes before the first request: whom it is from, and keys to talk in secret.
async fn establish(
    worker: &WorkerContext,
    deadline: &Deadline,
    listener: usize,
    accepted: AcceptedConnection,
) -> Option<(MaybeTlsStream, IpAddr)> {
    let AcceptedConnection { socket, mut address } = accepted;
    let opened = async {
        let mut socket = Socket::new(socket, address == UNIX_PEER)?;
        let (speaks_proxy_protocol, is_for_operators, tls) = {
            let server = worker.app.server();
            let one = &server.listeners[listener];
            let is_for_operators = one.serves == Serves::Operations;
            (
                one.proxy_protocol && one.proxies.trusts(address),
                is_for_operators,
                one.tls.as_ref().map(|tls| tls.config()),
            )
        };
        if speaks_proxy_protocol {
            address = proxy_protocol::read(&mut socket).await?.unwrap_or(address);
        }
        if !is_for_operators {
            delay_reconnect(worker, deadline, address).await;
        }
        match tls {
            None => Ok(MaybeTlsStream::Plain(socket)),
            Some(tls) => TlsAcceptor::from(tls)
                .accept(socket)
                .await
                .map(|stream| MaybeTlsStream::Tls(Box::new(stream))),
        }
    };
    match deadline.run(opened).await {
        Ok(Ok(stream)) => return Some((stream, address)),
        Ok(Err(error)) => {
            tracing::debug!(client = %address, "a connection did not come about: {error}")
        }
        Err(_) => tracing::debug!(client = %address, "a connection took too long to come about"),
    }
    None
}

/// Waits for as long as an address has to whose connections were cut off. What comes behind
/// it has its own time.
async fn delay_reconnect(worker: &WorkerContext, deadline: &Deadline, address: IpAddr) {
    let wait = worker.admission.reconnect_delay(address);
    if !wait.is_zero() {
        worker.app.metrics.count_event(MetricEvent::ReconnectDelayed);
        deadline.due_within(wait + worker.timeouts.head);
        sleep(wait).await;
    }
}

/// A runtime for one thread.
///
/// # Errors
/// The system has no more of what it takes.
pub fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}
