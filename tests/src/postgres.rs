//! A real PostgreSQL server of a test's own.

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

/// A server that is ended with its data when it is dropped.
pub struct Postgres {
    directory: TempDir,
    /// Where it listens, on the loopback.
    pub port: u16,
    process: Option<Child>,
}

impl Default for Postgres {
    fn default() -> Self {
        Self::start()
    }
}

impl Postgres {
    /// One with an empty database `countersign`.
    pub fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        if let Some(user) = user() {
            chown(directory.path(), Some(user), None).unwrap();
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut postgres = Self { directory, port, process: None };
        let data = postgres.data();
        let made = postgres
            .command("initdb")
            .args(["--username=countersign", "--auth=trust", "--no-sync", "-D"])
            .arg(&data)
            .output();
        let made = made.unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        postgres.resume();
        postgres.execute("postgres", "CREATE DATABASE countersign");
        postgres
    }

    /// Starts it again after [`crash`](Self::crash), at the same port.
    pub fn resume(&mut self) {
        let (port, data) = (self.port.to_string(), self.data());
        let mut command = self.command("postgres");
        command
            .args(["-h", "127.0.0.1", "-p", &port, "-k"])
            .arg(self.directory.path())
            .arg("-D")
            .arg(data);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        self.process = Some(command.spawn().unwrap());
        eventually(|| self.try_execute("postgres", "SELECT 1").is_ok());
    }

    /// Ends it at once, without a word to its clients.
    pub fn crash(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Its children go with it, on an immediate shutdown.
            let stopped =
                Command::new("kill").args(["-s", "QUIT", &process.id().to_string()]).status();
            assert!(stopped.unwrap().success());
            process.wait().unwrap();
        }
    }

    /// Where its database is.
    pub fn url(&self) -> String {
        format!("postgres://countersign@127.0.0.1:{}/countersign", self.port)
    }

    /// Executes statements and returns what they tell, a line a row.
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
        psql.args([
            "-h",
            "127.0.0.1",
            "-p",
            &self.port.to_string(),
            "-U",
            "countersign",
            "-d",
            database,
            "-Atqc",
            statements,
        ]);
        let told = psql.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if told.status.success() { Ok(text(&told.stdout)) } else { Err(text(&told.stderr)) }
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// A program of its, which refuses to run as root.
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

/// Whom to run it as, if we are root: the owner of the programs' user, as Debian names it.
fn user() -> Option<u32> {
    let id = |arguments: &[&str]| {
        let told = Command::new("id").args(arguments).output().unwrap();
        String::from_utf8_lossy(&told.stdout).trim().parse::<u32>().ok()
    };
    (id(&["-u"]) == Some(0))
        .then(|| id(&["-u", "postgres"]).expect("root needs a user postgres to run PostgreSQL as"))
}

/// Debian keeps the server's programs by version, off everybody's PATH.
fn program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<_> = versions
        .map(|version| version.path().join("bin").join(name))
        .filter(|path| path.exists())
        .collect();
    found.sort();
    found.pop().unwrap_or_else(|| Path::new(name).to_owned())
}

/// How long a node may take to see what another has revoked.
pub const REVOCATIONS_SEEN_WITHIN: Duration = Duration::from_secs(1);
