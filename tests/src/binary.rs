//! Fixtures that run the real `countersign` binary: [`Sandbox`] and [`Server`].

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
    process,
};

/// Configuration without budgets of bad signatures, for floods that test something else.
pub const NO_BUDGETS: &str = "[limits]\nbad_signatures_per_core=off\nbad_signatures_per_issuer=off\nbad_signatures_per_source=off\n";

/// Builds the binary once per process and returns its path.
pub fn path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| built("countersign"))
}

/// Builds a binary of the workspace and returns its path.
pub fn built(name: &str) -> PathBuf {
    built_in(&["--bin", name]).join(name)
}

/// Builds the libraries of the workspace and returns the directory of this one.
pub fn built_library(name: &str) -> PathBuf {
    let directory = built_in(&["--lib"]);
    assert!(directory.join(name).exists(), "{name} is missing in {}", directory.display());
    directory
}

/// Builds the part of the workspace that these arguments select. Returns the directory of the
/// result.
fn built_in(selection: &[&str]) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    // target/<profile>/deps/<test>
    let profile = test.ancestors().nth(2).unwrap();
    let mut build = Command::new(env!("CARGO"));
    // Builds the whole workspace. For a single package cargo selects other features of
    // the dependencies and would compile them all again.
    build
        .args(["build", "--quiet", "--workspace"])
        .args(selection)
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    // Cargo describes this package to its tests. A build script that reads these variables would
    // run again, and all that depends on it be compiled again.
    for (name, _) in std::env::vars_os() {
        let is_of_cargo = |prefix: &&str| name.as_encoded_bytes().starts_with(prefix.as_bytes());
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(is_of_cargo) {
            build.env_remove(&name);
        }
    }
    // The directory of the profile `dev` is called `debug`.
    if !profile.ends_with("debug") {
        build.arg("--profile").arg(profile.file_name().unwrap());
    }
    assert!(build.status().unwrap().success(), "cargo build failed");
    profile.to_owned()
}

/// Whether a log line reports a reload, successful or not.
fn reports_reload(line: &str) -> bool {
    ["configuration reloaded", "configuration not reloaded"]
        .into_iter()
        .any(|text| line.contains(text))
}

/// Sets the modification time of a file to one minute ago, so that the configuration
/// watcher does not wait for further writes.
pub fn backdate(path: &Path) {
    let file = std::fs::File::options().append(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
}

/// Output and exit status of a finished command.
#[derive(Debug)]
pub struct Output {
    /// Exit status.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    fn of(output: std::process::Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Returns the exit code.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap()
    }

    /// Returns the standard output of a successful command, without trailing newlines.
    pub fn text(&self) -> &str {
        assert!(self.status.success(), "{self:?}");
        self.stdout.trim_end_matches('\n')
    }

    /// Parses each line of standard output as JSON.
    pub fn json_lines(&self) -> Vec<serde_json::Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Temporary directory to run the binary in. Commands get a clean environment and the
/// directory as `HOME`.
pub struct Sandbox {
    directory: TempDir,
    variables: Vec<(String, String)>,
    /// Protocol of [`Server::request`]. The main listener then serves all protocols over
    /// TLS. `None` if the test configures the listener.
    protocol: Option<Protocol>,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Sandbox {
    /// Creates an empty directory.
    pub fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), variables: Vec::new(), protocol: None }
    }

    /// Creates a sandbox whose servers serve every [`Protocol`], with requests sent by this one.
    pub fn over(protocol: Protocol) -> Self {
        let sandbox = Self { protocol: Some(protocol), ..Self::new() };
        certificates::ours().1.write(sandbox.path());
        sandbox
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// Returns the protocol of its servers, if they have TLS.
    pub fn protocol(&self) -> Option<Protocol> {
        self.protocol
    }

    /// Returns its directory.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a file and returns its path.
    pub fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Replaces a file atomically with a [backdated](backdate) one.
    pub fn replace(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let (path, draft) = (self.path().join(name), self.file(&format!("{name}.draft"), text));
        backdate(&draft);
        std::fs::rename(draft, &path).unwrap();
        path
    }

    /// Runs the binary to its end.
    pub fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Output {
        self.run_with_input(arguments, b"")
    }

    /// Runs the binary to its end, with these environment variables.
    pub fn run_with_variables(
        &self,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        variables: &[(String, &str)],
    ) -> Output {
        let mut command = self.command(arguments);
        let output = command.envs(variables.iter().map(|(name, value)| (name, value))).output();
        Output::of(output.unwrap())
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
        // Written by a thread, so that full pipes cannot deadlock both processes.
        let writer = std::thread::spawn(move || drop(pipe.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        Output::of(output)
    }

    /// Runs the binary to its end, with a terminal as standard output and error, and `input` on
    /// standard input. The output is that of the terminal.
    pub fn run_on_terminal(&self, arguments: &[&str], input: impl AsRef<[u8]>) -> Output {
        let quoted = |word: &str| format!("'{word}'");
        let words: Vec<_> = arguments.iter().map(|word| quoted(word)).collect();
        self.file("terminal.input", input);
        let line =
            format!("{} {} <terminal.input", quoted(path().to_str().unwrap()), words.join(" "));
        // script(1) runs a command on a terminal of its own.
        let mut command = self.isolated_command("script");
        command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        let output = command.stdin(Stdio::null()).output().expect("script is in util-linux");
        let text = |bytes| String::from_utf8(bytes).unwrap().replace("\r\n", "\n");
        Output { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Starts a server with an Inmanta configuration file plus free ports, and waits until
    /// it is ready.
    pub fn serve(&self, configuration: &str) -> Server<'_> {
        let server = self.listen(configuration);
        server.wait_until_ready();
        server
    }

    /// Like [`serve`](Self::serve), but waits only until the server listens.
    pub fn listen(&self, configuration: &str) -> Server<'_> {
        let ports = self.replace("ports.cfg", self.ports());
        let config = self.replace("server.cfg", configuration);
        self.start([OsStr::new("--config"), config.as_ref(), "--config".as_ref(), ports.as_ref()])
    }

    /// Returns the settings common to all configurations: free ports, and TLS if the
    /// sandbox has a [`Protocol`].
    fn ports(&self) -> String {
        let ports = "[metrics]\nbind_port=0\n[server]\nbind_port=0\n";
        let protocols =
            "ssl_cert_file=tls.crt\nssl_key_file=tls.key\n[listen]\nprotocols=http/1.1, h2, h3\n";
        format!("{ports}{}", if self.protocol.is_some() { protocols } else { "" })
    }

    /// Starts a server with these arguments and waits until it listens.
    pub fn start<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Server<'_> {
        self.start_command(self.command(arguments))
    }

    /// Starts a server by a command that becomes the server, and waits until it listens.
    pub fn start_command(&self, mut command: Command) -> Server<'_> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(self.path().join("log")).unwrap());
        self.wait_for(command)
    }

    /// Like [`serve`](Self::serve), with another destination of the log.
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

    /// Starts a server with two sockets as systemd's socket activation does, and waits until
    /// it listens.
    pub fn activate(&self, sockets: [&OwnedFd; 2], configuration: &str) -> Server<'_> {
        self.wait_for(self.activation_command(sockets, configuration))
    }

    /// Returns the command of [`activate`](Self::activate). A shell moves the sockets from
    /// standard input and error to descriptors 3 and 4, where systemd passes them.
    pub fn activation_command(
        &self,
        [first, second]: [&OwnedFd; 2],
        configuration: &str,
    ) -> Command {
        const SHELL: &str = "exec env LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=web:local \"$@\" 3<&0 4<&2 0</dev/null 2>>log";
        let config = self.replace("server.cfg", configuration);
        let mut command = self.isolated_command("sh");
        command.args(["-c", SHELL, "sh"]).arg(path()).arg("--config").arg(config);
        command.stdin(first.try_clone().unwrap()).stderr(second.try_clone().unwrap());
        command
    }

    fn wait_for(&self, mut command: Command) -> Server<'_> {
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut startup_lines = Vec::new();
        let mut address_after = |word: &str| {
            while let Some(Ok(line)) = lines.next() {
                startup_lines.push(line.clone());
                if let Some(rest) = line.trim().strip_prefix(word) {
                    // The line may continue with the protocols.
                    let url = rest.split_whitespace().next().unwrap();
                    let address = url.split("//").nth(1).unwrap().trim_end_matches("/metrics");
                    return address.parse().unwrap();
                }
            }
            panic!(
                "the server did not start: {startup_lines:?} {}",
                std::fs::read_to_string(self.path().join("log")).unwrap()
            )
        };
        let (address, metrics): (SocketAddr, SocketAddr) =
            (address_after("requests"), address_after("metrics"));
        // Keeps reading, because a full pipe would block the server.
        let rest = std::thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>());
        let client = self
            .protocol
            .map(|protocol| Mutex::new(Client::new(protocol, address, &certificates::ours().0)));
        Server { sandbox: self, child, address, metrics, client, startup_lines, rest: Some(rest) }
    }

    fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = self.isolated_command(path());
        command.args(arguments);
        command
    }

    fn isolated_command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.path()).env_clear();
        command.env("HOME", self.path()).env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

/// Running server. Dropping it kills the process.
pub struct Server<'s> {
    sandbox: &'s Sandbox,
    child: Child,
    /// Address of the main listener.
    pub address: SocketAddr,
    /// Address of the listener for metrics and probes.
    pub metrics: SocketAddr,
    /// Client of the main listener, if the sandbox has a [`Protocol`].
    client: Option<Mutex<Client>>,
    /// Lines of standard output up to the metrics address.
    pub startup_lines: Vec<String>,
    rest: Option<std::thread::JoinHandle<Vec<String>>>,
}

impl Server<'_> {
    /// Returns its process id.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Sends a request to the main listener by the sandbox's [`Protocol`], or by HTTP/1.1 on a
    /// new connection if it has none.
    #[track_caller]
    pub fn request(&self, head: &str) -> Response {
        self.send(head, b"")
    }

    /// Like [`request`](Self::request), with a body.
    #[track_caller]
    pub fn send(&self, head: &str, body: &[u8]) -> Response {
        match &self.client {
            Some(client) => client.lock().unwrap().request(head, body),
            None => http::request(self.address, head, body),
        }
    }

    /// Creates another client of the main listener, like that of [`request`](Self::request).
    pub fn client(&self) -> Client {
        match self.sandbox.protocol {
            Some(protocol) => Client::new(protocol, self.address, &certificates::ours().0),
            None => Client::plain(Protocol::Http1, self.address),
        }
    }

    /// Returns the address of the first listener of HAProxy's SPOP.
    #[track_caller]
    pub fn spop_address(&self) -> SocketAddr {
        let urls = self.startup_lines.iter().filter_map(|line| line.split_once("spop://"));
        let address = urls.map(|(_, address)| address).next();
        address.expect("a listener with spop").parse().unwrap()
    }

    /// Sends `GET /auth` with a bearer token.
    #[track_caller]
    pub fn auth(&self, token: &str) -> Response {
        self.request(&format!("GET /auth HTTP/1.1\r\nAuthorization: Bearer {token}\r\n"))
    }

    /// Sends `POST /v1/verify` with a token.
    #[track_caller]
    pub fn verify(&self, token: &str) -> Response {
        self.send("POST /v1/verify HTTP/1.1\r\n", token.as_bytes())
    }

    /// Returns the value of a counter or gauge, named with its labels as in `/metrics`.
    #[track_caller]
    pub fn metric(&self, name: &str) -> u64 {
        let metrics = self.operations("/metrics").body;
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} is not in\n{metrics}")).parse().unwrap()
    }

    /// Sends `GET` to the metrics listener.
    pub fn operations(&self, path: &str) -> Response {
        http::request(self.metrics, &format!("GET {path} HTTP/1.1\r\n"), b"")
    }

    /// Waits until the server is ready: the keys of every issuer have been requested.
    pub fn wait_until_ready(&self) {
        for _ in 0..600 {
            if self.operations("/ready").status == 200 {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("not ready after 30 s: {}", self.log());
    }

    /// Returns the log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.sandbox.path().join("log")).unwrap()
    }

    /// Reloads the configuration by `SIGHUP` and returns the log line of the reload.
    #[track_caller]
    pub fn reload(&self) -> String {
        self.reload_after(|| self.signal("HUP"))
    }

    /// Like [`reload`](Self::reload), triggered by `cause`.
    #[track_caller]
    pub fn reload_after(&self, cause: impl FnOnce()) -> String {
        let before = self.reloads();
        cause();
        eventually(|| self.reloads() > before);
        self.log().lines().filter(|line| reports_reload(line)).nth(before).unwrap().into()
    }

    /// Returns the number of reloads.
    pub fn reloads(&self) -> usize {
        // A line without its newline is still being written.
        self.log()
            .split_inclusive('\n')
            .filter(|line| reports_reload(line) && line.ends_with('\n'))
            .count()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: &str) {
        process::send_signal(self.child.id(), signal);
    }

    /// Sends a signal and waits for the exit. Returns the status and the output after the
    /// [startup lines](Self::startup_lines).
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
