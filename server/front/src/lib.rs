//! HTTP/1.1, HTTP/2, HTTP/3 and SPOP server for programs that answer most requests synchronously:
//! no router, no middleware, no header map.
//!
//! A request is parsed in place in the read buffer and passed to the [`Service`], which writes
//! the response into the send buffer. A request that the service answers at once takes no task, no
//! future and no allocation. Routes, credentials and configuration files belong to the program,
//! behind the [`Service`] trait.
//!
//! - **Threads.** A [`WorkerPool`] has one current-thread runtime per core. A connection never
//!   leaves its thread, so the request path takes no lock.
//! - **Memory.** One [`RequestMemory`] bounds what unfinished requests hold, with a share for each
//!   source and connection.
//! - **Time.** [`Deadlines`](deadline::Deadlines) are swept twice a second; no request has a timer.
//! - **Protocols.** [`http1`], [`http2`], [`http3`] over [`quic`], [`spop`] for HAProxy, and the
//!   [PROXY protocol](proxy_protocol). [`fields`] is the code that HPACK and QPACK share.
//!
//! # Example
//! `examples/hello` is a server of 60 lines: `cargo run -p countersign-front --example hello`.

#![forbid(unsafe_code)]

// The interface between this crate and a service.
pub mod service;
pub mod message;
pub mod exchange;
pub mod kept_head;
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
pub mod request_memory;
pub mod timeouts;
pub mod request_limits;
pub mod clock;

// The protocols.
pub mod protocols;
pub mod http1;
pub mod http2;
pub mod http3;
pub mod quic;
pub mod fields;
pub mod spop;
mod abuse_budget;
mod frame_stream;
mod upload_drain;
mod lingering_close;

pub use self::{
    address::ListenAddress,
    connection::{ConnectionContext, Peer, TlsParameters},
    connection_counts::ConnectionCounts,
    exchange::{BodyExchange, StreamedReply},
    kept_head::KeptHead,
    message::{BadRequest, DuplicateHeader, Fields, Reply, RequestHead, only_line},
    protocols::Protocols,
    request_limits::RequestLimits,
    request_memory::{MemoryExceeded, MemoryLimits, RequestMemory},
    service::{
        IncomingRequest, PendingActions, PendingRequest, ReplyFuture, ResponseWriter, Service, Step,
    },
    spop::SpopNotification,
    timeouts::Timeouts,
    worker_context::{BufferPool, WorkerContext},
    worker_pool::WorkerPool,
};

#[cfg(test)]
mod test_service;
