//! Memory held by requests in progress: heads and bodies of requests that wait for the rest of
//! their body or for their response, and responses that wait for the client to receive them.
//!
//! One [`RequestMemory`] bounds all of it for the process. Within that bound, each source address
//! and each connection has a share for each `MemoryPurpose`, except the peers that the service
//! exempts. A connection takes its memory through a `ConnectionMemory`, and each request gives its
//! own back when its `HeldMemory` is dropped.
//!
//! A request that is answered as soon as it is parsed holds nothing, so neither its speed nor its
//! success depends on this bound.

use std::{
    cell::Cell,
    mem,
    net::IpAddr,
    rc::Rc,
    sync::atomic::{AtomicUsize, Ordering},
};

use dashmap::{DashMap, Entry};
use http::StatusCode;

use crate::{
    connection::ConnectionContext,
    message::BadRequest,
    service::{ReplyFuture, Service},
};

/// Bounds of the memory held by requests in progress, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimits {
    /// For all requests.
    pub process: usize,
    /// For the requests of one source address.
    pub source: usize,
    /// For the requests of one connection.
    pub connection: usize,
}

impl Default for MemoryLimits {
    fn default() -> Self {
        Self { process: 256 << 20, source: 8 << 20, connection: 1 << 20 }
    }
}

/// Memory held by the requests in progress of the whole process.
#[derive(Debug, Default)]
pub struct RequestMemory {
    limits: MemoryLimits,
    held: AtomicUsize,
    /// The sources that hold memory, with the number of bytes.
    sources: DashMap<IpAddr, usize>,
}

/// The purpose for which memory is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemoryPurpose {
    /// A request whose body is incomplete.
    IncompleteBody,
    /// Input that is not parsed yet, or a request that waits for its response.
    Other,
    /// A response that the client has not received.
    Response,
}

impl MemoryPurpose {
    /// Whether a share is exceeded. One response may be longer than the share, so that its length
    /// alone is never the reason to refuse it.
    const fn is_exceeded(self, before: usize, after: usize, share: usize) -> bool {
        match self {
            Self::Response => before > share,
            Self::IncompleteBody | Self::Other => after > share,
        }
    }
}

/// Number of shares that responses may use. Their length is that of the server's data, and a client
/// that reads them slowly is not at fault.
const RESPONSE_SHARES: usize = 8;

impl MemoryLimits {
    /// Returns the bounds for a purpose. Bodies that do not end leave a share, and an eighth of the
    /// memory of the process, to the other purposes, so that requests without a body are still read
    /// and answered.
    const fn of(self, purpose: MemoryPurpose) -> Self {
        let Self { process, source, connection } = self;
        match purpose {
            MemoryPurpose::IncompleteBody => Self { process: process - process / 8, ..self },
            MemoryPurpose::Other => Self {
                process,
                source: source.saturating_mul(2),
                connection: connection.saturating_mul(2),
            },
            MemoryPurpose::Response => Self {
                process,
                source: source.saturating_mul(RESPONSE_SHARES),
                connection: connection.saturating_mul(RESPONSE_SHARES),
            },
        }
    }
}

/// A bound that is exceeded, by whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryExceeded {
    /// The requests of the connection hold too much.
    Connection,
    /// The requests of the source hold too much.
    Source,
    /// All requests together hold too much.
    Process,
}

impl MemoryExceeded {
    /// The code of the [`BadRequest`].
    pub const CODE: &'static str = "request_memory";

    /// The reason to refuse a request whose head cannot be kept.
    #[must_use]
    pub const fn refuse_head(self) -> BadRequest {
        self.reason(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
    }

    /// The reason to refuse a request whose body cannot be kept.
    #[must_use]
    pub const fn refuse_body(self) -> BadRequest {
        self.reason(StatusCode::PAYLOAD_TOO_LARGE)
    }

    const fn reason(self, of_client: StatusCode) -> BadRequest {
        let (status, detail) = match self {
            Self::Connection => (
                of_client,
                "the unfinished requests of this connection hold too much memory \
                 (request_memory_per_connection): send fewer at a time",
            ),
            Self::Source => (
                of_client,
                "the unfinished requests of this address hold too much memory \
                 (request_memory_per_source): send fewer at a time",
            ),
            Self::Process => (
                StatusCode::SERVICE_UNAVAILABLE,
                "the unfinished requests of all clients hold too much memory (request_memory)",
            ),
        };
        BadRequest::with_status(status, Self::CODE, detail)
    }

    /// Whether the client could have avoided it.
    const fn is_of_client(self) -> bool {
        matches!(self, Self::Connection | Self::Source)
    }
}

impl RequestMemory {
    /// Creates the bound of a process. Shares above the bound of the process are cut to it.
    #[must_use]
    pub fn new(limits: MemoryLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Returns the number of bytes held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    fn take(
        &self,
        source: Option<IpAddr>,
        bytes: usize,
        purpose: MemoryPurpose,
    ) -> Result<(), MemoryExceeded> {
        let limits = self.limits.of(purpose);
        if let Some(source) = source {
            let entry = self.sources.entry(source);
            let held = if let Entry::Occupied(held) = &entry { *held.get() } else { 0 };
            let after = held.saturating_add(bytes);
            if purpose.is_exceeded(held, after, limits.source) {
                return Err(MemoryExceeded::Source);
            }
            entry.insert(after);
        }
        // Relaxed: the number orders nothing else.
        let before = self.held.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > limits.process {
            self.give_back(source, bytes);
            return Err(MemoryExceeded::Process);
        }
        Ok(())
    }

    fn give_back(&self, source: Option<IpAddr>, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
        let Some(source) = source else { return };
        if let Entry::Occupied(mut held) = self.sources.entry(source) {
            *held.get_mut() = held.get().saturating_sub(bytes);
            if *held.get() == 0 {
                held.remove();
            }
        }
    }
}

/// Memory held by the requests in progress of one connection.
pub(crate) struct ConnectionMemory<'c> {
    process: &'c RequestMemory,
    /// The source to charge; `None` if the peer is exempt from shares.
    source: Option<IpAddr>,
    held: Cell<usize>,
    /// Excesses of the client, less one for each body that it has completed.
    excesses: Cell<u32>,
}

/// Excesses after which a client is disconnected.
const MAX_EXCESSES: u32 = 256;
/// Number of excesses that a body counts as which does not arrive in time. It has held memory for
/// all of that time, so a client must not begin the next one at no cost.
const EXCESSES_PER_SLOW_BODY: u32 = 32;

impl<'c> ConnectionMemory<'c> {
    /// Creates the account of a connection that holds nothing.
    pub(crate) fn new<S: Service>(connection: ConnectionContext<'c, S>) -> Rc<Self> {
        let ConnectionContext { worker, peer } = connection;
        let source = worker.service.memory_source(peer);
        Rc::new(Self::of_source(&worker.memory, source))
    }

    fn of_source(process: &'c RequestMemory, source: Option<IpAddr>) -> Self {
        Self { process, source, held: Cell::new(0), excesses: Cell::new(0) }
    }

    /// Records that a body was completed, which makes up for an excess.
    pub(crate) fn record_complete_body(&self) {
        self.excesses.set(self.excesses.get().saturating_sub(1));
    }

    /// Records that a body did not arrive in time.
    pub(crate) fn record_slow_body(&self) {
        self.count_excesses(EXCESSES_PER_SLOW_BODY);
    }

    /// Whether the client is to be disconnected, because its unfinished requests exceed its share
    /// again and again. An exempt peer never is: any client behind it may be the cause.
    pub(crate) fn is_abused(&self) -> bool {
        self.source.is_some() && self.excesses.get() >= MAX_EXCESSES
    }

    fn count_excesses(&self, count: u32) {
        self.excesses.set(self.excesses.get().saturating_add(count));
    }

    /// Takes memory for a request.
    ///
    /// # Errors
    /// A bound would be exceeded.
    pub(crate) fn hold(
        self: &Rc<Self>,
        purpose: MemoryPurpose,
        bytes: usize,
    ) -> Result<HeldMemory<'c>, MemoryExceeded> {
        let mut held = self.hold_nothing(purpose);
        held.resize(bytes)?;
        Ok(held)
    }

    /// Returns a handle that holds nothing yet.
    pub(crate) fn hold_nothing(self: &Rc<Self>, purpose: MemoryPurpose) -> HeldMemory<'c> {
        HeldMemory { connection: Rc::clone(self), bytes: 0, purpose }
    }

    fn take(&self, bytes: usize, purpose: MemoryPurpose) -> Result<(), MemoryExceeded> {
        let limits = self.process.limits.of(purpose);
        let after = self.held.get().saturating_add(bytes);
        if self.source.is_some() && purpose.is_exceeded(self.held.get(), after, limits.connection) {
            return Err(MemoryExceeded::Connection);
        }
        self.process.take(self.source, bytes, purpose)?;
        self.held.set(after);
        Ok(())
    }

    fn give_back(&self, bytes: usize) {
        self.held.set(self.held.get().saturating_sub(bytes));
        self.process.give_back(self.source, bytes);
    }
}

#[cfg(test)]
impl<'c> ConnectionMemory<'c> {
    /// The account of a connection whose peer is exempt from shares.
    pub(crate) fn exempt(process: &'c RequestMemory) -> Rc<Self> {
        Rc::new(Self::of_source(process, None))
    }
}

/// Memory held by one request. Dropping it gives the memory back.
pub(crate) struct HeldMemory<'c> {
    connection: Rc<ConnectionMemory<'c>>,
    bytes: usize,
    purpose: MemoryPurpose,
}

impl HeldMemory<'_> {
    /// Sets how much is held.
    ///
    /// # Errors
    /// A bound would be exceeded. The held memory does not change then.
    #[inline]
    pub(crate) fn resize(&mut self, bytes: usize) -> Result<(), MemoryExceeded> {
        if bytes > self.bytes {
            let taken = self.connection.take(bytes - self.bytes, self.purpose);
            if taken.is_err_and(MemoryExceeded::is_of_client) {
                self.connection.count_excesses(1);
            }
            taken?;
        } else if bytes < self.bytes {
            self.connection.give_back(self.bytes - bytes);
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Gives everything back.
    pub(crate) fn release(&mut self) {
        self.connection.give_back(mem::take(&mut self.bytes));
    }

    /// Records that the body of the request is complete.
    pub(crate) fn record_complete_body(&self) {
        self.connection.record_complete_body();
    }

    /// Sets how much is held from now on, and for which purpose.
    ///
    /// # Errors
    /// A bound would be exceeded. The held memory does not change then.
    pub(crate) fn resize_for(
        &mut self,
        purpose: MemoryPurpose,
        bytes: usize,
    ) -> Result<(), MemoryExceeded> {
        self.purpose = purpose;
        self.resize(bytes)
    }

    /// Holds that many bytes more.
    ///
    /// # Errors
    /// A bound would be exceeded. The held memory does not change then.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), MemoryExceeded> {
        self.resize(self.bytes.saturating_add(bytes))
    }
}

impl Drop for HeldMemory<'_> {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.release();
        }
    }
}

/// Returns the memory of a boxed future, in bytes.
pub(crate) fn future_bytes(reply: &ReplyFuture<'_>) -> usize {
    size_of_val(&**reply)
}

/// Appends to a body of at most `max_length` bytes. The held memory grows with the capacity of the
/// body.
///
/// # Errors
/// A bound would be exceeded; the body does not change then.
pub(crate) fn append(
    body: &mut Vec<u8>,
    data: &[u8],
    max_length: usize,
    held: &mut HeldMemory<'_>,
) -> Result<(), MemoryExceeded> {
    let (before, needed) = (body.capacity(), body.len() + data.len());
    if needed > before {
        // Doubled, so that a body in small pieces is not copied for each of them.
        let capacity = needed.max(max_length.min(2 * before));
        held.grow(capacity - before)?;
        body.reserve_exact(capacity - body.len());
    }
    body.extend_from_slice(data);
    Ok(())
}

#[cfg(test)]
mod tests;
