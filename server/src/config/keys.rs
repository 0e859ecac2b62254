//! Where the keys of an `auth_jwt_*` section come from: the options `key`,
//! `key_file`, `jwks_uri`, `discovery_uri`, and how fetching is done.

use std::{
    fmt,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use countersign_engine::{
    Algorithm, AlgorithmSet, KeySet, KeyType, jwks::Origin, rotation::Timing,
};
use percent_encoding::percent_decode_str;
use rustls::pki_types::CertificateDer;

use super::{problem::Problem, reader::Reader};
use crate::{file::open_regular, keysource::written, trust};

/// The secret of a section that signs or verifies with HMAC.
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

/// Where the keys of an issuer come from.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// `key`: a secret shared with us.
    Secret(SigningSecret),
    /// `key`: public keys written down, or secrets as JWKs.
    Written(Arc<KeySet>),
    /// Somewhere they may change.
    Renewed(Arc<RenewedKeys>),
}

impl KeySource {
    /// Whether they are in a file, which is read again when it changes.
    #[must_use]
    pub fn is_in_a_file(&self) -> bool {
        matches!(self, Self::Renewed(keys) if matches!(keys.location, Location::File { .. }))
    }
}

/// Keys that are asked for again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenewedKeys {
    /// Where they are.
    pub location: Location,
    /// Whether the provider's certificate is checked.
    pub validate_cert: bool,
    /// Authorities that may vouch for the provider, beside those of the system.
    pub authorities: Vec<CertificateDer<'static>>,
    /// How long fetching may take.
    pub timeout: Duration,
    /// How often they are asked for, and how long they are good.
    pub timing: Timing,
}

impl RenewedKeys {
    /// Whether the same place is believed for the same reasons, however often and
    /// patiently it is asked.
    #[must_use]
    pub fn is_trusted_like(&self, other: &Self) -> bool {
        let trust =
            |keys: &Self| (keys.location.clone(), keys.validate_cert, keys.authorities.clone());
        trust(self) == trust(other)
    }
}

/// A place where keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A file, looked at every second.
    File {
        /// Its path.
        path: PathBuf,
        /// Whether the operator wrote it or an issuer published it.
        origin: Origin,
    },
    /// A JWK Set (RFC 7517 section 5) at this `https://` or `http://` URI.
    Jwks(String),
    /// An OpenID provider's metadata (OpenID Connect Discovery 1.0 section 4) at
    /// this URI, which names the key set.
    Discovery(String),
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, .. } => write!(f, "file {}", path.display()),
            Self::Jwks(uri) => write!(f, "jwks_uri {uri}"),
            Self::Discovery(uri) => write!(f, "discovery_uri {uri}"),
        }
    }
}

impl Location {
    /// Its URI, if it is asked over the network.
    #[must_use]
    pub fn uri(&self) -> Option<&str> {
        match self {
            Self::File { .. } => None,
            Self::Jwks(uri) | Self::Discovery(uri) => Some(uri),
        }
    }
}

/// What else decides about the keys of a section.
pub(super) struct Context<'w> {
    pub(super) algorithms: AlgorithmSet,
    pub(super) sign: bool,
    /// Whether our own callers reach us by TLS.
    pub(super) serves_tls: bool,
    pub(super) warnings: &'w mut Vec<Problem>,
}

pub(super) fn read(reader: &mut Reader<'_>, context: &mut Context<'_>) -> Option<KeySource> {
    let is_secret = |algorithm: Algorithm| algorithm.key_type() == KeyType::Secret;
    let (secret, public) = (
        context.algorithms.iter().any(is_secret),
        context.algorithms.iter().any(|one| !is_secret(one)),
    );
    if secret && public {
        let text = format!("{} mixes shared secrets (HS...) with public keys", reader.section);
        reader.problem("algorithms", text, "give each kind a section and an issuer of its own");
        return None;
    }
    if context.sign && !context.algorithms.contains(Algorithm::Hs256) {
        let text =
            format!("sign is true in {}, but tokens are signed with HS256 only", reader.section);
        reader.problem(
            "sign",
            text,
            "sign with a section whose algorithm is HS256; countersign key generate makes a key",
        );
        return None;
    }
    let source = if secret { read_secrets(reader, context) } else { read_public(reader, context) }?;
    warn_of_ignored(reader, &source, context.warnings);
    Some(source)
}

/// Options about fetching that a source does not have: whoever wrote them believes
/// that they do something.
fn warn_of_ignored(reader: &Reader<'_>, source: &KeySource, warnings: &mut Vec<Problem>) {
    const FETCHING: [&str; 5] = [
        "ca_file",
        "jwks_cool_down",
        "jwks_refresh_interval",
        "jwks_request_timeout",
        "validate_cert",
    ];
    const SOURCES: [&str; 3] = ["discovery_uri", "jwks_uri", "key_file"];
    let (what, ignored) = match source {
        // The one that is used is there, and further ones are refused.
        KeySource::Renewed(keys) if keys.location.uri().is_some() => return,
        KeySource::Renewed(_) => ("a file", FETCHING.to_vec()),
        KeySource::Secret(_) if reader.text("key").is_none() => {
            ("a file that is read once", [&FETCHING[..], &["jwks_stale"]].concat())
        }
        KeySource::Secret(_) | KeySource::Written(_) => {
            ("key", [&FETCHING[..], &["jwks_stale"], &SOURCES].concat())
        }
    };
    for option in ignored.into_iter().filter(|option| reader.text(option).is_some()) {
        let text = format!("{option} in {} is ignored: its keys come from {what}", reader.section);
        warnings.push(Problem::new(reader.place(option), text));
    }
}

/// `key` or `key_file` of a section with shared secrets.
fn read_secrets(reader: &mut Reader<'_>, context: &mut Context<'_>) -> Option<KeySource> {
    match (reader.text("key"), reader.text("key_file")) {
        (Some(_), Some(_)) => two_sources(reader, "key", "key_file"),
        (Some(text), None) if text.trim_start().starts_with('{') && !context.sign => {
            read_written(reader, text, context)
        }
        (Some(text), None) => read_secret(reader, "key", text, context.algorithms),
        (None, Some(path)) if context.sign => {
            // Read once: what we sign with does not change while we run.
            let text = read_file(reader, "key_file", Path::new(path))?;
            let text = String::from_utf8(text).unwrap_or_default();
            read_secret(reader, "key_file", text.trim(), context.algorithms)
        }
        (None, Some(path)) => Some(renewed(
            reader,
            Location::File { path: path.into(), origin: Origin::Static },
            context.warnings,
        )),
        (None, None) => {
            let longest = context.algorithms.iter().max()?;
            let text = format!("key is required in {} for algorithm {longest}", reader.section);
            reader.problem("key", text, "countersign key generate makes one");
            None
        }
    }
}

fn read_secret(
    reader: &mut Reader<'_>,
    option: &str,
    text: &str,
    algorithms: AlgorithmSet,
) -> Option<KeySource> {
    // The one that demands the longest key.
    let longest = algorithms.iter().max()?;
    let bytes = longest.min_secret_bytes()?;
    // Never shows the key: these lines may end up in a log.
    let Some(secret) = written::secret(text) else {
        let help = match text.trim_start().starts_with('{') {
            true => "a section that signs takes no JWK: write its member \"k\"",
            false => "it consists of A-Z a-z 0-9 - and _; countersign key generate makes one",
        };
        reader.problem(
            option,
            format!("{option} in {} is not urlsafe base64", reader.section),
            help,
        );
        return None;
    };
    if secret.len() < bytes {
        let text = format!(
            "{longest} requires a key of {bytes} bytes ({} bits) or longer in {}",
            bytes * 8,
            reader.section
        );
        reader.problem(option, text, "countersign key generate makes one");
        return None;
    }
    Some(KeySource::Secret(SigningSecret(secret.into())))
}

/// The one source of a section with public keys.
fn read_public(reader: &mut Reader<'_>, context: &mut Context<'_>) -> Option<KeySource> {
    const SOURCES: [&str; 4] = ["jwks_uri", "discovery_uri", "key_file", "key"];
    let given: Vec<_> =
        SOURCES.into_iter().filter(|option| reader.text(option).is_some()).collect();
    match given[..] {
        [] => {
            let text = format!(
                "jwks_uri is required for RS256 based providers in section {}",
                reader.section
            );
            reader.problem(
                "jwks_uri",
                text,
                "or discovery_uri, or the public key itself as key or key_file",
            );
            None
        }
        [option] => read_source(reader, option, context),
        // The real system does not look at `key` beside a `jwks_uri`.
        ["jwks_uri", "key"] => {
            let text = format!("key in {} is ignored, as it has a jwks_uri", reader.section);
            context.warnings.push(Problem::new(reader.place("key"), text));
            read_source(reader, "jwks_uri", context)
        }
        [first, second, ..] => two_sources(reader, first, second),
    }
}

fn two_sources(reader: &mut Reader<'_>, first: &str, second: &str) -> Option<KeySource> {
    let text = format!("{} names two sources of keys: {first} and {second}", reader.section);
    reader.problem(second, text, "keep one of them");
    None
}

fn read_source(
    reader: &mut Reader<'_>,
    option: &str,
    context: &mut Context<'_>,
) -> Option<KeySource> {
    let text = reader.text(option)?;
    let location = match option {
        "key" => return read_written(reader, text, context),
        "key_file" => Location::File { path: text.into(), origin: Origin::Static },
        option => read_uri(reader, option, text)?,
    };
    if context.serves_tls && location.uri().is_some_and(|uri| uri.starts_with("http://")) {
        let text = format!(
            "{option} in {} is plain http: anyone on the network path can replace the keys",
            reader.section
        );
        context.warnings.push(
            Problem::new(reader.place(option), text).help("use https, as for our own listener"),
        );
    }
    Some(renewed(reader, location, context.warnings))
}

/// `key`: public keys, or secrets as JWKs, written into the configuration.
fn read_written(
    reader: &mut Reader<'_>,
    text: &str,
    context: &mut Context<'_>,
) -> Option<KeySource> {
    match written::keys(text.as_bytes(), context.algorithms) {
        Ok((keys, remarks)) => {
            let place = reader.place("key");
            context.warnings.extend(remarks.into_iter().map(|remark| Problem::new(&place, remark)));
            Some(KeySource::Written(Arc::new(keys)))
        }
        Err(fault) => {
            let text = format!("key in {} cannot be used: {fault}", reader.section);
            reader.problem(
                "key",
                text,
                "write a public key or certificate in PEM, its base64, or a JWK",
            );
            None
        }
    }
}

fn read_uri(reader: &mut Reader<'_>, option: &str, uri: &str) -> Option<Location> {
    let (scheme, rest) = uri.split_once("://").unwrap_or_default();
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.contains('@') {
        // Not shown: it holds a password.
        let text = format!("{option} in {} holds credentials", reader.section);
        reader.problem(option, text, "key sets are public: name a URI without user and password");
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
        let text = format!("{option} {uri:?} in {} is no {schemes} URI", reader.section);
        reader.problem(option, text, &format!("write one such as {example}"));
        return None;
    }
    Some(match option {
        "discovery_uri" => Location::Discovery(uri.into()),
        _ if is_file => {
            let path = percent_decode_str(rest.strip_prefix("localhost").unwrap_or(rest))
                .decode_utf8_lossy();
            Location::File { path: PathBuf::from(&*path), origin: Origin::Published }
        }
        _ => Location::Jwks(uri.into()),
    })
}

fn renewed(reader: &mut Reader<'_>, location: Location, warnings: &mut Vec<Problem>) -> KeySource {
    let validate_cert = reader.flag("validate_cert").unwrap_or(true);
    if !validate_cert && location.uri().is_some() {
        let text = format!(
            "validate_cert is off in {}: anyone on the network path can replace the keys",
            reader.section
        );
        warnings.push(Problem::new(reader.place("validate_cert"), text));
    }
    let seconds = reader.number("jwks_request_timeout", 0.001..=3600.0).unwrap_or(30.0);
    KeySource::Renewed(Arc::new(RenewedKeys {
        timing: read_timing(reader, &location),
        location,
        validate_cert,
        authorities: read_authorities(reader),
        timeout: Duration::from_secs_f64(seconds),
    }))
}

fn read_timing(reader: &mut Reader<'_>, location: &Location) -> Timing {
    let default = Timing::default();
    let mut seconds = |option, least, most, default: Duration| {
        reader.number(option, least..=most).map_or(default, Duration::from_secs)
    };
    let stale = seconds("jwks_stale", 0, 31_536_000, default.stale);
    let interval = seconds("jwks_refresh_interval", 2, 86_400, default.interval);
    let cool_down = seconds("jwks_cool_down", 1, 3600, default.cool_down);
    if let Location::File { .. } = location {
        // Looking at a file costs nobody anything.
        return Timing {
            interval: Duration::from_secs(1),
            cool_down: Duration::from_millis(500),
            stale,
        };
    }
    if interval < cool_down * 2 {
        let (interval, cool_down) = (interval.as_secs(), cool_down.as_secs());
        let text = format!(
            "jwks_refresh_interval ({interval} s) in {} is less than twice jwks_cool_down ({cool_down} s)",
            reader.section
        );
        reader.problem(
            "jwks_refresh_interval",
            text,
            "ask less often, or set jwks_cool_down to half of it",
        );
    }
    Timing { interval, cool_down, stale }
}

/// `ca_file`: certificates in PEM.
fn read_authorities(reader: &mut Reader<'_>) -> Vec<CertificateDer<'static>> {
    let Some(path) = reader.text("ca_file") else { return Vec::new() };
    let Some(pem) = read_file(reader, "ca_file", Path::new(path)) else { return Vec::new() };
    trust::certificates(path, &pem).unwrap_or_else(|text| {
        reader.problem("ca_file", text, "give a file with certificates in PEM");
        Vec::new()
    })
}

fn read_file(reader: &mut Reader<'_>, option: &str, path: &Path) -> Option<Vec<u8>> {
    // A device has no end.
    const MOST: u64 = 1 << 20;
    let mut bytes = Vec::new();
    let read = open_regular(path).and_then(|file| file.take(MOST).read_to_end(&mut bytes));
    read.map(|_| bytes)
        .map_err(|error| {
            let text = format!(
                "{option} in {} cannot be read: {}: {error}",
                reader.section,
                path.display()
            );
            reader.problem(option, text, "check the path and its permissions");
        })
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        assert_eq!(format!("{:?}", SigningSecret(Box::new([1, 2, 3]))), "SigningSecret(..)");
    }
}
