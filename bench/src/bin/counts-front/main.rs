//! Instructions of a request in the front alone, with the service of its example.
//!
//! Usage: `target/dist/counts-front` after `cargo build --profile dist -p countersign-bench
//! --no-default-features --bin counts-front`.

#[expect(dead_code, reason = "only the service is counted, not the sockets around it")]
#[path = "../../../../server/front/examples/hello/service.rs"]
mod hello;

use std::{net::Ipv4Addr, process::ExitCode};

use countersign_bench::counts::{self, Scenario, Work, http2};
use countersign_front::{
    ConnectionContext, Peer, RequestLimits, Timeouts, WorkerContext,
    http1::{pipeline::answer_requests, response::ResponseBuffer},
};

use crate::hello::Hello;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SCENARIOS: [Scenario<()>; 2] =
    [("the front alone, HTTP/1.1", http1), ("16 x the front alone over HTTP/2", together)];

fn main() -> counts::Result<ExitCode> {
    counts::main(&SCENARIOS)
}

/// One request over HTTP/1.1.
fn http1(_: &()) -> Work<'_> {
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: countersign\r\nAccept: */*\r\n\r\n";
    let worker = WorkerContext::new(Hello, 0, Timeouts::default(), RequestLimits::default());
    Box::new(move |_| {
        let peer =
            Peer { address: Ipv4Addr::LOCALHOST.into(), listener: 0, certificates: &[], tls: None };
        let mut answers = ResponseBuffer(Vec::with_capacity(1024));
        let context = ConnectionContext { worker: &worker, peer };
        let taken = answer_requests(context, REQUEST, 0, &mut answers);
        taken.bytes == REQUEST.len() && answers.0[9..].starts_with(b"200 OK")
    })
}

/// Requests to the smallest service that arrive together over HTTP/2.
fn together(_: &()) -> Work<'_> {
    const REQUESTS: usize = 16;
    let (first, head) = (http2::head("Basic YTpi", true), http2::head("Basic YTpi", false));
    let worker = WorkerContext::new(Hello, 0, Timeouts::default(), RequestLimits::default());
    let mut connection = http2::Connection::new(worker).expect("a connection");
    let warm = connection.ask(&[&first]) == 1;
    Box::new(move |_| warm && connection.ask(&[&*head; REQUESTS]) == REQUESTS)
}
