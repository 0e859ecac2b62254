//! Trivial servers in this process, one per protocol. They accept a fixed list of tokens.

mod http1;
mod http2;
mod http3;

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_bench::e2e::{
    Result,
    corpus::{Corpus, CredentialKind, ExpectedAnswers, RequestMix},
    grpc::Grpc,
    http1::Http1,
    http2::Http2,
    http3::Http3,
    load::{self, Load},
    process::{CpuTime, MeasuredServer, resident},
    protocol::{Protocol, ProtocolKind, ResetStorm},
    schedule::{Limit, Pace},
    tally::Tally,
    tls::{Handshake, Tls},
};
use rustls::ServerConfig;

use crate::certificate::certificate;

/// Makes the server close the connection instead of answering.
pub(crate) const CLOSE_CONNECTION: u16 = 0;

/// Returns 200 for one of [`tokens`], else 401.
pub(crate) fn check_token(credential: Option<&str>) -> u16 {
    if credential.is_some_and(|credential| tokens().contains(credential)) { 200 } else { 401 }
}

pub(crate) fn tokens() -> BTreeSet<String> {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256","kid":"one"}"#);
    (0..20).map(|index| format!("{header}.e30.{}{index}", "s".repeat(40))).collect()
}

pub(crate) fn corpus() -> Corpus {
    Corpus::new(tokens().into_iter().collect(), vec!["a.good.signature".into()])
}

pub(crate) fn strict_answers() -> ExpectedAnswers {
    ExpectedAnswers { refuses: CredentialKind::BAD.to_vec(), refusals: vec![401] }
}

pub(crate) fn requests(requests: u64) -> Limit {
    Limit { requests, time: Duration::from_secs(30) }
}

/// A server's answer to a credential.
pub(crate) type Answer = dyn Fn(Option<&str>) -> u16 + Send + Sync;

/// A server on its own threads.
pub(crate) struct TrivialServer {
    protocol: ProtocolKind,
    address: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    counters: Arc<ServerCounters>,
}

/// Counters of a server.
#[derive(Default)]
struct ServerCounters {
    connections: AtomicU64,
    /// Connections with a resumed TLS session.
    resumed: AtomicU64,
    /// HTTP/3 connections that the client has closed gracefully.
    closed: AtomicU64,
    /// Requests that were reset.
    resets: AtomicU64,
    /// Requests not answered yet, and their maximum.
    in_flight: AtomicU64,
    max_in_flight: AtomicU64,
}

impl ServerCounters {
    fn request_started(&self) {
        let in_flight = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        self.max_in_flight.fetch_max(in_flight, Ordering::Relaxed);
    }

    fn request_ended(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl TrivialServer {
    /// Starts an HTTP/1.1 server.
    pub(crate) fn start(answer: impl Fn(Option<&str>) -> u16 + Send + Sync + 'static) -> Self {
        Self::with_protocol(ProtocolKind::Http1, None, answer)
    }

    /// Starts a server of any protocol. HTTP/3 needs TLS.
    pub(crate) fn with_protocol(
        protocol: ProtocolKind,
        tls: Option<Arc<ServerConfig>>,
        answer: impl Fn(Option<&str>) -> u16 + Send + Sync + 'static,
    ) -> Self {
        let (counters, answer) = (Arc::<ServerCounters>::default(), Arc::new(answer));
        let (shared, config) = (Arc::clone(&counters), tls.clone());
        let address = match protocol {
            ProtocolKind::Http1 => http1::start(config, shared, answer),
            ProtocolKind::H2 | ProtocolKind::Grpc => http2::start(config, shared, answer),
            ProtocolKind::H3 => http3::start(config.expect("HTTP/3 needs TLS"), shared, answer),
        };
        Self { protocol, address, tls, counters }
    }

    pub(crate) fn connections(&self) -> u64 {
        self.counters.connections.load(Ordering::Relaxed)
    }

    pub(crate) fn resumed(&self) -> u64 {
        self.counters.resumed.load(Ordering::Relaxed)
    }

    pub(crate) fn max_concurrent(&self) -> u64 {
        self.counters.max_in_flight.load(Ordering::Relaxed)
    }

    /// Whether a connection can have concurrent requests.
    pub(crate) fn is_multiplexed(&self) -> bool {
        self.protocol != ProtocolKind::Http1
    }

    pub(crate) fn resets(&self) -> u64 {
        self.counters.resets.load(Ordering::Relaxed)
    }

    pub(crate) fn closed(&self) -> u64 {
        self.counters.closed.load(Ordering::Relaxed)
    }

    /// Returns a load of a hundred requests on two connections.
    pub(crate) fn load(&self) -> TestLoad<'_> {
        TestLoad {
            server: self,
            handshake: Handshake::Full,
            bad: 0.0,
            connections: 2,
            streams: 1,
            per_connection: None,
            pace: Pace::ClosedLoop,
            limit: requests(100),
            storm: None,
        }
    }
}

/// A load on a [`TrivialServer`].
pub(crate) struct TestLoad<'s> {
    pub(crate) server: &'s TrivialServer,
    pub(crate) handshake: Handshake,
    pub(crate) bad: f64,
    pub(crate) connections: usize,
    pub(crate) streams: usize,
    pub(crate) per_connection: Option<u32>,
    pub(crate) pace: Pace,
    pub(crate) limit: Limit,
    pub(crate) storm: Option<Rc<ResetStorm>>,
}

impl TestLoad<'_> {
    pub(crate) fn run(self) -> std::result::Result<Tally, String> {
        let TrivialServer { protocol, address, ref tls, .. } = *self.server;
        let path = certificate().join("certificate.pem");
        let tls = tls
            .as_ref()
            .map(|_| Rc::new(Tls::new(self.handshake, protocol, &path, self.connections).unwrap()));
        match protocol {
            ProtocolKind::Http1 => self.run_with(Http1::new(vec![address], tls)),
            ProtocolKind::H2 => self.run_with(Http2::new(vec![address], tls)),
            ProtocolKind::Grpc => self.run_with(Grpc::new(vec![address], tls)),
            ProtocolKind::H3 => self.run_with(Http3::new(vec![address], tls.unwrap())),
        }
    }

    fn run_with<P: Protocol>(self, protocol: P) -> std::result::Result<Tally, String> {
        let Self { bad, connections, streams, per_connection, pace, limit, storm, .. } = self;
        let requests =
            RequestMix::new(&protocol, &corpus(), &strict_answers(), bad, &CredentialKind::BAD);
        let load = Load {
            connections,
            streams,
            per_connection,
            storm,
            ..Load::new(protocol, requests, pace, limit)
        };
        load::run(vec![load], false)
            .map(|mut tallies| tallies.remove(0))
            .map_err(|error| error.to_string())
    }
}

impl MeasuredServer for TrivialServer {
    fn addresses(&self) -> Vec<SocketAddr> {
        vec![self.address]
    }

    fn cpu_time(&self) -> Result<CpuTime> {
        CpuTime::of(&[std::process::id()])
    }

    fn resident_bytes(&self) -> Result<u64> {
        resident(std::process::id())
    }
}

/// Runs an asynchronous server on a new thread until the process ends.
fn spawn_runtime<F: Future<Output = ()>>(serve: impl FnOnce() -> F + Send + 'static) {
    thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, serve());
    });
}

/// Returns the credential of an `Authorization: Bearer` value.
fn bearer(value: &str) -> Option<&str> {
    value.strip_prefix("Bearer ")
}
