//! The auth tax of nginx: the CPU time of all processes for a protected request, less that for the
//! same request unprotected.
//!
//! Usage: `target/dist/tax-nginx`, on an otherwise idle machine with two cores, with nginx and
//! nginx-dev, after `cargo build --profile dist --workspace --lib`. nginx and the server have one
//! thread each on the first core, the clients are on the second. Slices of 150 ms rotate over all
//! variants, because the speed of a virtual machine changes from second to second.

use std::{
    error::Error,
    fmt::Write as _,
    fs,
    io::{self, Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use countersign_bench::{
    e2e::process::CpuTime,
    machine::pin_to_core,
    own_server::{Address, ChildGuard, SIGNING, StateDirectory},
    paired::report,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const CONFIGURATION: &str = "
[server]
bind_port=18885
[metrics]
bind_port=18886
[listen]
threads=1
dialect=nginx
trusted_proxies=127.0.0.1, unix
[listener_local]
bind=unix:SOCKET
dialect=nginx
trusted_proxies=unix
";
const ADDRESS: Address = ("127.0.0.1", 18885);

const ROUNDS: usize = 100;
const SLICE: Duration = Duration::from_millis(150);
const CONNECTIONS: usize = 64;
const TOKENS: usize = 50;

/// The ways to protect a location, each with its port.
const VARIANTS: [(&str, u16, &str); 5] = [
    ("plain", 18890, ""),
    ("plain again", 18891, ""),
    ("auth_request over TCP", 18892, "auth_request /tcp;"),
    ("auth_request over a Unix socket", 18893, "auth_request /unix;"),
    ("module", 18894, "countersign_check on;"),
];

fn main() -> Result<()> {
    let state = StateDirectory::create("tax", "")?;
    let socket = state.path().join("auth.sock");
    let configuration = CONFIGURATION.replace("SOCKET", &socket.display().to_string());
    fs::write(state.path().join("c.cfg"), configuration + SIGNING)?;
    let server = state.serve(ADDRESS)?;
    let padding = format!("padding=\"{}\"", "x".repeat(300));
    let sign = |_| state.run(&["token", "sign", "--client-type", "api", "--claim-json", &padding]);
    let tokens = (0..TOKENS).map(sign).collect::<Result<Vec<_>>>()?;
    let nginx = nginx(state.path(), &socket)?;
    pin_to_core(1);
    thread::sleep(Duration::from_secs(1));
    let mut processes = children(nginx.id())?;
    processes.push(server.id());
    let mut variants = Vec::new();
    for (_, port, _) in VARIANTS {
        variants.push(VariantClients::open(port, &tokens)?);
    }
    let mut costs = vec![Vec::new(); VARIANTS.len()];
    for round in 0..=ROUNDS {
        for step in 0..VARIANTS.len() {
            let variant = (round + step) % VARIANTS.len();
            let cost = variants[variant].run(&processes)?;
            // The first round fills the caches.
            if round > 0 {
                costs[variant].push(cost);
            }
        }
    }
    report_all(&costs);
    Ok(())
}

fn report_all(costs: &[Vec<f64>]) {
    report("us of CPU time, plain", costs[0].clone(), "");
    let added = |variant: usize| -> Vec<f64> {
        costs[variant].iter().zip(&costs[0]).map(|(cost, plain)| cost - plain).collect()
    };
    for (variant, (name, ..)) in VARIANTS.iter().enumerate().skip(1) {
        report(&format!("us of CPU time added, {name}"), added(variant), "");
    }
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let ratio = median(added(4)) / median(added(2));
    report("added by the nginx module / by auth_request", vec![ratio], " of the medians");
}

/// Starts nginx with one worker, on the first core, with all variants.
fn nginx(directory: &Path, socket: &Path) -> Result<ChildGuard> {
    let programs = std::env::current_exe()?.parent().map(Path::to_owned).unwrap_or_default();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../embed/nginx/build");
    let built = Command::new(source).arg(&programs).arg(directory).status()?;
    if !built.success() {
        return Err("the module cannot be built".into());
    }
    let root = directory.display();
    let mut http = format!("countersign {root}/c.cfg;\n");
    for (_, port, protection) in VARIANTS {
        write!(
            http,
            "server {{ listen 127.0.0.1:{port} backlog=1024; keepalive_requests 1000000000;
             location / {{ {protection} root {root}; add_header X-User \"$countersign_subject\"; }}
             location = /tcp {{ internal; proxy_pass http://tcp/auth; {PROXY} }}
             location = /unix {{ internal; proxy_pass http://local/auth; {PROXY} }} }}\n"
        )?;
    }
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        writeln!(http, "{kind}_temp_path {root}/{kind};")?;
    }
    let (host, port) = ADDRESS;
    let text = format!(
        "load_module {root}/ngx_http_countersign_module.so;\nuser root;\ndaemon off;\n\
         worker_processes 1;\nerror_log stderr;\npid {root}/nginx.pid;\n\
         events {{ worker_connections 4096; }}\nhttp {{ access_log off;\n\
         upstream tcp {{ server {host}:{port}; keepalive 64; }}\n\
         upstream local {{ server unix:{}; keepalive 64; }}\n{http}}}\n",
        socket.display()
    );
    let file = directory.join("nginx.conf");
    fs::write(&file, text)?;
    fs::write(directory.join("page"), "ok")?;
    let mut command = Command::new("taskset");
    command.args(["-c", "0", "nginx", "-e", "stderr", "-c"]).arg(file);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    Ok(ChildGuard::new(command)?)
}

const PROXY: &str = "proxy_http_version 1.1; proxy_set_header Connection \"\"; \
                     proxy_pass_request_body off; proxy_set_header Content-Length \"\"; \
                     proxy_set_header X-Original-Method $request_method; \
                     proxy_set_header X-Original-URI $request_uri;";

/// Returns a process and its children.
fn children(process: u32) -> Result<Vec<u32>> {
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children"))?;
    let mut processes = vec![process];
    for child in children.split_whitespace() {
        processes.push(child.parse()?);
    }
    if processes.len() < 2 {
        return Err("nginx did not start".into());
    }
    Ok(processes)
}

/// Connections to one variant, each with a request at a time.
struct VariantClients {
    connections: Vec<TcpStream>,
    requests: Vec<String>,
    next: usize,
}

impl VariantClients {
    fn open(port: u16, tokens: &[String]) -> Result<Self> {
        let open = |_| -> io::Result<TcpStream> {
            let stream = TcpStream::connect(("127.0.0.1", port))?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        let request = |token: &String| {
            format!("GET /page HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n\r\n")
        };
        let connections = (0..CONNECTIONS).map(open).collect::<io::Result<Vec<_>>>()?;
        Ok(Self { connections, requests: tokens.iter().map(request).collect(), next: 0 })
    }

    /// Sends requests for a slice of time. Returns the CPU time of a request in microseconds.
    fn run(&mut self, processes: &[u32]) -> Result<f64> {
        let (before, started, mut sent) = (CpuTime::of(processes)?, Instant::now(), 0_u32);
        while started.elapsed() < SLICE {
            for connection in &mut self.connections {
                let request = &self.requests[self.next % self.requests.len()];
                self.next += 1;
                connection.write_all(request.as_bytes())?;
                sent += 1;
            }
            for connection in &mut self.connections {
                receive(connection)?;
            }
        }
        let (used, _) = CpuTime::of(processes)?.since(&before);
        #[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "seconds at most")]
        let nanoseconds = used as f64;
        Ok(nanoseconds / 1e3 / f64::from(sent))
    }
}

/// Reads an answer, which has to be the page.
fn receive(connection: &mut TcpStream) -> Result<()> {
    let (mut buffer, mut length) = ([0; 2048], 0);
    while !buffer[..length].ends_with(b"\r\n\r\nok") {
        match connection.read(&mut buffer[length..])? {
            0 => {
                let text = String::from_utf8_lossy(&buffer[..length]);
                return Err(format!("unexpected answer: {text}").into());
            }
            read => length += read,
        }
    }
    if buffer.starts_with(b"HTTP/1.1 200 ") {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&buffer[..length]).into())
    }
}
