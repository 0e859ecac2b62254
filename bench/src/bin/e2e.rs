//! The end-to-end bench: servers in turn under the same load, or one load on whatever
//! listens on this machine.
//!
//! Usage: `bench/e2e/run [SCENARIO...]` prepares what is needed and calls
//! `e2e play WORK [SCENARIO...]`. By itself there is
//!
//! ```text
//! e2e load PORT GOOD BAD [OPTION VALUE]...
//!   GOOD, BAD         directories of `countersign corpus`, the second with --valid 0
//!   --rate R          open loop, R a second at equal distances
//!   --poisson R       open loop, R a second by Poisson; closed loop without either
//!   --connections N   1 unless said otherwise
//!   --each K          connect anew after K requests
//!   --seconds S       1 unless said otherwise
//!   --bad SHARE       a share of bad requests of all kinds, to be answered 401
//!   --full CERT       TLS 1.3, with full handshakes; CERT is trusted
//!   --resumed CERT    TLS 1.3, resumed
//! ```

use std::{net::Ipv4Addr, path::Path, rc::Rc, time::Duration};

use countersign_bench::{
    e2e::{
        Result,
        corpus::{Answers, Corpus, Kind, Questions},
        http1::Http1,
        load::{self, Load},
        peer::{Peers, Places},
        process::{Server, Target as _},
        report::Report,
        rounds::{Turn, play},
        scenario::{Scenario, turn_name},
        schedule::{Limit, Pace},
        tally::Quantiles,
        tls::{Handshake, Tls},
    },
    machine,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The cores of a pinned scenario.
const SERVER: usize = 0;
const GENERATOR: usize = 1;

fn main() -> Result<()> {
    let words: Vec<_> = std::env::args().skip(1).collect();
    match words.split_first() {
        Some((verb, rest)) if verb == "play" => play_all(rest),
        Some((verb, rest)) if verb == "load" => load_one(rest),
        _ => Err("what? e2e play WORK [SCENARIO...], or e2e load PORT GOOD BAD [OPTION VALUE]...".into()),
    }
}

fn play_all(words: &[String]) -> Result<()> {
    let (work, names) = words.split_first().ok_or("where are corpora and certificates?")?;
    let programs = std::env::current_exe()?.parent().ok_or("no directory")?.to_owned();
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e");
    let places = Places { data, work: Path::new(work).canonicalize()?, programs };
    let (peers, scenarios) = (Peers::read(&places.data)?, Scenario::read(&places.data)?);
    if let Some(name) = names.iter().find(|name| scenarios.iter().all(|scenario| scenario.name != **name)) {
        return Err(format!("no scenario is called {name}").into());
    }
    for scenario in scenarios.iter().filter(|scenario| names.is_empty() || names.contains(&scenario.name)) {
        play_one(&places, &peers, scenario)?;
    }
    Ok(())
}

fn play_one(places: &Places, peers: &Peers, scenario: &Scenario) -> Result<()> {
    let corpus = Corpus::read(&places.corpus(scenario.tokens), &places.bad_corpus())?;
    let core = scenario.pinned.then_some(SERVER);
    let mut servers = Vec::new();
    for name in &scenario.servers {
        let peer = peers.get(name)?;
        let mut copies = Vec::new();
        for copy in 0..peer.copies {
            let server = places.start(name, peer, copy, scenario.tokens, core)?;
            copies.push(started(server, scenario, places, &corpus).map_err(|error| format!("{name}: {error}"))?);
        }
        servers.push((name, peer, copies));
    }
    let turn = |(server, flooded)| {
        let found = servers.iter().find(|(name, ..)| *name == server);
        let (_, peer, target) = found.ok_or("a turn without a server")?;
        Ok(Turn { name: turn_name(server, flooded), target, answers: peer.answers(), flooded })
    };
    let turns: Vec<_> = scenario.turns().into_iter().map(turn).collect::<Result<_>>()?;
    // On a thread of its own, which may be bound to a core without binding the servers to come.
    let measured = std::thread::scope(|scope| {
        let play = || {
            if scenario.pinned {
                machine::stay_on(GENERATOR);
            }
            play(scenario, &corpus, places.certificate(), &turns).map_err(|error| error.to_string())
        };
        scope.spawn(play).join().unwrap_or_else(|_| Err("the generator panicked".into()))
    })?;
    Report { scenario, turns: turns.into_iter().map(|turn| turn.name).collect(), measured }.print()
}

/// Waits until it answers a first request as it should.
fn started(mut server: Server, scenario: &Scenario, places: &Places, corpus: &Corpus) -> Result<Server> {
    const PATIENCE: u32 = 150;
    let tls = scenario.tls.map(|_| Tls::new(Handshake::Full, &places.certificate(), 1)).transpose()?.map(Rc::new);
    let protocol = Rc::new(Http1::new(server.addresses(), tls));
    let trusting = Answers { refuses: Vec::new(), refusals: Vec::new() };
    let questions = Rc::new(Questions::new(&*protocol, corpus, &trusting, 0.0, &[]));
    let mut last = Ok(());
    for _ in 0..PATIENCE {
        let (protocol, questions) = (Rc::clone(&protocol), Rc::clone(&questions));
        let limit = Limit { requests: 1, time: Duration::from_secs(5) };
        let load =
            Load { in_turn: true, lanes: 1, per_connection: None, pace: Pace::AsItGoes, seed: 0, protocol, questions, limit };
        last = load::run(vec![load], false).map(drop);
        server.has_started()?;
        if last.is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    last.map(|()| server)
}

#[expect(clippy::print_stdout, reason = "the report")]
fn load_one(words: &[String]) -> Result<()> {
    let [port, good, bad, options @ ..] = words else { return Err("load needs a port and two corpora".into()) };
    let options = Options::read(options)?;
    let tls = options.tls.map(|(kind, path)| Tls::new(kind, Path::new(path), options.connections)).transpose()?.map(Rc::new);
    let protocol = Rc::new(Http1::new(vec![(Ipv4Addr::LOCALHOST, port.parse()?).into()], tls));
    let corpus = Corpus::read(Path::new(good), Path::new(bad))?;
    let answers = Answers { refuses: Kind::BAD.to_vec(), refusals: vec![401] };
    let questions = Rc::new(Questions::new(&*protocol, &corpus, &answers, options.bad, &Kind::BAD));
    let Options { pace, connections: lanes, each: per_connection, seconds, .. } = options;
    let limit = Limit { requests: u64::MAX, time: seconds };
    let load = Load { protocol, questions, in_turn: false, lanes, per_connection, pace, limit, seed: 1 };
    for tally in load::run(vec![load], false)? {
        println!("{} requests on {} connections in {} ns", tally.requests(), tally.connections, tally.elapsed);
        for (name, latencies) in [("valid", &tally.valid), ("bad", &tally.invalid)] {
            if let Some(Quantiles { p50, p99, p999, max }) = Quantiles::of(latencies) {
                println!("{name:6} {} requests, p50 {p50:.1} us, p99 {p99:.1}, p99.9 {p999:.1}, max {max:.1}", latencies.len());
            }
        }
    }
    Ok(())
}

/// The options of `e2e load`.
struct Options<'a> {
    pace: Pace,
    connections: usize,
    each: Option<u32>,
    seconds: Duration,
    bad: f64,
    tls: Option<(Handshake, &'a str)>,
}

impl<'a> Options<'a> {
    fn read(words: &'a [String]) -> Result<Self> {
        let seconds = Duration::from_secs(1);
        let mut options = Self { pace: Pace::AsItGoes, connections: 1, each: None, seconds, bad: 0.0, tls: None };
        for pair in words.chunks(2) {
            let [name, value] = pair else { return Err(format!("{} has no value", pair[0]).into()) };
            match name.as_str() {
                "--rate" => options.pace = Pace::Constant(value.parse()?),
                "--poisson" => options.pace = Pace::Poisson(value.parse()?),
                "--connections" => options.connections = value.parse()?,
                "--each" => options.each = Some(value.parse()?),
                "--seconds" => options.seconds = Duration::try_from_secs_f64(value.parse()?)?,
                "--bad" => options.bad = value.parse()?,
                "--full" => options.tls = Some((Handshake::Full, value)),
                "--resumed" => options.tls = Some((Handshake::Resumed, value)),
                _ => return Err(format!("no option {name}").into()),
            }
        }
        Ok(options)
    }
}
