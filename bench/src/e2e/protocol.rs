//! Protocol clients behind one trait. A [`RequestSlot`] has one request at a time: it is a
//! connection of HTTP/1.1, or one of the concurrent streams of an HTTP/2 or HTTP/3 connection.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    convert::Infallible,
    fmt, io,
    rc::{Rc, Weak},
};

use serde::{
    Deserialize,
    de::{IntoDeserializer as _, value::StrDeserializer},
};

use super::{Result, credential::Credential};

/// Protocol of the requests, by its name in `scenarios.toml`.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum ProtocolKind {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2: with TLS by ALPN, without TLS by prior knowledge.
    H2,
    /// HTTP/3.
    H3,
    /// Envoy's `Check` call over HTTP/2.
    Grpc,
}

impl fmt::Display for ProtocolKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http1 => "HTTP/1.1",
            Self::H2 => "HTTP/2",
            Self::H3 => "HTTP/3",
            Self::Grpc => "gRPC",
        })
    }
}

impl ProtocolKind {
    /// Returns the protocol of this name.
    ///
    /// # Errors
    /// No protocol has this name.
    pub fn from_name(name: &str) -> Result<Self> {
        let name: StrDeserializer<'_, serde::de::value::Error> = name.into_deserializer();
        Ok(Self::deserialize(name)?)
    }

    /// Returns the protocol to negotiate in TLS by ALPN; HTTP/1.1 is not negotiated.
    pub(super) fn alpn(self) -> Option<&'static [u8]> {
        match self {
            Self::Http1 => None,
            Self::H2 | Self::Grpc => Some(b"h2"),
            Self::H3 => Some(b"h3"),
        }
    }
}

/// A protocol client. One instance serves one run, and owns its connections.
pub trait Protocol: 'static {
    /// An encoded request, made before the clock starts.
    type Wire;
    /// The request slots of this client.
    type RequestSlot: RequestSlot<Wire = Self::Wire>;

    /// Encodes a request about this credential: one for `/auth`, or its equivalent.
    fn encode(&self, credential: Option<&Credential>) -> Self::Wire;

    /// Opens a slot on the connection of this number. The connection is made unless it exists.
    /// State such as a TLS session passes to the next connection of the same number.
    fn open(&self, connection: usize) -> impl Future<Output = io::Result<Self::RequestSlot>>;

    /// Sends and resets requests as fast as possible, forever, on a connection of its own. When the
    /// server closes the connection, it connects again.
    ///
    /// # Errors
    /// A connection attempt failed.
    fn storm(&self, storm: &ResetStorm) -> impl Future<Output = io::Result<Infallible>>;
}

/// One request at a time on a connection.
pub trait RequestSlot {
    /// As [`Protocol::Wire`].
    type Wire;

    /// Sends a request and returns the status, once the whole answer has arrived. The serial number
    /// makes a fresh credential, where the request has one.
    fn exchange(&mut self, wire: &Self::Wire, serial: u64)
    -> impl Future<Output = io::Result<u16>>;

    /// Returns the last answer as text, for error messages.
    fn last_answer(&self) -> String;

    /// Closes the connection gracefully, if no other slot uses it.
    fn close(self) -> impl Future<Output = io::Result<()>>;
}

/// Counters of a reset storm.
#[derive(Debug, Default)]
pub struct ResetStorm {
    /// Requests that were sent and reset.
    pub resets: Cell<u64>,
    /// Connections made: the server has closed all but the last.
    pub connections: Cell<u64>,
}

impl ResetStorm {
    /// Number of requests sent before other tasks of this thread run. A longer burst would show in
    /// the latencies of their requests.
    pub const BURST: u32 = 32;

    pub(super) fn connected(&self) {
        self.connections.set(self.connections.get() + 1);
    }

    pub(super) fn reset_burst(&self) {
        self.resets.set(self.resets.get() + u64::from(Self::BURST));
    }
}

/// Connections by number, shared by their slots. A connection lasts as long as it has a slot.
pub(super) struct SharedConnections<C>(RefCell<BTreeMap<usize, Weak<C>>>);

impl<C> Default for SharedConnections<C> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<C> SharedConnections<C> {
    /// Returns the connection of this number; makes it unless it exists.
    pub(super) async fn get(
        &self,
        number: usize,
        connect: impl Future<Output = io::Result<C>>,
    ) -> io::Result<Rc<C>> {
        if let Some(connection) = self.0.borrow().get(&number).and_then(Weak::upgrade) {
            return Ok(connection);
        }
        let connection = Rc::new(connect.await?);
        self.0.borrow_mut().insert(number, Rc::downgrade(&connection));
        Ok(connection)
    }
}
