//! Signing tokens of our own, byte for byte as the Inmanta server signs them.

use std::{fmt, io};

use aws_lc_rs::{error::Unspecified, hmac, rand};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_engine::UnixTime;
use serde::Serialize as _;
use serde_json::{Map, Value, json};
use uuid::{Builder, Uuid};

use crate::{
    config::{ClientType, IssuerSection, KeySource},
    surface::inmanta::{CLIENT_TYPES_CLAIM, ENVIRONMENT_CLAIM},
};

/// The `typ` of our own tokens.
pub const TOKEN_TYPE: &str = "JWT";

/// What a token is asked to say.
#[derive(Clone, Debug)]
pub struct TokenRequest {
    /// What its bearer is.
    pub client_types: Vec<ClientType>,
    /// The one environment it is for.
    pub environment: Option<String>,
    /// Further claims, in order.
    pub custom_claims: Vec<(String, Value)>,
    /// How long it lives.
    pub lifetime: Lifetime,
}

/// How long a token lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// As long as the section says.
    Default,
    /// This many seconds.
    Seconds(u64),
    /// For ever and without a date in it: the same request gives the same bytes.
    Idempotent,
}

impl Lifetime {
    /// What was asked for: a time in seconds, or none of the dates.
    #[must_use]
    pub fn of(seconds: Option<u32>, idempotent: bool) -> Self {
        match (idempotent, seconds) {
            (true, _) => Self::Idempotent,
            (false, Some(seconds)) => Self::Seconds(seconds.into()),
            (false, None) => Self::Default,
        }
    }

    /// How long that is; `None` for tokens that never expire.
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

/// Why a token was not signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SigningError {
    /// The section may not sign for a client type.
    ClientType(ClientType, Vec<ClientType>),
    /// The section would refuse a token that lives so long.
    Lifetime(u32),
    /// The section has no secret to sign with.
    NoSecret(String),
}

impl fmt::Display for SigningError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientType(asked, allowed) => {
                let names: Vec<_> = allowed.iter().map(|one| format!("'{one}'")).collect();
                let allowed = names.join(", ");
                write!(
                    f,
                    "The signing config does not support the requested client type {asked}. Only [{allowed}] are allowed."
                )
            }
            Self::Lifetime(most) => {
                write!(
                    f,
                    "the section accepts no token that lives longer than {most} s (max_lifetime): ask for less"
                )
            }
            Self::NoSecret(section) => write!(f, "section {section} has no key to sign with"),
        }
    }
}

impl std::error::Error for SigningError {}

/// Signs a token with a section's key, as of `now`.
///
/// # Errors
/// [`SigningError`] when the section may not or cannot sign it.
pub fn sign(
    section: &IssuerSection,
    request: &TokenRequest,
    now: UnixTime,
) -> Result<String, SigningError> {
    if let Some(asked) = request.client_types.iter().find(|one| !section.client_types.contains(one))
    {
        return Err(SigningError::ClientType(*asked, section.client_types.clone()));
    }
    let KeySource::Secret(secret) = &section.keys else {
        return Err(SigningError::NoSecret(section.section().into()));
    };
    let lifetime = request.lifetime.seconds(section);
    if let Some(most) = section
        .issuer
        .rules
        .max_lifetime
        .filter(|most| lifetime.is_none_or(|seconds| seconds > u64::from(*most)))
    {
        return Err(SigningError::Lifetime(most));
    }
    let header = json!({ "alg": "HS256", "typ": TOKEN_TYPE });
    let signing_input =
        format!("{}.{}", encode(&header), encode(&Value::Object(payload(section, request, now))));
    let tag =
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.expose()), signing_input.as_bytes());
    Ok(format!("{signing_input}.{}", URL_SAFE_NO_PAD.encode(tag)))
}

/// An id that nothing else has.
///
/// # Errors
/// The operating system gives no randomness.
pub fn random_uuid() -> Result<Uuid, Unspecified> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes)?;
    Ok(Builder::from_random_bytes(bytes).into_uuid())
}

/// The claims, in the one order that makes idempotent tokens reproducible.
fn payload(section: &IssuerSection, request: &TokenRequest, now: UnixTime) -> Map<String, Value> {
    let names: Vec<_> = request.client_types.iter().map(|one| one.name()).collect();
    let mut claims = Map::new();
    claims.insert("iss".into(), json!(section.issuer.name));
    claims.insert("aud".into(), json!([section.issuer.rules.audience]));
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

fn encode(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(ascii_json(value))
}

/// Compact JSON with every non-ASCII character escaped, as Python writes it.
fn ascii_json(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, AsciiFormatter);
    let written = value.serialize(&mut serializer);
    debug_assert!(written.is_ok(), "a JSON value always serializes to memory");
    out
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

    #[test]
    fn json_is_written_as_python_writes_it() {
        let value = json!({ "é": "a\"\\\n\u{1f600}", "l": [1, true, null], "\u{7f}": 1.5 });
        assert_eq!(
            String::from_utf8(ascii_json(&value)).unwrap(),
            "{\"\\u00e9\":\"a\\\"\\\\\\n\\ud83d\\ude00\",\"l\":[1,true,null],\"\u{7f}\":1.5}"
        );
    }
}
