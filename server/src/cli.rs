//! Implementation of the commands, one file each.

pub mod arguments;
mod atomic_file;
mod audit;
mod certificate;
mod check;
mod client;
mod client_config;
mod connection;
mod database;
mod doctor;
mod endpoints;
mod environment;
mod identity;
mod import;
mod jws;
mod key_rotation;
mod keys;
mod known_databases;
mod load_test;
mod login;
mod password;
mod policy;
mod project;
mod revocations;
mod role;
mod routes;
mod serve;
mod sessions;
mod setup;
mod state_directory;
mod table;
mod token;
mod upgrade;
mod user;
mod welcome;

#[expect(clippy::disallowed_types, reason = "locked at the start and the end of a command")]
use std::sync::Mutex;
use std::{
    fmt,
    io::{self, BufRead as _, Read as _, Write as _},
    mem,
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, MutexGuard, PoisonError},
    time::Duration,
};

use countersign_engine::Revocation;

use self::arguments::{Cli, Command, ConfigCommand, IssuerArgs, LoadTestArgs, ServeArgs};
use crate::{
    audit::{AuditOperation, AuditTarget, record_command},
    base::printable::printable,
    cluster::signing_key::SigningKeyFollower,
    config::{
        Config, Problem, Problems, RawConfig, Severity, orchestrate::is_orchestrate_variable, raw,
    },
    keys::IssuerSection,
    observe::{logging, settings::LogFormat},
    reload,
    revocation::{RevocationService, store::RevocationStore},
    store::{Store, settings::DatabaseLocation},
};

/// Runs a command line and returns its exit code.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    // A server starts logging after it has read the log format from its configuration.
    if !matches!(cli.command, None | Some(Command::Serve(_))) {
        // Slow queries do not belong into the output of a command.
        logging::start_logging("info,sqlx=error", LogFormat::Auto);
    }
    match dispatch(cli) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of a pipe may close it early, such as head.
        Err(CommandError::Failed(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(failure) => {
            let _ignored = writeln!(io::stderr(), "{failure}");
            failure.exit_code()
        }
    }
}

fn dispatch(cli: Cli) -> Result<(), CommandError> {
    let source = ConfigSource {
        config: cli.config,
        state_dir: cli.state_dir,
        issuer: None,
        load_test: None,
        listen: None,
        stores: OpenStores::default(),
    };
    let result = run_command(&source, cli.command, &cli.serve);
    source.stores.close();
    result
}

/// Returns the section that signs tokens, with the key in force of several. If the database cannot
/// be read, `key` signs, which every server verifies.
fn prepared_signing_section<'c>(
    source: &ConfigSource,
    config: &'c Config,
) -> Result<&'c IssuerSection, CommandError> {
    let section = signing_section(config)?;
    if section.secrets().is_none_or(|secrets| secrets.all().len() == 1) || !config.uses_database() {
        return Ok(section);
    }
    let read = source.store(config).map_err(|error| error.to_string()).and_then(|store| {
        // A file that does not exist is not created: its keys were never rotated.
        if !store.exists().map_err(|error| error.to_string())? {
            return Ok(false);
        }
        let follower = SigningKeyFollower::default();
        store.block_on(follower.read(&store, [section])).map_err(|error| error.to_string())
    });
    if let Err(error) = read {
        let reason = "cannot read which signing key is in force, signing with key";
        writeln!(io::stderr(), "warning: {reason}: {error}")?;
    }
    Ok(section)
}

/// Returns the section that signs tokens.
fn signing_section(config: &Config) -> Result<&IssuerSection, CommandError> {
    config.signing().ok_or_else(|| {
        CommandError::failed(
            "cannot sign a token: no auth_jwt_* section has sign = true\n  help: set sign = true \
             in a section whose algorithm is HS256, and create its key with countersign key generate",
        )
    })
}

fn run_command(
    source: &ConfigSource,
    command: Option<Command>,
    options: &ServeArgs,
) -> Result<(), CommandError> {
    match command {
        None => serve::run(source, options.threads),
        Some(Command::Serve(args)) => {
            let (load_test, listen) = (args.load_test.selected()?, args.listen);
            let source = ConfigSource { issuer: args.issuer, load_test, listen, ..source.clone() };
            serve::run(&source, args.options.threads.or(options.threads))
        }
        Some(Command::Config(ConfigCommand::Check)) => check::run(source),
        Some(Command::Config(ConfigCommand::Reference { section })) => {
            check::print_reference(section.as_deref())
        }
        Some(Command::Token(command)) => token::run(source, command),
        Some(Command::Routes(command)) => routes::run(source, command),
        Some(Command::Jws(command)) => jws::run(&command),
        Some(Command::Keys(command)) => keys::run(source, command),
        Some(Command::Setup(args)) => setup::run(source, args),
        Some(Command::User(args)) => user::run(source, args),
        Some(Command::Role(args)) => role::run(source, args),
        Some(Command::Project(args)) => project::run(source, args),
        Some(Command::Environment(args)) => environment::run(source, args),
        Some(Command::Identity(args)) => identity::run(source, args),
        Some(Command::ClientConfig(args)) => client_config::run(source, &args),
        Some(Command::Doctor) => doctor::run(source),
        Some(Command::Login(args)) => login::run(source, &args),
        Some(Command::Logout(args)) => login::log_out(source, &args),
        Some(Command::Audit(args)) => audit::run(source, &args),
        Some(Command::Endpoints(command)) => endpoints::run(command),
        Some(Command::Cert(command)) => certificate::run(command),
        Some(Command::Policy(command)) => policy::run(source, &command),
        Some(Command::Revocations(command)) => revocations::run(source, &command),
        Some(Command::Database(command)) => database::run(source, &command),
        Some(Command::Import(command)) => import::run(source, command),
        Some(Command::Loadtest(command)) => load_test::run(&command),
    }
}

/// Error of a command.
enum CommandError {
    /// The configuration is invalid.
    Configuration(Problems),
    /// The command failed.
    Failed(io::Error),
}

impl CommandError {
    fn failed(reason: impl fmt::Display) -> Self {
        Self::Failed(io::Error::other(reason.to_string()))
    }

    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Failed(_) => ExitCode::from(1),
            Self::Configuration(_) => ExitCode::from(2),
        }
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configuration(problems) => problems.fmt(f),
            Self::Failed(error) => write!(f, "error: {error}"),
        }
    }
}

impl From<Problems> for CommandError {
    fn from(problems: Problems) -> Self {
        Self::Configuration(problems)
    }
}

impl From<io::Error> for CommandError {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

/// SQLite file of the revocations in the state directory.
const REVOCATIONS_FILE: &str = "revocations";

/// Source of a command's configuration: files or an issuer, state directory and environment.
#[derive(Clone)]
struct ConfigSource {
    config: Vec<PathBuf>,
    state_dir: Option<PathBuf>,
    /// Arguments instead of files.
    issuer: Option<IssuerArgs>,
    /// The profile `loadtest`.
    load_test: Option<LoadTestArgs>,
    /// Address of the main listener.
    listen: Option<SocketAddr>,
    stores: OpenStores,
}

/// The databases that a command uses. They are closed at its end.
#[derive(Clone, Default)]
struct OpenStores(
    #[expect(clippy::disallowed_types, reason = "locked at the start and the end of a command")]
    Arc<Mutex<Vec<Store>>>,
);

impl OpenStores {
    fn add(&self, store: Store) -> Store {
        self.lock().push(store.clone());
        store
    }

    /// Returns the handle that was opened for the same database, or else this one.
    fn shared(&self, store: Store) -> Store {
        let opened =
            self.lock().iter().find(|opened| opened.location() == store.location()).cloned();
        opened.unwrap_or_else(|| self.add(store))
    }

    fn close(&self) {
        for store in mem::take(&mut *self.lock()) {
            store.block_on(store.close());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Store>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConfigSource {
    /// Whether to use the embedded default configuration: no file was named, and the
    /// environment does not describe an issuer.
    fn is_embedded(&self) -> bool {
        self.config.is_empty()
            && self.issuer.is_none()
            && self.load_test.is_none()
            && !environment_variables().any(|(name, text)| {
                name.starts_with("INMANTA_AUTH_JWT_") || is_orchestrate_variable(&name, &text)
            })
    }

    fn state_dir(&self) -> io::Result<PathBuf> {
        let directory = match &self.state_dir {
            Some(directory) => directory.clone(),
            None => state_directory::default_directory(path_variable)?,
        };
        // The state of a real server is not that of a load test.
        Ok(if self.load_test.is_some() { directory.join("loadtest") } else { directory })
    }

    /// Loads the [`Config`] and prints its warnings to standard error.
    fn load(&self) -> Result<Config, CommandError> {
        let config = self.read()?;
        for warning in config.remarks.of(Severity::Warning) {
            writeln!(io::stderr(), "warning: {warning}")?;
        }
        Ok(config)
    }

    /// Reads the [`Config`] from the files, or from the arguments. The environment overrides
    /// files, and the arguments override the environment.
    fn read(&self) -> Result<Config, CommandError> {
        if let Some(arguments) = &self.load_test {
            return load_test::read_config(self, arguments);
        }
        let Some(issuer) = &self.issuer else {
            return Ok(Config::load(&self.files()?, environment_variables())?);
        };
        if !self.config.is_empty() {
            let problem = Problem::error("--issuer", "excludes --config");
            let help = "add an auth_jwt_* section with this issuer to the configuration instead";
            return Err(Problems::from(problem.help(help)).into());
        }
        let mut raw = RawConfig::default();
        raw.add_environment(environment_variables());
        issuer.add_to(&mut raw);
        self.set_listen(&mut raw);
        Ok(Config::from_raw(raw)?)
    }

    /// Loads the [`Config`] of a command that only connects to a server. Without
    /// configuration files, the environment and the defaults suffice and no signing key is
    /// generated.
    fn load_for_client(&self) -> Result<Config, CommandError> {
        if self.config.is_empty() {
            return Ok(Config::load(&[], environment_variables())?);
        }
        self.load()
    }

    /// Returns the configuration files: none with an issuer. Creates that of the embedded default.
    fn files(&self) -> io::Result<Vec<PathBuf>> {
        if self.is_embedded() {
            return Ok(vec![state_directory::embedded_configuration(&self.state_dir()?)?]);
        }
        Ok(self.config.clone())
    }

    /// Returns the path of the SQLite file of the revocations, if they are not in the shared
    /// database.
    fn revocation_file(&self, config: &Config) -> io::Result<PathBuf> {
        match &config.revocation.file {
            Some(file) => Ok(file.clone()),
            None => Ok(self.state_dir()?.join(REVOCATIONS_FILE)),
        }
    }

    /// Returns where the revocations are stored, for messages.
    fn revocation_location(&self, config: &Config) -> io::Result<String> {
        match &config.database.location {
            DatabaseLocation::Postgres { redacted, .. }
                if self.stores_revocations_in_database(config) =>
            {
                Ok(redacted.clone())
            }
            _ => self.revocation_file(config).map(|file| file.display().to_string()),
        }
    }

    /// Rejects `[api_clients]` without storage for revocations. Otherwise revoked tokens
    /// would be accepted again after a restart.
    fn check_api_clients(&self, config: &Config) -> Result<(), String> {
        match self.revocation_location(config) {
            Err(reason) if !config.settings.auth.api_clients.is_empty() => {
                Err(format!("[api_clients] requires storage for revocations: {reason}"))
            }
            _ => Ok(()),
        }
    }

    /// Opens the [`RevocationService`] over the database or a file.
    ///
    /// Without a state directory, tokens are verified but cannot be revoked. With
    /// `purge_interval`, expired revocations are deleted at that interval.
    fn revocation_service(
        &self,
        config: &Config,
        purge_interval: Option<Duration>,
    ) -> io::Result<RevocationService> {
        let storage = if self.stores_revocations_in_database(config) {
            Ok(RevocationStore::in_database(self.store(config)?, self.earlier_revocations()?))
        } else {
            match self.revocation_file(config) {
                Ok(file) => Ok(self.revocations_in(file)?),
                Err(reason) => Err(reason.to_string()),
            }
        };
        RevocationService::open(storage, &config.revocation, purge_interval)
    }

    /// Whether the revocations are in a database shared by nodes, because the configuration
    /// names no file.
    fn stores_revocations_in_database(&self, config: &Config) -> bool {
        let is_shared = matches!(config.database.location, DatabaseLocation::Postgres { .. });
        is_shared && config.revocation.file.is_none()
    }

    /// Reads the revocations in a file from before the shared database was configured.
    fn earlier_revocations(&self) -> io::Result<Vec<Revocation>> {
        let file = self.state_dir().map(|directory| directory.join(REVOCATIONS_FILE));
        let Some(file) = file.ok().filter(|file| file.exists()) else { return Ok(Vec::new()) };
        let locked = format!("{}: another process keeps it locked: try again", file.display());
        self.revocations_in(file)?.read_new()?.ok_or_else(|| io::Error::other(locked))
    }

    fn revocations_in(&self, file: PathBuf) -> io::Result<RevocationStore> {
        let revocations = RevocationStore::in_file(file)?;
        self.stores.add(revocations.database().clone());
        Ok(revocations)
    }

    /// Returns the database in which changes are recorded, if the server of this configuration uses
    /// one.
    fn audited_store(&self, config: &Config) -> io::Result<Option<Store>> {
        config.uses_database().then(|| self.store(config)).transpose()
    }

    /// Creates the [`Store`]. It connects on first use.
    fn store(&self, config: &Config) -> io::Result<Store> {
        Ok(self.stores.add(Store::new(&config.database, || self.state_dir())?))
    }
}

impl reload::ConfigLoader for ConfigSource {
    fn load(&self) -> Result<Config, String> {
        let files = self.files().map_err(|error| error.to_string())?;
        let expanded = raw::expand(&files).map_err(|problem| problem.to_string())?;
        // A pipe can only be read once, at the start.
        if let Some(odd) = expanded.iter().find(|file| file.exists() && !file.is_file()) {
            return Err(format!(
                "error: {}: not a regular file, so it cannot be read again: restart instead",
                odd.display()
            ));
        }
        let config = self.read().map_err(|error| error.to_string())?;
        self.check_api_clients(&config).map_err(|reason| format!("error: {reason}"))?;
        for warning in config.remarks.of(Severity::Warning) {
            tracing::warn!("{warning}");
        }
        Ok(config)
    }

    fn files(&self) -> Vec<PathBuf> {
        raw::expand(&self.files().unwrap_or_default()).unwrap_or_default()
    }
}

/// Returns an environment variable that is a path.
#[expect(clippy::disallowed_methods, reason = "the environment names directories of the user")]
fn path_variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from)
}

/// Returns an environment variable, unless it is empty. Its value may be a secret.
///
/// # Errors
/// It is not UTF-8.
fn variable(name: &str) -> Result<Option<String>, CommandError> {
    let text = path_variable(name).map(|path| path.into_os_string().into_string()).transpose();
    let text = text.map_err(|_| CommandError::failed(format_args!("{name} is not valid UTF-8")))?;
    Ok(text.filter(|text| !text.is_empty()))
}

/// Returns the environment variables that are valid UTF-8.
#[expect(clippy::disallowed_methods, reason = "the environment overrides configuration files")]
fn environment_variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)))
}

/// Records a change that a command made.
fn record_change(
    store: Option<&Store>,
    operation: AuditOperation,
    target: AuditTarget,
    detail: Option<String>,
) -> Result<(), CommandError> {
    let Some(store) = store else { return Ok(()) };
    record_command(store, operation, target, detail).map_err(|error| {
        CommandError::failed(format_args!("done, but not recorded in the audit log: {error}"))
    })
}

/// Prints one line to standard output.
fn print(line: impl fmt::Display) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{line}")
}

/// Calls `process` with each line of standard input, without its line feed and otherwise
/// unchanged, and prints the result.
fn process_lines(mut process: impl FnMut(&[u8]) -> serde_json::Value) -> io::Result<()> {
    let (mut input, mut output) = (io::stdin().lock(), io::BufWriter::new(io::stdout().lock()));
    let mut line = Vec::new();
    while read_line(&mut input, &mut line)? {
        let token = line.strip_suffix(b"\n").unwrap_or(&line);
        writeln!(output, "{}", process(token))?;
        // Flush each result: the caller may wait for it before writing the next token.
        output.flush()?;
    }
    Ok(())
}

/// Reads one line. Keeps only the start of a line that is too long to be a token.
fn read_line(input: &mut impl io::BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    const MAX_LINE_BYTES: u64 = 32 * 1024;
    line.clear();
    let mut start = input.by_ref().take(MAX_LINE_BYTES);
    start.read_until(b'\n', line)?;
    if start.limit() == 0 && !line.ends_with(b"\n") {
        input.skip_until(b'\n')?;
    }
    Ok(!line.is_empty())
}
