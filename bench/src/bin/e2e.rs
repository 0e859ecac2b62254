//! End-to-end benchmark: servers in turn under the same load, or one load on any server on this
//! machine.
//!
//! Usage: `bench/e2e/run [SCENARIO...]` prepares corpora and servers, and calls `e2e play WORK
//! [SCENARIO...]`. The other command is:
//!
//! ```text
//! e2e load PORT GOOD BAD [OPTION VALUE]...
//!   GOOD, BAD         directories of `corpus`, the second with --valid 0
//!   --rate R          open loop, R requests a second at equal intervals
//!   --poisson R       open loop, R requests a second by Poisson; closed loop without either
//!   --protocol NAME   http1, h2, grpc or h3; default: http1
//!   --connections N   concurrent connections; default: 1
//!   --streams N       concurrent requests on each connection; default: 1
//!   --each K          connect anew after K requests
//!   --seconds S       length of the load; default: 1
//!   --bad SHARE       share of bad requests of all kinds, which must be answered 401
//!   --full CERT       TLS 1.3 with full handshakes; CERT is trusted
//!   --resumed CERT    TLS 1.3, resumed
//!   --storm yes       a reset storm on a separate connection
//! ```

use std::{net::Ipv4Addr, path::Path, rc::Rc, time::Duration};

use countersign_bench::{
    e2e::{
        Result,
        corpus::{Corpus, CredentialKind, ExpectedAnswers, RequestMix},
        grpc::Grpc,
        http1::Http1,
        http2::Http2,
        http3::Http3,
        load::{self, Load},
        peer::{BenchPaths, PeerServers},
        process::Server,
        protocol::{Protocol, ProtocolKind, ResetStorm},
        report::Report,
        rounds::{Turn, probe, run_scenario},
        scenario::{Scenario, TurnPlan},
        schedule::{Limit, Pace},
        tally::Quantiles,
        tls::{Handshake, Tls},
    },
    machine::{pin_to_core, thread_cpu_seconds},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Cores of a pinned scenario.
const SERVER: usize = 0;
const GENERATOR: usize = 1;

fn main() -> Result<()> {
    let words: Vec<_> = std::env::args().skip(1).collect();
    match words.split_first() {
        Some((verb, rest)) if verb == "play" => play_all(rest),
        Some((verb, rest)) if verb == "load" => load_one(rest),
        _ => Err("usage: e2e play WORK [SCENARIO...], or e2e load PORT GOOD BAD [OPTION VALUE]..."
            .into()),
    }
}

fn play_all(words: &[String]) -> Result<()> {
    let (work, names) = words
        .split_first()
        .ok_or("usage: e2e play WORK [SCENARIO...]; WORK has corpora and certificates")?;
    let programs = std::env::current_exe()?.parent().ok_or("no directory")?.to_owned();
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e");
    let paths = BenchPaths { data, work: Path::new(work).canonicalize()?, programs };
    let (peers, scenarios) = (PeerServers::read(&paths.data)?, Scenario::read(&paths.data)?);
    let is_meant = |name: &String, scenario: &Scenario| {
        scenario.name == *name || scenario.name.starts_with(&format!("{name}-"))
    };
    if let Some(name) =
        names.iter().find(|name| !scenarios.iter().any(|scenario| is_meant(name, scenario)))
    {
        return Err(format!("unknown scenario {name}").into());
    }
    for scenario in scenarios
        .iter()
        .filter(|scenario| names.is_empty() || names.iter().any(|name| is_meant(name, scenario)))
    {
        play_one(&paths, &peers, scenario)?;
    }
    Ok(())
}

fn play_one(paths: &BenchPaths, peers: &PeerServers, scenario: &Scenario) -> Result<()> {
    let corpus = Corpus::read(&paths.corpus(scenario.tokens), &paths.bad_corpus())?;
    let core = scenario.pinned.then_some(SERVER);
    let mut servers: Vec<(String, Vec<Server>)> = Vec::new();
    for plan in scenario.turns() {
        // A server with several turns is started once.
        if servers.iter().any(|(name, _)| *name == plan.server) {
            continue;
        }
        let peer = peers.get(&plan.server)?;
        let mut copies = Vec::new();
        for copy in 0..peer.copies {
            let server = paths.start(&plan.server, peer, copy, scenario.tokens, core)?;
            let started = started(server, scenario, &plan, paths, &corpus);
            copies.push(started.map_err(|error| format!("{}: {error}", plan.server))?);
        }
        servers.push((plan.server, copies));
    }
    let turn = |plan: TurnPlan| {
        let (_, target) = servers
            .iter()
            .find(|(name, _)| *name == plan.server)
            .ok_or("a turn without a server")?;
        Ok(Turn { target, answers: peers.get(&plan.server)?.answers(), plan })
    };
    let turns: Vec<_> = scenario.turns().into_iter().map(turn).collect::<Result<_>>()?;
    // On a separate thread: pinning this one would also pin the servers started later.
    let measured = std::thread::scope(|scope| {
        let run = || {
            if scenario.pinned {
                pin_to_core(GENERATOR);
            }
            run_scenario(scenario, &corpus, paths.certificate(), &turns)
                .map_err(|error| error.to_string())
        };
        scope.spawn(run).join().unwrap_or_else(|_| Err("the generator panicked".into()))
    })?;
    Report { scenario, turns: turns.into_iter().map(|turn| turn.plan.name).collect(), measured }
        .print()
}

/// Waits until the server answers a first request as expected.
fn started(
    mut server: Server,
    scenario: &Scenario,
    plan: &TurnPlan,
    paths: &BenchPaths,
    corpus: &Corpus,
) -> Result<Server> {
    const MAX_ATTEMPTS: u32 = 150;
    let mut last = Ok(());
    for _ in 0..MAX_ATTEMPTS {
        let answers = ExpectedAnswers { refuses: Vec::new(), refusals: Vec::new() };
        let turn = Turn { plan: plan.clone(), target: &server, answers };
        last = probe(scenario, corpus, paths.certificate(), &turn);
        server.find_processes()?;
        if last.is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    last.map(|()| server)
}

fn load_one(words: &[String]) -> Result<()> {
    let [port, good, bad, options @ ..] = words else {
        return Err("e2e load needs a port and two corpora".into());
    };
    let options = Options::read(options)?;
    let addresses = vec![(Ipv4Addr::LOCALHOST, port.parse()?).into()];
    let corpus = Corpus::read(Path::new(good), Path::new(bad))?;
    let tls = options
        .tls
        .map(|(kind, path)| Tls::new(kind, options.protocol, Path::new(path), options.connections));
    let tls = tls.transpose()?.map(Rc::new);
    match options.protocol {
        ProtocolKind::Http1 => run_load(Http1::new(addresses, tls), &corpus, &options),
        ProtocolKind::H2 => run_load(Http2::new(addresses, tls), &corpus, &options),
        ProtocolKind::Grpc => run_load(Grpc::new(addresses, tls), &corpus, &options),
        ProtocolKind::H3 => {
            run_load(Http3::new(addresses, tls.ok_or("h3 needs --full CERT")?), &corpus, &options)
        }
    }
}

#[expect(clippy::print_stdout, reason = "the report")]
fn run_load<P: Protocol>(protocol: P, corpus: &Corpus, options: &Options<'_>) -> Result<()> {
    let answers = ExpectedAnswers { refuses: CredentialKind::BAD.to_vec(), refusals: vec![401] };
    let requests = RequestMix::new(&protocol, corpus, &answers, options.bad, &CredentialKind::BAD);
    let Options { pace, connections, streams, each: per_connection, seconds, .. } = *options;
    let limit = Limit { requests: u64::MAX, time: seconds };
    let storm = options.storm.then(Rc::<ResetStorm>::default);
    let load = Load {
        connections,
        streams,
        per_connection,
        storm: storm.clone(),
        ..Load::new(protocol, requests, pace, limit)
    };
    let before = thread_cpu_seconds();
    for tally in load::run(vec![load], false)? {
        let used = Duration::from_secs_f64(thread_cpu_seconds() - before);
        println!(
            "{} requests on {} connections in {} ns",
            tally.requests(),
            tally.connections,
            tally.elapsed
        );
        println!(
            "client {} ns of CPU a request",
            used.as_nanos() / u128::from(tally.requests().max(1))
        );
        for (name, latencies) in [("valid", &tally.valid), ("bad", &tally.invalid)] {
            if let Some(Quantiles { p50, p99, p999, max }) = Quantiles::of(latencies) {
                println!(
                    "{name:6} {} requests, p50 {p50:.1} us, p99 {p99:.1}, p99.9 {p999:.1}, max {max:.1}",
                    latencies.len()
                );
            }
        }
    }
    if let Some(storm) = storm {
        println!(
            "storm  {} requests reset on {} connections",
            storm.resets.get(),
            storm.connections.get()
        );
    }
    Ok(())
}

/// Options of `e2e load`.
struct Options<'a> {
    protocol: ProtocolKind,
    pace: Pace,
    connections: usize,
    streams: usize,
    each: Option<u32>,
    seconds: Duration,
    bad: f64,
    tls: Option<(Handshake, &'a str)>,
    storm: bool,
}

impl<'a> Options<'a> {
    fn read(words: &'a [String]) -> Result<Self> {
        let seconds = Duration::from_secs(1);
        let (protocol, pace, connections, streams) = (ProtocolKind::Http1, Pace::ClosedLoop, 1, 1);
        let mut options = Self {
            protocol,
            pace,
            connections,
            streams,
            each: None,
            seconds,
            bad: 0.0,
            tls: None,
            storm: false,
        };
        for pair in words.chunks(2) {
            let [name, value] = pair else {
                return Err(format!("{} has no value", pair[0]).into());
            };
            match name.as_str() {
                "--rate" => options.pace = Pace::Constant(value.parse()?),
                "--poisson" => options.pace = Pace::Poisson(value.parse()?),
                "--protocol" => options.protocol = ProtocolKind::from_name(value)?,
                "--streams" => options.streams = value.parse()?,
                "--storm" => options.storm = value == "yes",
                "--connections" => options.connections = value.parse()?,
                "--each" => options.each = Some(value.parse()?),
                "--seconds" => options.seconds = Duration::try_from_secs_f64(value.parse()?)?,
                "--bad" => options.bad = value.parse()?,
                "--full" => options.tls = Some((Handshake::Full, value)),
                "--resumed" => options.tls = Some((Handshake::Resumed, value)),
                _ => return Err(format!("unknown option {name}").into()),
            }
        }
        Ok(options)
    }
}
