//! `countersign setup`: the first user, by the dialogue of the Inmanta guide. Its words,
//! its order and its refusals are the real command's.

use std::{
    fmt,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use rustix::system::uname;

use super::{
    CommandError, ConfigSource,
    password::{PasswordInput, read_answer},
    print, printable,
};
use crate::{
    cli::SetupArgs,
    config::{AuthMethod, Config},
    state,
    store::{Store, StoreError, users::User},
    users::{LoginError, Users},
};

pub(super) fn run(place: &ConfigSource, args: SetupArgs) -> Result<(), CommandError> {
    if !args.yes && !is_local()? {
        return Err(CommandError::failed("run this command on the machine of the server"));
    }
    let config = place.load_for_client()?;
    check_method(&config)?;
    check_signing(place, &config)?;
    let store = connect(place, &config)?;
    let users = Users::new(store, &config.server.login)?;
    let username = match args.username {
        Some(name) => name,
        None => ask_name()?,
    };
    if username.is_empty() {
        return Err(CommandError::failed("the username cannot be an empty string"));
    }
    // Asked once, as by the real command: who mistypes it runs this on another database.
    let password =
        PasswordInput::choose(args.password_stdin).ask("What password do you want to use?: ")?;
    config.server.login.passwords.check(&password).map_err(CommandError::failed)?;
    create(&users, &username, &password)?;
    state(format_args!("User {}:", printable(&username)), "created")?;
    Ok(print("Make sure to (re)start the orchestrator to activate all changes.")?)
}

fn is_local() -> io::Result<bool> {
    prompt(
        "This command should be execute locally on the orchestrator you want to configure. Are you running this command \
         locally? [y/N]: ",
    )?;
    Ok(["y", "yes"].contains(&read_answer()?.trim().to_lowercase().as_str()))
}

/// Whether users of the database are what people log in as.
fn check_method(config: &Config) -> Result<(), CommandError> {
    if !config.server.auth {
        state("Server authentication:", "disabled")?;
        return Err(CommandError::failed(
            "Server authentication should be enabled.\n  help: write auth=true and auth-method=database in [server]",
        ));
    }
    state("Server authentication:", "enabled")?;
    let method = config.web_ui.auth_method;
    state("Server authentication method:", method.name())?;
    if method != AuthMethod::Database {
        let text = "Users of the database only log in where the authentication method is database.";
        return Err(CommandError::failed(format_args!(
            "{text}\n  help: write auth-method=database in [server]"
        )));
    }
    Ok(())
}

/// Whether there is a key to sign the tokens of users with; else one is made up to be
/// written down.
fn check_signing(place: &ConfigSource, config: &Config) -> Result<(), CommandError> {
    if config.signing().is_some() {
        return Ok(state("Authentication signing config:", "found")?);
    }
    let file = configuration_file(&place.config);
    print("Error: No signing config available in the configuration.")?;
    print(format_args!(
        "To use a new config, add the following to the configuration in {}:\n",
        file.display()
    ))?;
    let host = uname().nodename().to_string_lossy().into_owned();
    let port = config.server.listeners[0].address().map_or(DEFAULT_PORT, |address| address.port());
    print(state::generate_section(&format!("https://{host}:{port}/"))?)?;
    Err(CommandError::failed(
        "Make sure signing configuration is added to the config. See the documentation for details.",
    ))
}

/// That of a server that listens on no port.
const DEFAULT_PORT: u16 = 8888;

/// Where a section can be added: beside the files that were named.
fn configuration_file(named: &[PathBuf]) -> PathBuf {
    const FILE: &str = "auth.cfg";
    let directory = named.iter().rev().find(|path| path.is_dir());
    directory.map_or_else(|| Path::new("/etc/inmanta/inmanta.d"), PathBuf::as_path).join(FILE)
}

/// The database, which has no users yet.
fn connect(place: &ConfigSource, config: &Config) -> Result<Store, CommandError> {
    let store = place.store(config)?;
    state("Trying to connect to DB:", store.location())?;
    let users = store.block_on(store.users()).map_err(|fault| {
        CommandError::failed(format_args!(
            "{fault}\n  help: look at [database], and whether the database server runs"
        ))
    })?;
    state("Connection to database", "success")?;
    if users.is_empty() { Ok(store) } else { Err(already()) }
}

fn already() -> CommandError {
    CommandError::failed(
        "There are already users in the database\n  help: an administrator adds others with countersign user add",
    )
}

fn ask_name() -> io::Result<String> {
    prompt("What username do you want to use? [admin]: ")?;
    let name = read_answer()?;
    Ok(if name.is_empty() { "admin".into() } else { name })
}

fn create(users: &Users, username: &str, password: &str) -> Result<(), CommandError> {
    let store = &users.store;
    let hash = store.block_on(users.hash(password)).map_err(|fault| match fault {
        LoginError::Store(fault) => CommandError::failed(fault),
        _ => CommandError::failed("there is no memory to hash the password in"),
    })?;
    let user = User::new(username, hash, true);
    match store.block_on(store.add_first_user(user)) {
        Ok(true) => Ok(()),
        // Somebody was faster.
        Ok(false) | Err(StoreError::AlreadyExists) => Err(already()),
        Err(fault) => Err(CommandError::failed(fault)),
    }
}

/// One line of the report.
fn state(what: impl fmt::Display, is: &str) -> io::Result<()> {
    print(format_args!("{:<50}{}", what.to_string(), printable(is)))
}

fn prompt(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes())?;
    output.flush()
}
