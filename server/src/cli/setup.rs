//! `countersign setup`: creates the first user, with the dialogue of the Inmanta guide. The
//! texts, their order and the checks are those of Inmanta's command.

use std::{
    fmt,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use rustix::system::uname;

use super::{
    CommandError, ConfigSource,
    arguments::SetupArgs,
    password::{PasswordInput, read_answer},
    print, printable, record_change, state_directory,
};
use crate::{
    accounts::{LoginError, Users, check_username},
    audit::{AuditOperation, AuditTarget},
    base::redacted::shown,
    config::{AuthMethod, Config},
    store::{Store, StoreError, users::User},
};

pub(super) fn run(source: &ConfigSource, args: SetupArgs) -> Result<(), CommandError> {
    if !args.yes && !is_local()? {
        return Err(CommandError::failed(
            "The user setup was aborted as it was not executed locally on the orchestrator",
        ));
    }
    let config = source.load_for_client()?;
    check_method(&config)?;
    check_signing(source, &config)?;
    let store = connect(source, &config)?;
    let users = Users::new(store, &config.settings.api.login)?;
    let username = match args.username {
        Some(name) => name,
        None => ask_name()?,
    };
    check_username(&username).map_err(CommandError::failed)?;
    // Asked only once, as by Inmanta's command. After a typing error, setup cannot be repeated
    // on this database.
    let password =
        PasswordInput::choose(args.password_stdin).ask("What password do you want to use?: ")?;
    config.settings.api.login.passwords.check(&password).map_err(CommandError::failed)?;
    create(&users, &username, &password)?;
    let target = AuditTarget { user: Some(username.clone()), ..AuditTarget::default() };
    record_change(Some(&users.store), AuditOperation::AddUser, target, None)?;
    print_status(format_args!("User {}:", printable(&username)), "created")?;
    Ok(print("Make sure to (re)start the orchestrator to activate all changes.")?)
}

fn is_local() -> io::Result<bool> {
    prompt(
        "This command should be executed locally on the orchestrator you want to configure. \
         Are you running this command locally? [y/N]: ",
    )?;
    Ok(["y", "yes"].contains(&read_answer()?.trim().to_lowercase().as_str()))
}

/// Checks that authentication is on, and that its method is known. The user is an emergency
/// (break-glass) account if the method is not `database`.
fn check_method(config: &Config) -> Result<(), CommandError> {
    if !config.settings.api.requires_token {
        return Err(CommandError::failed(
            "Server authentication should be enabled before running the initial user setup. The \
             option auth in the server section should be enabled.\n  help: write auth=true in \
             [server]",
        ));
    }
    print_status("Server authentication:", "enabled")?;
    if let Some(unknown) = &config.web_ui.unknown_auth_method {
        return Err(CommandError::failed(format_args!(
            "The server authentication method (auth_method in the server section) is '{}', \
             expected one of database, oidc, jwt.",
            printable(&shown(unknown))
        )));
    }
    let method = config.web_ui.auth_method;
    print_status("Server authentication method:", method.name())?;
    if method != AuthMethod::Database {
        print(format_args!(
            "Note: auth_method is '{}'. Creating a break-glass database user for the web-console \
             local login fallback. Make sure web-ui.oidc_local_fallback is enabled so it can be \
             used.",
            method.name()
        ))?;
    }
    Ok(())
}

/// Checks that a section signs tokens. Otherwise prints a generated section to add.
fn check_signing(source: &ConfigSource, config: &Config) -> Result<(), CommandError> {
    if config.signing().is_some() {
        return Ok(print_status("Authentication signing config:", "found")?);
    }
    let file = configuration_file(&source.config);
    print("Error: No signing config available in the configuration.")?;
    print(format_args!(
        "To use a new config, add the following to the configuration in {}:\n",
        file.display()
    ))?;
    let host = uname().nodename().to_string_lossy().into_owned();
    let port =
        config.settings.listeners[0].address().map_or(DEFAULT_PORT, |address| address.port());
    print(state_directory::generate_section(&format!("https://{host}:{port}/"))?)?;
    Err(CommandError::failed(
        "Make sure signing configuration is added to the config. See the documentation for \
         details.",
    ))
}

/// Port for a server that listens on Unix sockets only.
const DEFAULT_PORT: u16 = 8888;

/// Returns a path for the new section: in the last directory given, the last file, or Inmanta's
/// default.
fn configuration_file(named: &[PathBuf]) -> PathBuf {
    const FILE: &str = "auth.cfg";
    if let Some(directory) = named.iter().rev().find(|path| path.is_dir()) {
        return directory.join(FILE);
    }
    named.last().cloned().unwrap_or_else(|| Path::new("/etc/inmanta/inmanta.d").join(FILE))
}

/// Opens the database, and fails if it has users.
fn connect(source: &ConfigSource, config: &Config) -> Result<Store, CommandError> {
    let store = source.store(config)?;
    print_status("Trying to connect to DB:", store.location())?;
    let users = store.block_on(store.users()).map_err(|error| {
        CommandError::failed(format_args!(
            "{error}\n  help: check [database], and that the database server is running"
        ))
    })?;
    print_status("Connection to database", "success")?;
    if users.is_empty() { Ok(store) } else { Err(already()) }
}

fn already() -> CommandError {
    CommandError::failed(
        "There are already users in the database\n  help: an administrator can add users with \
         countersign user add",
    )
}

fn ask_name() -> io::Result<String> {
    prompt("What username do you want to use? [admin]: ")?;
    let name = read_answer()?;
    Ok(if name.is_empty() { "admin".into() } else { name })
}

fn create(users: &Users, username: &str, password: &str) -> Result<(), CommandError> {
    let store = &users.store;
    let hash = store.block_on(users.hash(password)).map_err(|error| match error {
        LoginError::Store(error) => CommandError::failed(error),
        _ => CommandError::failed("not enough memory to hash the password"),
    })?;
    let user = User::new(username, hash, true);
    match store.block_on(store.add_first_user(user)) {
        Ok(true) => Ok(()),
        // Another process created the first user in the meantime.
        Ok(false) | Err(StoreError::AlreadyExists) => Err(already()),
        Err(error) => Err(CommandError::failed(error)),
    }
}

/// Prints one line of the report.
fn print_status(what: impl fmt::Display, is: &str) -> io::Result<()> {
    print(format_args!("{:<50}{}", what.to_string(), printable(is)))
}

fn prompt(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes())?;
    output.flush()
}
