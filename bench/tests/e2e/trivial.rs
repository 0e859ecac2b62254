//! Servers in this process that know their tokens by heart, for every way to ask them.

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
    corpus::{Answers, Corpus, Kind, Questions},
    grpc::Grpc,
    http1::Http1,
    http2::Http2,
    http3::Http3,
    load::{self, Load},
    process::{Spent, Target, resident},
    protocol::{Protocol, Storm, Way},
    schedule::{Limit, Pace},
    tally::Tally,
    tls::{Handshake, Tls},
};
use rustls::ServerConfig;

use crate::certificate::certificate;

/// A status that is none.
pub(crate) const HANG_UP: u16 = 0;

/// Knows its tokens by heart.
pub(crate) fn honest(credential: Option<&str>) -> u16 {
    if credential.is_some_and(|credential| tokens().contains(credential)) { 200 } else { 401 }
}

pub(crate) fn tokens() -> BTreeSet<String> {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256","kid":"one"}"#);
    (0..20).map(|index| format!("{header}.e30.{}{index}", "s".repeat(40))).collect()
}

pub(crate) fn corpus() -> Corpus {
    Corpus::new(tokens().into_iter().collect(), vec!["a.good.signature".into()])
}

pub(crate) fn strict() -> Answers {
    Answers { refuses: Kind::BAD.to_vec(), refusals: vec![401] }
}

pub(crate) fn requests(requests: u64) -> Limit {
    Limit { requests, time: Duration::from_secs(30) }
}

/// What a server answers to a credential.
pub(crate) type Answer = dyn Fn(Option<&str>) -> u16 + Send + Sync;

/// A server, on threads of its own.
pub(crate) struct Trivial {
    way: Way,
    address: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    seen: Arc<Seen>,
}

/// What servers have seen.
#[derive(Default)]
struct Seen {
    connections: AtomicU64,
    /// Those that took up a session again.
    resumed: AtomicU64,
    /// Those that the client has ended in order, of HTTP/3.
    closed: AtomicU64,
    /// Requests that were taken back.
    resets: AtomicU64,
    /// Requests that are not answered yet, and the most that there ever were.
    under_way: AtomicU64,
    most: AtomicU64,
}

impl Seen {
    fn begun(&self) {
        let under_way = self.under_way.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(under_way, Ordering::Relaxed);
    }

    fn ended(&self) {
        self.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Trivial {
    /// A server of HTTP/1.1.
    pub(crate) fn start(answer: impl Fn(Option<&str>) -> u16 + Send + Sync + 'static) -> Self {
        Self::speaking(Way::Http1, None, answer)
    }

    /// Any server. HTTP/3 needs TLS.
    pub(crate) fn speaking(
        way: Way,
        tls: Option<Arc<ServerConfig>>,
        answer: impl Fn(Option<&str>) -> u16 + Send + Sync + 'static,
    ) -> Self {
        let (seen, answer) = (Arc::<Seen>::default(), Arc::new(answer));
        let (to_see, to_serve) = (Arc::clone(&seen), tls.clone());
        let address = match way {
            Way::Http1 => http1::start(to_serve, to_see, answer),
            Way::H2 | Way::Grpc => http2::start(to_serve, to_see, answer),
            Way::H3 => http3::start(to_serve.expect("HTTP/3 is under TLS"), to_see, answer),
        };
        Self { way, address, tls, seen }
    }

    pub(crate) fn connections(&self) -> u64 {
        self.seen.connections.load(Ordering::Relaxed)
    }

    pub(crate) fn resumed(&self) -> u64 {
        self.seen.resumed.load(Ordering::Relaxed)
    }

    pub(crate) fn most_at_a_time(&self) -> u64 {
        self.seen.most.load(Ordering::Relaxed)
    }

    /// Whether a connection has several requests at a time.
    pub(crate) fn is_multiplexed(&self) -> bool {
        self.way != Way::Http1
    }

    pub(crate) fn resets(&self) -> u64 {
        self.seen.resets.load(Ordering::Relaxed)
    }

    pub(crate) fn closed(&self) -> u64 {
        self.seen.closed.load(Ordering::Relaxed)
    }

    /// A hundred requests on two connections, and what becomes of them.
    pub(crate) fn load(&self) -> Asking<'_> {
        Asking {
            server: self,
            handshake: Handshake::Full,
            bad: 0.0,
            connections: 2,
            streams: 1,
            per_connection: None,
            pace: Pace::AsItGoes,
            limit: requests(100),
            storm: None,
        }
    }
}

/// A load on a trivial server.
pub(crate) struct Asking<'s> {
    pub(crate) server: &'s Trivial,
    pub(crate) handshake: Handshake,
    pub(crate) bad: f64,
    pub(crate) connections: usize,
    pub(crate) streams: usize,
    pub(crate) per_connection: Option<u32>,
    pub(crate) pace: Pace,
    pub(crate) limit: Limit,
    pub(crate) storm: Option<Rc<Storm>>,
}

impl Asking<'_> {
    pub(crate) fn run(self) -> std::result::Result<Tally, String> {
        let Trivial { way, address, ref tls, .. } = *self.server;
        let path = certificate().join("certificate.pem");
        let tls = tls
            .as_ref()
            .map(|_| Rc::new(Tls::new(self.handshake, way, &path, self.connections).unwrap()));
        match way {
            Way::Http1 => self.by(Http1::new(vec![address], tls)),
            Way::H2 => self.by(Http2::new(vec![address], tls)),
            Way::Grpc => self.by(Grpc::new(vec![address], tls)),
            Way::H3 => self.by(Http3::new(vec![address], tls.unwrap())),
        }
    }

    fn by<P: Protocol>(self, protocol: P) -> std::result::Result<Tally, String> {
        let Self { bad, connections, streams, per_connection, pace, limit, storm, .. } = self;
        let questions = Rc::new(Questions::new(&protocol, &corpus(), &strict(), bad, &Kind::BAD));
        let (protocol, in_turn, seed) = (Rc::new(protocol), false, 1);
        let load = Load {
            protocol,
            questions,
            in_turn,
            connections,
            streams,
            per_connection,
            pace,
            limit,
            seed,
            storm,
        };
        load::run(vec![load], false)
            .map(|mut tallies| tallies.remove(0))
            .map_err(|error| error.to_string())
    }
}

impl Target for Trivial {
    fn addresses(&self) -> Vec<SocketAddr> {
        vec![self.address]
    }

    fn spent(&self) -> Result<Spent> {
        Spent::by(&[std::process::id()])
    }

    fn resident_bytes(&self) -> Result<u64> {
        resident(std::process::id())
    }
}

/// Runs a server that is asynchronous, until the process ends.
fn on_its_own<F: Future<Output = ()>>(serve: impl FnOnce() -> F + Send + 'static) {
    thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, serve());
    });
}

/// What follows `Bearer` in a header line.
fn bearer(value: &str) -> Option<&str> {
    value.strip_prefix("Bearer ")
}
