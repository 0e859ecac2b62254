//! What logins cost: how many there are in a second for each thread that hashes, beside
//! what argon2id allows by itself, and how much of them those feel who ask `/auth`.
//!
//! Usage: `target/release/logins`, on an otherwise idle machine with two cores. The
//! server has one thread for requests and one for passwords, both on the first core; who
//! asks is on the second.

use std::{
    error::Error,
    fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use argon2::{Algorithm, Argon2, Block, Params, Version};
use countersign_bench::{machine::stay_on, paired::report};

const ROUNDS: usize = 9;
const PHASE: Duration = Duration::from_secs(2);
/// Of latencies: many and short, since one moment in which the machine is away delays all
/// that was due meanwhile, and is the 99th percentile of its phase.
const LATENCY_ROUNDS: usize = 31;
const LATENCY_PHASE: Duration = Duration::from_millis(500);
/// How often `/auth` is asked in a second.
const QUESTIONS: u32 = 2_000;
/// How many logins are begun in a second.
const LOGINS: u32 = 50;
/// Connections that they come over, so that none waits for another: one each in a phase.
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
[auth_jwt_default]
algorithm=HS256
sign=true
client_types=agent,compiler,api
key=rID3kG4OwGpajIsxnGDhat4UFcMkyFZQc1y3oKQTPRs
";
const ADDRESS: (&str, u16) = ("127.0.0.1", 18881);
const CREDENTIALS: &str = r#"{"username":"bob","password":"correct horse"}"#;

fn main() -> Result<(), Box<dyn Error>> {
    let programs =
        std::env::current_exe()?.parent().map(Path::to_owned).ok_or("no directory of programs")?;
    let place = Place::make()?;
    let _server = Running::server(&programs, &place)?;
    let token = place.run(&programs, &["token", "bootstrap"])?;
    stay_on(1);
    let mut connection = Connection::open()?;
    assert_eq!(connection.ask("POST /api/v2/user", &token, CREDENTIALS)?, 200, "the user");
    throughput()?;
    latency(&token)
}

/// Logins in a second, beside hashes in a second.
fn throughput() -> io::Result<()> {
    let (mut ratios, mut rates) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let raw = thread::spawn(|| {
            stay_on(0);
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

/// As many as there are, one after the other.
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

/// Always one in work and one that waits.
fn logins() -> io::Result<f64> {
    let (start, count) = (Instant::now(), AtomicUsize::new(0));
    thread::scope(|scope| {
        let ask = || -> io::Result<()> {
            let mut connection = Connection::open()?;
            while start.elapsed() < PHASE {
                assert_eq!(connection.ask("POST /api/v2/login", "", CREDENTIALS)?, 200, "a login");
                count.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        };
        let asking = [scope.spawn(ask), scope.spawn(ask)];
        asking
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| io::Error::other("a login failed"))?)
    })?;
    let count = u32::try_from(count.into_inner()).unwrap_or(u32::MAX);
    Ok(f64::from(count) / start.elapsed().as_secs_f64())
}

/// The latency of `/auth` while users log in, beside that while nobody does: while the
/// core is idle otherwise, and while a loop of no importance has the rest of it. A machine
/// that is shared is away more often where all of its cores are busy, whatever they do.
fn latency(token: &str) -> Result<(), Box<dyn Error>> {
    let [mut idle, mut busy, mut beside] = [const { Vec::new() }; 3];
    for _ in 0..LATENCY_ROUNDS {
        idle.push(percentile(questions(token)?));
        let occupied = Running(occupy().spawn()?);
        busy.push(percentile(questions(token)?));
        drop(occupied);
        beside.push(percentile(while_users_log_in(|| questions(token))?));
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

/// Keeps the server's core busy with what gives way to everything.
fn occupy() -> Command {
    let mut command = Command::new("chrt");
    command.args(["--idle", "0", "taskset", "-c", "0", "sh", "-c", "while :; do :; done"]);
    command
}

fn while_users_log_in<T>(work: impl FnOnce() -> T) -> T {
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

/// Its share of all logins, whatever is answered: more than can be hashed are refused.
fn keep_logging_in(number: u32, stop: &AtomicBool) {
    let every = Duration::from_secs(1) / LOGINS * CONNECTIONS;
    let mut due = Instant::now() + every / CONNECTIONS * number;
    let Ok(mut connection) = Connection::open() else { return };
    while !stop.load(Ordering::Relaxed) {
        if let Some(wait) = due.checked_duration_since(Instant::now()) {
            // Without a look at the clock in between: who asks `/auth` is on this core too.
            thread::park_timeout(wait);
            continue;
        }
        due += every;
        if connection.ask("POST /api/v2/login", "", CREDENTIALS).is_err() {
            return;
        }
    }
}

/// How long each answer took, in seconds, from when it was due to be asked for.
fn questions(token: &str) -> io::Result<Vec<f64>> {
    let mut connection = Connection::open()?;
    let (start, every) = (Instant::now(), Duration::from_secs(1) / QUESTIONS);
    let mut latencies = Vec::new();
    for number in 0.. {
        let due = start + every * number;
        if due >= start + LATENCY_PHASE {
            break;
        }
        while Instant::now() < due {
            std::hint::spin_loop();
        }
        assert_eq!(connection.ask("GET /auth", token, "")?, 200, "a question");
        latencies.push(due.elapsed().as_secs_f64());
    }
    Ok(latencies)
}

fn percentile(mut latencies: Vec<f64>) -> f64 {
    latencies.sort_by(f64::total_cmp);
    latencies[latencies.len() * 99 / 100]
}

/// A connection of HTTP/1.1.
struct Connection(BufReader<TcpStream>);

impl Connection {
    fn open() -> io::Result<Self> {
        let stream = TcpStream::connect(ADDRESS)?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// The status of the answer.
    fn ask(&mut self, what: &str, token: &str, body: &str) -> io::Result<u16> {
        let credential = if token.is_empty() {
            String::new()
        } else {
            format!("Authorization: Bearer {token}\r\n")
        };
        let length = body.len();
        let request = format!(
            "{what} HTTP/1.1\r\nHost: bench\r\n{credential}Content-Length: {length}\r\n\r\n{body}"
        );
        self.0.get_mut().write_all(request.as_bytes())?;
        let (mut line, mut status, mut length) = (String::new(), 0, 0);
        while line != "\r\n" {
            line.clear();
            self.0.read_line(&mut line)?;
            if let Some(code) = line.strip_prefix("HTTP/1.1 ") {
                status = code.split(' ').next().and_then(|code| code.parse().ok()).unwrap_or(0);
            } else if let Some(text) = line.strip_prefix("content-length: ") {
                length = text.trim().parse().unwrap_or(0);
            } else if line.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        io::copy(&mut self.0.by_ref().take(length), &mut io::sink())?;
        Ok(status)
    }
}

/// A directory of the server's own, gone in the end.
struct Place(PathBuf);

impl Place {
    fn make() -> io::Result<Self> {
        let directory =
            std::env::temp_dir().join(format!("countersign-logins-{}", std::process::id()));
        fs::create_dir(&directory)?;
        fs::write(directory.join("c.cfg"), CONFIGURATION)?;
        Ok(Self(directory))
    }

    fn command(&self, programs: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new("taskset");
        command.args(["-c", "0"]).arg(programs.join("countersign")).args(arguments);
        command.arg("--config").arg(self.0.join("c.cfg")).arg("--state-dir").arg(&self.0);
        command
    }

    fn run(&self, programs: &Path, arguments: &[&str]) -> Result<String, Box<dyn Error>> {
        Ok(String::from_utf8(self.command(programs, arguments).output()?.stdout)?.trim().to_owned())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _left_behind = fs::remove_dir_all(&self.0);
    }
}

/// A program that ends with this.
struct Running(Child);

impl Running {
    fn server(programs: &Path, place: &Place) -> io::Result<Self> {
        let quiet = || Stdio::null();
        let server =
            Self(place.command(programs, &["serve"]).stdout(quiet()).stderr(quiet()).spawn()?);
        for _ in 0..200 {
            if TcpStream::connect(ADDRESS).is_ok() {
                return Ok(server);
            }
            thread::sleep(Duration::from_millis(50));
        }
        Err(io::Error::other("the server does not start"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}
