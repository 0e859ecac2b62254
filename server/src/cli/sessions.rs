//! Tokens of logins: one file for each server, readable by its owner only.
//!
//! The directory is `countersign/sessions` in `XDG_CONFIG_HOME` or `~/.config`. A file that other
//! users could have written or can read is not used, and a symbolic link is not followed.

use std::{io, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{atomic_file, path_variable};
use crate::config::BearerToken;

/// The directory of the sessions of one user of this machine.
pub(super) struct SessionStore {
    directory: PathBuf,
}

/// Contents of a file. The origin is repeated in it, so that a renamed file is not used for
/// another server.
#[derive(Deserialize, Serialize)]
struct SessionFile {
    server: String,
    token: String,
}

impl SessionStore {
    /// Returns the store of the user.
    ///
    /// # Errors
    /// The environment does not name a directory.
    pub(super) fn of_user() -> io::Result<Self> {
        // The XDG specification ignores relative paths.
        let directory = |name| path_variable(name).filter(|path| path.is_absolute());
        let below_home = || Some(directory("HOME")?.join(".config"));
        let base = directory("XDG_CONFIG_HOME").or_else(below_home).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                "there is no directory for sessions: set XDG_CONFIG_HOME or HOME",
            )
        })?;
        Ok(Self { directory: base.join("countersign/sessions") })
    }

    /// Returns the file of the session with a server, given by its origin.
    pub(super) fn file(&self, origin: &str) -> PathBuf {
        // Scheme and port contain no underscore, so that the name is unique.
        let (scheme, authority) = origin.split_once("://").unwrap_or(("", origin));
        let (host, port) = authority.rsplit_once(':').unwrap_or((authority, ""));
        self.directory.join(format!("{scheme}_{host}_{port}.json"))
    }

    /// Returns the token for a server, if there is a session.
    ///
    /// # Errors
    /// The file cannot be read, or is not safe to use.
    pub(super) fn load(&self, origin: &str) -> io::Result<Option<BearerToken>> {
        let path = self.file(origin);
        let Some(text) = atomic_file::read_private(&path).map_err(|error| {
            io::Error::other(format!(
                "{}: {error}\n  help: remove the file, and log in again with countersign login",
                path.display()
            ))
        })?
        else {
            return Ok(None);
        };
        // The message does not contain the token.
        let session = serde_json::from_str(&text)
            .ok()
            .filter(|session: &SessionFile| session.server == origin)
            .and_then(|session| BearerToken::new(&session.token));
        session.map(Some).ok_or_else(|| {
            io::Error::other(format!(
                "{}: not a session with {origin}\n  help: log in again with countersign login",
                path.display()
            ))
        })
    }

    /// Stores the token for a server.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn save(&self, origin: &str, token: &str) -> io::Result<PathBuf> {
        let path = self.file(origin);
        let session = SessionFile { server: origin.into(), token: token.into() };
        atomic_file::create_directory(&self.directory)
            .and_then(|()| serde_json::to_string(&session).map_err(io::Error::other))
            .and_then(|text| atomic_file::replace(&path, &text, atomic_file::PRIVATE))
            .map_err(|error| {
                io::Error::new(
                    error.kind(),
                    format!("cannot store the session in {}: {error}", path.display()),
                )
            })?;
        Ok(path)
    }

    /// Removes the token for a server. Returns whether there was one.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub(super) fn remove(&self, origin: &str) -> io::Result<bool> {
        let path = self.file(origin);
        #[expect(clippy::disallowed_methods, reason = "a logout removes the session")]
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
        }
    }
}
