//! QUIC endpoints (RFC 9000) for [HTTP/3](super::http3): one per worker and address, each with its
//! own socket and connections.
//!
//! quinn-proto implements the protocol. The quinn crate around it shares endpoints and connections
//! between threads and tasks, with a lock for each and a task for every stream. Here a connection
//! never leaves its worker, so neither is needed: all received datagrams are handled, answered and
//! sent in one pass.

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
use crate::{
    clock, connection_counts::ConnectionCounts, http3, service::Service,
    worker_context::WorkerContext,
};

/// The endpoint of one worker at one address.
pub struct QuicEndpoint<S> {
    worker: Rc<WorkerContext<S>>,
    connections: Arc<ConnectionCounts>,
    listener: usize,
    shared: Rc<EndpointState>,
    keys: QuicKeys,
    /// Handshakes with unvalidated addresses that are allowed at a time. Further clients get a
    /// Retry.
    retry_above: usize,
    config: Arc<ServerConfig>,
    /// The TLS configuration that `config` was made from.
    tls: Arc<rustls::ServerConfig>,
    /// Connections that are delayed, and until when.
    delayed: Vec<(Instant, Incoming)>,
    /// Fires when the first delay is over.
    timer: Pin<Box<Sleep>>,
}

/// Maximum delayed connections. More are dropped; their clients retransmit.
const MAX_DELAYED: usize = 256;

/// State that an endpoint shares with its connections.
struct EndpointState {
    socket: QuicSocket,
    endpoint: RefCell<quinn_proto::Endpoint>,
    inboxes: RefCell<Vec<Option<Rc<DatagramQueue>>>>,
    /// Number of handshakes with unvalidated addresses.
    unvalidated: Cell<usize>,
    /// Buffer in which datagrams are assembled.
    transmit_buffer: RefCell<Vec<u8>>,
}

/// One of the UDP sockets bound to an address.
pub struct UdpBinding {
    /// Index of the listener.
    pub listener: usize,
    /// Index of the worker.
    pub thread: u16,
    /// Number of workers that share the address.
    pub threads: u16,
    /// The socket.
    pub socket: UdpSocket,
    /// Keys that all of them share.
    pub keys: QuicKeys,
    /// Maximum number of concurrent handshakes with unvalidated addresses. Above it, clients have
    /// to validate their address first, by Retry (RFC 9000 section 8.1.2).
    pub retry_above: usize,
}

impl<S: Service> QuicEndpoint<S> {
    /// An endpoint on the current thread.
    ///
    /// # Errors
    /// The socket cannot be set up, or the listener has no TLS configuration.
    pub fn new(
        worker: Rc<WorkerContext<S>>,
        connections: Arc<ConnectionCounts>,
        binding: UdpBinding,
    ) -> io::Result<Self> {
        let UdpBinding { listener, thread, threads, socket, keys, retry_above } = binding;
        let no_tls = || io::Error::other("the listener has no TLS configuration for QUIC");
        let tls = worker.service.quic_tls(listener).ok_or_else(no_tls)?;
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
            transmit_buffer: RefCell::default(),
        });
        let (delayed, timer) = (Vec::new(), Box::pin(sleep_until(clock::instant().into())));
        Ok(Self {
            worker,
            connections,
            retry_above,
            listener,
            shared,
            keys,
            config,
            tls,
            delayed,
            timer,
        })
    }

    /// Receives datagrams, and never returns.
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
            // An earlier datagram could not be delivered.
            Poll::Ready(Err(error)) => tracing::debug!("cannot receive over UDP: {error}"),
        }
        // Yields to the connections before the next batch.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn handle_datagram(&mut self, datagram: Datagram) {
        let Datagram { from, to, congestion, bytes } = datagram;
        let mut response = Vec::new();
        let event = self.shared.endpoint.borrow_mut().handle(
            clock::instant(),
            from,
            to,
            congestion,
            bytes,
            &mut response,
        );
        match event {
            None => {}
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                if let Some(inbox) = self.shared.inbox(handle) {
                    inbox.put(event);
                }
            }
            Some(DatagramEvent::Response(transmit)) => self.shared.respond(&transmit, &response),
            Some(DatagramEvent::NewConnection(incoming)) => self.delay_or_admit(incoming),
        }
    }

    /// Delays a connection from an address whose connections were closed for abuse; admits others
    /// at once.
    fn delay_or_admit(&mut self, incoming: Incoming) {
        let wait =
            self.worker.service.reconnect_delay(self.listener, incoming.remote_address().ip());
        if wait.is_zero() {
            return self.admit(incoming);
        }
        if self.delayed.len() < MAX_DELAYED {
            self.delayed.push((clock::instant() + wait, incoming));
        } else {
            self.shared.endpoint.borrow_mut().ignore(incoming);
        }
    }

    /// Admits connections whose delay is over.
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

    /// Accepts or refuses a connection. It is refused at the connection limit and during shutdown.
    /// With [`retry_above`](Self::retry_above) handshakes pending, its address has to be validated
    /// by Retry first. Otherwise a flood from forged addresses would make the server perform
    /// handshakes that are never completed.
    fn admit(&mut self, incoming: Incoming) {
        let worker = Rc::clone(&self.worker);
        let is_full = self.connections.total() >= worker.timeouts.connections;
        let mut response = Vec::new();
        if is_full || worker.deadlines.is_draining() {
            if is_full {
                self.connections.refuse();
            }
            let transmit = self.shared.endpoint.borrow_mut().refuse(incoming, &mut response);
            return self.shared.respond(&transmit, &response);
        }
        let is_validated = incoming.remote_address_validated();
        if !is_validated && self.shared.unvalidated.get() >= self.retry_above {
            let retry = self.shared.endpoint.borrow_mut().retry(incoming, &mut response);
            match retry {
                Ok(transmit) => return self.shared.respond(&transmit, &response),
                // The address has been validated already.
                Err(error) => {
                    return self.shared.endpoint.borrow_mut().ignore(error.into_incoming());
                }
            }
        }
        self.accept(incoming, (!is_validated).then(|| UnvalidatedHandshake::new(&self.shared)));
    }

    fn accept(&mut self, incoming: Incoming, unvalidated: Option<UnvalidatedHandshake>) {
        let mut response = Vec::new();
        let config = self.config();
        let accepted = self.shared.endpoint.borrow_mut().accept(
            incoming,
            clock::instant(),
            &mut response,
            Some(config),
        );
        match accepted {
            Ok((handle, connection)) => {
                let inbox = Rc::new(DatagramQueue::default());
                self.shared.register(handle, Rc::clone(&inbox));
                let driver =
                    ConnectionDriver::new(Rc::clone(&self.shared), handle, connection, inbox);
                let open = self.connections.open(self.worker.index);
                let (worker, listener) = (Rc::clone(&self.worker), self.listener);
                spawn_local(async move {
                    http3::serve(&worker, listener, driver, unvalidated).await;
                    drop(open);
                });
            }
            Err(error) => {
                tracing::debug!("cannot accept a QUIC connection: {}", error.cause);
                if let Some(transmit) = error.response {
                    self.shared.respond(&transmit, &response);
                }
            }
        }
    }

    /// Returns the configuration for new connections, updated when the certificate was renewed.
    fn config(&mut self) -> Arc<ServerConfig> {
        let tls = self.worker.service.quic_tls(self.listener);
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
        let length = inboxes.len().max(handle.0 + 1);
        inboxes.resize(length, None);
        inboxes[handle.0] = Some(inbox);
    }

    fn unregister(&self, handle: ConnectionHandle) {
        if let Some(inbox) = self.inboxes.borrow_mut().get_mut(handle.0) {
            *inbox = None;
        }
    }

    /// Sends a stateless response. It may be dropped if the socket is full, as the client
    /// retransmits.
    fn respond(&self, transmit: &Transmit, contents: &[u8]) {
        let _ignored = self.socket.send(transmit, &contents[..transmit.size]);
    }
}

/// A handshake whose client address is not validated, counted until it is dropped.
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
