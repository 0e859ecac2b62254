//! The commands, one file each.

mod check;
mod client;
mod client_config;
mod corpus;
mod database;
mod doctor;
mod environment;
mod jws;
mod keys;
mod login;
mod password;
mod role;
mod serve;
mod setup;
mod table;
mod token;
mod user;

use std::{
    fmt,
    io::{self, BufRead as _, Read as _, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use countersign_engine::Revocation;

use crate::{
    cli::{Cli, Command, ServeArgs},
    config::{Config, DatabaseLocation, LogFormat, Problems, raw},
    reload,
    revocation::{RevocationService, RevocationStore, journal::Journal},
    state,
    store::{Store, revocations::DatabaseRevocations},
    telemetry,
};

/// Runs a command line and says how it went.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    // A server looks into its configuration first.
    if !matches!(cli.command, None | Some(Command::Serve(_))) {
        telemetry::start_logging(LogFormat::Auto);
    }
    match dispatch(cli) {
        Ok(()) => ExitCode::SUCCESS,
        // A reader that has seen enough is no failure.
        Err(CommandError::Failed(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(failure) => {
            let _nobody_to_tell = writeln!(io::stderr(), "{failure}");
            failure.exit_code()
        }
    }
}

fn dispatch(cli: Cli) -> Result<(), CommandError> {
    let place = ConfigSource { config: cli.config, state_dir: cli.state_dir };
    match cli.command {
        None => serve::run(&place, &cli.serve),
        Some(Command::Serve(args)) => {
            serve::run(&place, &ServeArgs { threads: args.threads.or(cli.serve.threads) })
        }
        Some(Command::Config(_)) => check::run(&place),
        Some(Command::Token(command)) => token::run(&place, command),
        Some(Command::Jws(command)) => jws::run(&command),
        Some(Command::Keys(command)) => keys::run(&place, command),
        Some(Command::Setup(args)) => setup::run(&place, args),
        Some(Command::User(args)) => user::run(&place, args),
        Some(Command::Role(args)) => role::run(&place, args),
        Some(Command::Environment(args)) => environment::run(&place, args),
        Some(Command::ClientConfig(args)) => client_config::run(&place, &args),
        Some(Command::Doctor) => doctor::run(&place),
        Some(Command::Login(args)) => login::run(&place, &args),
        Some(Command::Database(command)) => database::run(&place, &command),
        Some(Command::Corpus(args)) => corpus::run(&args),
    }
}

/// Why a command failed, grouped by who can mend it.
enum CommandError {
    /// The configuration is wrong.
    Configuration(Problems),
    /// It could not be done.
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

/// The file in the state directory that revocations are kept in.
const REVOCATIONS_FILE: &str = "revocations";

/// Where a command's configuration comes from.
#[derive(Clone)]
struct ConfigSource {
    config: Vec<PathBuf>,
    state_dir: Option<PathBuf>,
}

impl ConfigSource {
    /// Whether the embedded default is in force: nobody named a configuration, and
    /// the environment describes no issuer of its own.
    fn is_embedded(&self) -> bool {
        self.config.is_empty()
            && !environment_variables().any(|(name, _)| name.starts_with("INMANTA_AUTH_JWT_"))
    }

    fn state_dir(&self) -> io::Result<PathBuf> {
        match &self.state_dir {
            Some(directory) => Ok(directory.clone()),
            #[expect(
                clippy::disallowed_methods,
                reason = "the state directory is named by the environment"
            )]
            None => state::default_directory(|name| std::env::var_os(name).map(PathBuf::from)),
        }
    }

    /// The configuration, its warnings told on standard error.
    fn load(&self) -> Result<Config, CommandError> {
        let config = Config::load(&self.files()?, environment_variables())?;
        for warning in &config.warnings {
            writeln!(io::stderr(), "warning: {warning}")?;
        }
        Ok(config)
    }

    /// The configuration of somebody who only asks a server: where nobody named one,
    /// the environment and the defaults are enough, and no key is made up.
    fn load_for_client(&self) -> Result<Config, CommandError> {
        match self.config.is_empty() {
            true => Ok(Config::load(&[], environment_variables())?),
            false => self.load(),
        }
    }

    /// The files that the configuration is read from.
    fn files(&self) -> io::Result<Vec<PathBuf>> {
        match self.is_embedded() {
            true => Ok(vec![state::embedded_configuration(&self.state_dir()?)?]),
            false => Ok(self.config.clone()),
        }
    }

    /// The file that revocations are kept in.
    fn revocation_file(&self, config: &Config) -> io::Result<PathBuf> {
        match &config.revocation.file {
            Some(file) => Ok(file.clone()),
            None => Ok(self.state_dir()?.join(REVOCATIONS_FILE)),
        }
    }

    /// Refuses clients that revoke tokens where nothing can be kept: to go on as if
    /// nothing had ever been revoked would be no service.
    fn check_api_clients(&self, config: &Config) -> Result<(), String> {
        match self.revocation_file(config) {
            _ if self.stores_revocations_in_database(config) => Ok(()),
            Err(reason) if !config.server.api_clients.is_empty() => {
                Err(format!("[api_clients] may revoke tokens, but {reason}"))
            }
            _ => Ok(()),
        }
    }

    /// The desk over that file. Where there is no place for a state directory,
    /// tokens are verified all the same, but none can be revoked. A server keeps it
    /// tidy, every so often.
    fn revocation_service(
        &self,
        config: &Config,
        purge_interval: Option<Duration>,
    ) -> io::Result<RevocationService> {
        let kept = match self.revocation_store(config) {
            Some(store) => {
                Ok(Box::new(DatabaseRevocations::new(store?, self.earlier_revocations()?))
                    as Box<dyn RevocationStore>)
            }
            None => self
                .revocation_file(config)
                .map(|file| Box::new(Journal::new(file)) as _)
                .map_err(|error| error.to_string()),
        };
        RevocationService::open(kept, config.revocation.capacity, purge_interval)
    }

    /// The database that revocations are kept in: one that nodes share, unless a file is
    /// named.
    fn revocation_store(&self, config: &Config) -> Option<io::Result<Store>> {
        self.stores_revocations_in_database(config).then(|| self.store(config))
    }

    fn stores_revocations_in_database(&self, config: &Config) -> bool {
        let is_shared = matches!(config.database.location, DatabaseLocation::Postgres { .. });
        is_shared && config.revocation.file.is_none()
    }

    /// What was revoked before there was a database that nodes share.
    fn earlier_revocations(&self) -> io::Result<Vec<Revocation>> {
        match self.state_dir().map(|directory| directory.join(REVOCATIONS_FILE)) {
            Ok(file) if file.exists() => Ok(Journal::new(file).read_new()?.unwrap_or_default()),
            _ => Ok(Vec::new()),
        }
    }

    /// The database. Nothing is opened yet.
    fn store(&self, config: &Config) -> io::Result<Store> {
        Store::new(&config.database, || self.state_dir())
    }
}

impl reload::ConfigLoader for ConfigSource {
    fn load(&self) -> Result<Config, String> {
        let files = self.files().map_err(|error| error.to_string())?;
        let expanded = raw::expand(&files).map_err(|problem| problem.to_string())?;
        // A pipe had its say at the start; now it would have none, or nobody to say it.
        if let Some(odd) = expanded.iter().find(|file| file.exists() && !file.is_file()) {
            return Err(format!(
                "error: {}: it is no regular file, so it cannot be read again: restart instead",
                odd.display()
            ));
        }
        let config = Config::load(&files, environment_variables())
            .map_err(|problems| problems.to_string())?;
        self.check_api_clients(&config).map_err(|reason| format!("error: {reason}"))?;
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        Ok(config)
    }

    fn files(&self) -> Vec<PathBuf> {
        self.files()
            .and_then(|paths| {
                raw::expand(&paths).map_err(|problem| io::Error::other(problem.to_string()))
            })
            .unwrap_or_default()
    }
}

/// The environment, apart from what is not text.
#[expect(clippy::disallowed_methods, reason = "the environment overrides configuration files")]
fn environment_variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)))
}

/// The text with everything escaped that a terminal would act on rather than
/// show: whoever wrote it may want the output to say something else.
fn printable(text: &str) -> String {
    let mut shown = String::new();
    for character in text.chars() {
        let visible = character.is_ascii_graphic()
            || character == ' '
            || (!character.is_ascii() && character.escape_debug().len() == 1);
        if visible { shown.push(character) } else { shown.extend(character.escape_unicode()) }
    }
    shown
}

/// Prints one line for whoever called.
fn print(line: impl fmt::Display) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{line}")
}

/// Calls `answer` with each line of standard input, without its line ending and
/// otherwise untouched, and prints what it returns.
fn process_lines(mut answer: impl FnMut(&[u8]) -> serde_json::Value) -> io::Result<()> {
    let (mut input, mut output) = (io::stdin().lock(), io::BufWriter::new(io::stdout().lock()));
    let mut line = Vec::new();
    while read_line(&mut input, &mut line)? {
        let token = line.strip_suffix(b"\n").unwrap_or(&line);
        writeln!(output, "{}", answer(token))?;
        // A caller that writes one token and waits must not wait for ever.
        output.flush()?;
    }
    Ok(())
}

/// Reads one line; of one too long to be a token, only as much as shows that.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_cannot_command_the_terminal() {
        assert_eq!(printable("plain \"é\" \\ 日本"), "plain \"é\" \\ 日本");
        assert_eq!(
            printable("\u{1b}[2J\n\u{9b}\u{202e}\u{7f}"),
            "\\u{1b}[2J\\u{a}\\u{9b}\\u{202e}\\u{7f}"
        );
    }
}
