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
        accept::Accepted,
        exchange::Link,
        http1::Connection,
        http2::{self, preface},
        peer::UNIX,
        proxy_protocol, quic,
        stream::{Socket, Stream},
        watch::{TICK, Watch},
    },
    metrics::{Event, Metrics, Open},
    worker::Local,
};

/// All threads that serve connections.
pub struct Crew {
    /// The thread that accepts.
    local: Rc<Local>,
    /// The others; none once they are to end.
    workers: RefCell<Vec<Worker>>,
}

/// What a worker is to do.
enum Order {
    /// To serve a connection.
    Serve { listener: usize, accepted: Accepted, open: Open },
    /// To serve what comes over QUIC.
    Receive(quic::Place),
    /// To look after its connections. It has no timer of its own, as that would cost
    /// the system some work every time the worker waits.
    Sweep,
}

impl Crew {
    /// Starts the threads beside the one that accepts.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(local: Rc<Local>, threads: usize) -> io::Result<Self> {
        let others = if threads > 1 { threads } else { 0 };
        let workers =
            (0..others).map(|index| Worker::start(index, &local.app)).collect::<io::Result<_>>()?;
        Ok(Self { local, workers: RefCell::new(workers) })
    }

    /// Hands a connection to the thread with the fewest, unless there are too many.
    pub fn serve(&self, listener: usize, accepted: Accepted) {
        let app = &self.local.app;
        let loads = app.metrics.connections();
        let server = app.server();
        if loads.iter().sum::<usize>() >= server.patience.connections {
            app.metrics.connection_refused();
            let is_plain = server.listeners[listener].tls.is_none();
            return if is_plain { accepted.refuse(TOO_MANY) } else { drop(accepted) };
        }
        let workers = self.workers.borrow();
        match workers.iter().zip(0..).min_by_key(|(_, index)| loads.get(*index)) {
            Some((worker, index)) => {
                let open = app.metrics.connection(index);
                // A worker that has ended takes nothing more, and what is not taken is closed.
                let _ended = worker.orders.send(Order::Serve { listener, accepted, open });
            }
            None => serve(Rc::clone(&self.local), listener, accepted, app.metrics.connection(0)),
        }
    }

    /// Has the threads receive at these places, each at those that are its own.
    pub fn receive(&self, places: Vec<quic::Place>) {
        let workers = self.workers.borrow();
        for place in places {
            match workers.get(usize::from(place.thread)) {
                Some(worker) => drop(worker.orders.send(Order::Receive(place))),
                None => receive(&self.local, place),
            }
        }
    }

    /// Looks after all connections, with every tick, for ever.
    pub async fn sweep(&self) {
        ticking(|| {
            self.local.watches.sweep();
            for worker in &*self.workers.borrow() {
                let _ended = worker.orders.send(Order::Sweep);
            }
        })
        .await;
    }

    /// Lets connections answer what they were asked, and returns when they have, or
    /// when their time is over.
    pub async fn drain(&self) {
        let workers = self.workers.take();
        if workers.is_empty() {
            return drain(&self.local, 0).await;
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
const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nx-auth-error: connections\r\n\
                          cache-control: no-store\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// One thread that serves connections, until nobody can order it to any more.
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
}

async fn work(local: Rc<Local>, index: usize, mut queue: mpsc::UnboundedReceiver<Order>) {
    while let Some(order) = queue.recv().await {
        match order {
            Order::Serve { listener, accepted, open } => {
                serve(Rc::clone(&local), listener, accepted, open)
            }
            Order::Receive(place) => receive(&local, place),
            Order::Sweep => local.watches.sweep(),
        }
    }
    tokio::select! {
        () = ticking(|| local.watches.sweep()) => {}
        () = drain(&local, index) => {}
    }
}

/// Whatever is still open after the deadline is cut off.
async fn drain(local: &Local, index: usize) {
    local.watches.drain();
    let drained = async {
        let mut looks = interval(Duration::from_millis(10));
        while local.app.metrics.connections()[index] > 0 {
            looks.tick().await;
        }
    };
    let _deadline = timeout(local.patience.drain, drained).await;
}

/// Calls with every tick, for ever.
async fn ticking(mut call: impl FnMut()) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        call();
    }
}

/// Receives over QUIC on this thread.
fn receive(local: &Rc<Local>, place: quic::Place) {
    match quic::Endpoint::new(Rc::clone(local), place) {
        Ok(endpoint) => drop(spawn_local(endpoint.serve())),
        Err(error) => tracing::error!("there is no HTTP/3 on this thread: {error}"),
    }
}

/// Serves a connection on this thread.
pub fn serve(local: Rc<Local>, listener: usize, accepted: Accepted, open: impl Sized + 'static) {
    spawn_local(async move {
        connection(&local, listener, accepted).await;
        drop(open);
    });
}

async fn connection(local: &Local, listener: usize, accepted: Accepted) {
    let watch = local.watches.watch().await;
    watch.due_within(local.patience.head);
    // Apart, so that it takes no memory any more when it is over.
    let opened = Box::pin(open(local, &watch, listener, accepted)).await;
    if let Some((stream, address)) = opened {
        let certificate = stream.client_certificate().cloned();
        let peer = Peer { gate: &local.gate, address, listener, certificate: certificate.as_ref() };
        converse(Link { local, peer }, watch, stream).await;
    }
}

/// Speaks the version of HTTP that the client has chosen, if there is one of ours.
async fn converse(link: Link<'_>, watch: Rc<Watch>, mut stream: Stream) {
    let protocols = link.local.app.server().listeners[link.peer.listener].protocols;
    let (is_http2, ahead) = match &stream {
        Stream::Tls(tls) => (tls.get_ref().1.alpn_protocol() == Some(b"h2"), Vec::new()),
        Stream::Plain(_) if protocols.http2 => match preface::read(link, &watch, &mut stream).await
        {
            Some(read) => read,
            None => return,
        },
        Stream::Plain(_) => (false, Vec::new()),
    };
    if is_http2 {
        Box::pin(http2::serve(link, watch, stream, ahead)).await;
    } else if protocols.http1 {
        Connection::new(link, watch, stream, ahead).serve().await;
    }
}

/// What comes before the first request: whom it is from, and keys to talk in secret.
async fn open(
    local: &Local,
    watch: &Watch,
    listener: usize,
    accepted: Accepted,
) -> Option<(Stream, IpAddr)> {
    let Accepted { socket, mut address } = accepted;
    let opened = async {
        let mut socket = Socket::new(socket, address == UNIX)?;
        let (speaks_proxy_protocol, is_for_operators, tls) = {
            let server = local.app.server();
            let one = &server.listeners[listener];
            let is_for_operators = one.serves == Serves::Operations;
            (
                one.proxy_protocol && one.proxies.trust(address),
                is_for_operators,
                one.tls.as_ref().map(|tls| tls.config()),
            )
        };
        if speaks_proxy_protocol {
            address = proxy_protocol::read(&mut socket).await?.unwrap_or(address);
        }
        if !is_for_operators {
            hold_up(local, watch, address).await;
        }
        match tls {
            None => Ok(Stream::Plain(socket)),
            Some(tls) => TlsAcceptor::from(tls)
                .accept(socket)
                .await
                .map(|stream| Stream::Tls(Box::new(stream))),
        }
    };
    match watch.finish(opened).await {
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
async fn hold_up(local: &Local, watch: &Watch, address: IpAddr) {
    let wait = local.gate.wait(address);
    if !wait.is_zero() {
        local.app.metrics.note(Event::HeldUp);
        watch.due_within(wait + local.patience.head);
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
