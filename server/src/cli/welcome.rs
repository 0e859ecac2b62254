//! Credentials for trying out the embedded default configuration: a first user, and a token.
//!
//! They are printed only on a terminal, because other outputs end in the log of a container or of
//! a service manager. The token is always in a file as well, so that the printed command contains
//! no secret. The password is in a file if it cannot be printed.

use std::{
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
};

use super::{
    CommandError, atomic_file, print, record_change, serve::bootstrap_token, signing_section,
    state_directory,
};
use crate::{
    accounts::{LoginError, Users},
    audit::{AuditOperation, AuditTarget},
    config::Config,
    store::users::User,
};

/// Name of the first user.
const FIRST_USER: &str = "admin";
/// File in the state directory with the password of the first user.
const PASSWORD_FILE: &str = "admin-password";
/// File in the state directory with a token that each start renews.
const TOKEN_FILE: &str = "token";

/// What a start of the server with the embedded default configuration prints.
pub(super) struct Welcome {
    /// The state directory, as an absolute path.
    directory: PathBuf,
    /// A token for all client types.
    token: String,
    /// Password of the first user, if this start created it.
    password: Option<String>,
    /// Whether the secrets are printed.
    shows_secrets: bool,
}

impl Welcome {
    /// Creates the first user in an empty database, and a token for this start.
    pub(super) fn prepare(
        config: &Config,
        users: Option<&Users>,
        directory: &Path,
    ) -> Result<Self, CommandError> {
        let directory = std::path::absolute(directory)?;
        let shows_secrets = io::stdout().is_terminal();
        let token = bootstrap_token(signing_section(config)?)?;
        let file = directory.join(TOKEN_FILE);
        atomic_file::replace(&file, &format!("{token}\n"), atomic_file::PRIVATE)
            .map_err(|error| atomic_file::with_path(&file, &error))?;
        let password = match users {
            Some(users) => add_first_user(users, &directory, shows_secrets)?,
            None => None,
        };
        Ok(Self { directory, token, password, shows_secrets })
    }

    /// Prints the credentials, or their files, and a command that uses the token at `url`.
    pub(super) fn print(&self, url: &str) -> io::Result<()> {
        let Self { directory, token, password, shows_secrets } = self;
        print(format_args!(
            "  state     {} (embedded default: no --config was given)",
            directory.display()
        ))?;
        match password {
            Some(password) if *shows_secrets => print(format_args!(
                "  admin     user {FIRST_USER}, password {password} (shown only once)"
            ))?,
            Some(_) => print(format_args!(
                "  admin     user {FIRST_USER}, password in {}",
                directory.join(PASSWORD_FILE).display()
            ))?,
            None => {}
        }
        print("\nA token for all client types (api, compiler, agent), valid for one hour:\n")?;
        let file = directory.join(TOKEN_FILE);
        if *shows_secrets {
            print(token)?
        } else {
            print(file.display())?
        }
        print("\nTry it:\n")?;
        let file = shell_word(&file);
        print(format_args!("curl -i -H \"Authorization: Bearer $(cat {file})\" {url}/auth"))?;
        print("")
    }
}

/// Adds an administrator if there are no users, and returns the password.
///
/// A password that cannot be printed is stored before the user is. After a crash, and in a second
/// process, the password in the file is used, so that the file always has the right one.
fn add_first_user(
    users: &Users,
    directory: &Path,
    shows_secrets: bool,
) -> Result<Option<String>, CommandError> {
    let store = &users.store;
    if !store.block_on(store.users()).map_err(CommandError::failed)?.is_empty() {
        return Ok(None);
    }
    let file = directory.join(PASSWORD_FILE);
    let password = match stored_password(&file)? {
        Some(password) => password,
        None if shows_secrets => generate_password()?,
        None => {
            let text = format!("{}\n", generate_password()?);
            match atomic_file::create(&file, &text, atomic_file::PRIVATE) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(atomic_file::with_path(&file, &error).into());
                }
                _ => stored_password(&file)?.unwrap_or_else(|| text.trim().into()),
            }
        }
    };
    let added = async {
        let hash = users.hash(&password).await?;
        Ok::<_, LoginError>(store.add_first_user(User::new(FIRST_USER, hash, true)).await?)
    };
    let is_ours = store.block_on(added).map_err(CommandError::failed)?;
    if is_ours {
        let target = AuditTarget { user: Some(FIRST_USER.into()), ..AuditTarget::default() };
        record_change(Some(store), AuditOperation::AddUser, target, None)?;
    }
    Ok(is_ours.then_some(password))
}

/// Returns half of a random key: 126 bits.
fn generate_password() -> io::Result<String> {
    Ok(state_directory::generate_key()?.split_off(22))
}

/// Reads the password that an earlier start stored, if any.
fn stored_password(file: &Path) -> Result<Option<String>, CommandError> {
    let text = atomic_file::read_private(file).map_err(|error| {
        let place = file.display();
        CommandError::failed(format_args!("{place}: {error}\n  help: remove the file"))
    })?;
    Ok(text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()))
}

/// Quotes a path for a shell, if necessary.
fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    if text.bytes().all(is_plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_is_quoted_for_a_shell_if_necessary() {
        for (path, expected) in
            [("/a/b-c.d_e", "/a/b-c.d_e"), ("/a b", "'/a b'"), ("/it's", "'/it'\\''s'")]
        {
            assert_eq!(shell_word(Path::new(path)), expected);
        }
    }
}
