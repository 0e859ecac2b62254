//! A real PostgreSQL server per test.

use std::{
    fs,
    net::TcpListener,
    os::unix::{fs::chown, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use crate::eventually;

/// Running PostgreSQL server. Dropping it ends the process and deletes the data.
pub struct Postgres {
    directory: TempDir,
    /// Port on the loopback address.
    pub port: u16,
    process: Option<Child>,
}

impl Default for Postgres {
    fn default() -> Self {
        Self::start()
    }
}

impl Postgres {
    /// Starts a server with an empty database `countersign`.
    pub fn start() -> Self {
        let mut postgres = Self::stopped();
        let data = postgres.data();
        let initialized = postgres
            .command("initdb")
            .args(["--username=countersign", "--auth=trust", "--no-sync", "-D"])
            .arg(&data)
            .output();
        let initialized = initialized.unwrap();
        assert!(initialized.status.success(), "{}", String::from_utf8_lossy(&initialized.stderr));
        postgres.start_on_a_free_port();
        postgres.execute("postgres", "CREATE DATABASE countersign");
        postgres
    }

    /// Starts a standby of this server, which follows it by asynchronous replication.
    pub fn start_standby(&self) -> Self {
        let mut standby = Self::stopped();
        let data = standby.data();
        let copied = standby
            .command("pg_basebackup")
            .args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "-U", "countersign"])
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-D"])
            .arg(&data)
            .output();
        let copied = copied.unwrap();
        assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
        standby.start_on_a_free_port();
        standby
    }

    /// Makes a standby a primary server.
    pub fn promote(&self) {
        assert_eq!(self.query("SELECT pg_promote()"), "t");
    }

    /// Creates a directory for a server.
    fn stopped() -> Self {
        let directory = tempfile::tempdir().unwrap();
        if let Some(user) = user() {
            chown(directory.path(), Some(user), None).unwrap();
        }
        Self { directory, port: 0, process: None }
    }

    fn start_on_a_free_port(&mut self) {
        // Another test may take a port between its choice and the start of the server.
        eventually(|| {
            self.port = free_port();
            self.try_resume()
        });
    }

    /// Restarts it after [`crash`](Self::crash) on the same port.
    pub fn resume(&mut self) {
        eventually(|| self.try_resume());
    }

    /// Returns whether it accepts connections. It ends if its port is in use.
    fn try_resume(&mut self) -> bool {
        let (port, data) = (self.port.to_string(), self.data());
        let mut command = self.command("postgres");
        command
            .args(["-h", "127.0.0.1", "-p", &port, "-k"])
            .arg(self.directory.path())
            .arg("-D")
            .arg(data);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = command.spawn().unwrap();
        let mut has_ended = false;
        eventually(|| {
            has_ended = process.try_wait().unwrap().is_some();
            has_ended || self.try_execute("postgres", "SELECT 1").is_ok()
        });
        self.process = (!has_ended).then_some(process);
        !has_ended
    }

    /// Stops it immediately, without closing client connections in order.
    pub fn crash(&mut self) {
        if let Some(mut process) = self.process.take() {
            // SIGQUIT is an immediate shutdown, which also ends the child processes.
            let stopped =
                Command::new("kill").args(["-s", "QUIT", &process.id().to_string()]).status();
            assert!(stopped.unwrap().success());
            process.wait().unwrap();
        }
    }

    /// Returns the URL of its database.
    pub fn url(&self) -> String {
        format!("postgres://countersign@127.0.0.1:{}/countersign", self.port)
    }

    /// Executes statements and returns the result, one row per line.
    #[track_caller]
    pub fn query(&self, statements: &str) -> String {
        self.execute("countersign", statements)
    }

    #[track_caller]
    fn execute(&self, database: &str, statements: &str) -> String {
        self.try_execute(database, statements).unwrap()
    }

    fn try_execute(&self, database: &str, statements: &str) -> Result<String, String> {
        let mut psql = self.command("psql");
        // Its socket is in its own directory, so that no other server can respond.
        psql.arg("-h").arg(self.directory.path()).args([
            "-p",
            &self.port.to_string(),
            "-U",
            "countersign",
            "-d",
            database,
            "-Atqc",
            statements,
        ]);
        let output = psql.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Creates a command of a PostgreSQL program, which refuses to run as root.
    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(program(name));
        command.current_dir(self.directory.path());
        if let Some(user) = user() {
            command.uid(user);
        }
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.crash();
    }
}

/// Returns a port that is free now.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Returns the user to run PostgreSQL as if the tests run as root: `postgres`, as on Debian.
pub(crate) fn user() -> Option<u32> {
    let id = |arguments: &[&str]| {
        let output = Command::new("id").args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().parse::<u32>().ok()
    };
    (id(&["-u"]) == Some(0))
        .then(|| id(&["-u", "postgres"]).expect("root needs a user postgres to run PostgreSQL as"))
}

/// Returns the path of a program. Debian installs the server's programs by version, outside of
/// `PATH`.
fn program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<_> = versions
        .map(|version| version.path().join("bin").join(name))
        .filter(|path| path.exists())
        .collect();
    found.sort();
    found.pop().unwrap_or_else(|| Path::new(name).to_owned())
}

/// Time within which a node has to apply a revocation of another node.
pub const REVOCATIONS_SEEN_WITHIN: Duration = Duration::from_secs(1);
