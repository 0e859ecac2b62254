//! Our own server as a process on the first core, and blocking connections to it.

use std::{
    error::Error,
    fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

/// The section of a configuration by which a server signs tokens and verifies them.
pub const SIGNING: &str = "\
[auth_jwt_default]
algorithm=HS256
sign=true
client_types=agent,compiler,api
key=rID3kG4OwGpajIsxnGDhat4UFcMkyFZQc1y3oKQTPRs
";

/// Address of a server: host and port.
pub type Address = (&'static str, u16);

/// An HTTP/1.1 connection.
pub struct Connection(BufReader<TcpStream>);

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// The server does not accept the connection.
    pub fn open(address: Address) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Sends a request with these further header lines, each ended by CRLF. Returns the status of
    /// the answer.
    ///
    /// # Errors
    /// The connection ends.
    pub fn exchange(
        &mut self,
        method_and_path: &str,
        lines: &str,
        token: &str,
        body: &str,
    ) -> io::Result<u16> {
        Ok(self.request(method_and_path, lines, token, body)?.status)
    }

    /// As [`exchange`](Self::exchange), but also returns the body of the answer.
    ///
    /// # Errors
    /// The connection ends.
    pub fn exchange_body(
        &mut self,
        method_and_path: &str,
        lines: &str,
        token: &str,
        body: &str,
    ) -> io::Result<(u16, String)> {
        let HttpAnswer { status, body, .. } = self.request(method_and_path, lines, token, body)?;
        Ok((status, body))
    }

    /// As [`exchange`](Self::exchange), but returns the whole answer.
    ///
    /// # Errors
    /// The connection ends.
    pub fn request(
        &mut self,
        method_and_path: &str,
        lines: &str,
        token: &str,
        body: &str,
    ) -> io::Result<HttpAnswer> {
        let credential = if token.is_empty() {
            String::new()
        } else {
            format!("Authorization: Bearer {token}\r\n")
        };
        let length = body.len();
        let request = format!(
            "{method_and_path} HTTP/1.1\r\nHost: bench\r\n{lines}{credential}Content-Length: {length}\r\n\r\n{body}"
        );
        self.0.get_mut().write_all(request.as_bytes())?;
        self.answer()
    }

    /// Sends requests that are written already, and reads as many answers of this status.
    ///
    /// # Errors
    /// The connection ends, or an answer has another status.
    pub fn pipeline(&mut self, requests: &str, count: usize, status: u16) -> io::Result<()> {
        self.0.get_mut().write_all(requests.as_bytes())?;
        for _ in 0..count {
            let answer = self.answer()?;
            if answer.status != status {
                return Err(io::Error::other(format!("unexpected answer: {answer:?}")));
            }
        }
        Ok(())
    }

    fn answer(&mut self) -> io::Result<HttpAnswer> {
        let (mut head, mut line, mut status, mut length) = (String::new(), String::new(), 0, 0);
        while line != "\r\n" {
            line.clear();
            self.0.read_line(&mut line)?;
            head.push_str(&line);
            if let Some(code) = line.strip_prefix("HTTP/1.1 ") {
                status = code.split(' ').next().and_then(|code| code.parse().ok()).unwrap_or(0);
            } else if let Some(text) = line.strip_prefix("content-length: ") {
                length = text.trim().parse().unwrap_or(0);
            } else if line.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let mut body = String::new();
        self.0.by_ref().take(length).read_to_string(&mut body)?;
        Ok(HttpAnswer { status, head, body })
    }
}

/// An answer.
#[derive(Debug)]
pub struct HttpAnswer {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: String,
    head: String,
}

impl HttpAnswer {
    /// Returns the value of its first header of this name, in lower case.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// State directory of a server, with its configuration. Deleted on drop.
pub struct StateDirectory {
    path: PathBuf,
    programs: PathBuf,
}

impl StateDirectory {
    /// Creates the directory of a benchmark.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn create(benchmark: &str, configuration: &str) -> io::Result<Self> {
        let name = format!("countersign-{benchmark}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path)?;
        fs::write(path.join("c.cfg"), configuration)?;
        let programs = std::env::current_exe()?.parent().map(Path::to_owned).unwrap_or_default();
        Ok(Self { path, programs })
    }

    /// Returns its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("taskset");
        command.args(["-c", "0"]).arg(self.programs.join("countersign")).args(arguments);
        command.arg("--config").arg(self.path.join("c.cfg")).arg("--state-dir").arg(&self.path);
        command
    }

    /// Runs a command of the server's program, and returns its output.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn run(&self, arguments: &[&str]) -> Result<String, Box<dyn Error>> {
        Ok(String::from_utf8(self.command(arguments).output()?.stdout)?.trim().to_owned())
    }

    /// Starts the server, which is configured to listen on this address.
    ///
    /// # Errors
    /// It does not start.
    pub fn serve(&self, address: Address) -> io::Result<ChildGuard> {
        let mut command = self.command(&["serve"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let server = ChildGuard::new(command)?;
        for _ in 0..200 {
            if TcpStream::connect(address).is_ok() {
                return Ok(server);
            }
            thread::sleep(Duration::from_millis(50));
        }
        Err(io::Error::other("the server did not start within 10 seconds"))
    }
}

impl Drop for StateDirectory {
    fn drop(&mut self) {
        let _ignored = fs::remove_dir_all(&self.path);
    }
}

/// A child process, killed on drop.
pub struct ChildGuard(Child);

impl ChildGuard {
    /// Starts a process.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn new(mut command: Command) -> io::Result<Self> {
        command.spawn().map(Self)
    }

    /// Returns the id of the process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for ChildGuard {
    fn drop(&mut self) {
        let _ignored = self.0.kill();
        let _ignored = self.0.wait();
    }
}
