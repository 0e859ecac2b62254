//! End-to-end benchmark: a load generator without coordinated omission, and the servers it drives.
//!
//! In an open loop every request has a due time, fixed before the first request is sent, and its
//! latency counts from that time. When a server stalls, requests keep falling due and each of them
//! shows the stall. A generator that waited for an answer before it scheduled the next request
//! would show the stall once. In a closed loop each connection sends its next request as soon as
//! the last one is answered. A closed loop shows what a request costs, and is meaningless for
//! latency.
//!
//! Every answer is compared with the expected one ([`corpus::ExpectedAnswers`]).

// When requests are due.
pub mod schedule;
pub mod clock;
// Which requests are sent.
pub mod credential;
pub mod corpus;
// How requests are sent: one trait for all versions of HTTP.
pub mod protocol;
pub mod http1;
pub mod http2;
pub mod grpc;
pub mod http3;
pub mod tls;
// The load generator.
pub mod load;
pub mod tally;
// The servers under load, and the results.
pub mod process;
pub mod peer;
pub mod scenario;
pub mod rounds;
pub mod report;

/// Result of the benchmark's functions. Errors are a server that does not start, a wrong answer, or
/// a limit of the system.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
