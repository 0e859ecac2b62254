//! Key sources of an `auth_jwt_*` section: the options `key`, `key_file`, `jwks_uri` and
//! `discovery_uri`, and the options for fetching.

mod fetching;
mod public;
mod rotation;
mod secrets;

use std::{
    fmt,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use countersign_engine::{
    Algorithm, AlgorithmSet, KeySet, KeyType, jwks::Origin, rotation::Timing,
};
use rustls::pki_types::CertificateDer;

use super::{secret_encoding::SecretEncoding, secret_keys::SecretKeys};
use crate::{
    base::{redacted::without_query, watched_file::open_regular},
    config::reader::SectionReader,
};

/// HMAC secret for signing or verifying. Its [`Debug`](fmt::Debug) output hides it.
#[derive(Clone)]
pub struct SigningSecret {
    bytes: Box<[u8]>,
    /// The file that it was read from, if any.
    file: Option<PathBuf>,
}

impl SigningSecret {
    pub(crate) fn new(secret: impl Into<Box<[u8]>>, file: Option<PathBuf>) -> Self {
        Self { bytes: secret.into(), file }
    }

    /// The secret itself.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret(..)")
    }
}

/// Source of an issuer's keys.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// `key`, or `key_file` of the section that signs: a shared secret. In that section, with those
    /// that it rotates with.
    Secret(SecretKeys),
    /// `key`: static public keys, or secrets as JWKs.
    Static(Arc<KeySet>),
    /// A location whose keys may change.
    Refreshed(Arc<RefreshedKeys>),
}

impl KeySource {
    /// Whether the issuer publishes its keys.
    #[must_use]
    pub fn are_published(&self) -> bool {
        match self {
            Self::Secret(_) | Self::Static(_) => false,
            Self::Refreshed(keys) => match &keys.location {
                KeyLocation::Jwks(_) | KeyLocation::Discovery(_) => true,
                KeyLocation::File { origin, .. } => *origin == Origin::Published,
            },
        }
    }

    /// Returns the files of shared secrets, which are read with the configuration.
    pub fn secret_files(&self) -> impl Iterator<Item = &Path> {
        let secrets = match self {
            Self::Secret(secrets) => Some(secrets),
            Self::Static(_) | Self::Refreshed(_) => None,
        };
        secrets.into_iter().flat_map(SecretKeys::files)
    }

    /// Whether the keys are in a file, which is read again when it changes.
    #[must_use]
    pub fn is_file(&self) -> bool {
        matches!(self, Self::Refreshed(keys) if matches!(keys.location, KeyLocation::File { .. }))
    }
}

/// Keys that are fetched again at intervals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefreshedKeys {
    /// Location of the keys.
    pub location: KeyLocation,
    /// Whether the provider's certificate is checked.
    pub validate_cert: bool,
    /// Trusted root certificates for the provider, in addition to those of the system.
    pub authorities: Vec<CertificateDer<'static>>,
    /// File with the bearer token of the fetches.
    pub token_file: Option<PathBuf>,
    /// Timeout of a fetch.
    pub timeout: Duration,
    /// Fetch intervals and maximum age.
    pub timing: Timing,
}

impl RefreshedKeys {
    /// Whether `other` has the same location and trust settings. Intervals and timeouts may
    /// differ.
    #[must_use]
    pub fn has_same_trust(&self, other: &Self) -> bool {
        let trust =
            |keys: &Self| (keys.location.clone(), keys.validate_cert, keys.authorities.clone());
        trust(self) == trust(other)
    }
}

/// Location of refreshed keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyLocation {
    /// A file, checked every second.
    File {
        /// Its path.
        path: PathBuf,
        /// Whether an operator wrote the file or an issuer published it.
        origin: Origin,
        /// Encoding of a shared secret; `None` for public keys.
        encoding: Option<SecretEncoding>,
    },
    /// A JWK Set (RFC 7517 section 5) at this `https://` or `http://` URI.
    Jwks(String),
    /// An OpenID provider's metadata (OpenID Connect Discovery 1.0 section 4) at this URI.
    /// Its `jwks_uri` is the location of the key set.
    Discovery(String),
}

impl fmt::Display for KeyLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, .. } => write!(f, "file {}", path.display()),
            Self::Jwks(uri) | Self::Discovery(uri) => {
                write!(f, "{} {}", self.option(), without_query(uri))
            }
        }
    }
}

impl KeyLocation {
    /// Returns the option of a location on the network, or `file`.
    #[must_use]
    pub fn option(&self) -> &'static str {
        match self {
            Self::File { .. } => "file",
            Self::Jwks(_) => "jwks_uri",
            Self::Discovery(_) => "discovery_uri",
        }
    }

    /// Returns the URI of a location on the network.
    #[must_use]
    pub fn uri(&self) -> Option<&str> {
        match self {
            Self::File { .. } => None,
            Self::Jwks(uri) | Self::Discovery(uri) => Some(uri),
        }
    }
}

/// Settings of a section that determine its keys.
#[derive(Clone, Copy)]
pub(crate) struct KeyContext {
    pub(super) algorithms: AlgorithmSet,
    pub(super) sign: bool,
    /// Whether the main listener uses TLS.
    pub(super) serves_tls: bool,
}

pub(crate) fn read(reader: &mut SectionReader<'_>, context: KeyContext) -> Option<KeySource> {
    let is_secret = |algorithm: Algorithm| algorithm.key_type() == KeyType::Secret;
    let (secret, public) = (
        context.algorithms.iter().any(is_secret),
        context.algorithms.iter().any(|one| !is_secret(one)),
    );
    if secret && public {
        let text = format!("{} mixes shared secrets (HS...) with public keys", reader.section);
        reader.error("algorithms", text, "use a separate section and issuer for each kind");
        return None;
    }
    if context.sign && !context.algorithms.contains(Algorithm::Hs256) {
        let text = format!("sign is true in {}, but only HS256 can sign tokens", reader.section);
        reader.error(
            "sign",
            text,
            "set sign = true in a section with algorithm HS256; create a key with countersign key \
             generate",
        );
        return None;
    }
    if public && reader.text("key_encoding").is_some() {
        let text = format!("key_encoding in {} is ignored: its keys are public", reader.section);
        reader.warn("key_encoding", text, "remove the line");
    }
    if !context.sign {
        rotation::refuse(reader);
    }
    let source =
        if secret { secrets::read(reader, context) } else { public::read(reader, context) }?;
    warn_of_ignored(reader, &source);
    Some(source)
}

/// Warns about options for fetching that have no effect on this source, because an operator
/// may rely on them.
fn warn_of_ignored(reader: &mut SectionReader<'_>, source: &KeySource) {
    const FETCHING: [&str; 6] = [
        "jwks_token_file",
        "ca_file",
        "jwks_cool_down",
        "jwks_refresh_interval",
        "jwks_request_timeout",
        "validate_cert",
    ];
    const SOURCES: [&str; 3] = ["discovery_uri", "jwks_uri", "key_file"];
    let (what, ignored) = match source {
        // All of them apply to a URI, and a second source is an error.
        KeySource::Refreshed(keys) if keys.location.uri().is_some() => return,
        KeySource::Refreshed(_) => ("a file", FETCHING.to_vec()),
        KeySource::Secret(_) if reader.text("key").is_none() => {
            ("a file that is read once", [&FETCHING[..], &["jwks_stale"]].concat())
        }
        KeySource::Secret(_) | KeySource::Static(_) => {
            ("key", [&FETCHING[..], &["jwks_stale"], &SOURCES].concat())
        }
    };
    for option in ignored {
        if reader.text(option).is_some() {
            let text =
                format!("{option} in {} is ignored: its keys come from {what}", reader.section);
            reader.warn(option, text, "remove the line");
        }
    }
}

fn reject_two_sources(
    reader: &mut SectionReader<'_>,
    first: &str,
    second: &str,
) -> Option<KeySource> {
    let text = format!("{} has two sources of keys: {first} and {second}", reader.section);
    reader.error(second, text, "remove one of them");
    None
}

fn read_file(reader: &mut SectionReader<'_>, option: &str, path: &Path) -> Option<Vec<u8>> {
    read_regular(path)
        .map_err(|error| {
            let text =
                format!("cannot read {option} in {}: {}: {error}", reader.section, path.display());
            reader.error(option, text, "check the path and its permissions");
        })
        .ok()
}

fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    // Bounds the read: a device has no end.
    const MAX_FILE_BYTES: u64 = 1 << 20;
    let mut bytes = Vec::new();
    open_regular(path)?.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signing_secret_debug_hides_the_secret() {
        assert_eq!(format!("{:?}", SigningSecret::new([1, 2, 3], None)), "SigningSecret(..)");
    }
}
