//! QUIC (RFC 9000), which HTTP/3 travels by: one endpoint for each thread, with a socket
//! and connections of its own.
//!
//! quinn-proto decides what is sent and what is done with what comes. Around it quinn
//! shares endpoints and connections between threads and tasks, with a lock for each and a
//! task for every stream; here a connection never leaves its thread, so there are
//! neither. All that has come is taken, answered and sent together.

mod driver;
mod settings;
mod socket;
mod steering;

use std::{
    cell::{Cell, RefCell},
    io,
    net::UdpSocket,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use quinn_proto::{ConnectionHandle, DatagramEvent, Incoming, ServerConfig, Transmit};
use tokio::{
    task::spawn_local,
    time::{Sleep, sleep_until},
};

pub(crate) use self::{driver::ConnectionDriver, settings::MAX_CONCURRENT_STREAMS};
use self::{
    driver::DatagramQueue,
    socket::{Datagram, DatagramReceiver, QuicSocket},
    steering::ThreadConnectionIds,
};
pub use self::{settings::QuicKeys, steering::bind_all};
use super::http3;
use crate::{clock, metrics::MetricEvent, worker::WorkerContext};

/// The endpoint of one thread at one address.
pub struct QuicEndpoint {
    worker: Rc<WorkerContext>,
    listener: usize,
    shared: Rc<EndpointState>,
    keys: QuicKeys,
    /// How many clients may be shaking hands whose addresses are not proven.
    retry_above: usize,
    config: Arc<ServerConfig>,
    /// What that was made of.
    tls: Arc<rustls::ServerConfig>,
    /// Connections that have to wait, and until when.
    delayed: Vec<(Instant, Incoming)>,
    /// Until the first of them need not any more.
    timer: Pin<Box<Sleep>>,
}

/// The most connections that wait. Clients begin again where nothing is answered.
const MAX_DELAYED: usize = 256;

/// What an endpoint and its connections share.
struct EndpointState {
    socket: QuicSocket,
    endpoint: RefCell<quinn_proto::Endpoint>,
    inboxes: RefCell<Vec<Option<Rc<DatagramQueue>>>>,
    /// How many are shaking hands whose addresses are not proven.
    unvalidated: Cell<usize>,
    /// To put datagrams together in.
    memory: RefCell<Vec<u8>>,
}

/// A place among the endpoints at one address.
pub struct UdpBinding {
    /// Which of the listeners it is of.
    pub listener: usize,
    /// Which of the threads has it.
    pub thread: u16,
    /// How many there are.
    pub threads: u16,
    /// Its socket.
    pub socket: UdpSocket,
    /// The keys that all of them have.
    pub keys: QuicKeys,
}

impl QuicEndpoint {
    /// An endpoint on the thread that calls.
    ///
    /// # Errors
    /// The system's, or there is no TLS for it.
    pub fn new(worker: Rc<WorkerContext>, place: UdpBinding) -> io::Result<Self> {
        let UdpBinding { listener, thread, threads, socket, keys } = place;
        let no_tls = || io::Error::other("there is no TLS to speak QUIC under");
        let server = worker.app.server_arc();
        let tls = server.listeners[listener].tls.as_ref().ok_or_else(no_tls)?.quic_config();
        let config = settings::server(Arc::clone(&tls), &keys, &worker.timeouts)
            .map_err(io::Error::other)?;
        let socket = QuicSocket::new(socket)?;
        let settings = settings::endpoint(&keys, ThreadConnectionIds { thread, threads });
        let endpoint = quinn_proto::Endpoint::new(
            settings,
            Some(Arc::clone(&config)),
            !socket.may_fragment(),
            None,
        );
        let shared = Rc::new(EndpointState {
            socket,
            endpoint: RefCell::new(endpoint),
            inboxes: RefCell::default(),
            unvalidated: Cell::new(0),
            memory: RefCell::default(),
        });
        let (delayed, timer) = (Vec::new(), Box::pin(sleep_until(clock::instant().into())));
        Ok(Self {
            retry_above: server.quic.retry_above,
            worker,
            listener,
            shared,
            keys,
            config,
            tls,
            delayed,
            timer,
        })
    }

    /// Receives for ever.
    pub async fn serve(mut self) {
        let mut receiver = DatagramReceiver::new();
        std::future::poll_fn(|cx| self.poll(&mut receiver, cx)).await
    }

    fn poll(&mut self, receiver: &mut DatagramReceiver, cx: &mut Context<'_>) -> Poll<()> {
        let shared = Rc::clone(&self.shared);
        let received = receiver.poll(&shared.socket, cx, |datagram| self.handle_datagram(datagram));
        self.admit_delayed(cx);
        match received {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(())) => {}
            // Somebody could not be reached that we have sent to.
            Poll::Ready(Err(error)) => tracing::debug!("receiving over UDP: {error}"),
        }
        // It is the turn of the connections.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn handle_datagram(&mut self, datagram: Datagram) {
        let Datagram { from, to, congestion, bytes } = datagram;
        let mut answer = Vec::new();
        let event = self.shared.endpoint.borrow_mut().handle(
            clock::instant(),
            from,
            to,
            congestion,
            bytes,
            &mut answer,
        );
        match event {
            None => {}
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                if let Some(inbox) = self.shared.inbox(handle) {
                    inbox.put(event);
                }
            }
            Some(DatagramEvent::Response(transmit)) => self.shared.respond(&transmit, &answer),
            Some(DatagramEvent::NewConnection(incoming)) => self.delay_or_admit(incoming),
        }
    }

    /// Has a connection wait for as long as an address has to whose connections were cut off.
    fn delay_or_admit(&mut self, incoming: Incoming) {
        let wait = self.worker.admission.reconnect_delay(incoming.remote_address().ip());
        if wait.is_zero() {
            return self.admit(incoming);
        }
        self.worker.app.metrics.count_event(MetricEvent::ReconnectDelayed);
        match self.delayed.len() < MAX_DELAYED {
            true => self.delayed.push((clock::instant() + wait, incoming)),
            false => self.shared.endpoint.borrow_mut().ignore(incoming),
        }
    }

    /// Goes on with connections that have waited.
    fn admit_delayed(&mut self, cx: &mut Context<'_>) {
        let now = clock::instant();
        while let Some(index) = self.delayed.iter().position(|(due, _)| *due <= now) {
            let (_, incoming) = self.delayed.swap_remove(index);
            self.admit(incoming);
        }
        if let Some(next) = self.delayed.iter().map(|(due, _)| *due).min() {
            self.timer.as_mut().reset(next.into());
            if self.timer.as_mut().poll(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
    }

    /// Accepts a connection, or not: when there are too many, or the server stops, or the
    /// client has first to show that it is where it says it is. Without that a flood of
    /// made-up addresses would have us shake hands with nobody.
    fn admit(&mut self, incoming: Incoming) {
        let worker = Rc::clone(&self.worker);
        let metrics = &worker.app.metrics;
        let is_full = metrics.connections().iter().sum::<usize>() >= worker.timeouts.connections;
        let mut answer = Vec::new();
        if is_full || worker.deadlines.is_draining() {
            if is_full {
                metrics.connection_refused();
            }
            let transmit = self.shared.endpoint.borrow_mut().refuse(incoming, &mut answer);
            return self.shared.respond(&transmit, &answer);
        }
        let is_proven = incoming.remote_address_validated();
        if !is_proven && self.shared.unvalidated.get() >= self.retry_above {
            let retry = self.shared.endpoint.borrow_mut().retry(incoming, &mut answer);
            match retry {
                Ok(transmit) => return self.shared.respond(&transmit, &answer),
                // It has been asked before, so it has a proof.
                Err(again) => {
                    return self.shared.endpoint.borrow_mut().ignore(again.into_incoming());
                }
            }
        }
        self.accept(incoming, (!is_proven).then(|| UnvalidatedHandshake::new(&self.shared)));
    }

    fn accept(&mut self, incoming: Incoming, unvalidated: Option<UnvalidatedHandshake>) {
        let mut answer = Vec::new();
        let config = self.config();
        let accepted = self.shared.endpoint.borrow_mut().accept(
            incoming,
            clock::instant(),
            &mut answer,
            Some(config),
        );
        match accepted {
            Ok((handle, connection)) => {
                let inbox = Rc::new(DatagramQueue::default());
                self.shared.register(handle, Rc::clone(&inbox));
                let driver =
                    ConnectionDriver::new(Rc::clone(&self.shared), handle, connection, inbox);
                let open = self.worker.app.metrics.connection_on_this_worker();
                let (worker, listener) = (Rc::clone(&self.worker), self.listener);
                spawn_local(async move {
                    http3::serve(&worker, listener, driver, unvalidated).await;
                    drop(open);
                });
            }
            Err(error) => {
                tracing::debug!("a connection over QUIC did not come about: {}", error.cause);
                if let Some(transmit) = error.response {
                    self.shared.respond(&transmit, &answer);
                }
            }
        }
    }

    /// What a new connection is made of: with the certificate of now.
    fn config(&mut self) -> Arc<ServerConfig> {
        let tls = self.worker.app.server().listeners[self.listener]
            .tls
            .as_ref()
            .map(|tls| tls.quic_config());
        if let Some(tls) = tls.filter(|tls| !Arc::ptr_eq(tls, &self.tls))
            && let Ok(config) =
                settings::server(Arc::clone(&tls), &self.keys, &self.worker.timeouts)
        {
            self.shared.endpoint.borrow_mut().set_server_config(Some(Arc::clone(&config)));
            (self.config, self.tls) = (config, tls);
        }
        Arc::clone(&self.config)
    }
}

impl EndpointState {
    fn inbox(&self, handle: ConnectionHandle) -> Option<Rc<DatagramQueue>> {
        self.inboxes.borrow().get(handle.0)?.clone()
    }

    fn register(&self, handle: ConnectionHandle, inbox: Rc<DatagramQueue>) {
        let mut inboxes = self.inboxes.borrow_mut();
        let room = inboxes.len().max(handle.0 + 1);
        inboxes.resize(room, None);
        inboxes[handle.0] = Some(inbox);
    }

    fn unregister(&self, handle: ConnectionHandle) {
        if let Some(inbox) = self.inboxes.borrow_mut().get_mut(handle.0) {
            *inbox = None;
        }
    }

    /// Answers somebody with whom there is no connection. What the socket has no room for
    /// they will ask for again.
    fn respond(&self, transmit: &Transmit, contents: &[u8]) {
        let _no_room = self.socket.send(transmit, &contents[..transmit.size]);
    }
}

/// A handshake with a client whose address is not proven yet, counted until it is.
pub(crate) struct UnvalidatedHandshake(Rc<EndpointState>);

impl UnvalidatedHandshake {
    fn new(shared: &Rc<EndpointState>) -> Self {
        shared.unvalidated.set(shared.unvalidated.get() + 1);
        Self(Rc::clone(shared))
    }
}

impl Drop for UnvalidatedHandshake {
    fn drop(&mut self) {
        self.0.unvalidated.set(self.0.unvalidated.get().saturating_sub(1));
    }
}
