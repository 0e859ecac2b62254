//! The seam between what is asked and how it travels. HTTP/1.1 is behind it; HTTP/2 and
//! HTTP/3 are to be: a lane is then one of the streams that a connection carries at a
//! time, and those of one connection share it.

use std::io;

use super::corpus::Credential;

/// How requests travel.
pub trait Protocol: 'static {
    /// A request as it is sent, made before the clock starts.
    type Wire;
    /// See there.
    type Lane: Lane<Wire = Self::Wire>;

    /// A request for `/auth` with this credential.
    fn encode(&self, credential: Option<&Credential>) -> Self::Wire;

    /// Connects. Lanes are numbered, and each keeps what it learned from its last
    /// connection: a session that it may resume.
    fn open(&self, number: usize) -> impl Future<Output = io::Result<Self::Lane>>;
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

    /// Ends the connection, in order.
    fn close(self) -> impl Future<Output = io::Result<()>>;
}
