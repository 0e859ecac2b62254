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

pub(crate) use self::{driver::Driver, settings::STREAMS};
use self::{
    driver::Inbox,
    socket::{Datagram, Receiver, Socket},
    steering::Ids,
};
pub use self::{settings::Keys, steering::bind_all};
use super::http3;
use crate::{clock, metrics::Event, worker::Local};

/// The endpoint of one thread at one address.
pub struct Endpoint {
    local: Rc<Local>,
    listener: usize,
    shared: Rc<Shared>,
    keys: Keys,
    /// How many clients may be shaking hands whose addresses are not proven.
    retry_above: usize,
    config: Arc<ServerConfig>,
    /// What that was made of.
    tls: Arc<rustls::ServerConfig>,
    /// Connections that have to wait, and until when.
    held: Vec<(Instant, Incoming)>,
    /// Until the first of them need not any more.
    timer: Pin<Box<Sleep>>,
}

/// The most connections that wait. Clients begin again where nothing is answered.
const MOST_HELD: usize = 256;

/// What an endpoint and its connections share.
struct Shared {
    socket: Socket,
    endpoint: RefCell<quinn_proto::Endpoint>,
    inboxes: RefCell<Vec<Option<Rc<Inbox>>>>,
    /// How many are shaking hands whose addresses are not proven.
    unproven: Cell<usize>,
    /// To put datagrams together in.
    memory: RefCell<Vec<u8>>,
}

/// A place among the endpoints at one address.
pub struct Place {
    /// Which of the listeners it is of.
    pub listener: usize,
    /// Which of the threads has it.
    pub thread: u16,
    /// How many there are.
    pub threads: u16,
    /// Its socket.
    pub socket: UdpSocket,
    /// The keys that all of them have.
    pub keys: Keys,
}

impl Endpoint {
    /// An endpoint on the thread that calls.
    ///
    /// # Errors
    /// The system's, or there is no TLS for it.
    pub fn new(local: Rc<Local>, place: Place) -> io::Result<Self> {
        let Place { listener, thread, threads, socket, keys } = place;
        let no_tls = || io::Error::other("there is no TLS to speak QUIC under");
        let server = local.app.server_for_long();
        let tls = server.listeners[listener].tls.as_ref().ok_or_else(no_tls)?.quic_config();
        let config =
            settings::server(Arc::clone(&tls), &keys, &local.patience).map_err(io::Error::other)?;
        let socket = Socket::new(socket)?;
        let settings = settings::endpoint(&keys, Ids { thread, threads });
        let endpoint = quinn_proto::Endpoint::new(
            settings,
            Some(Arc::clone(&config)),
            !socket.may_fragment(),
            None,
        );
        let shared = Rc::new(Shared {
            socket,
            endpoint: RefCell::new(endpoint),
            inboxes: RefCell::default(),
            unproven: Cell::new(0),
            memory: RefCell::default(),
        });
        let (held, timer) = (Vec::new(), Box::pin(sleep_until(clock::instant().into())));
        Ok(Self {
            retry_above: server.quic.retry_above,
            local,
            listener,
            shared,
            keys,
            config,
            tls,
            held,
            timer,
        })
    }

    /// Receives for ever.
    pub async fn serve(mut self) {
        let mut receiver = Receiver::new();
        std::future::poll_fn(|context| self.poll(&mut receiver, context)).await
    }

    fn poll(&mut self, receiver: &mut Receiver, context: &mut Context<'_>) -> Poll<()> {
        let shared = Rc::clone(&self.shared);
        let received = receiver.poll(&shared.socket, context, |datagram| self.take(datagram));
        self.release(context);
        match received {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(())) => {}
            // Somebody could not be reached that we have sent to.
            Poll::Ready(Err(error)) => tracing::debug!("receiving over UDP: {error}"),
        }
        // It is the turn of the connections.
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn take(&mut self, datagram: Datagram) {
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
            Some(DatagramEvent::NewConnection(incoming)) => self.hold_up(incoming),
        }
    }

    /// Has a connection wait for as long as an address has to whose connections were cut off.
    fn hold_up(&mut self, incoming: Incoming) {
        let wait = self.local.gate.wait(incoming.remote_address().ip());
        if wait.is_zero() {
            return self.consider(incoming);
        }
        self.local.app.metrics.note(Event::HeldUp);
        match self.held.len() < MOST_HELD {
            true => self.held.push((clock::instant() + wait, incoming)),
            false => self.shared.endpoint.borrow_mut().ignore(incoming),
        }
    }

    /// Goes on with connections that have waited.
    fn release(&mut self, context: &mut Context<'_>) {
        let now = clock::instant();
        while let Some(index) = self.held.iter().position(|(due, _)| *due <= now) {
            let (_, incoming) = self.held.swap_remove(index);
            self.consider(incoming);
        }
        if let Some(next) = self.held.iter().map(|(due, _)| *due).min() {
            self.timer.as_mut().reset(next.into());
            if self.timer.as_mut().poll(context).is_ready() {
                context.waker().wake_by_ref();
            }
        }
    }

    /// Accepts a connection, or not: when there are too many, or the server stops, or the
    /// client has first to show that it is where it says it is. Without that a flood of
    /// made-up addresses would have us shake hands with nobody.
    fn consider(&mut self, incoming: Incoming) {
        let local = Rc::clone(&self.local);
        let metrics = &local.app.metrics;
        let is_full = metrics.connections().iter().sum::<usize>() >= local.patience.connections;
        let mut answer = Vec::new();
        if is_full || local.watches.are_draining() {
            if is_full {
                metrics.connection_refused();
            }
            let transmit = self.shared.endpoint.borrow_mut().refuse(incoming, &mut answer);
            return self.shared.respond(&transmit, &answer);
        }
        let is_proven = incoming.remote_address_validated();
        if !is_proven && self.shared.unproven.get() >= self.retry_above {
            let retry = self.shared.endpoint.borrow_mut().retry(incoming, &mut answer);
            match retry {
                Ok(transmit) => return self.shared.respond(&transmit, &answer),
                // It has been asked before, so it has a proof.
                Err(again) => {
                    return self.shared.endpoint.borrow_mut().ignore(again.into_incoming());
                }
            }
        }
        self.accept(incoming, (!is_proven).then(|| Unproven::new(&self.shared)));
    }

    fn accept(&mut self, incoming: Incoming, unproven: Option<Unproven>) {
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
                let inbox = Rc::new(Inbox::default());
                self.shared.remember(handle, Rc::clone(&inbox));
                let driver = Driver::new(Rc::clone(&self.shared), handle, connection, inbox);
                let open = self.local.app.metrics.connection_here();
                let (local, listener) = (Rc::clone(&self.local), self.listener);
                spawn_local(async move {
                    http3::serve(&local, listener, driver, unproven).await;
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
        let tls = self.local.app.server().listeners[self.listener]
            .tls
            .as_ref()
            .map(|tls| tls.quic_config());
        if let Some(tls) = tls.filter(|tls| !Arc::ptr_eq(tls, &self.tls))
            && let Ok(config) = settings::server(Arc::clone(&tls), &self.keys, &self.local.patience)
        {
            self.shared.endpoint.borrow_mut().set_server_config(Some(Arc::clone(&config)));
            (self.config, self.tls) = (config, tls);
        }
        Arc::clone(&self.config)
    }
}

impl Shared {
    fn inbox(&self, handle: ConnectionHandle) -> Option<Rc<Inbox>> {
        self.inboxes.borrow().get(handle.0)?.clone()
    }

    fn remember(&self, handle: ConnectionHandle, inbox: Rc<Inbox>) {
        let mut inboxes = self.inboxes.borrow_mut();
        let room = inboxes.len().max(handle.0 + 1);
        inboxes.resize(room, None);
        inboxes[handle.0] = Some(inbox);
    }

    fn forget(&self, handle: ConnectionHandle) {
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
pub(crate) struct Unproven(Rc<Shared>);

impl Unproven {
    fn new(shared: &Rc<Shared>) -> Self {
        shared.unproven.set(shared.unproven.get() + 1);
        Self(Rc::clone(shared))
    }
}

impl Drop for Unproven {
    fn drop(&mut self) {
        self.0.unproven.set(self.0.unproven.get().saturating_sub(1));
    }
}
