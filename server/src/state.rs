//! The state directory of the embedded default: what the server makes up for
//! itself when nobody configured anything, kept so that it stays the same.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use aws_lc_rs::rand;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

/// The configuration kept in the state directory.
const FILE: &str = "countersign.cfg";

/// A fresh HS256 key in the form of the Inmanta guide: urlsafe base64 of 32
/// random bytes, without padding.
///
/// # Errors
/// The operating system has no randomness to give.
pub fn generate_key() -> io::Result<String> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes)
        .map_err(|_| io::Error::other("the operating system gives no randomness"))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// A section of configuration, in the form of the Inmanta guide, that signs tokens in the
/// name of this issuer with a fresh key.
///
/// # Errors
/// The operating system has no randomness to give.
pub fn generate_section(issuer: &str) -> io::Result<String> {
    let key = generate_key()?;
    Ok(format!(
        "[auth_jwt_default]\n\
         algorithm=HS256\n\
         sign=true\n\
         client_types=agent,compiler,api\n\
         key={key}\n\
         expire=0\n\
         issuer={issuer}\n\
         audience={issuer}\n"
    ))
}

/// The state directory to use when none is named: `COUNTERSIGN_STATE_DIR`, or
/// `countersign` below `XDG_STATE_HOME` or `~/.local/state`.
///
/// # Errors
/// None of these is set.
pub fn default_directory(variable: impl Fn(&str) -> Option<PathBuf>) -> io::Result<PathBuf> {
    // The XDG specification has an empty variable count as one that is not set.
    let variable = |name: &str| variable(name).filter(|value| !value.as_os_str().is_empty());
    let below_home = || Some(variable("HOME")?.join(".local/state"));
    let named = variable("COUNTERSIGN_STATE_DIR");
    named
        .or_else(|| Some(variable("XDG_STATE_HOME").or_else(below_home)?.join("countersign")))
        .ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                "no place for the state directory: name one with --state-dir",
            )
        })
}

/// The configuration of the embedded default, made now if it is not there yet.
///
/// # Errors
/// The directory or the file cannot be made.
pub fn embedded_configuration(directory: &Path) -> io::Result<PathBuf> {
    let file = directory.join(FILE);
    if file.exists() {
        return Ok(file);
    }
    let text = format!(
        "# Made by Countersign on its first start without a configuration.\n\
         # Users log in with a password, and the API asks for a token.\n\
         [server]\n\
         auth=true\n\
         auth_method=database\n\
         \n\
         # The key signs tokens: whoever reads it can make their own.\n{}",
        generate_section("https://localhost:8888/")?
    );
    create_private(directory, &file, &text).map_err(|error| {
        io::Error::new(error.kind(), format!("{}: {error}", directory.display()))
    })?;
    Ok(file)
}

/// Writes a file that only its owner can read, whole or not at all. When two
/// processes start at once, one key wins and both use it.
fn create_private(directory: &Path, file: &Path, text: &str) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    // A name that no earlier process, dead or alive, has used.
    let draft = directory.join(format!("{FILE}.{}", generate_key()?));
    let mut written =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    written.write_all(text.as_bytes())?;
    written.sync_all()?;
    #[expect(
        clippy::disallowed_methods,
        reason = "a hard link fails where a rename would overwrite another's key"
    )]
    let linked = std::fs::hard_link(&draft, file);
    #[expect(clippy::disallowed_methods, reason = "the draft is ours")]
    std::fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_follows_the_environment() {
        let set = |pairs: &'static [(&str, &str)]| {
            default_directory(move |name| {
                pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| PathBuf::from(value))
            })
        };
        assert_eq!(
            set(&[("COUNTERSIGN_STATE_DIR", "/s"), ("HOME", "/h")]).unwrap(),
            Path::new("/s")
        );
        assert_eq!(
            set(&[("XDG_STATE_HOME", "/x"), ("HOME", "/h")]).unwrap(),
            Path::new("/x/countersign")
        );
        assert_eq!(set(&[("HOME", "/h")]).unwrap(), Path::new("/h/.local/state/countersign"));
        assert_eq!(
            set(&[("XDG_STATE_HOME", ""), ("HOME", "/h")]).unwrap(),
            Path::new("/h/.local/state/countersign")
        );
        assert!(set(&[("HOME", "")]).is_err());
        assert!(set(&[]).unwrap_err().to_string().contains("--state-dir"));
    }
}
