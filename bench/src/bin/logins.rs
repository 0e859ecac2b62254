//! Cost of logins: logins per second for each hashing thread, compared with raw argon2id, and their
//! effect on the latency of `/auth`.
//!
//! Usage: `target/dist/logins`, on an otherwise idle machine with two cores. The server has one
//! thread for requests and one for passwords, both on the first core. The clients are on the
//! second.

use std::{
    error::Error,
    io,
    process::Command,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use argon2::{Algorithm, Argon2, Block, Params, Version};
use countersign_bench::{
    latency,
    machine::pin_to_core,
    own_server::{ChildGuard, Connection, SIGNING, StateDirectory},
    paired::report,
};

const ROUNDS: usize = 9;
const PHASE: Duration = Duration::from_secs(2);
/// Latency rounds are many and short: one moment in which the host suspends the machine delays
/// every request due in it, and becomes the 99th percentile of its phase.
const LATENCY_ROUNDS: usize = 31;
const LATENCY_PHASE: Duration = Duration::from_millis(500);
/// Requests for `/auth` per second.
const AUTH_REQUESTS: u32 = 2_000;
/// Logins started per second.
const LOGINS: u32 = 50;
/// Connections of the logins: each has one login per phase, so that none waits for another.
const CONNECTIONS: u32 = 25;

const CONFIGURATION: &str = "
[server]
auth=true
auth_method=database
bind_port=18881
[metrics]
bind_port=18882
[listen]
threads=1
[login]
hashing_threads=1
failures_per_user=off
attempts_per_source=off
";
const ADDRESS: (&str, u16) = ("127.0.0.1", 18881);
const CREDENTIALS: &str = r#"{"username":"bob","password":"correct horse"}"#;

fn main() -> Result<(), Box<dyn Error>> {
    let state = StateDirectory::create("logins", &[CONFIGURATION, SIGNING].concat())?;
    let _server = state.serve(ADDRESS)?;
    let token = state.run(&["token", "bootstrap"])?;
    pin_to_core(1);
    let mut connection = Connection::open(ADDRESS)?;
    assert_eq!(connection.exchange("POST /api/v2/user", "", &token, CREDENTIALS)?, 200, "the user");
    throughput()?;
    beside_logins(&token)
}

/// Measures logins per second, and hashes per second.
fn throughput() -> io::Result<()> {
    let (mut ratios, mut rates) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let raw = thread::spawn(|| {
            pin_to_core(0);
            hashes()
        });
        let raw = raw.join().map_err(|_| io::Error::other("argon2 failed"))?;
        let logins = logins()?;
        ratios.push(logins / raw);
        rates.push(logins);
    }
    rates.sort_by(f64::total_cmp);
    report("logins / raw argon2id", ratios, &format!("; {:.1} logins a second", rates[ROUNDS / 2]));
    Ok(())
}

/// Returns hashes per second, computed one after the other.
fn hashes() -> f64 {
    let params = Params::new(64 * 1024, 2, 1, Some(32)).unwrap_or_default();
    let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut blocks = vec![Block::default(); argon.params().block_count()];
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < PHASE {
        let hashed = argon.hash_password_into_with_memory(
            b"correct horse",
            &[7; 16],
            &mut [0; 32],
            &mut blocks,
        );
        assert!(hashed.is_ok(), "argon2 failed");
        count += 1;
    }
    f64::from(count) / start.elapsed().as_secs_f64()
}

/// Returns logins per second, with one in progress and one waiting at all times.
fn logins() -> io::Result<f64> {
    let (start, count) = (Instant::now(), AtomicUsize::new(0));
    thread::scope(|scope| {
        let client = || -> io::Result<()> {
            let mut connection = Connection::open(ADDRESS)?;
            while start.elapsed() < PHASE {
                assert_eq!(
                    connection.exchange("POST /api/v2/login", "", "", CREDENTIALS)?,
                    200,
                    "a login"
                );
                count.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        };
        let clients = [scope.spawn(client), scope.spawn(client)];
        clients
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| io::Error::other("a login failed"))?)
    })?;
    let count = u32::try_from(count.into_inner()).unwrap_or(u32::MAX);
    Ok(f64::from(count) / start.elapsed().as_secs_f64())
}

/// Measures the latency of `/auth` while users log in, and without logins: once on an otherwise
/// idle core, and once while a low-priority loop uses the rest of the core. A shared machine is
/// suspended more often if all of its cores are busy, whatever they do.
fn beside_logins(token: &str) -> Result<(), Box<dyn Error>> {
    let [mut idle, mut busy, mut beside] = [const { Vec::new() }; 3];
    for _ in 0..LATENCY_ROUNDS {
        idle.push(auth_p99(token)?);
        let busy_loop = ChildGuard::new(idle_priority_loop())?;
        busy.push(auth_p99(token)?);
        drop(busy_loop);
        beside.push(with_logins(|| auth_p99(token))?);
    }
    let ratios =
        |others: &[f64]| beside.iter().zip(others).map(|(one, other)| one / other).collect();
    let details = |others: &[f64]| format!("; {} / {}", quantiles(&beside), quantiles(others));
    report("p99 of /auth beside logins / beside a loop", ratios(&busy), &details(&busy));
    report("p99 of /auth beside logins / without", ratios(&idle), &details(&idle));
    Ok(())
}

fn quantiles(seconds: &[f64]) -> String {
    let mut seconds = seconds.to_vec();
    seconds.sort_by(f64::total_cmp);
    let [low, median, high] = [1, 2, 3].map(|quarter| seconds[LATENCY_ROUNDS * quarter / 4] * 1e6);
    format!("{median:.0} us ({low:.0} to {high:.0})")
}

/// Returns a command that keeps the server's core busy at idle priority.
fn idle_priority_loop() -> Command {
    let mut command = Command::new("chrt");
    command.args(["--idle", "0", "taskset", "-c", "0", "sh", "-c", "while :; do :; done"]);
    command
}

fn with_logins<T>(work: impl FnOnce() -> T) -> T {
    let stop = &AtomicBool::new(false);
    thread::scope(|scope| {
        let users: Vec<_> = (0..CONNECTIONS)
            .map(|number| scope.spawn(move || keep_logging_in(number, stop)))
            .collect();
        let done = work();
        stop.store(true, Ordering::Relaxed);
        users.iter().for_each(|user| user.thread().unpark());
        done
    })
}

/// Sends one connection's share of the logins and ignores the answers: the server rejects more
/// logins than it can hash.
fn keep_logging_in(number: u32, stop: &AtomicBool) {
    let every = Duration::from_secs(1) / LOGINS * CONNECTIONS;
    let mut due = Instant::now() + every / CONNECTIONS * number;
    let Ok(mut connection) = Connection::open(ADDRESS) else { return };
    while !stop.load(Ordering::Relaxed) {
        if let Some(wait) = due.checked_duration_since(Instant::now()) {
            // Parked instead of polling the clock: the `/auth` client is on this core too.
            thread::park_timeout(wait);
            continue;
        }
        due += every;
        if connection.exchange("POST /api/v2/login", "", "", CREDENTIALS).is_err() {
            return;
        }
    }
}

/// Returns the p99 of `/auth` in seconds.
fn auth_p99(token: &str) -> io::Result<f64> {
    Ok(latency::p99(latency::of_auth(ADDRESS, token, AUTH_REQUESTS, LATENCY_PHASE)?))
}
