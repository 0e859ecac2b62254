//! The real `countersign` binary.

use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, OnceLock},
    time::{Duration, SystemTime},
};

use tempfile::TempDir;

use crate::{
    certificates,
    client::{Client, Protocol},
    eventually,
    http::{self, Response},
};

/// Switches the budgets of bad signatures off, for floods that are about something
/// else.
pub const NO_BUDGETS: &str = "[limits]\nbad_signatures_per_core=off\nbad_signatures_per_issuer=off\nbad_signatures_per_source=off\n";

/// The path of the binary, built first if that has not happened yet.
pub fn path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let test = std::env::current_exe().unwrap();
        // target/<profile>/deps/<test>
        let profile = test.ancestors().nth(2).unwrap();
        let mut build = Command::new(env!("CARGO"));
        // For the whole workspace: for one package alone cargo chooses other features
        // of the dependencies, and compiles them all again.
        build
            .args(["build", "--quiet", "--workspace", "--bin", "countersign"])
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        if profile.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().unwrap().success(), "the binary does not build");
        profile.join("countersign")
    })
}

/// What stands in the log whenever the configuration was.
const READ_AGAIN: &str = "the configuration was read again";

/// Makes a file look as if it had been written a while ago.
pub fn settle(path: &Path) {
    let file = std::fs::File::options().append(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Output {
    /// Its exit status.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// The exit code.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap()
    }

    /// Standard output of a command that succeeded, without the last line ending.
    pub fn text(&self) -> &str {
        assert!(self.status.success(), "{self:?}");
        self.stdout.trim_end_matches('\n')
    }

    /// Each line of standard output as JSON.
    pub fn json_lines(&self) -> Vec<serde_json::Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// A place to run commands in, with no environment of the person who runs the
/// tests and a home of its own.
pub struct Sandbox {
    directory: TempDir,
    variables: Vec<(String, String)>,
    /// By which the main listener is asked, which speaks all there are under TLS; `None`
    /// if it is configured by the test alone.
    protocol: Option<Protocol>,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Sandbox {
    /// An empty place.
    pub fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), variables: Vec::new(), protocol: None }
    }

    /// One whose servers speak every version of HTTP, and are asked by this one.
    pub fn over(protocol: Protocol) -> Self {
        let sandbox = Self { protocol: Some(protocol), ..Self::new() };
        certificates::ours().1.write(sandbox.path());
        sandbox
    }

    /// With an environment variable set.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a file into it and returns its path.
    pub fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Puts a file in the place of another at once, as if it had been written a while
    /// ago: then nobody waits for the rest of it.
    pub fn replace(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let (path, draft) = (self.path().join(name), self.file(&format!("{name}.draft"), text));
        settle(&draft);
        std::fs::rename(draft, &path).unwrap();
        path
    }

    /// Runs the binary to its end.
    pub fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Output {
        self.run_with_input(arguments, b"")
    }

    /// Runs the binary to its end with `input` on standard input.
    pub fn run_with_input<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
        input: impl AsRef<[u8]>,
    ) -> Output {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        let input = input.as_ref().to_vec();
        // A thread, so that neither side waits for the other with a full pipe.
        let writing = std::thread::spawn(move || drop(pipe.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        writing.join().unwrap();
        Output {
            status: output.status,
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Starts a server with a configuration in Inmanta's form, to which free ports
    /// are added, and waits until it is ready.
    pub fn serve(&self, configuration: &str) -> Server<'_> {
        let server = self.listen(configuration);
        server.wait_until_ready();
        server
    }

    /// Starts a server as [`serve`](Self::serve) does, and waits only until it listens.
    pub fn listen(&self, configuration: &str) -> Server<'_> {
        let ports = self.replace("ports.cfg", self.ports());
        let config = self.replace("server.cfg", configuration);
        self.start([OsStr::new("--config"), config.as_ref(), "--config".as_ref(), ports.as_ref()])
    }

    /// What stands in every configuration.
    fn ports(&self) -> String {
        let ports = "[metrics]\nbind_port=0\n[server]\nbind_port=0\n";
        let protocols =
            "ssl_cert_file=tls.crt\nssl_key_file=tls.key\n[listen]\nprotocols=http/1.1, h2, h3\n";
        format!("{ports}{}", if self.protocol.is_some() { protocols } else { "" })
    }

    /// Starts a server and waits until it listens.
    pub fn start<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Server<'_> {
        let mut command = self.command(arguments);
        command
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(self.path().join("log")).unwrap());
        self.wait_for(command)
    }

    /// Starts a server as [`serve`](Self::serve) does, which logs somewhere else.
    pub fn serve_with_log(&self, configuration: &str, log: impl Into<Stdio>) -> Server<'_> {
        self.file("log", "");
        let ports = self.replace("ports.cfg", self.ports());
        let config = self.replace("server.cfg", configuration);
        let mut command = self.command([
            OsStr::new("--config"),
            config.as_ref(),
            "--config".as_ref(),
            ports.as_ref(),
        ]);
        command.stdin(Stdio::null()).stderr(log);
        let server = self.wait_for(command);
        server.wait_until_ready();
        server
    }

    /// Starts a server as systemd does for which it has opened two sockets, and waits
    /// until it listens.
    pub fn activate(&self, sockets: [&OwnedFd; 2], configuration: &str) -> Server<'_> {
        self.wait_for(self.activated(sockets, configuration))
    }

    /// The command for that. A shell moves the sockets from where they can be passed on
    /// to where systemd puts them.
    pub fn activated(&self, [first, second]: [&OwnedFd; 2], configuration: &str) -> Command {
        const SHELL: &str = "exec env LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=web:local \"$@\" 3<&0 4<&2 0</dev/null 2>>log";
        let config = self.replace("server.cfg", configuration);
        let mut command = self.bare("sh");
        command.args(["-c", SHELL, "sh"]).arg(path()).arg("--config").arg(config);
        command.stdin(first.try_clone().unwrap()).stderr(second.try_clone().unwrap());
        command
    }

    fn wait_for(&self, mut command: Command) -> Server<'_> {
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut announced = Vec::new();
        let mut address_after = |word: &str| {
            while let Some(Ok(line)) = lines.next() {
                announced.push(line.clone());
                if let Some(rest) = line.trim().strip_prefix(word) {
                    // What is spoken there may stand behind it.
                    let url = rest.split_whitespace().next().unwrap();
                    let address = url.split("//").nth(1).unwrap().trim_end_matches("/metrics");
                    return address.parse().unwrap();
                }
            }
            panic!(
                "the server did not start: {announced:?} {}",
                std::fs::read_to_string(self.path().join("log")).unwrap()
            )
        };
        let (address, metrics): (SocketAddr, SocketAddr) =
            (address_after("requests"), address_after("metrics"));
        // The rest of what it prints is read too, or it would block on a full pipe.
        let rest = std::thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>());
        let client = self
            .protocol
            .map(|protocol| Mutex::new(Client::new(protocol, address, &certificates::ours().0)));
        Server { sandbox: self, child, address, metrics, client, announced, rest: Some(rest) }
    }

    fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = self.bare(path());
        command.args(arguments);
        command
    }

    fn bare(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.path()).env_clear();
        command.env("HOME", self.path()).env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

/// A running server; ended when it is dropped.
pub struct Server<'s> {
    sandbox: &'s Sandbox,
    child: Child,
    /// The main listener.
    pub address: SocketAddr,
    /// The listener for metrics and probes.
    pub metrics: SocketAddr,
    /// Asks the main listener, if the sandbox says how.
    client: Option<Mutex<Client>>,
    /// What it has printed until it told where its metrics are.
    pub announced: Vec<String>,
    rest: Option<std::thread::JoinHandle<Vec<String>>>,
}

impl Server<'_> {
    /// Its process id.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Asks the main listener something, by the version of HTTP that the sandbox is for;
    /// without one, by HTTP/1.1 on a connection of its own.
    #[track_caller]
    pub fn request(&self, head: &str) -> Response {
        self.send(head, b"")
    }

    /// The same, with a body.
    #[track_caller]
    pub fn send(&self, head: &str, body: &[u8]) -> Response {
        match &self.client {
            Some(client) => client.lock().unwrap().request(head, body),
            None => http::request(self.address, head, body),
        }
    }

    /// Another client like the one it is asked by.
    pub fn client(&self) -> Client {
        match self.sandbox.protocol {
            Some(protocol) => Client::new(protocol, self.address, &certificates::ours().0),
            None => Client::plain(Protocol::Http1, self.address),
        }
    }

    /// `GET /auth` with a bearer token.
    #[track_caller]
    pub fn auth(&self, token: &str) -> Response {
        self.request(&format!("GET /auth HTTP/1.1\r\nAuthorization: Bearer {token}\r\n"))
    }

    /// `POST /v1/verify` with a token.
    #[track_caller]
    pub fn verify(&self, token: &str) -> Response {
        self.send("POST /v1/verify HTTP/1.1\r\n", token.as_bytes())
    }

    /// The value of a counter or gauge, named with its labels as `/metrics` has it.
    #[track_caller]
    pub fn metric(&self, name: &str) -> u64 {
        let metrics = self.operations("/metrics").body;
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} is not in\n{metrics}")).parse().unwrap()
    }

    /// `GET` on the metrics listener.
    pub fn operations(&self, path: &str) -> Response {
        http::request(self.metrics, &format!("GET {path} HTTP/1.1\r\n"), b"")
    }

    /// Waits until every issuer's keys have been asked for.
    pub fn wait_until_ready(&self) {
        for _ in 0..600 {
            if self.operations("/ready").status == 200 {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("not ready after 30 s: {}", self.log());
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.sandbox.path().join("log")).unwrap()
    }

    /// Has the configuration read again, and returns what is said about it.
    #[track_caller]
    pub fn reload(&self) -> String {
        self.reloaded_by(|| self.signal("HUP"))
    }

    /// The same, whatever the reason is.
    #[track_caller]
    pub fn reloaded_by(&self, cause: impl FnOnce()) -> String {
        let before = self.reloads();
        cause();
        eventually(|| self.reloads() > before);
        self.log().lines().filter(|line| line.contains(READ_AGAIN)).nth(before).unwrap().into()
    }

    /// How often the configuration was read again.
    pub fn reloads(&self) -> usize {
        // A line that is not yet written to its end is not there yet.
        self.log()
            .split_inclusive('\n')
            .filter(|line| line.contains(READ_AGAIN) && line.ends_with('\n'))
            .count()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
    }

    /// Sends a signal and returns how it ended and what it printed after its addresses.
    pub fn stop(mut self, signal: &str) -> (ExitStatus, Vec<String>) {
        self.signal(signal);
        let status = self.child.wait().unwrap();
        (status, self.rest.take().unwrap().join().unwrap())
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
