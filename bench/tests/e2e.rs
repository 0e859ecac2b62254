//! The load generator against a trivial server in this process: does it see what it is
//! there to see?

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_bench::e2e::{
    Result,
    corpus::{Answers, Corpus, Kind, Questions},
    http1::Http1,
    load::{self, Load},
    process::{Spent, Target},
    report::Report,
    rounds::{Turn, play},
    scenario::{Scenario, turn_name},
    schedule::{Limit, Pace},
    tally::Tally,
    tls::{Handshake, Tls},
};
use rustls::{
    HandshakeKind, ServerConfig, ServerConnection, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

#[test]
fn a_stall_shows_in_every_request_that_was_due_in_it() {
    let slow = |pace| {
        let gate = Mutex::new(0);
        let server = Trivial::start(None, move |credential| {
            let mut requests = gate.lock().unwrap();
            *requests += 1;
            if *requests == 100 {
                thread::sleep(Duration::from_millis(200));
            }
            honest(credential)
        });
        let tally = server.load(|load| Load { lanes: 4, pace, limit: requests(600), ..load }).unwrap();
        assert_eq!(tally.requests(), 600);
        tally.valid.count_between(100_000_000, u64::MAX)
    };
    // Half of the 200 that were due meanwhile waited for 100 ms and more.
    for pace in [Pace::Constant(1000.0), Pace::Poisson(1000.0)] {
        assert!(slow(pace) >= 80, "{pace:?}");
    }
    // Who waits for an answer before he counts on sees it once a connection.
    assert!(slow(Pace::AsItGoes) < 80);
}

#[test]
fn a_wrong_answer_ends_the_run_and_is_named() {
    let gullible = Trivial::start(None, |credential| if credential.is_none() { 401 } else { 200 });
    let error = gullible.mixed_load().unwrap_err();
    assert!(error.contains("request ") && error.contains("was answered 200 instead of [401]"), "{error}");
    let late = Mutex::new(0);
    let forgetful = Trivial::start(None, move |credential| {
        let mut requests = late.lock().unwrap();
        *requests += 1;
        if *requests > 300 && honest(credential) == 200 { 503 } else { honest(credential) }
    });
    let error = forgetful.mixed_load().unwrap_err();
    assert!(error.contains("(valid) was answered 503 instead of [200]:\nHTTP/1.1 503"), "{error}");
}

#[test]
fn good_and_bad_requests_are_counted_apart() {
    let tally = Trivial::start(None, honest).mixed_load().unwrap();
    assert_eq!(tally.requests(), 2_000);
    assert!((900..1_100).contains(&tally.valid.len()), "{}", tally.valid.len());
}

#[test]
fn a_server_that_hangs_up_is_found() {
    let server = Trivial::start(None, |_| HANG_UP);
    let error = server.load(|load| load).unwrap_err();
    assert!(error.contains("the server hung up"), "{error}");
}

#[test]
fn a_connection_has_as_many_requests_as_it_is_to_have() {
    let connections = |per_connection, lanes| {
        let server = Trivial::start(None, honest);
        let tally = server.load(|load| Load { per_connection, lanes, limit: requests(400), ..load }).unwrap();
        assert_eq!(tally.requests(), 400);
        assert_eq!(tally.connections, u64::try_from(server.connections.load(Ordering::Relaxed)).unwrap());
        tally.connections
    };
    assert_eq!(connections(None, 8), 8);
    assert_eq!(connections(Some(1), 8), 400);
    assert_eq!(connections(Some(10), 1), 40);
    // Each lane may end on a connection that is not used up.
    assert!((40..=44).contains(&connections(Some(10), 4)));
}

#[test]
fn handshakes_are_as_they_are_to_be() {
    let certificate = certificate();
    let resumed = |kind| {
        let server = Trivial::start(Some(tls_config(&certificate, true)), honest);
        let tally = server.tls_load(kind, &certificate).unwrap();
        assert_eq!((tally.requests(), tally.connections), (60, 60));
        server.resumed.load(Ordering::Relaxed)
    };
    assert_eq!(resumed(Handshake::Full), 0);
    // All but the first of each of the two lanes.
    assert_eq!(resumed(Handshake::Resumed), 58);
    let forgetful = Trivial::start(Some(tls_config(&certificate, false)), honest);
    let error = forgetful.tls_load(Handshake::Resumed, &certificate).unwrap_err();
    assert!(error.contains("should have been Resumed"), "{error}");
}

#[test]
fn every_scenario_can_be_played_and_has_its_figures() {
    let certificate = certificate();
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e");
    for mut scenario in Scenario::read(&data).unwrap() {
        scenario.pinned = false;
        scenario.rounds = 2;
        scenario.seconds = 0.05;
        scenario.connections = scenario.connections.min(4);
        scenario.idle = scenario.idle.map(|_| 20);
        let tls = scenario.tls.map(|_| tls_config(&certificate, true));
        let servers: Vec<_> = scenario.servers.iter().map(|_| Trivial::start(tls.clone(), honest)).collect();
        let turn = |(name, flooded)| {
            let index = scenario.servers.iter().position(|server| server == name).unwrap();
            Turn { name: turn_name(name, flooded), target: &servers[index], answers: strict(), flooded }
        };
        let turns: Vec<_> = scenario.turns().into_iter().map(turn).collect();
        let measured = play(&scenario, &corpus(), certificate.join("certificate.pem"), &turns).unwrap();
        for rounds in &measured {
            assert_eq!(rounds.len(), 2);
            assert!(rounds.iter().all(|round| round.requests > 0 || round.memory.is_some()), "{}", scenario.name);
        }
        let turns = turns.into_iter().map(|turn| turn.name).collect();
        Report { scenario: &scenario, turns, measured }.print().unwrap();
    }
}

/// A status that is none.
const HANG_UP: u16 = 0;

/// Knows its tokens by heart.
fn honest(credential: Option<&str>) -> u16 {
    if credential.is_some_and(|credential| tokens().contains(credential)) { 200 } else { 401 }
}

fn tokens() -> BTreeSet<String> {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256","kid":"one"}"#);
    (0..20).map(|index| format!("{header}.e30.{}{index}", "s".repeat(40))).collect()
}

fn corpus() -> Corpus {
    Corpus::new(tokens().into_iter().collect(), vec!["a.good.signature".into()])
}

fn strict() -> Answers {
    Answers { refuses: Kind::BAD.to_vec(), refusals: vec![401] }
}

fn requests(requests: u64) -> Limit {
    Limit { requests, time: Duration::from_secs(30) }
}

/// A server with a thread for every connection.
struct Trivial {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    resumed: Arc<AtomicUsize>,
}

impl Trivial {
    fn start(tls: Option<Arc<ServerConfig>>, answer: impl Fn(Option<&str>) -> u16 + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = Self { address, connections: Arc::default(), resumed: Arc::default() };
        let (connections, resumed, answer) = (Arc::clone(&server.connections), Arc::clone(&server.resumed), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                stream.set_nodelay(true).unwrap();
                connections.fetch_add(1, Ordering::Relaxed);
                let (tls, resumed, answer) = (tls.clone(), Arc::clone(&resumed), Arc::clone(&answer));
                // How a connection ends is the generator's business.
                thread::spawn(move || match tls {
                    None => drop(serve(stream, &*answer)),
                    Some(config) => drop(serve_tls(stream, config, &resumed, &*answer)),
                });
            }
        });
        server
    }

    fn load(&self, change: impl FnOnce(Load<Http1>) -> Load<Http1>) -> std::result::Result<Tally, String> {
        self.run(None, 0.0, change)
    }

    fn mixed_load(&self) -> std::result::Result<Tally, String> {
        self.run(None, 0.5, |load| Load { limit: requests(2_000), ..load })
    }

    fn tls_load(&self, kind: Handshake, certificate: &Path) -> std::result::Result<Tally, String> {
        let tls = Tls::new(kind, &certificate.join("certificate.pem"), 2).unwrap();
        self.run(Some(tls), 0.0, |load| Load { lanes: 2, per_connection: Some(1), limit: requests(60), ..load })
    }

    fn run(
        &self,
        tls: Option<Tls>,
        bad: f64,
        change: impl FnOnce(Load<Http1>) -> Load<Http1>,
    ) -> std::result::Result<Tally, String> {
        let protocol = Rc::new(Http1::new(vec![self.address], tls.map(Rc::new)));
        let questions = Rc::new(Questions::new(&*protocol, &corpus(), &strict(), bad, &Kind::BAD));
        let (pace, limit) = (Pace::AsItGoes, requests(100));
        let load = Load { protocol, questions, in_turn: false, lanes: 2, per_connection: None, pace, limit, seed: 1 };
        load::run(vec![change(load)], false).map(|mut tallies| tallies.remove(0)).map_err(|error| error.to_string())
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
        countersign_bench::e2e::process::resident(std::process::id())
    }
}

fn serve_tls(
    mut stream: TcpStream,
    config: Arc<ServerConfig>,
    resumed: &AtomicUsize,
    answer: &dyn Fn(Option<&str>) -> u16,
) -> std::io::Result<()> {
    let mut connection = ServerConnection::new(config).unwrap();
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    if connection.handshake_kind() == Some(HandshakeKind::Resumed) {
        resumed.fetch_add(1, Ordering::Relaxed);
    }
    serve(StreamOwned::new(connection, stream), answer)
}

fn serve(mut stream: impl Read + Write, answer: &dyn Fn(Option<&str>) -> u16) -> std::io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let mut filled = 0;
        while !buffer[..filled].ends_with(b"\r\n\r\n") {
            match stream.read(&mut buffer[filled..])? {
                0 => return Ok(()),
                read => filled += read,
            }
        }
        let text = std::str::from_utf8(&buffer[..filled]).unwrap();
        let credential = text.lines().find_map(|line| line.strip_prefix("Authorization: Bearer "));
        match answer(credential) {
            HANG_UP => return Ok(()),
            status => write!(stream, "HTTP/1.1 {status} So\r\nContent-Length: 2\r\n\r\n{{}}")?,
        }
        stream.flush()?;
    }
}

/// A directory with a certificate and its key.
fn certificate() -> PathBuf {
    static MAKING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = MAKING.lock().unwrap();
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("e2e-{}", std::process::id()));
    if !directory.exists() {
        std::fs::create_dir_all(&directory).unwrap();
        let arguments = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN=localhost \
                         -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE \
                         -keyout key.pem -out certificate.pem";
        let made = Command::new("openssl").args(arguments.split_whitespace()).current_dir(&directory).output();
        assert!(made.expect("openssl is missing: apt-get install openssl").status.success());
    }
    directory
}

fn tls_config(certificate: &Path, remembers: bool) -> Arc<ServerConfig> {
    let chain = vec![CertificateDer::from_pem_file(certificate.join("certificate.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(certificate.join("key.pem")).unwrap();
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let versions = builder.with_safe_default_protocol_versions().unwrap();
    let mut config = versions.with_no_client_auth().with_single_cert(chain, key).unwrap();
    // Tickets that hold the session: a store of sessions forgets those of a slow client.
    config.ticketer = aws_lc_rs::Ticketer::new().unwrap();
    if !remembers {
        config.send_tls13_tickets = 0;
    }
    Arc::new(config)
}
