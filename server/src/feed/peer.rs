//! The server that a client of the feed trusts.

use std::{io, os::unix::fs::MetadataExt as _, path::Path};

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

    /// Checks the user of the server, as the system has it (`SO_PEERCRED`).
    pub(super) fn check(self, stream: &UnixStream, socket: &Path) -> Result<(), FeedError> {
        let credentials = stream.peer_cred();
        let user = credentials.map_err(|error| FeedError(format!("the server's user: {error}")))?;
        let user = user.uid();
        let directory = socket.parent().unwrap_or(socket);
        let of_directory = owner(directory)
            .map_err(|error| FeedError(format!("the owner of {}: {error}", directory.display())))?;
        let trusted = [Some(0), Some(geteuid().as_raw()), self.configuration, Some(of_directory)];
        if trusted.contains(&Some(user)) {
            return Ok(());
        }
        Err(FeedError(format!(
            "the server is not trusted, because it runs as user {user}: run it as the owner of {}, \
             or as the owner of the configuration",
            directory.display()
        )))
    }
}

fn owner(path: &Path) -> io::Result<u32> {
    Ok(path.metadata()?.uid())
}
