//! HTTP/1.1, HTTP/2 and HTTP/3 without a runtime of its own making, a router or a header map:
//! the front of a server that answers most requests at once.
//!
//! The crate reads requests where they lie, hands each to one [`Service`], and appends the
//! response to the bytes that are sent. A request that the service answers at once costs no
//! task, no future and no allocation. The crate knows no route, no credential and no
//! configuration file: what differs between programs is behind the [`Service`] trait.
//!
//! - **Threads.** A [`WorkerPool`] has one current-thread runtime per core. A connection never
//!   leaves its thread, so nothing on a request's way is locked.
//! - **Time.** [`Deadlines`](deadline::Deadlines) are swept twice a second; no request has a timer.
//! - **Protocols.** [`http1`], [`http2`], [`http3`] over [`quic`], and the
//!   [PROXY protocol](proxy_protocol). [`fields`] is what HPACK and QPACK share.
//!
//! # Example
//! `examples/hello` is a whole server of 60 lines: `cargo run -p countersign-front --example hello`.

#![forbid(unsafe_code)]

// The interface, in the order of a request.
pub mod service;
pub mod message;
pub mod connection;

// Threads, sockets, time.
pub mod worker_pool;
pub mod worker_context;
pub mod connection_counts;
pub mod serve;
pub mod accept;
pub mod address;
pub mod stream;
pub mod proxy_protocol;
pub mod deadline;
pub mod timeouts;
pub mod clock;

// The protocols.
pub mod protocols;
pub mod http1;
pub mod http2;
pub mod http3;
pub mod quic;
pub mod fields;

pub use self::{
    address::ListenAddress,
    connection::{ConnectionContext, Peer},
    connection_counts::ConnectionCounts,
    message::{BadRequest, DuplicateHeader, Fields, Reply, RequestHead, only_line},
    protocols::Protocols,
    service::{IncomingRequest, PendingRequest, ReplyFuture, ResponseWriter, Service, Step},
    timeouts::Timeouts,
    worker_context::WorkerContext,
    worker_pool::WorkerPool,
};

#[cfg(test)]
mod test_service;
