//! CPU time per request of `/auth` over HTTP/1.1 keep-alive. A bare hyper handler under the same
//! load, and an in-process verification of the same tokens, take turns with it.
//!
//! Usage: `taskset -c 1 target/dist/http1 [ALG] [ROUNDS]`, after `cargo build --profile dist
//! --workspace`. The servers run on core 0, and so does the verification, in a separate process
//! (`http1 verify ALG`). Core 1 is busy all the while, since two virtual cores may be one physical
//! core: here an RSA verification takes 16.7 us beside an idle core and 20 to 25 us beside a busy
//! one. Every answer is checked. The result is the last line: our cost divided by that of the bare
//! handler and the verification together.

use std::{
    error::Error,
    fmt,
    io::{BufRead as _, BufReader, Read as _},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use countersign_bench::budget;
use countersign_engine::{
    Algorithm, KeySet,
    jwks::{Origin, Policy},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::LocalSet,
};

const CONNECTIONS: usize = 64;
const REQUESTS: usize = 1_500;
const TOKENS: usize = 200;
/// Long compared with the kernel's resolution of a hundredth of a second.
const VERIFYING_MICROSECONDS: f64 = 400_000.0;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[expect(clippy::print_stdout, reason = "the report")]
fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if(|word| word == "verify").is_some() {
        println!("{}", verify_corpus(&arguments.next().ok_or("usage: http1 verify ALG")?)?);
        return Ok(());
    }
    let algorithm = arguments.next().unwrap_or_else(|| "RS256".into());
    let rounds: usize = arguments.next().map_or(Ok(9), |text| text.parse())?;
    let programs = std::env::current_exe()?.parent().ok_or("no directory")?.to_owned();
    let requests = corpus(&programs, &algorithm)?;
    let bare =
        Server::start(Command::new("taskset").args(["-c", "0"]).arg(programs.join("bare")), "")?;
    let config = corpus_directory().join("bench.cfg");
    let ours = Server::start(
        Command::new("taskset")
            .args(["-c", "0"])
            .arg(programs.join("countersign"))
            .args(["serve", "--threads", "1", "-c"])
            .arg(config),
        "requests",
    )?;
    let mut costs = Vec::new();
    for round in 0..rounds {
        let cost = CpuCost {
            bare: bare.load(&requests)?,
            verify: verify_cost(&algorithm)?,
            ours: ours.load(&requests)?,
        };
        println!("round {round}: {cost}");
        costs.push(cost);
    }
    costs.sort_by(|one, other| one.ratio().total_cmp(&other.ratio()));
    let median = &costs[rounds / 2];
    let name = format!("/auth {algorithm} / bare hyper and verification");
    budget::print(&name, median.ratio(), &format!("median of {rounds} rounds: {median}"));
    Ok(())
}

/// Microseconds of CPU time per request or token.
struct CpuCost {
    bare: f64,
    verify: f64,
    ours: f64,
}

impl CpuCost {
    fn ratio(&self) -> f64 {
        self.ours / (self.bare + self.verify)
    }
}

impl fmt::Display for CpuCost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bare, verify, ours } = self;
        write!(
            f,
            "bare {bare:.2} us, verify {verify:.2} us, countersign {ours:.2} us; ratio {:.2}",
            self.ratio()
        )
    }
}

/// Measures a verification on core 0, while this core is as busy as under load.
fn verify_cost(algorithm: &str) -> Result<f64> {
    let mut command = Command::new("taskset");
    command.args(["-c", "0"]).arg(std::env::current_exe()?).args(["verify", algorithm]);
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    while child.try_wait()?.is_none() {}
    let mut cost = String::new();
    child.stdout.take().ok_or("no output")?.read_to_string(&mut cost)?;
    Ok(cost.trim().parse()?)
}

/// Measures the verification of the corpus' tokens without a server.
fn verify_corpus(algorithm: &str) -> Result<f64> {
    let algorithm = Algorithm::from_name(algorithm).ok_or("no such algorithm")?;
    let jwks = std::fs::read(corpus_directory().join("jwks.json"))?;
    let keys = KeySet::from_jwks(&jwks, Policy { origin: Origin::Static, algorithms: None })?;
    let verifier = countersign_bench::verifier(algorithm, keys);
    let tokens = std::fs::read_to_string(corpus_directory().join("tokens.txt"))?;
    let (before, mut verified, mut used) = (cpu_microseconds("self")?, 0u32, 0.0);
    while used < VERIFYING_MICROSECONDS {
        for token in tokens.lines() {
            verifier.verify(token.as_bytes(), countersign_bench::NOW)?;
            verified += 1;
        }
        used = cpu_microseconds("self")? - before;
    }
    Ok(used / f64::from(verified))
}

fn corpus_directory() -> std::path::PathBuf {
    std::env::temp_dir().join("countersign-bench-corpus")
}

/// Makes requests with the tokens of a corpus, all of them good.
fn corpus(programs: &Path, algorithm: &str) -> Result<Arc<Vec<Vec<u8>>>> {
    let directory = corpus_directory();
    let count = TOKENS.to_string();
    let status = Command::new(programs.join("corpus"))
        .args(["--alg", algorithm, "--count", &count, "--out"])
        .arg(&directory)
        .stdout(Stdio::null())
        .status()?;
    if !status.success() {
        return Err("corpus failed".into());
    }
    let ports = "\n[server]\nbind_port=0\n[metrics]\nbind_port=0\n";
    let config = std::fs::read_to_string(directory.join("countersign.cfg"))?;
    std::fs::write(directory.join("bench.cfg"), config + ports)?;
    let tokens = std::fs::read_to_string(directory.join("tokens.txt"))?;
    let request = |token| {
        format!("GET /auth HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n\r\n")
            .into_bytes()
    };
    Ok(Arc::new(tokens.lines().map(request).collect()))
}

struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    /// Starts a server and reads its address from the output line that starts with `word`.
    fn start(command: &mut Command, word: &str) -> Result<Self> {
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
        let address = loop {
            let line = lines.next().ok_or("the server did not start")??;
            if let Some(rest) = line.trim().strip_prefix(word) {
                let address = rest.trim().trim_start_matches("http://");
                if let Ok(address) = address.parse() {
                    break address;
                }
            }
        };
        // The server loads its keys on another thread.
        std::thread::sleep(std::time::Duration::from_millis(300));
        Ok(Self { child, address })
    }

    /// Returns the microseconds of the server's CPU time per request under the load.
    fn load(&self, requests: &Arc<Vec<Vec<u8>>>) -> Result<f64> {
        let before = self.cpu_microseconds()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let address = self.address;
        let requests = Arc::clone(requests);
        LocalSet::new().block_on(&runtime, async move {
            let clients: Vec<_> = (0..CONNECTIONS)
                .map(|first| {
                    tokio::task::spawn_local(client(address, Arc::clone(&requests), first))
                })
                .collect();
            for client in clients {
                client.await?.map_err(|error| error.to_string())?;
            }
            Ok::<_, Box<dyn Error>>(())
        })?;
        #[expect(
            clippy::as_conversions,
            clippy::cast_precision_loss,
            reason = "a count of requests"
        )]
        Ok((self.cpu_microseconds()? - before) / (CONNECTIONS * REQUESTS) as f64)
    }

    fn cpu_microseconds(&self) -> Result<f64> {
        cpu_microseconds(&self.child.id().to_string())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Returns the CPU time of a process in microseconds.
fn cpu_microseconds(process: &str) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    // Linux reports hundredths of a second on all platforms.
    Ok(ticks * 10_000.0)
}

/// Runs one connection: a request, its answer, and the next.
async fn client(
    address: SocketAddr,
    requests: Arc<Vec<Vec<u8>>>,
    first: usize,
) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 4096];
    for number in 0..REQUESTS {
        stream.write_all(&requests[(first * 31 + number) % requests.len()]).await?;
        let mut filled = 0;
        while !buffer[..filled].ends_with(b"\r\n\r\n") {
            let read = stream.read(&mut buffer[filled..]).await?;
            if read == 0 {
                return Err(std::io::Error::other("the server closed the connection"));
            }
            filled += read;
        }
        if !buffer.starts_with(b"HTTP/1.1 200") {
            return Err(std::io::Error::other(
                String::from_utf8_lossy(&buffer[..filled]).into_owned(),
            ));
        }
    }
    Ok(())
}
