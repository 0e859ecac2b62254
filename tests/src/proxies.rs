//! Fixtures for tests of reverse proxies: the application behind the proxy ([`Application`]),
//! a relay from the proxy to Countersign ([`TcpRelay`]) and the process ([`DaemonProcess`]).

use std::{
    collections::HashMap,
    fs::File,
    io::{BufReader, Cursor, Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use crate::{grpc, http::Request, process, spop};

/// Returns an unused address that no other caller gets: a free port of a unique loopback
/// address.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = (std::process::id() << 9) | (NEXT.fetch_add(1, Ordering::Relaxed) & 0x1FF);
    let [_, a, b, c] = number.to_be_bytes();
    // Not 127.0.0.1, where other tests listen.
    let address = Ipv4Addr::new(127, a | 0x80, b, c);
    TcpListener::bind((address, 0)).unwrap().local_addr().unwrap()
}

/// Application that records requests, responds `hello` and closes every connection. It
/// responds to `/status/<code>` with that status, and closes without a response at `/status/`.
/// It accepts an upgrade to WebSocket, and then sends back what it receives.
pub struct Application {
    /// Address it listens on.
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Application {
    /// Starts an application. It runs until the process ends.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let application =
            Self { address: listener.local_addr().unwrap(), requests: Arc::default() };
        let requests = Arc::clone(&application.requests);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let requests = Arc::clone(&requests);
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(stream);
                    let Ok(Some(request)) = Request::read(&mut reader) else { return };
                    let status =
                        request.target.strip_prefix("/status/").unwrap_or("200").to_owned();
                    let is_upgrade = request.header("upgrade") == Some("websocket");
                    requests.lock().unwrap().push(request);
                    if status.is_empty() {
                        return;
                    }
                    if is_upgrade {
                        drop(echo(reader));
                        return;
                    }
                    let response =
                        format!("HTTP/1.0 {status} Status\r\nContent-Length: 5\r\n\r\nhello");
                    drop(reader.get_mut().write_all(response.as_bytes()));
                });
            }
        });
        application
    }

    /// Returns the requests since the last call.
    pub fn take(&self) -> Vec<Request> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}

/// Header lines of a request for WebSocket, with the key of RFC 6455 section 1.3.
pub const WEBSOCKET: &str = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                             Sec-WebSocket-Version: 13\r\n\
                             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Accepts an upgrade to [`WEBSOCKET`], and sends back all bytes.
fn echo(mut reader: BufReader<TcpStream>) -> std::io::Result<u64> {
    let mut writer = reader.get_ref().try_clone()?;
    writer.write_all(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
          Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
    )?;
    std::io::copy(&mut reader, &mut writer)
}

/// TCP relay from a proxy to Countersign, which records requests and can fail on demand.
pub struct TcpRelay {
    /// Address for the proxy.
    pub address: SocketAddr,
    state: Arc<Mutex<RelayState>>,
    accepting: Option<JoinHandle<()>>,
}

/// Destination or failure of a [`TcpRelay`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayTarget {
    /// Relays to a server.
    Server(SocketAddr),
    /// Refuses connections.
    Refused,
    /// Closes each connection after the request.
    Close,
    /// Never responds.
    Hang,
    /// Responds with bytes that are not HTTP.
    Garbage,
    /// Responds with this status.
    Status(u16),
}

struct RelayState {
    target: RelayTarget,
    /// Received bytes of each connection.
    received: Vec<ConnectionRecord>,
    /// The open connections, by their number: a proxy may open thousands that fail.
    open: HashMap<usize, TcpStream>,
}

/// Received bytes of one connection.
#[derive(Default)]
struct ConnectionRecord {
    bytes: Vec<u8>,
    /// Number of requests already returned by [`TcpRelay::take`].
    returned: usize,
}

impl TcpRelay {
    /// Starts a relay.
    pub fn start(target: RelayTarget) -> Self {
        let state = RelayState { target, received: Vec::new(), open: HashMap::new() };
        let mut relay =
            Self { address: free_address(), state: Arc::new(Mutex::new(state)), accepting: None };
        relay.retarget(target);
        relay
    }

    /// Changes the target and closes open connections.
    pub fn retarget(&mut self, target: RelayTarget) {
        let mut state = self.state.lock().unwrap();
        state.target = target;
        for (_, stream) in state.open.drain() {
            drop(stream.shutdown(Shutdown::Both));
        }
        drop(state);
        if target == RelayTarget::Refused {
            // Wakes the accepting thread, which then closes the listener.
            drop(TcpStream::connect(self.address));
            self.accepting.take().map(JoinHandle::join);
        } else if self.accepting.is_none() {
            let listener = TcpListener::bind(self.address).unwrap();
            let state = Arc::clone(&self.state);
            self.accepting = Some(std::thread::spawn(move || accept(&listener, &state)));
        }
    }

    /// Returns the number of connections so far, without those that only check that Countersign
    /// answers.
    pub fn connections(&self) -> usize {
        let records = &self.state.lock().unwrap().received;
        records.iter().filter(|record| !spop::is_health_check(&record.bytes)).count()
    }

    /// Returns the requests since the last call.
    ///
    /// # Panics
    /// The received bytes are not requests.
    #[track_caller]
    pub fn take(&self) -> Vec<Request> {
        let mut requests = Vec::new();
        for ConnectionRecord { bytes, returned } in &mut self.state.lock().unwrap().received {
            let is_http2 = bytes.starts_with(b"PRI * HTTP/2.0");
            if is_http2 || spop::is_recording(bytes) {
                // Header compression: a request can only be decoded after the earlier ones.
                let decode = if is_http2 { grpc::recorded_checks } else { spop::recorded_checks };
                let all = decode(bytes);
                let before = std::mem::replace(returned, all.len());
                requests.extend(all.into_iter().skip(before));
                continue;
            }
            let mut reader = Cursor::new(std::mem::take(bytes));
            while let Some(request) =
                Request::read(&mut reader).expect("received bytes are requests")
            {
                requests.push(request);
            }
        }
        requests
    }
}

impl Drop for TcpRelay {
    fn drop(&mut self) {
        self.retarget(RelayTarget::Refused);
    }
}

fn accept(listener: &TcpListener, state: &Arc<Mutex<RelayState>>) {
    for stream in listener.incoming().map_while(Result::ok) {
        let mut locked = state.lock().unwrap();
        if locked.target == RelayTarget::Refused {
            return;
        }
        let (target, connection) = (locked.target, locked.received.len());
        locked.received.push(ConnectionRecord::default());
        locked.open.insert(connection, stream.try_clone().unwrap());
        drop(locked);
        let state = Arc::clone(state);
        std::thread::spawn(move || {
            let server = match target {
                RelayTarget::Server(address) => TcpStream::connect(address).ok(),
                _ => None,
            };
            pass(&stream, server.as_ref(), target, &state, connection);
            drop(stream.shutdown(Shutdown::Both));
            server.map(|server| server.shutdown(Shutdown::Both));
            state.lock().unwrap().open.remove(&connection);
        });
    }
}

/// Relays the bytes of a proxy connection until it ends.
fn pass(
    mut stream: &TcpStream,
    server: Option<&TcpStream>,
    target: RelayTarget,
    state: &Mutex<RelayState>,
    connection: usize,
) {
    if let Some(server) = server {
        let (mut from, mut to) = (server.try_clone().unwrap(), stream.try_clone().unwrap());
        drop((from.set_nodelay(true), to.set_nodelay(true)));
        std::thread::spawn(move || {
            drop(std::io::copy(&mut from, &mut to));
            drop(to.shutdown(Shutdown::Both));
        });
    }
    let mut buffer = [0; 16 * 1024];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        state.lock().unwrap().received[connection].bytes.extend(&buffer[..read]);
        let is_open = match (server, target) {
            (Some(mut server), _) => server.write_all(&buffer[..read]).is_ok(),
            (None, RelayTarget::Garbage) => {
                stream.write_all(b"200 OK\r\nX-Auth-User: root\r\n\r\n").is_err()
            }
            (None, RelayTarget::Status(status)) => {
                let answer = format!("HTTP/1.1 {status} Status\r\nContent-Length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).is_ok()
            }
            (None, _) => target == RelayTarget::Hang,
        };
        if !is_open {
            return;
        }
    }
}

/// DaemonProcess proxy or other program. Dropping it ends the process.
pub struct DaemonProcess {
    child: Child,
    log: PathBuf,
}

impl DaemonProcess {
    /// Starts a program in a directory with a clean environment and waits until it listens.
    pub fn start(mut command: Command, directory: &Path, address: SocketAddr) -> Self {
        let log = directory.join("proxy.log");
        let output = File::options().create(true).append(true).open(&log).unwrap();
        let errors = output.try_clone().unwrap();
        command.current_dir(directory).env_clear().env("HOME", directory);
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        let child = command.stdin(Stdio::null()).stdout(output).stderr(errors).spawn();
        let child = child.unwrap_or_else(|error| {
            panic!("{:?}: {error}, run tests/run to install it", command.get_program())
        });
        // Created before any check that can panic, so that dropping it ends the process.
        let mut running = Self { child, log };
        for _ in 0..1200 {
            if TcpStream::connect(address).is_ok() {
                return running;
            }
            assert!(
                running.child.try_wait().unwrap().is_none(),
                "{:?} exited: {}",
                command.get_program(),
                running.log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("{:?} does not listen after 60 s: {}", command.get_program(), running.log())
    }

    /// Returns the log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Returns its process id.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: &str) {
        process::send_signal(self.process(), signal);
    }

    /// Returns the exit status, or `None` while the program runs.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }
}

impl Drop for DaemonProcess {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
            return;
        }
        // SIGTERM first: killing a master process would leave its workers running.
        drop(Command::new("kill").arg(self.child.id().to_string()).status());
        for _ in 0..100 {
            if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Returns the path of a program that `tests/run` installs for the tests.
pub fn installed_program(name: &str) -> PathBuf {
    let environment = Path::new(env!("CARGO_MANIFEST_DIR")).join("proxies/.venv");
    // Some programs are inside their Python package, below a directory named by version.
    let libraries = std::fs::read_dir(environment.join("lib")).into_iter().flatten().flatten();
    let packaged = libraries
        .map(|library| library.path().join("site-packages").join(name).join("_bin").join(name));
    packaged
        .chain([environment.join("bin").join(name)])
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("{name} is missing, run tests/run to install it"))
}

/// Reads a configuration in `deploy/proxies`.
pub fn shipped_config(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/proxies").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
