//! A check of the feed, for a command.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    os::unix::net::UnixStream,
    time::Duration,
};

use super::{
    client::connect_error, connection::check_hello, line::FeedLine, peer::check_directory,
    settings::FeedSettings,
};

/// Time in which the first line arrives.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Limit of the first line, in bytes.
const MAX_HELLO_BYTES: u64 = 1024;

/// Connects to the server's feed, and reads its first line.
///
/// # Errors
/// The reason why a tier could not follow it, with the remedy.
pub fn probe(settings: &FeedSettings) -> Result<(), String> {
    check_directory(&settings.socket)?;
    let stream = UnixStream::connect(&settings.socket);
    let stream = stream.map_err(|error| connect_error(&error).to_string())?;
    let read_failed = |error| format!("the server is silent: {error}");
    stream.set_read_timeout(Some(TIMEOUT)).map_err(read_failed)?;
    let mut line = Vec::new();
    BufReader::new(stream.take(MAX_HELLO_BYTES))
        .read_until(b'\n', &mut line)
        .map_err(read_failed)?;
    let hello = FeedLine::parse(line.trim_ascii_end());
    let hello = hello.map_err(|error| format!("the first line cannot be read: {error}"))?;
    check_hello(&hello).map(drop).map_err(|error| error.to_string())
}
