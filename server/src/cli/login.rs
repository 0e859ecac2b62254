//! `countersign login` and `logout`: a session with a running server.

use std::{
    fmt,
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use countersign_engine::jws::UnverifiedToken;
use http::StatusCode;
use serde_json::{Value, json};

use super::{
    CommandError, ConfigSource,
    arguments::{LoginArgs, LogoutArgs},
    client::{ApiCall, CallError, ServerClient},
    connection::{ServerConnection, TOKEN_VARIABLE, TokenSource},
    password::PasswordInput,
    print, printable,
    sessions::SessionStore,
};
use crate::{
    base::clock::{self, distance},
    config::BearerToken,
};

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

/// Ends the session and removes the stored token, which happens even if the server is away.
pub(super) fn log_out(source: &ConfigSource, args: &LogoutArgs) -> Result<(), CommandError> {
    let connection = ServerConnection::resolve_address(&source.load_for_client()?, &args.server)?;
    let given = connection.clone().with_token()?;
    if let (TokenSource::Variable, Some(token)) = (given.token_source, &given.transport.token) {
        end_session(connection, token.clone(), args.all)?;
        return Ok(print(format_args!("Ended the session of the token in {TOKEN_VARIABLE}."))?);
    }
    let (sessions, server) = (SessionStore::of_user()?, connection.session_key());
    // A file that is not safe to use is removed too.
    let token = sessions.load(&server).ok().flatten();
    let ended = token.clone().map(|token| end_session(connection, token, args.all));
    if !sessions.remove(&server)? {
        return Ok(print(format_args!("There is no session with {server}."))?);
    }
    print(format_args!("Logged out of {server}: the stored token is deleted."))?;
    let Some(Err(error)) = ended else { return Ok(()) };
    writeln!(io::stderr(), "warning: the session was not ended: {error}")?;
    if let Some(time) = token.and_then(|token| expiry(token.expose())) {
        print(format_args!("A copy of the token would be accepted until it expires, {time}."))?;
    }
    Ok(())
}

/// Ends the session of a token on the server, or `all` sessions of its user.
fn end_session(
    mut connection: ServerConnection,
    token: BearerToken,
    all: bool,
) -> Result<(), CallError> {
    /// Limit of the wait for a server that is away.
    const LOGOUT_TIMEOUT: Duration = Duration::from_secs(10);
    let configured = connection.transport.timeout;
    connection.transport.timeout =
        Some(configured.map_or(LOGOUT_TIMEOUT, |configured| configured.min(LOGOUT_TIMEOUT)));
    (connection.transport.token, connection.token_source) = (Some(token), TokenSource::Session);
    let ended =
        ServerClient::new(connection)?.call(ApiCall::post(&["logout"], json!({ "all": all })));
    match ended {
        Ok(_) => Ok(()),
        // It was ended before, or has expired. Then it cannot end the others.
        Err(error) if error.status == Some(StatusCode::UNAUTHORIZED) && !all => Ok(()),
        Err(error) => Err(error),
    }
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
