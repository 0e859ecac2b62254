//! Good tokens during a flood of bad signatures: how many are refused, and how late cached ones are.
//!
//! Usage: `target/dist/signature-flood`, on an otherwise idle machine with two cores. The server has
//! one thread, on the first core. Its clients are on the second.
//!
//! - `one address`: 3,000 bad signatures a second from the address of the good clients.
//! - `64 addresses`: 15,000 a second from 64 addresses, in the name of the issuer of the good
//!   tokens; more than the core can check beside its requests.

use std::{
    error::Error,
    io,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use aws_lc_rs::signature::KeyPair as _;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_bench::{
    AUDIENCE, ISSUER, Keys,
    machine::pin_to_core,
    order::SplitMix64,
    own_server::{Address, Connection, StateDirectory},
    paired::report,
};
use countersign_engine::Algorithm;
use serde_json::json;

const ADDRESS: Address = ("127.0.0.1", 18881);
const ROUNDS: usize = 9;
const PHASE: Duration = Duration::from_millis(1500);
/// The core's budget lasts this long at most. Before that, a flood is not limited.
const UNTIL_LIMITED: Duration = Duration::from_secs(12);
/// Cached requests a second.
const CACHED: u32 = 1000;
/// Of so many cached requests, one is followed by one with a new token.
const CACHED_PER_NEW: u32 = 10;
/// More than the good clients send.
const TOKENS: usize = 4_000;

/// A flood of bad signatures.
struct Flood {
    name: &'static str,
    per_second: u32,
    connections: u32,
    /// Number of client addresses; 0 for that of the connection.
    addresses: u32,
}

const FLOODS: [Flood; 2] = [
    Flood { name: "one address", per_second: 3_000, connections: 64, addresses: 0 },
    Flood { name: "64 addresses", per_second: 15_000, connections: 1024, addresses: 64 },
];

fn main() -> Result<(), Box<dyn Error>> {
    let keys = Keys::generate();
    let tokens: Vec<_> = (0..TOKENS).map(|index| keys.token(Algorithm::Es256, index)).collect();
    pin_to_core(1);
    FLOODS.iter().try_for_each(|flood| measure(flood, &keys, &tokens))
}

#[expect(clippy::print_stdout, reason = "the report")]
fn measure(flood: &Flood, keys: &Keys, tokens: &[String]) -> Result<(), Box<dyn Error>> {
    let state = StateDirectory::create("signature-flood", &configuration(flood, keys))?;
    let _server = state.serve(ADDRESS)?;
    let mut clients = GoodClients { tokens: tokens.iter(), answers: [0; 2] };
    let (mut quiet, mut flooded) = (Vec::new(), Vec::new());
    let (mut good, mut bad) = ([0; 2], [0; 2]);
    for round in 0..ROUNDS {
        quiet.push(clients.latency(flood)?);
        clients.answers = [0; 2];
        let wait = if round == 0 { UNTIL_LIMITED } else { Duration::from_millis(200) };
        let (latency, forgeries) = flood.beside(&tokens[0], || {
            thread::sleep(wait);
            clients.latency(flood)
        })?;
        flooded.push(latency);
        for index in [0, 1] {
            good[index] += clients.answers[index];
            bad[index] += forgeries[index];
        }
    }
    let ratios = flooded.iter().zip(&quiet).map(|(one, other)| one / other).collect();
    let name = flood.name;
    let times = format!("; {} / {}", median(&flooded), median(&quiet));
    report(&format!("p99 of cached tokens, {name} flooding / without"), ratios, &times);
    println!(
        "good new tokens, {name} flooding: {} accepted, {} refused; bad ones: {} checked, {} refused",
        good[0], good[1], bad[0], bad[1]
    );
    Ok(())
}

fn median(seconds: &[f64]) -> String {
    let mut seconds = seconds.to_vec();
    seconds.sort_by(f64::total_cmp);
    format!("{:.0} us", seconds[seconds.len() / 2] * 1e6)
}

fn configuration(flood: &Flood, keys: &Keys) -> String {
    let (x, y) = keys.ecdsa.public_key().as_ref()[1..].split_at(32);
    let text = |bytes| URL_SAFE_NO_PAD.encode(bytes);
    let key = json!({ "kty": "EC", "crv": "P-256", "kid": "bench", "x": text(x), "y": text(y) });
    let trusted = if flood.addresses > 0 { "trusted_proxies=127.0.0.1" } else { "" };
    format!(
        "[server]\nbind_port={}\n[metrics]\nbind_port=0\n[listen]\nthreads=1\n{trusted}\n\
         [auth_jwt_default]\nalgorithm=HS256\nsign=true\nclient_types=api\n\
         key=rID3kG4OwGpajIsxnGDhat4UFcMkyFZQc1y3oKQTPRs\n\
         [auth_jwt_idp]\nalgorithms=ES256\nclient_types=api\nissuer={ISSUER}\n\
         audience={AUDIENCE}\nkey={key}\n",
        ADDRESS.1
    )
}

/// The clients with good tokens.
struct GoodClients<'t> {
    /// Tokens that were not sent yet.
    tokens: std::slice::Iter<'t, String>,
    /// Numbers of new tokens that were accepted and refused.
    answers: [u64; 2],
}

impl GoodClients<'_> {
    /// Returns the 99th percentile of a cached token's latency, from the due time of its request.
    fn latency(&mut self, flood: &Flood) -> io::Result<f64> {
        let lines = if flood.addresses > 0 { "X-Forwarded-For: 203.0.113.5\r\n" } else { "" };
        let (mut cached, mut new) = (Connection::open(ADDRESS)?, Connection::open(ADDRESS)?);
        let hot = self.tokens.next().ok_or_else(|| io::Error::other("too few tokens"))?;
        while cached.exchange("GET /auth", lines, hot, "")? != 200 {}
        let (start, every) = (Instant::now(), Duration::from_secs(1) / CACHED);
        let mut latencies = Vec::new();
        for number in 0.. {
            let due = start + every * number;
            if due >= start + PHASE {
                break;
            }
            while Instant::now() < due {
                thread::yield_now();
            }
            assert_eq!(cached.exchange("GET /auth", lines, hot, "")?, 200, "a cached token");
            latencies.push(due.elapsed().as_secs_f64());
            if number % CACHED_PER_NEW == 0 {
                let token = self.tokens.next().ok_or_else(|| io::Error::other("too few tokens"))?;
                let is_refused = new.exchange("GET /auth", lines, token, "")? != 200;
                self.answers[usize::from(is_refused)] += 1;
            }
        }
        latencies.sort_by(f64::total_cmp);
        Ok(latencies[latencies.len() * 99 / 100])
    }
}

impl Flood {
    /// Does `work` during this flood of forgeries of `token`. Returns its result, and how many
    /// forgeries were checked and refused.
    fn beside<T>(
        &self,
        token: &str,
        work: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<(T, [u64; 2])> {
        let stop = AtomicBool::new(false);
        let answers = [AtomicU64::new(0), AtomicU64::new(0)];
        let done = thread::scope(|scope| {
            for number in 0..self.connections {
                let (stop, answers) = (&stop, &answers);
                scope.spawn(move || self.send(number, token, stop, answers));
            }
            let done = work();
            stop.store(true, Ordering::Relaxed);
            done
        })?;
        Ok((done, answers.map(AtomicU64::into_inner)))
    }

    /// Sends one connection's share of the forgeries, each when it is due or when the one before is
    /// answered.
    fn send(
        &self,
        number: u32,
        token: &str,
        stop: &AtomicBool,
        answers: &[AtomicU64; 2],
    ) -> io::Result<()> {
        let mut connection = Connection::open(ADDRESS)?;
        let mut random = SplitMix64::new(u64::from(number));
        let every = Duration::from_secs(1) * self.connections / self.per_second;
        let mut due = Instant::now() + every * number / self.connections;
        let lines = match self.addresses {
            0 => String::new(),
            addresses => format!("X-Forwarded-For: 198.51.100.{}\r\n", number % addresses),
        };
        let (signed, _) = token.rsplit_once('.').unwrap_or_default();
        while !stop.load(Ordering::Relaxed) {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            due += every;
            let signature = [(); 64].map(|()| u8::try_from(random.below(256)).unwrap_or_default());
            let forged = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
            let checked = connection.exchange("GET /auth", &lines, &forged, "")? == 401;
            answers[usize::from(!checked)].fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}
