//! A real PgBouncer in front of a PostgreSQL server.

use std::{
    fs::Permissions,
    net::TcpStream,
    os::unix::fs::{PermissionsExt as _, chown},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use crate::{
    eventually,
    postgres::{Postgres, free_port, user},
};

/// How PgBouncer assigns connections to the server: for a whole session of a client, or for a
/// transaction at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolMode {
    /// For a session.
    Session,
    /// For a transaction.
    Transaction,
}

/// Running PgBouncer. Dropping it ends the process.
pub struct PgBouncer {
    directory: TempDir,
    /// Port on the loopback address.
    pub port: u16,
    process: Child,
}

impl PgBouncer {
    /// Starts a pooler in front of this server.
    ///
    /// # Panics
    /// It does not start.
    pub fn start(postgres: &Postgres, mode: PoolMode) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = free_port();
        let file = directory.path().join("pgbouncer.ini");
        let mode = if mode == PoolMode::Session { "session" } else { "transaction" };
        let prepared =
            if keeps_prepared_statements() { "max_prepared_statements = 100\n" } else { "" };
        let text = format!(
            "[databases]\ncountersign = host=127.0.0.1 port={} user=countersign\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = any\npool_mode = {mode}\ndefault_pool_size = 90\n\
             ignore_startup_parameters = extra_float_digits\n{prepared}",
            postgres.port
        );
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        let mut command = Command::new("pgbouncer");
        command.arg(&file).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(std::fs::File::create(directory.path().join("log")).unwrap());
        // It refuses to run as root, and has an option to change the user.
        if let Some(id) = user() {
            chown(&file, Some(id), None).unwrap();
            command.args(["--user", "postgres"]);
        }
        let process = command.spawn().expect("pgbouncer is in PATH");
        let pooler = Self { directory, port, process };
        eventually(|| TcpStream::connect(("127.0.0.1", port)).is_ok());
        pooler
    }

    /// Returns the URL of the database.
    pub fn url(&self) -> String {
        format!("postgres://countersign@127.0.0.1:{}/countersign", self.port)
    }

    /// Returns its log.
    ///
    /// # Panics
    /// The log cannot be read.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap()
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Whether the installed version keeps prepared statements over transactions: 1.21 or later.
///
/// # Panics
/// The program cannot be run.
pub fn keeps_prepared_statements() -> bool {
    let output = Command::new("pgbouncer").arg("--version").output().expect("pgbouncer is in PATH");
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.lines().next().and_then(|line| line.strip_prefix("PgBouncer "));
    let mut numbers = version.unwrap_or_default().split('.').map_while(|part| part.parse().ok());
    (numbers.next(), numbers.next()) >= (Some(1), Some(21))
}
