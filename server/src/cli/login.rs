//! `countersign login` and `logout`: a session with a running server.

use std::{
    fmt,
    io::{self, IsTerminal as _, Write as _},
};

use countersign_engine::jws::UnverifiedToken;
use serde_json::{Value, json};

use super::{
    CommandError, ConfigSource,
    arguments::{LoginArgs, LogoutArgs},
    client::{ApiCall, ServerClient},
    connection::ServerConnection,
    password::PasswordInput,
    print, printable,
    sessions::SessionStore,
    token::inspect::distance,
};
use crate::base::clock;

/// Logs in and stores the token. If standard output is not a terminal, the token is printed too,
/// for scripts. They do not need a directory for sessions.
pub(super) fn run(source: &ConfigSource, args: &LoginArgs) -> Result<(), CommandError> {
    let connection = ServerConnection::resolve_address(&source.load_for_client()?, &args.server)?;
    let prints = args.print || !io::stdout().is_terminal();
    let sessions = (!args.print).then(SessionStore::of_user);
    if let Some(Err(error)) = &sessions
        && !prints
    {
        // The password is not typed in vain.
        return Err(cannot_store(error));
    }
    let token = request_token(&connection, args)?;
    if prints {
        print(&token)?;
    }
    let Some(sessions) = sessions else { return Ok(()) };
    let stored = sessions.and_then(|sessions| sessions.save(&connection.session_key(), &token));
    match stored {
        Ok(file) => explain(
            prints,
            format_args!(
                "Logged in to {} as {}. The session{} is in {}.",
                connection.transport.origin(),
                printable(&args.user),
                expiry(&token).map_or_else(String::new, |time| format!(", which ends {time},")),
                file.display()
            ),
        )?,
        Err(error) if prints => writeln!(io::stderr(), "warning: {error}")?,
        Err(error) => return Err(cannot_store(&error)),
    }
    if let Some(place) = connection.with_token()?.overriding_token() {
        writeln!(io::stderr(), "warning: commands use the token in {place}, not this session")?;
    }
    Ok(())
}

/// Removes the stored token. The API has no call to end a session.
pub(super) fn log_out(source: &ConfigSource, args: &LogoutArgs) -> Result<(), CommandError> {
    let connection = ServerConnection::resolve_address(&source.load_for_client()?, &args.server)?;
    let (sessions, server) = (SessionStore::of_user()?, connection.session_key());
    // A file that is not safe to use is removed too.
    let token = sessions.load(&server).ok().flatten();
    if !sessions.remove(&server)? {
        return Ok(print(format_args!("There is no session with {server}."))?);
    }
    print(format_args!("Logged out of {server}: the stored token is deleted."))?;
    if let Some(time) = token.and_then(|token| expiry(token.expose())) {
        print(format_args!("A copy of the token would be accepted until it expires, {time}."))?;
    }
    Ok(())
}

fn request_token(connection: &ServerConnection, args: &LoginArgs) -> Result<String, CommandError> {
    let client = ServerClient::new(connection.clone())?;
    let password =
        PasswordInput::choose(args.password_stdin).ask(&format!("Password of {}: ", args.user))?;
    let call = ApiCall::post(&["login"], json!({ "username": args.user, "password": password }));
    let session = client.call(call.anonymous())?;
    session["token"].as_str().map(printable).ok_or_else(|| {
        CommandError::failed("the login succeeded, but the response contains no token")
    })
}

/// Prints a sentence, to standard error if standard output is for the token.
fn explain(prints_token: bool, sentence: impl fmt::Display) -> io::Result<()> {
    if prints_token { writeln!(io::stderr(), "{sentence}") } else { print(sentence) }
}

fn cannot_store(error: &io::Error) -> CommandError {
    CommandError::failed(format_args!("{error}\n  help: --print prints the token instead"))
}

/// Returns when a token expires, relative to now. `None` if it does not, or is not a JWT.
fn expiry(token: &str) -> Option<String> {
    let parts = UnverifiedToken::decode(token.as_bytes()).ok()?;
    let claims: Value = serde_json::from_slice(&parts.payload).ok()?;
    Some(distance(claims["exp"].as_u64()?, clock::now()))
}
