//! Cost of open consoles: the CPU time of the live overview, and its effect on the latency of
//! `/auth`.
//!
//! Usage: `target/dist/console`, on an otherwise idle machine with two cores. The server has one
//! thread for requests, on the first core. The clients are on the second. A console polls as its
//! page does, over a connection of its own.

use std::{
    error::Error,
    io,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use countersign_bench::{
    e2e::process::CpuTime,
    latency,
    machine::pin_to_core,
    own_server::{Address, Connection, HttpAnswer, SIGNING, StateDirectory},
    paired::report,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const CONFIGURATION: &str = "
[server]
auth=true
bind_port=18885
[metrics]
bind_port=18886
[listen]
threads=1
[login]
attempts_per_source=off
";
const ADDRESS: Address = ("127.0.0.1", 18885);
const USER: &str = r#"{"username":"ann","password":"correct horse"}"#;
const RIGHTS: &str = r#"{"username":"ann","is_admin":true}"#;
const SIGN_IN: &str = "username=ann&password=correct+horse";
/// Header lines of a form on a page of the console.
const FORM: &str =
    "Content-Type: application/x-www-form-urlencoded\r\nSec-Fetch-Site: same-origin\r\n";

const CONSOLES: usize = 20;
/// Interval at which the page polls, as in its script.
const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// The polls of all consoles are spread over the interval.
const POLL_DISTANCE: Duration = Duration::from_millis(100);

const CPU_ROUNDS: usize = 9;
/// Five polls of each console.
const CPU_PHASE: Duration = Duration::from_secs(10);
/// Latency rounds are many and short, as one in which the host suspends the machine does not count.
const LATENCY_ROUNDS: usize = 21;
/// One poll of each console.
const LATENCY_PHASE: Duration = Duration::from_secs(2);
/// Requests for `/auth` per second.
const AUTH_REQUESTS: u32 = 2_000;

fn main() -> Result<()> {
    let state = StateDirectory::create("console", &[CONFIGURATION, SIGNING].concat())?;
    let server = state.serve(ADDRESS)?;
    let token = state.run(&["token", "bootstrap"])?;
    pin_to_core(1);
    let mut api = Connection::open(ADDRESS)?;
    for (call, body) in [("POST /api/v2/user", USER), ("PATCH /api/v2/is_admin", RIGHTS)] {
        assert_eq!(api.exchange(call, "", &token, body)?, 200, "{call}");
    }
    drop(api);
    let consoles = (0..CONSOLES).map(|_| OpenConsole::open()).collect::<Result<Vec<_>>>()?;
    let mut consoles = OpenConsoles(consoles);
    cpu(&mut consoles, server.id())?;
    beside_consoles(&mut consoles, &token)
}

/// A browser that shows the overview.
struct OpenConsole {
    connection: Connection,
    /// The header line with its cookie.
    cookie: String,
}

impl OpenConsole {
    /// Signs in, and opens the overview.
    fn open() -> Result<Self> {
        let mut connection = Connection::open(ADDRESS)?;
        let answer = connection.request("POST /console/sign-in", FORM, "", SIGN_IN)?;
        let cookie = answer.field("set-cookie").and_then(|line| line.split(';').next());
        let cookie = cookie.ok_or_else(|| format!("not signed in: {}", answer.status))?;
        let mut console = Self { connection, cookie: format!("Cookie: {cookie}\r\n") };
        let page = console.get("/console")?.body;
        if !page.contains("data-live-from=\"/console/overview/live\"") {
            return Err("the page does not poll".into());
        }
        Ok(console)
    }

    fn get(&mut self, path: &str) -> io::Result<HttpAnswer> {
        let answer = self.connection.request(&format!("GET {path}"), &self.cookie, "", "")?;
        if answer.status == 200 {
            return Ok(answer);
        }
        Err(io::Error::other(format!("{path}: {}", answer.status)))
    }

    fn poll(&mut self) -> io::Result<()> {
        let figures = self.get("/console/overview/live")?.body;
        if figures.contains("\"requests\"") {
            return Ok(());
        }
        Err(io::Error::other(format!("not the figures: {figures}")))
    }
}

/// All open consoles.
struct OpenConsoles(Vec<OpenConsole>);

impl OpenConsoles {
    /// Polls until `stop` is set. Returns the number of polls.
    fn poll_until(&mut self, stop: &AtomicBool) -> io::Result<u32> {
        let (start, mut polls) = (Instant::now(), 0);
        let count = self.0.len();
        for turn in 0.. {
            let due = start + POLL_DISTANCE * turn;
            while let Some(wait) = due.checked_duration_since(Instant::now()) {
                if stop.load(Ordering::Relaxed) {
                    return Ok(polls);
                }
                // Parked instead of polling the clock: the `/auth` client is on this core too.
                thread::park_timeout(wait);
            }
            let index = usize::try_from(turn).unwrap_or_default() % count;
            self.0[index].poll()?;
            polls += 1;
        }
        Ok(polls)
    }

    /// Does some work while all consoles poll.
    fn beside<T>(&mut self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let stop = &AtomicBool::new(false);
        thread::scope(|scope| {
            let polling = scope.spawn(|| self.poll_until(stop));
            let done = work();
            stop.store(true, Ordering::Relaxed);
            polling.thread().unpark();
            let polls = polling.join().map_err(|_| "a console panicked")??;
            assert!(polls > 0, "no console polled");
            done
        })
    }
}

/// Measures the CPU time of the server with all consoles open, and without, in percent of a core
/// for each console.
fn cpu(consoles: &mut OpenConsoles, server: u32) -> Result<()> {
    assert_eq!(POLL_DISTANCE * 20, POLL_INTERVAL, "each of {CONSOLES} consoles polls in time");
    let (mut shares, mut idle_shares) = (Vec::new(), Vec::new());
    for _ in 0..CPU_ROUNDS {
        let idle = core_share(server)?;
        let open = consoles.beside(|| core_share(server))?;
        shares.push((open - idle) * 100.0 / f64::from(u32::try_from(CONSOLES)?));
        idle_shares.push(idle * 100.0);
    }
    idle_shares.sort_by(f64::total_cmp);
    let detail = format!("; {:.3} % without consoles", idle_shares[CPU_ROUNDS / 2]);
    report("% of a core for each open console", shares, &detail);
    Ok(())
}

/// Returns the part of a core that the server uses in a [`CPU_PHASE`].
fn core_share(server: u32) -> Result<f64> {
    let (before, start) = (CpuTime::of(&[server])?, Instant::now());
    thread::sleep(CPU_PHASE);
    let (used, _) = CpuTime::of(&[server])?.since(&before);
    Ok(Duration::from_nanos(used).as_secs_f64() / start.elapsed().as_secs_f64())
}

/// Measures the latency of `/auth` with all consoles open, and without, by turns.
fn beside_consoles(consoles: &mut OpenConsoles, token: &str) -> Result<()> {
    let (mut ratios, mut with, mut without) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..LATENCY_ROUNDS {
        let [mut alone, mut beside] = [0.0; 2];
        for turn in 0..2 {
            // The order alternates, since the machine drifts.
            if (round + turn) % 2 == 0 {
                alone = auth_p99(token)?;
            } else {
                beside = consoles.beside(|| auth_p99(token))?;
            }
        }
        ratios.push(beside / alone);
        with.push(beside);
        without.push(alone);
    }
    let detail = format!("; {} / {}", median(with), median(without));
    report("p99 of /auth beside 20 consoles / without", ratios, &detail);
    Ok(())
}

fn median(mut seconds: Vec<f64>) -> String {
    seconds.sort_by(f64::total_cmp);
    format!("{:.0} us", seconds[seconds.len() / 2] * 1e6)
}

/// Returns the p99 of `/auth` in seconds.
fn auth_p99(token: &str) -> Result<f64> {
    Ok(latency::p99(latency::of_auth(ADDRESS, token, AUTH_REQUESTS, LATENCY_PHASE)?))
}
