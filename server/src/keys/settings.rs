//! Key sources of an `auth_jwt_*` section: the options `key`, `key_file`, `jwks_uri` and
//! `discovery_uri`, and the options for fetching.

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
use percent_encoding::percent_decode_str;
use rustls::pki_types::CertificateDer;

use super::{
    published::default_discovery_uri,
    secret_encoding::{SecretEncoding, looks_like_text},
    static_keys,
};
use crate::{
    base::{
        redacted::{uri_origin, without_query},
        roots,
        uri::is_protected,
        watched_file::open_regular,
    },
    config::reader::SectionReader,
};

/// HMAC secret for signing or verifying. Its [`Debug`](fmt::Debug) output hides it.
#[derive(Clone)]
pub struct SigningSecret(Box<[u8]>);

impl SigningSecret {
    /// The secret itself.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
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
    /// `key`, or `key_file` of the section that signs: a shared secret.
    Secret(SigningSecret),
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
    let source = if secret { read_secrets(reader, context) } else { read_public(reader, context) }?;
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

/// Reads `key` or `key_file` of a section with shared secrets.
fn read_secrets(reader: &mut SectionReader<'_>, context: KeyContext) -> Option<KeySource> {
    match (reader.text("key"), reader.text("key_file")) {
        (Some(_), Some(_)) => reject_two_sources(reader, "key", "key_file"),
        (Some(text), None)
            if static_keys::is_jwk_text(text.as_bytes(), read_encoding(reader))
                && !context.sign =>
        {
            read_static_keys(reader, text, context)
        }
        (Some(text), None) => read_secret(reader, "key", text.as_bytes(), context),
        (None, Some(path)) => {
            reader.warn_if_readable_by_all("key_file", Path::new(path));
            read_secret_file(reader, path, context)
        }
        (None, None) => {
            let longest = context.algorithms.iter().max()?;
            let text = format!("key is required in {} for algorithm {longest}", reader.section);
            reader.error("key", text, "create one with countersign key generate");
            None
        }
    }
}

fn read_secret_file(
    reader: &mut SectionReader<'_>,
    path: &str,
    context: KeyContext,
) -> Option<KeySource> {
    if !context.sign {
        hint_at_text_in_file(reader, Path::new(path), context);
        let encoding = Some(read_encoding(reader));
        let location = KeyLocation::File { path: path.into(), origin: Origin::Static, encoding };
        return Some(refreshed_keys(reader, location));
    }
    // Read once: the signing key does not change while the server runs.
    let text = read_file(reader, "key_file", Path::new(path))?;
    read_secret(reader, "key_file", &text, context)
}

fn read_secret(
    reader: &mut SectionReader<'_>,
    option: &str,
    text: &[u8],
    context: KeyContext,
) -> Option<KeySource> {
    // The longest hash requires the longest key.
    let longest = context.algorithms.iter().max()?;
    let bytes = longest.min_secret_bytes()?;
    let encoding = read_encoding(reader);
    let text = static_keys::without_byte_order_mark(text);
    let others = encoding.alternatives(text, bytes);
    let others: Vec<_> =
        others.iter().map(|other| format!("key_encoding = {}", other.name())).collect();
    // Messages do not contain the key, because they may be logged.
    let Some(secret) = encoding.decode(text) else {
        let name = match encoding {
            SecretEncoding::Base64Url => "urlsafe base64",
            SecretEncoding::Text => "UTF-8 text",
            encoding => encoding.name(),
        };
        let help = if text.trim_ascii().starts_with(b"{") {
            "a section that signs does not accept a JWK: write the value of its member \"k\"".into()
        } else if others.is_empty() {
            "use A-Z a-z 0-9 - and _ only, or create a key with countersign key generate".into()
        } else {
            let others = others.join(" or ");
            format!(
                "if it is in another encoding, write {others}; or create a key with countersign \
                     key generate"
            )
        };
        reader.error(option, format!("{option} in {} is not {name}", reader.section), &help);
        return None;
    };
    if secret.len() < bytes {
        let text = format!(
            "{longest} requires a key of {bytes} bytes ({} bits) or longer in {}",
            bytes * 8,
            reader.section
        );
        let mut help = "create one with countersign key generate".to_owned();
        if !others.is_empty() {
            help += &format!("; if it is in another encoding, write {}", others.join(" or "));
        }
        reader.error(option, text, &help);
        return None;
    }
    hint_at_text(reader, option, text, context);
    Some(KeySource::Secret(SigningSecret(secret.into())))
}

/// Reads `key_encoding`.
fn read_encoding(reader: &mut SectionReader<'_>) -> SecretEncoding {
    reader.choice("key_encoding", &SecretEncoding::ALL, SecretEncoding::name)
}

/// Notes a secret in the default encoding that looks like a text. The key of the section that signs
/// is left alone: another encoding would be another key.
fn hint_at_text(reader: &mut SectionReader<'_>, option: &str, text: &[u8], context: KeyContext) {
    let is_default = reader.text("key_encoding").is_none() && !context.sign;
    let Some(kind) = str::from_utf8(text).ok().filter(|_| is_default).and_then(looks_like_text)
    else {
        return;
    };
    let text =
        format!("{option} in {} is read as base64url, and looks like {kind}", reader.section);
    let help = "if its issuer signs with the bytes of the text itself, write key_encoding = text, \
                and with those of hexadecimal digits, hex; key_encoding = base64url confirms it";
    reader.note(option, text, help);
}

/// Does the same for a file, which need not exist yet.
fn hint_at_text_in_file(reader: &mut SectionReader<'_>, path: &Path, context: KeyContext) {
    if let Ok(text) = read_regular(path)
        && !static_keys::is_jwk_text(&text, SecretEncoding::default())
    {
        hint_at_text(reader, "key_file", &text, context);
    }
}

/// Reads the source of a section with public keys.
fn read_public(reader: &mut SectionReader<'_>, context: KeyContext) -> Option<KeySource> {
    const SOURCES: [&str; 4] = ["jwks_uri", "discovery_uri", "key_file", "key"];
    let given: Vec<_> =
        SOURCES.into_iter().filter(|option| reader.text(option).is_some()).collect();
    match given[..] {
        [] => {
            if let Some(uri) = default_discovery_uri(reader) {
                return Some(refreshed_keys(reader, KeyLocation::Discovery(uri)));
            }
            let text = format!(
                "jwks_uri is required for RS256 based providers in section {}",
                reader.section
            );
            reader.error(
                "jwks_uri",
                text,
                "set jwks_uri or discovery_uri, or give the public key as key or key_file; for an \
                 https:// issuer whose keys are found by discovery, remove algorithm",
            );
            None
        }
        [option] => read_source(reader, option, context),
        // Inmanta ignores `key` beside a `jwks_uri`.
        ["jwks_uri", "key"] => {
            let text = format!("key in {} is ignored because jwks_uri is set", reader.section);
            reader.warn("key", text, "remove the line");
            read_source(reader, "jwks_uri", context)
        }
        [first, second, ..] => reject_two_sources(reader, first, second),
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

fn read_source(
    reader: &mut SectionReader<'_>,
    option: &str,
    context: KeyContext,
) -> Option<KeySource> {
    let text = reader.text(option)?;
    let location = match option {
        "key" => return read_static_keys(reader, text, context),
        "key_file" => {
            KeyLocation::File { path: text.into(), origin: Origin::Static, encoding: None }
        }
        option => read_uri(reader, option, text)?,
    };
    if context.serves_tls && location.uri().is_some_and(|uri| uri.starts_with("http://")) {
        let text = format!(
            "{option} in {} is plain http: anyone on the network path can replace the keys",
            reader.section
        );
        reader.warn(option, text, "use https, as the main listener does");
    }
    Some(refreshed_keys(reader, location))
}

/// Reads `key`: static public keys, or secrets as JWKs.
fn read_static_keys(
    reader: &mut SectionReader<'_>,
    text: &str,
    context: KeyContext,
) -> Option<KeySource> {
    match static_keys::parse_keys(text.as_bytes(), context.algorithms) {
        Ok((keys, remarks)) => {
            for remark in remarks {
                reader.warn("key", remark, "");
            }
            Some(KeySource::Static(Arc::new(keys)))
        }
        Err(error) => {
            let text = format!("key in {} cannot be used: {error}", reader.section);
            reader.error(
                "key",
                text,
                "write a public key or certificate as PEM, as base64 of its DER, or as a JWK",
            );
            None
        }
    }
}

fn read_uri(reader: &mut SectionReader<'_>, option: &str, uri: &str) -> Option<KeyLocation> {
    let (scheme, rest) = uri.split_once("://").unwrap_or_default();
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.contains('@') {
        // The URI contains a password, so the message must not.
        let text = format!("{option} in {} contains credentials", reader.section);
        reader.error(option, text, "key sets are public: write a URI without user and password");
        return None;
    }
    let is_file = scheme == "file" && option == "jwks_uri";
    let complete = if is_file {
        rest.starts_with('/') || rest.starts_with("localhost/")
    } else {
        !authority.is_empty()
    };
    if !(is_file || ["https", "http"].contains(&scheme))
        || !complete
        || uri.contains(char::is_whitespace)
    {
        let (schemes, example) = match option {
            "jwks_uri" => (
                "https://, http:// or file://",
                "https://idp.example/keys or file:///etc/countersign/keys.json",
            ),
            _ => ("https:// or http://", "https://idp.example/.well-known/openid-configuration"),
        };
        let text =
            format!("{option} {} in {} is not an {schemes} URI", uri_origin(uri), reader.section);
        reader.error(option, text, &format!("write one such as {example}"));
        return None;
    }
    Some(match option {
        "discovery_uri" => KeyLocation::Discovery(uri.into()),
        _ if is_file => {
            let path = percent_decode_str(rest.strip_prefix("localhost").unwrap_or(rest))
                .decode_utf8_lossy();
            KeyLocation::File {
                path: PathBuf::from(&*path),
                origin: Origin::Published,
                encoding: None,
            }
        }
        _ => KeyLocation::Jwks(uri.into()),
    })
}

fn refreshed_keys(reader: &mut SectionReader<'_>, location: KeyLocation) -> KeySource {
    let validate_cert = reader.flag("validate_cert");
    if !validate_cert && location.uri().is_some() {
        let text = format!(
            "validate_cert is off in {}: anyone on the network path can replace the keys",
            reader.section
        );
        let help = "remove the line, and set ca_file for a private certificate authority";
        reader.warn("validate_cert", text, help);
    }
    KeySource::Refreshed(Arc::new(RefreshedKeys {
        timing: read_timing(reader, &location),
        token_file: read_token_file(reader, &location, validate_cert),
        location,
        validate_cert,
        authorities: read_authorities(reader),
        timeout: reader.seconds("jwks_request_timeout"),
    }))
}

/// Reads `jwks_token_file`. Its content is read at every fetch. The token must not be readable on the
/// way to the provider, nor reach another server.
fn read_token_file(
    reader: &mut SectionReader<'_>,
    location: &KeyLocation,
    validate_cert: bool,
) -> Option<PathBuf> {
    const OPTION: &str = "jwks_token_file";
    let file = PathBuf::from(reader.given(OPTION)?);
    let uri = location.uri()?;
    let (option, section) = (location.option(), reader.section);
    if !is_protected(uri) {
        let text = format!("{OPTION} in {section} would be sent in plain text: {option} is http");
        reader.error(OPTION, text, &format!("write an https:// URI as {option}"));
    } else if !validate_cert && uri.starts_with("https://") {
        let text =
            format!("{OPTION} in {section} could be sent to any server: validate_cert is off");
        let help = "remove validate_cert, and set ca_file for a private certificate authority";
        reader.error(OPTION, text, help);
    }
    reader.warn_if_readable_by_all(OPTION, &file);
    Some(file)
}

fn read_timing(reader: &mut SectionReader<'_>, location: &KeyLocation) -> Timing {
    let stale = reader.seconds("jwks_stale");
    let interval = reader.seconds("jwks_refresh_interval");
    let cool_down = reader.seconds("jwks_cool_down");
    if let KeyLocation::File { .. } = location {
        // Checking a file is cheap, so the intervals are fixed.
        return Timing {
            interval: Duration::from_secs(1),
            cool_down: Duration::from_millis(500),
            stale,
        };
    }
    if interval < cool_down * 2 {
        let (interval, cool_down) = (interval.as_secs(), cool_down.as_secs());
        let text = format!(
            "jwks_refresh_interval ({interval} s) in {} is less than twice jwks_cool_down \
             ({cool_down} s)",
            reader.section
        );
        reader.error(
            "jwks_refresh_interval",
            text,
            "raise jwks_refresh_interval, or set jwks_cool_down to at most half of it",
        );
    }
    Timing { interval, cool_down, stale }
}

/// Reads `ca_file`: certificates in PEM.
fn read_authorities(reader: &mut SectionReader<'_>) -> Vec<CertificateDer<'static>> {
    let Some(path) = reader.text("ca_file") else { return Vec::new() };
    let Some(pem) = read_file(reader, "ca_file", Path::new(path)) else { return Vec::new() };
    roots::certificates(path, &pem).unwrap_or_else(|text| {
        reader.error("ca_file", text, "name a file with certificates in PEM");
        Vec::new()
    })
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
        assert_eq!(format!("{:?}", SigningSecret(Box::new([1, 2, 3]))), "SigningSecret(..)");
    }
}
