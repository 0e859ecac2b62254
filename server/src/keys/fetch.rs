//! Fetch of one issuer's keys from a file or a provider.
//!
//! A fetch blocks, and is bounded in time, bytes and redirects.

mod agent;
mod bearer;
mod body;

use std::{
    fmt,
    io::{self, Read as _},
    path::Path,
    sync::Arc,
    time::Duration,
};

use countersign_engine::{
    AlgorithmSet, IssuerConfig, IssuerTenants, KeySet,
    jwks::Origin,
    limits,
    rotation::{Cause, EMPTY_SET_DELAY},
};
use http::{HeaderMap, Response, StatusCode, Uri, header};
use serde::Deserialize;
use ureq::{Agent, Body};

use self::bearer::BearerUse;
pub(crate) use self::{
    agent::{ProviderTrust, redirected, transport_error},
    body::{ACCEPTED_CODINGS, read as read_body},
};
use super::{
    IssuerSection,
    settings::{KeyLocation, RefreshedKeys},
    static_keys::{self, JwksError, KeyDocument, without_byte_order_mark},
    stored::public_jwks,
};
use crate::base::{
    clock::Stopwatch,
    redacted::json_error,
    uri::differ_by_slash,
    watched_file::{FileVersion, open_regular},
};

/// Limit of redirects that are followed, all on the same origin.
pub(crate) const MAX_REDIRECTS: usize = 3;
/// Limit of a discovery document, in bytes.
pub(crate) const MAX_DISCOVERY_BYTES: u64 = 64 * 1024;

/// Result of a successful fetch.
#[derive(Debug)]
pub struct FetchedKeys {
    /// The keys; `None` if they are unchanged since the last fetch.
    pub keys: Option<KeySet>,
    /// The public keys of a provider as a JWK Set, to be stored; `None` if they are unchanged.
    pub stored: Option<String>,
    /// Time for which the provider allows the keys to be cached.
    pub max_age: Option<Duration>,
}

/// Error of a failed fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchError {
    /// Stable code, for metrics.
    pub code: &'static str,
    /// Description, for the log.
    pub text: String,
}

impl FetchError {
    pub(crate) fn new(code: &'static str, text: impl fmt::Display) -> Self {
        Self { code, text: text.to_string() }
    }

    /// Whether the key set was published, and has no members.
    #[must_use]
    pub fn is_empty_set(&self) -> bool {
        self.code == EMPTY_SET
    }
}

const EMPTY_SET: &str = "empty";

/// Fetches the keys of one issuer repeatedly. It keeps the version of the last response, so that
/// a fetch of unchanged keys is cheap.
pub struct Fetcher {
    section: String,
    issuer: Arc<IssuerConfig>,
    algorithms: AlgorithmSet,
    source: Arc<RefreshedKeys>,
    agent: Option<Agent>,
    /// Version of the last usable keys, to detect a change.
    version: Option<SourceVersion>,
    /// `jwks_uri` of the last discovery document.
    discovered: Option<String>,
    /// Remarks about the last keys, which are logged when they change.
    remarks: Vec<String>,
    /// Start of the current fetch. All its requests share one timeout.
    started: Stopwatch,
}

/// Version of a key file or of a provider's response.
#[derive(Clone, PartialEq, Eq)]
enum SourceVersion {
    File(FileVersion),
    /// The URI and its `ETag` (RFC 9110 section 8.8.3).
    Response(String, String),
}

/// Raw contents of the source; without bytes if they are unchanged.
struct FetchedBytes {
    bytes: Option<Vec<u8>>,
    version: Option<SourceVersion>,
    max_age: Option<Duration>,
}

impl Fetcher {
    /// Creates a fetcher for the keys of a section.
    #[must_use]
    pub fn new(section: &IssuerSection, source: &Arc<RefreshedKeys>) -> Self {
        Self {
            section: section.section().into(),
            issuer: Arc::clone(&section.issuer),
            algorithms: section.issuer.algorithms,
            source: Arc::clone(source),
            agent: None,
            version: None,
            discovered: None,
            remarks: Vec::new(),
            started: Stopwatch::start(),
        }
    }

    /// Fetches and parses the keys. Blocks the calling thread.
    ///
    /// # Errors
    /// The fetch failed, or it returned no usable key.
    pub fn fetch(&mut self, cause: Cause) -> Result<FetchedKeys, FetchError> {
        self.started = Stopwatch::start();
        let fetched = self.load(cause).and_then(|fetched| self.parse(fetched));
        if fetched.is_err() {
            // The provider may have moved its keys: read the discovery document next time.
            self.discovered = None;
        }
        fetched
    }

    /// Returns Inmanta's log sentence for keys that cannot be loaded.
    #[must_use]
    pub fn describe(&self, error: &FetchError) -> String {
        let (section, location) = (&self.section, &self.source.location);
        format!(
            "Unable to load key data for {section} using the provided {location}. Got error: {}",
            error.text
        )
    }

    fn parse(&mut self, fetched: FetchedBytes) -> Result<FetchedKeys, FetchError> {
        let FetchedBytes { bytes, version, max_age } = fetched;
        let Some(bytes) = bytes else {
            return Ok(FetchedKeys { keys: None, stored: None, max_age });
        };
        let (keys, remarks, stored) = match self.source.location {
            KeyLocation::File { origin: Origin::Static, encoding, .. } => {
                let read = match encoding {
                    Some(encoding) => static_keys::parse_secret(&bytes, encoding, self.algorithms),
                    None => static_keys::parse_keys(&bytes, self.algorithms),
                };
                let (keys, remarks) = read.map_err(|text| FetchError::new("unusable", text))?;
                (keys, remarks, None)
            }
            _ => self.parse_published(&bytes)?,
        };
        if remarks != self.remarks {
            // The set may come from an attacker, so that the log has a bounded number of lines.
            const MAX_LISTED: usize = 16;
            for remark in remarks.iter().take(MAX_LISTED) {
                tracing::warn!(section = self.section, "{}: {remark}", self.source.location);
            }
            if let Some(more) = remarks.len().checked_sub(MAX_LISTED).filter(|more| *more > 0) {
                let text = "more keys of the set: see countersign keys status";
                tracing::warn!(section = self.section, "{}: {more} {text}", self.source.location);
            }
            self.remarks = remarks;
        }
        // Only after successful parsing: a rejected key set must not count as unchanged.
        self.version = version;
        Ok(FetchedKeys { keys: Some(keys), stored, max_age })
    }

    /// Parses a published key set. Returns the keys, a remark for each that was skipped, and the
    /// set as it is stored.
    fn parse_published(
        &self,
        document: &[u8],
    ) -> Result<(KeySet, Vec<String>, Option<String>), FetchError> {
        let parsed = static_keys::parse_document(document, Origin::Published, self.algorithms);
        let KeyDocument { keys, remarks, jwks } = parsed.map_err(|error| match error {
            JwksError::Empty => {
                let delay = EMPTY_SET_DELAY.as_secs();
                let effect =
                    format!("if it stays so for {delay} s, its tokens are answered with 503");
                FetchError::new(EMPTY_SET, format_args!("the published key set is empty: {effect}"))
            }
            JwksError::Unusable(text) => FetchError::new("unusable", text),
        })?;
        let is_remote = self.source.location.uri().is_some();
        let stored = is_remote.then(|| public_jwks(&jwks, &keys, self.algorithms)).flatten();
        Ok((keys, remarks, stored))
    }

    fn load(&mut self, cause: Cause) -> Result<FetchedBytes, FetchError> {
        let source = Arc::clone(&self.source);
        match &source.location {
            KeyLocation::File { path, .. } => {
                self.read_file(path).map_err(|error| FetchError::new("file", error))
            }
            KeyLocation::Jwks(uri) => self.fetch_jwks(uri),
            KeyLocation::Discovery(uri) => {
                let known = self.discovered.take().filter(|_| cause == Cause::UnknownKid);
                let keys = known.map_or_else(|| self.discover(uri), Ok)?;
                let fetched = self.fetch_jwks(&keys)?;
                self.discovered = Some(keys);
                Ok(fetched)
            }
        }
    }

    fn read_file(&self, path: &Path) -> io::Result<FetchedBytes> {
        let mut file = open_regular(path)?;
        let version = FileVersion::of(&file.metadata()?).map(SourceVersion::File);
        if version.is_some() && version == self.version {
            return Ok(FetchedBytes { bytes: None, version, max_age: None });
        }
        let mut bytes = Vec::new();
        file.by_ref().take(limit_plus_one(limits::MAX_KEY_SET_BYTES)).read_to_end(&mut bytes)?;
        Ok(FetchedBytes { bytes: Some(bytes), version, max_age: None })
    }

    fn fetch_jwks(&mut self, uri: &str) -> Result<FetchedBytes, FetchError> {
        let etag = match &self.version {
            Some(SourceVersion::Response(of, etag)) if of == uri => Some(etag.clone()),
            _ => None,
        };
        let response =
            self.get(uri, "application/jwk-set+json, application/json", etag.as_deref())?;
        let max_age = max_age(response.headers());
        if response.status() == StatusCode::NOT_MODIFIED && etag.is_some() {
            return Ok(FetchedBytes { bytes: None, version: self.version.clone(), max_age });
        }
        let version = response.headers().get(header::ETAG).and_then(|etag| etag.to_str().ok());
        let version = version.map(|etag| SourceVersion::Response(uri.into(), etag.into()));
        Ok(FetchedBytes {
            bytes: Some(read_body(response, limit_plus_one(limits::MAX_KEY_SET_BYTES))?),
            version,
            max_age,
        })
    }

    /// Reads the URI of the key set from the provider's metadata (OpenID Connect Discovery 1.0
    /// sections 4.2 and 4.3).
    fn discover(&mut self, uri: &str) -> Result<String, FetchError> {
        #[derive(Deserialize)]
        struct Metadata {
            issuer: String,
            jwks_uri: String,
        }
        let invalid = |text: String| FetchError::new("discovery", text);
        let response = self.get(uri, "application/json", None)?;
        let document = read_body(response, MAX_DISCOVERY_BYTES)?;
        let metadata: Metadata = serde_json::from_slice(without_byte_order_mark(&document))
            .map_err(|error| {
                invalid(format!("cannot parse the discovery document: {}", json_error(&error)))
            })?;
        // The metadata for several tenants has the name with the place of the tenant.
        let theirs = &*metadata.issuer;
        let is_ours = |name: &str| name == theirs || is_template_of(theirs, name);
        if !self.issuer.is_named(theirs) && !self.issuer.names().any(is_ours) {
            let is_near = self.issuer.names().any(|name| differ_by_slash(name, theirs));
            let hint = if is_near { ": they differ only by a trailing slash" } else { "" };
            let theirs: String = theirs.chars().take(200).collect();
            let ours = self.issuer.names().collect::<Vec<_>>().join(" or ");
            return Err(invalid(format!(
                "the discovery document names the issuer {theirs:?}, not {ours:?}{hint}"
            )));
        }
        // Not part of the error text, because the URI may contain a password.
        let keys = metadata
            .jwks_uri
            .parse::<Uri>()
            .map_err(|_| invalid("its jwks_uri is not an http(s) URI".into()))?;
        if keys.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(invalid("its jwks_uri contains credentials".into()));
        }
        match keys.scheme_str() {
            Some("https") => Ok(metadata.jwks_uri),
            Some("http") if uri.starts_with("http://") => Ok(metadata.jwks_uri),
            _ => Err(invalid("its jwks_uri is not https".into())),
        }
    }

    /// Requests `uri` and returns a 200 response, or a 304 response if `etag` is given.
    ///
    /// Redirects are followed on the same origin only. Otherwise a provider could make this server
    /// send requests to internal hosts (SSRF).
    fn get(
        &mut self,
        uri: &str,
        accept: &str,
        etag: Option<&str>,
    ) -> Result<Response<Body>, FetchError> {
        let agent = match &self.agent {
            Some(agent) => agent.clone(),
            None => self.agent.insert(agent_of(&self.source)?).clone(),
        };
        let mut uri: Uri = uri
            .parse()
            .map_err(|_| FetchError::new("unreachable", "the configured location is not a URI"))?;
        let mut bearer = BearerUse::of(&self.source, &uri)?;
        for _ in 0..=MAX_REDIRECTS {
            let left = self.source.timeout.saturating_sub(self.started.elapsed());
            if left.is_zero() {
                return Err(FetchError::new("timeout", "the provider did not answer in time"));
            }
            let request = agent.get(&uri).config().timeout_global(Some(left)).build();
            let mut request = request
                .header(header::ACCEPT, accept)
                .header(header::ACCEPT_ENCODING, ACCEPTED_CODINGS);
            if let BearerUse::Sent(value) = &bearer {
                request = request.header(header::AUTHORIZATION, value);
            }
            if let Some(etag) = etag {
                request = request.header(header::IF_NONE_MATCH, etag);
            }
            let response = request.call().map_err(|error| transport_error(&error))?;
            match response.status() {
                StatusCode::OK | StatusCode::NOT_MODIFIED => return Ok(response),
                status if status.is_redirection() => {
                    uri = redirected(&uri, response.headers())?;
                    bearer = bearer.after_redirect();
                }
                status => {
                    let remedy = bearer.remedy(status);
                    return Err(FetchError::new(
                        "status",
                        format!("the provider answered {status}, expected 200{remedy}"),
                    ));
                }
            }
        }
        Err(FetchError::new(
            "redirect",
            format!("the provider redirected more than {MAX_REDIRECTS} times"),
        ))
    }
}

/// Returns one byte more than `limit`, so that the engine sees and rejects an oversized
/// document.
pub(crate) fn limit_plus_one(limit: usize) -> u64 {
    u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1)
}

/// Returns how long a response may be cached (RFC 9111 sections 4.2.1, 5.1 and 5.2.2); `None`
/// if its headers do not limit it.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let lines = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|line| line.to_str().ok());
    let mut found = None;
    for directive in lines.flat_map(|line| line.split(',')).map(str::trim) {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        match name.to_ascii_lowercase().as_str() {
            "no-store" | "no-cache" => return Some(Duration::ZERO),
            "max-age" => {
                found = value.trim_matches('"').parse().ok().map(Duration::from_secs).or(found)
            }
            _ => {}
        }
    }
    let age = headers
        .get(header::AGE)
        .and_then(|age| age.to_str().ok()?.parse().ok())
        .map_or(Duration::ZERO, Duration::from_secs);
    Some(found?.saturating_sub(age))
}

fn agent_of(source: &RefreshedKeys) -> Result<Agent, FetchError> {
    // A discovery document over plain HTTP may still name a key set on HTTPS.
    let is_plain = source.location.uri().is_some_and(|uri| uri.starts_with("http://"));
    let is_discovered = matches!(source.location, KeyLocation::Discovery(_));
    ProviderTrust {
        validate_cert: source.validate_cert,
        authorities: &source.authorities,
        uses_tls: !is_plain || is_discovered,
        // A proxy of the environment would read a token on its way to this machine.
        uses_proxy: !is_plain || source.token_file.is_none(),
    }
    .agent()
}

/// Whether the issuer in metadata for several tenants stands for the one configured.
pub(crate) fn is_template_of(theirs: &str, ours: &str) -> bool {
    let usual = IssuerConfig::new(theirs, "", []);
    IssuerConfig { tenants: IssuerTenants::Any, ..usual }.is_named(ours)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::test_headers::headers;

    #[test]
    fn max_age_is_reduced_by_age() {
        let seconds = |lines: &[(&'static str, &'static str)]| {
            max_age(&headers(lines)).map(|age| age.as_secs())
        };
        assert_eq!(seconds(&[]), None);
        assert_eq!(
            seconds(&[("cache-control", "public, Max-Age=100, must-revalidate")]),
            Some(100)
        );
        assert_eq!(
            seconds(&[("cache-control", "public"), ("cache-control", "max-age=\"7\"")]),
            Some(7)
        );
        assert_eq!(seconds(&[("cache-control", "max-age=100"), ("age", "30")]), Some(70));
        assert_eq!(seconds(&[("cache-control", "max-age=100"), ("age", "300")]), Some(0));
        assert_eq!(seconds(&[("cache-control", "max-age=100, no-cache")]), Some(0));
        assert_eq!(seconds(&[("cache-control", "no-store")]), Some(0));
        assert_eq!(seconds(&[("cache-control", "max-age=-1")]), None);
        assert_eq!(seconds(&[("cache-control", "s-maxage=5")]), None);
    }
}
