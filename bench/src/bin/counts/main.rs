//! Instructions of one call, counted by valgrind: the same on a busy machine as on
//! an idle one, so that continuous integration can judge them.
//!
//! Usage: `target/release/counts` after `cargo build --release -p countersign-bench
//! --no-default-features --bin counts`. It makes keys and tokens, runs itself under
//! valgrind once for each scenario, and fails past a limit of `budget.toml`.

mod http2;

use std::{
    error::Error,
    hint::black_box,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::Arc,
};

use aws_lc_rs::signature::KeyPair as _;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_bench::{
    AUDIENCE, ISSUER, Keys, SECRET, accepts, budget, cache_of, cached_verifier, hundred_keys, tenant, verifier,
};
use countersign_engine::{
    Algorithm, Issuer, KeySet, Verifier,
    jwks::{Origin, Policy},
};
use countersign_server::{
    admission::Peer,
    app::App,
    config::{Config, Format, Raw},
    listen::{
        exchange::Link,
        http1::{answer::Outgoing, pipeline::take},
    },
    revocation::Desk,
    worker::Local,
};
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How many calls a count is the mean of, each with another token.
const CALLS: usize = 32;

/// The name of what is counted, and how it is made ready.
type Scenario = (&'static str, fn(&Given) -> Work<'_>);

const SCENARIOS: [Scenario; 14] = [
    ("parse", parse),
    ("cold HS256", |given| cold(given, Algorithm::Hs256)),
    ("cold RS256", |given| cold(given, Algorithm::Rs256)),
    ("cold ES256", |given| cold(given, Algorithm::Es256)),
    ("cold EdDSA", |given| cold(given, Algorithm::EdDsa)),
    ("cached RS256, 1 token", cached),
    ("refuse what is not base64url", malformed),
    ("refuse a bad HS256 signature", badly_signed),
    ("/auth, cached RS256", |given| answer(given, "200 OK", |token| format!("Bearer {token}"))),
    ("/auth, a token that is none", |given| answer(given, "401 Unauthorized", |_| "Bearer a.b.c".into())),
    ("/auth without a token", |given| answer(given, "401 Unauthorized", |_| "Basic Ym9iOnB3".into())),
    ("16 x /auth over HTTP/2, cached RS256", together),
    ("replace 100 keys", replace),
    ("read a set of 100 keys", read),
];

/// One call: `true` when it did what it should. It is told the number of the call.
type Work<'g> = Box<dyn FnMut(usize) -> bool + 'g>;

fn main() -> Result<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next(), arguments.next()) {
        (Some(scenario), Some(directory)) => run(&scenario, Path::new(&directory)).map(|()| ExitCode::SUCCESS),
        _ => count_all(),
    }
}

/// Counts every scenario; the exit code says whether all are within their limits.
fn count_all() -> Result<ExitCode> {
    let directory = std::env::temp_dir().join(format!("countersign-counts-{}", std::process::id()));
    Given::make(&directory)?;
    let counted: Result<Vec<_>> = SCENARIOS.iter().map(|(name, _)| count(name, &directory)).collect();
    std::fs::remove_dir_all(&directory)?;
    let mut within = true;
    for ((name, _), instructions) in SCENARIOS.iter().zip(counted?) {
        within &= judge(name, instructions);
    }
    Ok(if within { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[expect(clippy::print_stderr, reason = "what to do about a count")]
fn judge(name: &str, instructions: f64) -> bool {
    let name = format!("{}{name}", budget::INSTRUCTIONS);
    budget::print(&name, instructions, &format!("mean of {CALLS} calls"));
    if !cfg!(target_arch = "x86_64") {
        eprintln!("{name}: not judged, the limits are for x86-64");
        return true;
    }
    match budget::Budget::read().bound(&name) {
        None => eprintln!("{name}: budget.toml has no limit for it"),
        Some(bound) if !bound.allows(instructions) => eprintln!("{name}: over the budget, {bound}"),
        Some(bound) => {
            if bound.is_loose(instructions) {
                eprintln!("{name}: far below the budget, {bound}: tighten it in bench/budget.toml");
            }
            return true;
        }
    }
    false
}

/// The instructions of one call, by a process of its own under valgrind.
fn count(scenario: &str, directory: &Path) -> Result<f64> {
    let mut command = Command::new("valgrind");
    // Only what is below `measured` counts: neither reading the keys nor warming up.
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*counts*measured*"]);
    command.arg(std::env::current_exe()?).arg(scenario).arg(directory);
    let output = command.output().map_err(|error| format!("valgrind: {error}; on Debian: apt-get install valgrind"))?;
    let report = String::from_utf8_lossy(&output.stderr);
    let collected = report.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse::<f64>().ok());
    match collected {
        #[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "a small constant")]
        Some(instructions) if output.status.success() && instructions > 0.0 => Ok((instructions / CALLS as f64).round()),
        _ => Err(format!("{scenario}: nothing was counted:\n{report}").into()),
    }
}

/// The other side: does one scenario, warm, and once more to be counted.
fn run(scenario: &str, directory: &Path) -> Result<()> {
    let given = Given { directory: directory.to_owned() };
    let (_, make) = SCENARIOS.iter().find(|(name, _)| *name == scenario).ok_or("no such scenario")?;
    let mut work = make(&given);
    let warm = (0..CALLS).filter(|call| work(*call)).count();
    let right = measured(&mut *work);
    if warm == CALLS && right == CALLS { Ok(()) } else { Err(format!("{right} of {CALLS} calls did what they should").into()) }
}

/// What valgrind knows by its name.
#[inline(never)]
fn measured(work: &mut dyn FnMut(usize) -> bool) -> usize {
    (0..CALLS).filter(|call| work(black_box(*call))).count()
}

fn parse(given: &Given) -> Work<'_> {
    let (verifier, tokens) = (given.verifier(Algorithm::Rs256), given.tokens(Algorithm::Rs256));
    Box::new(move |call| verifier.claimed_issuer(tokens[call].as_bytes()).is_some())
}

fn cold(given: &Given, algorithm: Algorithm) -> Work<'_> {
    let (verifier, tokens) = (given.verifier(algorithm), given.tokens(algorithm));
    Box::new(move |call| accepts(&verifier, tokens[call].as_bytes()))
}

fn cached(given: &Given) -> Work<'_> {
    let verifier = cached_verifier(Algorithm::Rs256, given.keys(Algorithm::Rs256), cache_of(1_000));
    let tokens = given.tokens(Algorithm::Rs256);
    Box::new(move |_| accepts(&verifier, tokens[0].as_bytes()))
}

/// A character of the payload is from the other alphabet.
fn malformed(given: &Given) -> Work<'_> {
    let (verifier, mut tokens) = (given.verifier(Algorithm::Rs256), given.tokens(Algorithm::Rs256));
    tokens.iter_mut().for_each(|token| token.replace_range(400..401, "+"));
    Box::new(move |call| !accepts(&verifier, tokens[call].as_bytes()))
}

/// Every token has the signature of the one before.
fn badly_signed(given: &Given) -> Work<'_> {
    let (verifier, tokens) = (given.verifier(Algorithm::Hs256), given.tokens(Algorithm::Hs256));
    let parts: Vec<_> = tokens.iter().map(|token| token.rsplit_once('.').unwrap_or_default()).collect();
    let others = parts.iter().cycle().skip(1);
    let forged: Vec<_> = parts.iter().zip(others).map(|((input, _), (_, other))| format!("{input}.{other}")).collect();
    Box::new(move |call| !accepts(&verifier, forged[call].as_bytes()))
}

/// A request as a proxy makes it, from its bytes to those of the answer.
fn answer<'g>(given: &'g Given, expected: &'static str, authorization: fn(&str) -> String) -> Work<'g> {
    let request = |token: &String| {
        let lines = "Host: countersign\r\nX-Original-Method: GET\r\nX-Original-URI: /page?x=1\r\nX-Forwarded-For: 192.0.2.7\r\n\
                     User-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept: */*\r\nAccept-Encoding: gzip\r\n";
        format!("GET /auth HTTP/1.1\r\n{lines}Authorization: {}\r\n\r\n", authorization(token)).into_bytes()
    };
    let requests: Vec<_> = given.tokens(Algorithm::Rs256).iter().map(request).collect();
    let local = Local::new(given.app());
    Box::new(move |call| {
        let peer = Peer { gate: &local.gate, address: Ipv4Addr::LOCALHOST.into(), listener: 0, certificate: None };
        let mut answers = Outgoing(Vec::with_capacity(1024));
        let taken = take(Link { local: &local, peer }, &requests[call], 0, &mut answers);
        taken.bytes == requests[call].len() && taken.step.is_none() && answers.0[9..].starts_with(expected.as_bytes())
    })
}

/// Requests of HTTP/2 that come together, as from a proxy.
fn together(given: &Given) -> Work<'_> {
    const AT_A_TIME: usize = 16;
    let heads = |is_first| {
        let tokens = given.tokens(Algorithm::Rs256);
        tokens.iter().map(|token| http2::head(&format!("Bearer {token}"), is_first)).collect::<Vec<_>>()
    };
    let (first, heads) = (heads(true), heads(false));
    let mut connection = http2::Connection::new(given.app()).expect("a connection");
    // What is remembered of the head is, and every token is known.
    let mut known = connection.ask(&[&first[0]]) == 1;
    known &= heads.iter().all(|head| connection.ask(&[head]) == 1);
    Box::new(move |call| {
        let heads: Vec<_> = (0..AT_A_TIME).map(|nth| &*heads[(call + nth) % CALLS]).collect();
        known && connection.ask(&heads) == AT_A_TIME
    })
}

fn replace(given: &Given) -> Work<'_> {
    let (sets, issuer) = (hundred_keys().map(Arc::new), tenant(0));
    let verifier = given.verifier(Algorithm::Hs256);
    Box::new(move |call| {
        verifier.replace_keys(&issuer, &sets[call % 2]);
        let snapshot = verifier.snapshot();
        snapshot.issuer(&issuer).and_then(Issuer::keys).is_some_and(|keys| Arc::ptr_eq(keys, &sets[call % 2]))
    })
}

fn read(_: &Given) -> Work<'_> {
    let key = |number: u8| json!({ "kty": "oct", "kid": format!("key-{number}"), "alg": "HS256", "k": encode(&[number; 32]) });
    let set = json!({ "keys": (1..=100).map(key).collect::<Vec<_>>() }).to_string();
    Box::new(move |_| KeySet::from_jwks(set.as_bytes(), POLICY).is_ok_and(|(keys, _)| black_box(keys).len() == 100))
}

const POLICY: Policy = Policy { origin: Origin::Static, algorithms: None };

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Keys and tokens in files: making an RSA key takes valgrind minutes.
struct Given {
    directory: PathBuf,
}

impl Given {
    fn make(directory: &Path) -> Result<()> {
        std::fs::create_dir_all(directory)?;
        let keys = Keys::generate();
        for algorithm in [Algorithm::Hs256, Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa] {
            let tokens: Vec<_> = (0..CALLS).map(|index| keys.token(algorithm, index)).collect();
            std::fs::write(directory.join(algorithm.name()), tokens.join("\n"))?;
            std::fs::write(directory.join(format!("{algorithm}.json")), jwks(&keys, algorithm))?;
        }
        Ok(())
    }

    fn keys(&self, algorithm: Algorithm) -> KeySet {
        let jwks = std::fs::read(self.directory.join(format!("{algorithm}.json"))).expect("a set of keys");
        KeySet::from_jwks(&jwks, POLICY).expect("a set of keys").0
    }

    /// A server that verifies RS256 tokens.
    fn app(&self) -> Arc<App> {
        let jwks = std::fs::read_to_string(self.directory.join("RS256.json")).expect("a set of keys");
        let text = format!(
            "[auth_jwt_signing]\nalgorithm=HS256\nsign=true\nclient_types=api\nkey={}\n\
             [auth_jwt_bench]\nalgorithms=RS256\nclient_types=api\nissuer={ISSUER}\naudience={AUDIENCE}\nkey={jwks}\n",
            encode(&SECRET)
        );
        let (mut raw, mut problems) = (Raw::default(), Vec::new());
        raw.add("bench", &text, Format::Ini, &mut problems);
        let config = Config::from_raw(raw).unwrap_or_else(|problems| panic!("{problems}"));
        let desk = Desk::open(Err("nothing is revoked".into()), 0, None).expect("a desk");
        App::new(config, 1, desk).unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn verifier(&self, algorithm: Algorithm) -> Verifier {
        verifier(algorithm, self.keys(algorithm))
    }

    fn tokens(&self, algorithm: Algorithm) -> Vec<String> {
        let tokens = std::fs::read_to_string(self.directory.join(algorithm.name())).expect("tokens");
        tokens.lines().map(str::to_owned).collect()
    }
}

fn jwks(keys: &Keys, algorithm: Algorithm) -> String {
    let rsa = keys.rsa.public_key();
    let (n, e) = (rsa.modulus().big_endian_without_leading_zero(), rsa.exponent().big_endian_without_leading_zero());
    let (x, y) = keys.ecdsa.public_key().as_ref()[1..].split_at(32);
    let mut key = match algorithm {
        Algorithm::Rs256 => json!({ "kty": "RSA", "n": encode(n), "e": encode(e) }),
        Algorithm::Es256 => json!({ "kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y) }),
        Algorithm::EdDsa => json!({ "kty": "OKP", "crv": "Ed25519", "x": encode(keys.ed25519.public_key().as_ref()) }),
        _ => json!({ "kty": "oct", "k": encode(&SECRET) }),
    };
    key["kid"] = "bench".into();
    key["alg"] = algorithm.name().into();
    json!({ "keys": [key] }).to_string()
}
