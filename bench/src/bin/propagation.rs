//! Time from a revocation at one of three servers until both others refuse the token, with
//! notifications of PostgreSQL and without; the load of idle servers on the database; and the
//! answers to stateless tokens while the database is down for a minute.
//!
//! Usage: `target/dist/propagation`, on an otherwise idle machine with two cores. The servers are on
//! the first core. Requires the programs of PostgreSQL.

use std::{
    error::Error,
    io::{self, Write as _},
    thread,
    time::{Duration, Instant},
};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use countersign_bench::{
    e2e::process::CpuTime,
    order::SplitMix64,
    own_server::{Address, ChildGuard, Connection, SIGNING, StateDirectory},
};
use countersign_tests::postgres::Postgres;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const NODES: u16 = 3;
const FIRST_PORT: u16 = 18_901;
const ROUNDS: usize = 300;
const SECRET: &str = "a secret of a client that revokes tokens";
/// Interval between two requests with a token that may be revoked.
const CHECK_INTERVAL: Duration = Duration::from_millis(1);
const CHECK_TIMEOUT: Duration = Duration::from_secs(20);
/// Time of an idle fleet, and of an outage.
const MINUTE: Duration = Duration::from_secs(60);
const OUTAGE_INTERVAL: Duration = Duration::from_millis(5);

fn main() -> Result<()> {
    let mut postgres = Postgres::start();
    let fleet = Fleet::start("notified", &postgres.url(), "")?;
    fleet.measure_revocations("notified")?;
    Fleet::measure_idle(&postgres)?;
    fleet.measure_outage(&mut postgres)?;
    drop(fleet);
    let lost = "listen_url=postgres://countersign@127.0.0.1:9/countersign\n";
    let fleet = Fleet::start("polling", &postgres.url(), lost)?;
    fleet.measure_revocations("notifications lost")
}

/// Servers that share a database.
struct Fleet {
    directories: Vec<StateDirectory>,
    _servers: Vec<ChildGuard>,
}

/// Returns the address of a server for requests.
fn address(node: u16) -> Address {
    ("127.0.0.1", FIRST_PORT + 2 * node)
}

/// Returns the address of a server for metrics and probes.
fn operations(node: u16) -> Address {
    ("127.0.0.1", FIRST_PORT + 2 * node + 1)
}

fn configuration(node: u16, url: &str, options: &str) -> String {
    let hash: String = digest(&SHA256, SECRET.as_bytes())
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let ((_, port), (_, metrics)) = (address(node), operations(node));
    format!(
        "{SIGNING}issuer=https://auth.example/\naudience=https://auth.example/\n\
         [server]\nauth=true\nbind_port={port}\n[metrics]\nbind_port={metrics}\n\
         [listen]\nthreads=1\n[api_clients]\nbench=sha256:{hash}\n\
         [database]\nconnection_timeout=2\nurl={url}\n{options}"
    )
}

impl Fleet {
    fn start(name: &str, url: &str, options: &str) -> Result<Self> {
        let (mut directories, mut servers) = (Vec::new(), Vec::new());
        for node in 0..NODES {
            let name = format!("{name}-{node}");
            let directory = StateDirectory::create(&name, &configuration(node, url, options))?;
            servers.push(directory.serve(address(node))?);
            directories.push(directory);
            wait_until(|| Ok(get(operations(node), "/ready")?.0 == 200))?;
        }
        Ok(Self { directories, _servers: servers })
    }

    /// Returns a token that differs from those with another name.
    fn token(&self, name: &str) -> Result<String> {
        let claim = format!("name={name}");
        let sign = ["token", "sign", "--client-type", "api", "--expire", "3600", "--claim", &claim];
        self.directories[0].run(&sign)
    }

    fn measure_revocations(&self, name: &str) -> Result<()> {
        let mut order = SplitMix64::new(1);
        let mut times = Vec::new();
        for round in 0..ROUNDS {
            let token = self.token(&format!("{name}-{round}"))?;
            // Moments that do not depend on the polls of the servers.
            let pause = u64::try_from(order.below(500)).unwrap_or_default();
            thread::sleep(Duration::from_millis(pause));
            times.push(revoke_and_wait(&token)?);
        }
        let (mut of_call, mut of_answer): (Vec<_>, Vec<_>) = times.into_iter().unzip();
        of_call.sort_unstable();
        of_answer.sort_unstable();
        let cell = |times: &[Duration], percent: usize| {
            format!(
                " {:.1} ms |",
                times[(times.len() * percent).div_ceil(100) - 1].as_secs_f64() * 1e3
            )
        };
        let cells = [&of_call, &of_answer]
            .map(|times| [50, 99, 100].map(|percent| cell(times, percent)).concat());
        print(&format!("| {name} |{}\n", cells.concat()))
    }

    /// Prints transactions, their CPU time and the connections of servers without requests.
    fn measure_idle(postgres: &Postgres) -> Result<()> {
        const CONNECTIONS: &str =
            "FROM pg_stat_activity WHERE datname = 'countersign' AND pid <> pg_backend_pid()";
        let count = || -> Result<f64> {
            let counters = "SELECT xact_commit FROM pg_stat_database WHERE datname = 'countersign'";
            Ok(postgres.query(counters).parse()?)
        };
        let processes = postgres.query(&format!("SELECT pid {CONNECTIONS}"));
        let processes: Vec<u32> = processes.lines().filter_map(|pid| pid.parse().ok()).collect();
        let (cpu, before) = (CpuTime::of(&processes)?, count()?);
        thread::sleep(MINUTE);
        let (used, _) = CpuTime::of(&processes)?.since(&cpu);
        let transactions = count()? - before;
        let per_node = transactions / f64::from(NODES) / MINUTE.as_secs_f64();
        #[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "nanoseconds")]
        let micros = used as f64 / 1e3 / transactions;
        print(&format!(
            "| transactions of a node each second | {per_node:.2} |\n\
             | CPU of the database for a transaction | {micros:.0} us |\n\
             | connections of {NODES} nodes | {} |\n",
            processes.len()
        ))
    }

    /// Counts the answers to a token while the database is down.
    fn measure_outage(&self, postgres: &mut Postgres) -> Result<()> {
        let token = self.token("outage")?;
        postgres.crash();
        let counts: Vec<io::Result<[usize; 2]>> = thread::scope(|scope| {
            let checks = (0..NODES).map(|node| {
                scope.spawn({
                    let token = &token;
                    move || count_answers(node, token)
                })
            });
            let checks: Vec<_> = checks.collect();
            checks.into_iter().map(|check| check.join().expect("no panic")).collect()
        });
        postgres.resume();
        let start = Instant::now();
        let token = self.token("afterwards")?;
        wait_until(|| Ok(revoke(&token)? == 200))?;
        let recovered = milliseconds(start.elapsed());
        let mut sum = [0, 0];
        for count in counts {
            let [good, all] = count?;
            sum = [sum[0] + good, sum[1] + all];
        }
        let [good, all] = sum;
        print(&format!(
            "| accepted during an outage of 60 s | {good} of {all} |\n\
             | until a revocation succeeds afterwards | {recovered} ms |\n"
        ))
    }
}

/// Returns the number of answers with 200, and of all, in a minute.
fn count_answers(node: u16, token: &str) -> io::Result<[usize; 2]> {
    let (start, mut counts) = (Instant::now(), [0, 0]);
    let mut connection = Connection::open(address(node))?;
    while start.elapsed() < MINUTE {
        let status = connection.exchange("GET /auth", "", token, "")?;
        counts = [counts[0] + usize::from(status == 200), counts[1] + 1];
        thread::sleep(OUTAGE_INTERVAL);
    }
    Ok(counts)
}

/// Revokes a token at the first server. Returns the times from the call, and from its answer, until
/// every other server refuses it.
fn revoke_and_wait(token: &str) -> Result<(Duration, Duration)> {
    let mut connections = Vec::new();
    for node in 1..NODES {
        let mut connection = Connection::open(address(node))?;
        if connection.exchange("GET /auth", "", token, "")? != 200 {
            return Err("a good token is refused".into());
        }
        connections.push(connection);
    }
    let start = Instant::now();
    thread::scope(|scope| {
        let refusals: Vec<_> = connections
            .into_iter()
            .map(|connection| scope.spawn(move || time_of_refusal(connection, token, start)))
            .collect();
        if revoke(token)? != 200 {
            return Err("the token is not revoked".into());
        }
        let answered = start.elapsed();
        let times = refusals.into_iter().map(|refusal| refusal.join().expect("no panic"));
        let times = times.collect::<io::Result<Vec<_>>>()?;
        let last = times.into_iter().max().unwrap_or_default();
        Ok((last, last.saturating_sub(answered)))
    })
}

fn time_of_refusal(
    mut connection: Connection,
    token: &str,
    start: Instant,
) -> io::Result<Duration> {
    while connection.exchange("GET /auth", "", token, "")? == 200 {
        if start.elapsed() > CHECK_TIMEOUT {
            return Err(io::Error::other("a revoked token is accepted"));
        }
        thread::sleep(CHECK_INTERVAL);
    }
    Ok(start.elapsed())
}

/// Revokes a token at the first server, and returns the status.
fn revoke(token: &str) -> io::Result<u16> {
    let credential = STANDARD.encode(format!("bench:{SECRET}"));
    let line = format!("Authorization: Basic {credential}\r\n");
    let body = format!("token={token}");
    Connection::open(address(0))?.exchange("POST /v1/revoke", &line, "", &body)
}

fn get(address: Address, path: &str) -> io::Result<(u16, String)> {
    Connection::open(address)?.exchange_body(&format!("GET {path}"), "", "", "")
}

fn wait_until(mut is_so: impl FnMut() -> io::Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !is_so()? {
        if start.elapsed() > CHECK_TIMEOUT {
            return Err("a server does not become ready".into());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1e3)
}

fn print(text: &str) -> Result<()> {
    Ok(io::stdout().write_all(text.as_bytes())?)
}
