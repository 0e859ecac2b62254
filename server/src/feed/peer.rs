//! The server that a client of the feed trusts.

use std::{collections::BTreeSet, io, os::unix::fs::MetadataExt as _, path::Path};

use rustix::process::geteuid;
use tokio::net::UnixStream;

use super::connection::FeedError;

/// The users whose server is trusted, beside root, the own user, and the owner of the directory
/// of the socket. All of these can change what the process does, or replace the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrustedOwners {
    /// The owner of the configuration.
    configuration: Option<u32>,
}

impl TrustedOwners {
    /// Trusts the owner of this configuration file.
    #[must_use]
    pub fn of_configuration(file: &Path) -> Self {
        Self { configuration: owner(file).ok() }
    }

    /// Checks the user of the server, as the system has it (`SO_PEERCRED`), and returns it.
    pub(super) fn check(self, stream: &UnixStream, socket: &Path) -> Result<u32, FeedError> {
        let credentials = stream.peer_cred();
        let user = credentials.map_err(|error| FeedError(format!("the server's user: {error}")))?;
        let user = user.uid();
        let directory = socket.parent().unwrap_or(socket);
        let of_directory = check_directory(socket).map_err(FeedError)?;
        let trusted = [Some(0), Some(geteuid().as_raw()), self.configuration, Some(of_directory)];
        if trusted.contains(&Some(user)) {
            return Ok(user);
        }
        let trusted: BTreeSet<_> = trusted.iter().flatten().map(u32::to_string).collect();
        let trusted = trusted.into_iter().collect::<Vec<_>>().join(" or ");
        Err(FeedError(format!(
            "the server is not trusted, because it runs as user {user} instead of {trusted}: run \
             it as the owner of {}, or as the owner of the configuration",
            directory.display()
        )))
    }
}

/// Checks the directory of a socket, and returns its owner. A user who may write to it could put
/// another socket there while the server is stopped.
///
/// # Errors
/// The mistake and its remedy.
pub(super) fn check_directory(socket: &Path) -> Result<u32, String> {
    let directory = socket.parent().unwrap_or(socket);
    let name = directory.display();
    let about = directory.metadata().map_err(|error| format!("the owner of {name}: {error}"))?;
    if about.mode() & OTHERS_WRITE != 0 {
        return Err(format!(
            "all users may write to {name}, and replace the socket: put it into a directory of the \
             server's user"
        ));
    }
    Ok(about.uid())
}

/// The permission of all users to write.
const OTHERS_WRITE: u32 = 0o002;

fn owner(path: &Path) -> io::Result<u32> {
    Ok(path.metadata()?.uid())
}
