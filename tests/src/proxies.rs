//! What stands around a reverse proxy under test: the application behind it, the way
//! from it to Countersign, and the process itself.

use std::{
    fs::File,
    io::{BufReader, Cursor, Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use crate::{grpc, http::Request};

/// An address on which nobody listens, and which nobody else is given: a port of a
/// loopback address of its own.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = (std::process::id() << 9) | (NEXT.fetch_add(1, Ordering::Relaxed) & 0x1FF);
    let [_, a, b, c] = number.to_be_bytes();
    // Away from 127.0.0.1, where all the others are.
    let address = Ipv4Addr::new(127, a | 0x80, b, c);
    TcpListener::bind((address, 0)).unwrap().local_addr().unwrap()
}

/// An application that remembers the requests it saw and answers `hello`, and that
/// closes every connection. At `/status/<code>` it answers with another status than
/// 200, and at `/status/` not at all.
pub struct Application {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Application {
    /// Starts one, which lives as long as the process.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let application = Self { address: listener.local_addr().unwrap(), seen: Arc::default() };
        let seen = Arc::clone(&application.seen);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let seen = Arc::clone(&seen);
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(stream);
                    let Ok(Some(request)) = Request::read(&mut reader) else { return };
                    let status =
                        request.target.strip_prefix("/status/").unwrap_or("200").to_owned();
                    seen.lock().unwrap().push(request);
                    if status.is_empty() {
                        return;
                    }
                    let answer =
                        format!("HTTP/1.0 {status} Status\r\nContent-Length: 5\r\n\r\nhello");
                    drop(reader.get_mut().write_all(answer.as_bytes()));
                });
            }
        });
        application
    }

    /// The requests it has seen since it was last asked.
    pub fn take(&self) -> Vec<Request> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

/// The way from a proxy to Countersign, which remembers what passes and can be cut.
pub struct Relay {
    /// Where the proxy finds it.
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    accepting: Option<JoinHandle<()>>,
}

/// Where a [`Relay`] leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To a server.
    To(SocketAddr),
    /// Nowhere: connections are refused.
    Refused,
    /// To somebody who ends the connection when the question has come.
    HangUp,
    /// To somebody who says nothing.
    Silence,
    /// To somebody who says no HTTP.
    Nonsense,
}

struct State {
    way: Way,
    /// What came on each connection.
    received: Vec<Received>,
    open: Vec<TcpStream>,
}

/// What came on one connection.
#[derive(Default)]
struct Received {
    bytes: Vec<u8>,
    /// How many requests were taken of it.
    taken: usize,
}

impl Relay {
    /// Opens one.
    pub fn start(way: Way) -> Self {
        let state = State { way, received: Vec::new(), open: Vec::new() };
        let mut relay =
            Self { address: free_address(), state: Arc::new(Mutex::new(state)), accepting: None };
        relay.lead(way);
        relay
    }

    /// Leads elsewhere from now on. Connections that are open are ended.
    pub fn lead(&mut self, way: Way) {
        let mut state = self.state.lock().unwrap();
        state.way = way;
        for stream in state.open.drain(..) {
            drop(stream.shutdown(Shutdown::Both));
        }
        drop(state);
        if way == Way::Refused {
            // Wakes the thread up, which then closes the listener.
            drop(TcpStream::connect(self.address));
            self.accepting.take().map(JoinHandle::join);
        } else if self.accepting.is_none() {
            let listener = TcpListener::bind(self.address).unwrap();
            let state = Arc::clone(&self.state);
            self.accepting = Some(std::thread::spawn(move || accept(&listener, &state)));
        }
    }

    /// How many connections have been opened.
    pub fn connections(&self) -> usize {
        self.state.lock().unwrap().received.len()
    }

    /// The requests that came since it was last asked. All that came must be requests.
    #[track_caller]
    pub fn take(&self) -> Vec<Request> {
        let mut requests = Vec::new();
        for Received { bytes, taken } in &mut self.state.lock().unwrap().received {
            if bytes.starts_with(b"PRI * HTTP/2.0") {
                // Each of them can only be read after those before it.
                let all = grpc::overheard(bytes);
                let before = std::mem::replace(taken, all.len());
                requests.extend(all.into_iter().skip(before));
                continue;
            }
            let mut reader = Cursor::new(std::mem::take(bytes));
            while let Some(request) = Request::read(&mut reader).expect("requests and nothing else")
            {
                requests.push(request);
            }
        }
        requests
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.lead(Way::Refused);
    }
}

fn accept(listener: &TcpListener, state: &Arc<Mutex<State>>) {
    for stream in listener.incoming().map_while(Result::ok) {
        let mut locked = state.lock().unwrap();
        if locked.way == Way::Refused {
            return;
        }
        let (way, connection) = (locked.way, locked.received.len());
        locked.received.push(Received::default());
        locked.open.push(stream.try_clone().unwrap());
        drop(locked);
        let state = Arc::clone(state);
        std::thread::spawn(move || {
            let there = match way {
                Way::To(address) => TcpStream::connect(address).ok(),
                _ => None,
            };
            pass(&stream, there.as_ref(), way, &state, connection);
            drop(stream.shutdown(Shutdown::Both));
            there.map(|there| there.shutdown(Shutdown::Both));
        });
    }
}

/// Passes on what comes from a proxy until that ends.
fn pass(
    mut stream: &TcpStream,
    there: Option<&TcpStream>,
    way: Way,
    state: &Mutex<State>,
    connection: usize,
) {
    if let Some(there) = there {
        let (mut from, mut to) = (there.try_clone().unwrap(), stream.try_clone().unwrap());
        drop((from.set_nodelay(true), to.set_nodelay(true)));
        std::thread::spawn(move || {
            drop(std::io::copy(&mut from, &mut to));
            drop(to.shutdown(Shutdown::Both));
        });
    }
    let mut buffer = [0; 16 * 1024];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        state.lock().unwrap().received[connection].bytes.extend(&buffer[..read]);
        let passed = match (there, way) {
            (Some(mut there), _) => there.write_all(&buffer[..read]).is_ok(),
            (None, Way::Nonsense) => {
                stream.write_all(b"200 OK\r\nX-Auth-User: root\r\n\r\n").is_err()
            }
            (None, _) => way == Way::Silence,
        };
        if !passed {
            return;
        }
    }
}

/// A proxy that runs; ended when it is dropped.
pub struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts a program in a directory, with nothing of the environment of the person
    /// who runs the tests, and waits until it listens.
    pub fn start(mut command: Command, directory: &Path, address: SocketAddr) -> Self {
        let log = directory.join("proxy.log");
        let output = File::options().create(true).append(true).open(&log).unwrap();
        let errors = output.try_clone().unwrap();
        command.current_dir(directory).env_clear().env("HOME", directory);
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        let child = command.stdin(Stdio::null()).stdout(output).stderr(errors).spawn();
        let child = child.unwrap_or_else(|error| {
            panic!("{:?}: {error}: tests/run installs it", command.get_program())
        });
        // Made at once, so that it is ended whatever happens next.
        let mut running = Self { child, log };
        for _ in 0..1200 {
            if TcpStream::connect(address).is_ok() {
                return running;
            }
            assert!(
                running.child.try_wait().unwrap().is_none(),
                "{:?} has ended: {}",
                command.get_program(),
                running.log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("{:?} does not listen after 60 s: {}", command.get_program(), running.log())
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A process with workers ends them when it is asked, not when it is killed.
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

/// A program that tests/run installs for the tests alone.
pub fn installed(name: &str) -> PathBuf {
    let environment = Path::new(env!("CARGO_MANIFEST_DIR")).join("proxies/.venv");
    // Some are in their package, of whichever version of Python.
    let libraries = std::fs::read_dir(environment.join("lib")).into_iter().flatten().flatten();
    let packaged = libraries
        .map(|library| library.path().join("site-packages").join(name).join("_bin").join(name));
    packaged
        .chain([environment.join("bin").join(name)])
        .find(|place| place.exists())
        .unwrap_or_else(|| panic!("{name} is missing: tests/run installs it"))
}

/// A configuration in `deploy/proxies`.
pub fn shipped(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/proxies").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
