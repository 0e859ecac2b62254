//! The end-to-end bench: a load generator that does not flatter, and what it drives.
//!
//! In an open loop every request has a time when it is due, fixed before the first is
//! sent, and its latency counts from then. Where a server stalls, requests go on
//! falling due, and all of them show the stall; a generator that waited for an answer
//! before it counted on would show it once. In a closed loop each connection asks
//! again as soon as it is answered, which shows what a request costs and nothing about
//! latency.
//!
//! Every answer is compared with what the request must be answered.

// When.
pub mod schedule;
pub mod clock;
// What.
pub mod corpus;
// How: one trait for all versions of HTTP.
pub mod protocol;
pub mod http1;
pub mod http2;
pub mod grpc;
pub mod http3;
pub mod tls;
// The generator.
pub mod load;
pub mod tally;
// What it is pointed at, and what comes of it.
pub mod process;
pub mod peer;
pub mod scenario;
pub mod rounds;
pub mod report;

/// What can go wrong: a server that does not start, a wrong answer, a limit of the system.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
