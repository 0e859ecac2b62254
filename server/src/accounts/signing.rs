//! Signing of tokens, byte for byte as the Inmanta server signs them.

use std::{fmt, io};

use aws_lc_rs::{
    digest::{SHA256, digest},
    error::Unspecified,
    hmac, rand,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_engine::{UnixTime, limits::MAX_TIME_TO_EXPIRY};
use serde::Serialize as _;
use serde_json::{Map, Value, json};
use uuid::{Builder, Uuid};

use crate::{
    base::{
        claims::{CLIENT_TYPES_CLAIM, ClientType, ENVIRONMENT_CLAIM, TOKEN_TYPE},
        hex::{from_hex, to_hex},
    },
    keys::IssuerSection,
};

/// Contents of a token to sign.
#[derive(Clone, Debug)]
pub struct TokenRequest {
    /// [`ClientType`]s of the bearer.
    pub client_types: Vec<ClientType>,
    /// Environment that the token is scoped to.
    pub environment: Option<String>,
    /// Additional claims, in order.
    pub custom_claims: Vec<(String, Value)>,
    /// Lifetime of the token.
    pub lifetime: Lifetime,
}

/// Lifetime of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// The default lifetime of the section.
    Default,
    /// A number of seconds.
    Seconds(u64),
    /// Unlimited and without dates, so that the same request gives the same bytes.
    Idempotent,
}

impl Lifetime {
    /// Returns the requested lifetime. `idempotent` takes precedence over `seconds`.
    #[must_use]
    pub fn of(seconds: Option<u32>, idempotent: bool) -> Self {
        match (idempotent, seconds) {
            (true, _) => Self::Idempotent,
            (false, Some(seconds)) => Self::Seconds(seconds.into()),
            (false, None) => Self::Default,
        }
    }

    /// Returns the lifetime in seconds. `None` for tokens that never expire.
    #[must_use]
    pub fn seconds(self, section: &IssuerSection) -> Option<u64> {
        let seconds = match self {
            Self::Idempotent => 0,
            Self::Default => section.expire,
            Self::Seconds(seconds) => seconds,
        };
        (seconds > 0).then_some(seconds)
    }
}

/// Error in signing a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SigningError {
    /// The section does not allow a client type.
    ClientType(ClientType, Vec<ClientType>),
    /// The lifetime exceeds the section's `max_lifetime`, or that of any token.
    Lifetime(u64),
    /// The section has no secret.
    NoSecret(String),
}

impl fmt::Display for SigningError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientType(requested, allowed) => {
                let names: Vec<_> = allowed.iter().map(|one| format!("'{one}'")).collect();
                let allowed = names.join(", ");
                write!(
                    f,
                    "The signing config does not support the requested client type {requested}. \
                     Only [{allowed}] are allowed."
                )
            }
            Self::Lifetime(max) => {
                write!(f, "the requested lifetime exceeds {max} s: request a shorter one")
            }
            Self::NoSecret(section) => write!(f, "section {section} has no signing key"),
        }
    }
}

impl std::error::Error for SigningError {}

/// Signs a token with a section's key, as of `now`.
///
/// # Errors
/// [`SigningError`] if the section does not allow the request or has no secret.
pub fn sign(
    section: &IssuerSection,
    request: &TokenRequest,
    now: UnixTime,
) -> Result<String, SigningError> {
    sign_claims(section, &claims(section, request, now)?)
}

/// Returns the claims of a token in JSON, as of `now`.
///
/// # Errors
/// [`SigningError`] if the section does not allow the request.
pub fn claims(
    section: &IssuerSection,
    request: &TokenRequest,
    now: UnixTime,
) -> Result<String, SigningError> {
    if let Some(requested) =
        request.client_types.iter().find(|one| !section.client_types.contains(one))
    {
        return Err(SigningError::ClientType(*requested, section.client_types.clone()));
    }
    let lifetime = request.lifetime.seconds(section);
    if let Some(max) = section
        .issuer
        .rules
        .max_lifetime
        .map(u64::from)
        .filter(|max| lifetime.is_none_or(|seconds| seconds > *max))
    {
        return Err(SigningError::Lifetime(max));
    }
    if lifetime.is_some_and(|seconds| seconds > MAX_TIME_TO_EXPIRY) {
        return Err(SigningError::Lifetime(MAX_TIME_TO_EXPIRY));
    }
    Ok(ascii_json(&Value::Object(payload(section, request, now))))
}

/// Signs claims with the key of a section that is in force. The same claims give the same token.
///
/// # Errors
/// [`SigningError::NoSecret`].
pub fn sign_claims(section: &IssuerSection, claims: &str) -> Result<String, SigningError> {
    let Some(secrets) = section.secrets() else {
        return Err(SigningError::NoSecret(section.section().into()));
    };
    let header = json!({ "alg": "HS256", "typ": TOKEN_TYPE });
    Ok(sign_with(secrets.signer().expose(), &header, claims))
}

/// Signs claims with a secret by HMAC-SHA256. `header` names that algorithm.
#[must_use]
pub fn sign_with(secret: &[u8], header: &Value, claims: &str) -> String {
    let header = ascii_json(header);
    let signing_input =
        format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signing_input.as_bytes());
    format!("{signing_input}.{}", URL_SAFE_NO_PAD.encode(tag))
}

/// Returns the SHA-256 of a token's signing input in hexadecimal: the id of a token without `jti`.
#[must_use]
pub fn token_digest(token: &[u8]) -> String {
    let end = token.iter().rposition(|byte| *byte == b'.').unwrap_or(token.len());
    to_hex(digest(&SHA256, &token[..end]).as_ref())
}

/// Returns the id in the registry of an idempotent token, made of its [`token_digest`].
#[must_use]
pub fn id_of_digest(digest: &str) -> Uuid {
    let digest = from_hex(digest).unwrap_or_default();
    let start = digest.first_chunk().copied().unwrap_or_default();
    Builder::from_custom_bytes(start).into_uuid()
}

/// Generates a random UUID.
///
/// # Errors
/// The operating system provides no randomness.
pub fn random_uuid() -> Result<Uuid, Unspecified> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes)?;
    Ok(Builder::from_random_bytes(bytes).into_uuid())
}

/// Returns a UUID of version 7, whose order is that of the given time (RFC 9562 section 5.7).
///
/// # Errors
/// The operating system gives no randomness.
pub fn time_ordered_uuid(at: UnixTime) -> Result<Uuid, Unspecified> {
    let mut random = [0; 10];
    rand::fill(&mut random)?;
    Ok(Builder::from_unix_timestamp_millis(at.0.saturating_mul(1000), &random).into_uuid())
}

/// Returns the audiences of the tokens of a section: as few as it accepts.
fn own_audiences(section: &IssuerSection) -> &[Box<str>] {
    let rule = &section.issuer.rules.audience;
    if rule.all { &rule.accepted } else { rule.accepted.get(..1).unwrap_or_default() }
}

/// Returns the claims in a fixed order, so that idempotent tokens are reproducible.
fn payload(section: &IssuerSection, request: &TokenRequest, now: UnixTime) -> Map<String, Value> {
    let names: Vec<_> = request.client_types.iter().map(|one| one.name()).collect();
    let mut claims = Map::new();
    claims.insert("iss".into(), json!(section.issuer.name));
    claims.insert("aud".into(), json!(own_audiences(section)));
    claims.insert(CLIENT_TYPES_CLAIM.into(), json!(names.join(",")));
    claims.extend(request.custom_claims.iter().cloned());
    if request.lifetime != Lifetime::Idempotent {
        claims.insert("iat".into(), json!(now.0));
        if let Some(seconds) = request.lifetime.seconds(section) {
            claims.insert("exp".into(), json!(now.plus(seconds).0));
        }
    }
    if let Some(environment) = &request.environment {
        claims.insert(ENVIRONMENT_CLAIM.into(), json!(environment));
    }
    claims
}

/// Serializes compact JSON with every non-ASCII character escaped, as Python does.
fn ascii_json(value: &Value) -> String {
    let mut out = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, AsciiFormatter);
    let written = value.serialize(&mut serializer);
    debug_assert!(written.is_ok(), "a JSON value always serializes to memory");
    String::from_utf8(out).unwrap_or_default()
}

struct AsciiFormatter;

impl serde_json::ser::Formatter for AsciiFormatter {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        for character in fragment.chars() {
            if character.is_ascii() {
                write!(writer, "{character}")?;
            } else {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The digest is from `printf header.claims | sha256sum`.
    #[test]
    fn token_is_named_by_its_signing_input() {
        let digest = token_digest(b"header.claims.signature");
        assert_eq!(digest, "81b2237054046a8ffae1ea61db0b5d9537c231d29aec7ad21436c424272e1c46");
        assert_eq!(token_digest(b"header.claims.other"), digest);
        assert_eq!(id_of_digest(&digest).to_string(), "81b22370-5404-8a8f-bae1-ea61db0b5d95");
    }

    #[test]
    fn signing_json_matches_python() {
        let value = json!({ "é": "a\"\\\n\u{1f600}", "l": [1, true, null], "\u{7f}": 1.5 });
        assert_eq!(
            ascii_json(&value),
            "{\"\\u00e9\":\"a\\\"\\\\\\n\\ud83d\\ude00\",\"l\":[1,true,null],\"\u{7f}\":1.5}"
        );
    }
}
