//! The seam between what is asked and how it travels. A lane has one request at a time:
//! a connection of HTTP/1.1, or one of the streams that a connection of HTTP/2 or HTTP/3
//! carries at a time.

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

use super::{Result, corpus::Credential};

/// How requests travel, by the names of `scenarios.toml`.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2: under TLS by ALPN, without by prior knowledge.
    H2,
    /// HTTP/3.
    H3,
    /// Envoy's Check over HTTP/2.
    Grpc,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http1 => "HTTP/1.1",
            Self::H2 => "HTTP/2",
            Self::H3 => "HTTP/3",
            Self::Grpc => "gRPC",
        })
    }
}

impl Way {
    /// The one of this name.
    ///
    /// # Errors
    /// There is none.
    pub fn named(name: &str) -> Result<Self> {
        let name: StrDeserializer<'_, serde::de::value::Error> = name.into_deserializer();
        Ok(Self::deserialize(name)?)
    }

    /// What is negotiated under TLS; nothing for HTTP/1.1, which needs no saying.
    pub(super) fn alpn(self) -> Option<&'static [u8]> {
        match self {
            Self::Http1 => None,
            Self::H2 | Self::Grpc => Some(b"h2"),
            Self::H3 => Some(b"h3"),
        }
    }
}

/// How requests travel. One instance is for one run: its connections belong to that.
pub trait Protocol: 'static {
    /// A request as it is sent, made before the clock starts.
    type Wire;
    /// See there.
    type Lane: Lane<Wire = Self::Wire>;

    /// A question about this credential: a request for `/auth`, or what is like it.
    fn encode(&self, credential: Option<&Credential>) -> Self::Wire;

    /// A lane of the connection of this number, which is made if nobody has it. What a
    /// connection has learned is for the next of its number: a session that it may resume.
    fn open(&self, connection: usize) -> impl Future<Output = io::Result<Self::Lane>>;

    /// Sends requests and takes each back at once, as fast as it can and for ever, on a
    /// connection of its own; and on another, when the server has ended that.
    ///
    /// # Errors
    /// Connecting failed.
    fn storm(&self, storm: &Storm) -> impl Future<Output = io::Result<Infallible>>;
}

/// A place for one request at a time.
pub trait Lane {
    /// See there.
    type Wire;

    /// Sends a request and returns the status of the answer, once all of it is there.
    /// The serial number makes a credential new, where it is to be.
    fn ask(&mut self, wire: &Self::Wire, serial: u64) -> impl Future<Output = io::Result<u16>>;

    /// The last answer as text, for who has to find out what was wrong with it.
    fn said(&self) -> String;

    /// Ends the connection, in order, if no other lane has it.
    fn close(self) -> impl Future<Output = io::Result<()>>;
}

/// What a storm has done so far.
#[derive(Debug, Default)]
pub struct Storm {
    /// Requests that were sent and taken back.
    pub resets: Cell<u64>,
    /// Connections it took: all but the last were ended by the server.
    pub connections: Cell<u64>,
}

impl Storm {
    /// How many requests are sent before others of this thread have their turn: what
    /// takes longer would be in the latencies of the others.
    pub const BURST: u32 = 32;

    pub(super) fn connected(&self) {
        self.connections.set(self.connections.get() + 1);
    }

    pub(super) fn reset_burst(&self) {
        self.resets.set(self.resets.get() + u64::from(Self::BURST));
    }
}

/// Connections that lanes share, by their numbers. They last as long as one lane does.
pub(super) struct Shared<C>(RefCell<BTreeMap<usize, Weak<C>>>);

impl<C> Default for Shared<C> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<C> Shared<C> {
    /// The connection of this number, which is made unless it is there.
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
