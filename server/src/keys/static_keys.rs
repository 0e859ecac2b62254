//! Parser of static keys, in every form an operator may configure.
//!
//! Secrets are in an encoding of [`secret_encoding`](super::secret_encoding). Public keys and X.509
//! certificates are in PEM or DER, or in one line as the base64 of either. JWKs, JWK Sets and maps
//! of PEM texts are in JSON. Every form is converted to JWKs first and parsed by
//! [`KeySet::from_jwks`], so that one parser checks all keys.

use std::{borrow::Cow, fmt};

use countersign_engine::{
    AlgorithmSet, KeyError, KeyMaterial, KeySet, KeyType, VerificationKey,
    jwks::{Origin, Policy, SkippedKey},
};
use serde_json::Value;

use super::{
    pem::{decode_base64, is_pem},
    pem_map::{self, ConvertedMap},
    public_key::{PRIVATE_KEY_ERROR, RemarkedJwk, der_to_jwk, pem_to_jwk},
    secret_encoding::SecretEncoding,
    secret_keys::SecretKeys,
};

/// Returns one key of `secret` for each algorithm.
///
/// # Errors
/// The secret is too short for one of the algorithms.
pub fn secret_keys(secret: &[u8], algorithms: AlgorithmSet) -> Result<KeySet, KeyError> {
    let keys = algorithms
        .iter()
        .map(|algorithm| VerificationKey::new(None, algorithm, KeyMaterial::Secret(secret)));
    Ok(KeySet::new(keys.collect::<Result<_, _>>()?))
}

/// Returns the keys of all of a section's secrets. Each of several is tried.
///
/// # Errors
/// A secret is too short for one of the algorithms.
pub fn rotating_keys(secrets: &SecretKeys, algorithms: AlgorithmSet) -> Result<KeySet, KeyError> {
    if let [secret] = secrets.all() {
        return secret_keys(secret.expose(), algorithms);
    }
    let key =
        |secret, algorithm| VerificationKey::new(None, algorithm, KeyMaterial::Secret(secret));
    let keys = secrets
        .all()
        .iter()
        .flat_map(|secret| algorithms.iter().map(|algorithm| key(secret.expose(), algorithm)));
    Ok(KeySet::rotating(keys.collect::<Result<_, _>>()?))
}

/// Parses static keys of these algorithms in any of the forms; a secret in base64url. Returns the
/// keys, and a remark for each key that was skipped.
///
/// # Errors
/// A description of the problem. It never contains any part of the text, which may be secret.
pub fn parse_keys(text: &[u8], algorithms: AlgorithmSet) -> Result<(KeySet, Vec<String>), String> {
    if algorithms.iter().all(|algorithm| algorithm.key_type() == KeyType::Secret) {
        return parse_secret(text, SecretEncoding::default(), algorithms);
    }
    let text = without_byte_order_mark(text);
    if text.trim_ascii().starts_with(b"{") {
        return parse_json(text, algorithms);
    }
    let (jwk, expiry) = parse_public_key(text)?;
    let (keys, mut remarks) = parse_jwks(jwk.to_string().as_bytes(), Origin::Static, algorithms)
        .map_err(|error| error.to_string())?;
    remarks.extend(expiry);
    Ok((keys, remarks))
}

/// Parses a shared secret in this encoding, or as JWKs.
///
/// # Errors
/// A description of the problem. It never contains any part of the text.
pub fn parse_secret(
    text: &[u8],
    encoding: SecretEncoding,
    algorithms: AlgorithmSet,
) -> Result<(KeySet, Vec<String>), String> {
    let text = without_byte_order_mark(text);
    if is_jwk_text(text, encoding) {
        return parse_json(text, algorithms);
    }
    let secret = encoding.decode(text).ok_or_else(|| match encoding {
        SecretEncoding::Base64Url => {
            "it is neither urlsafe base64 nor a JWK: for another encoding, set key_encoding".into()
        }
        encoding => format!("it is not {}, which key_encoding names", encoding.name()),
    })?;
    if is_public_key(text) || is_public_key(&secret) {
        return Err(PUBLIC_KEY_ERROR.into());
    }
    let keys = secret_keys(&secret, algorithms).map_err(|error| error.to_string())?;
    Ok((keys, Vec::new()))
}

/// Error for a public key in the place of a secret (RFC 8725 section 2.1).
pub(super) const PUBLIC_KEY_ERROR: &str =
    "it is a public key or a certificate, which anyone may have: it cannot be a shared secret";

/// Whether bytes are a public key or a certificate in any form, or a private key in PEM. All who
/// have the public key could sign with such a secret.
pub(super) fn is_public_key(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let is_jwk = || {
        serde_json::from_slice::<Value>(bytes)
            .is_ok_and(|json| json.get("kty").is_some() || json.get("keys").is_some())
    };
    is_pem(&text) || is_ssh_key(&text) || parse_public_key(bytes).is_ok() || is_jwk()
}

/// Whether the text of a secret is that of JWKs, in JSON. A secret in the encoding `text` may begin
/// as JSON does.
pub(super) fn is_jwk_text(text: &[u8], encoding: SecretEncoding) -> bool {
    encoding != SecretEncoding::Text && text.trim_ascii().starts_with(b"{")
}

/// Returns a document without the byte order mark that some editors put at its start.
pub(crate) fn without_byte_order_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}

fn parse_json(text: &[u8], algorithms: AlgorithmSet) -> Result<(KeySet, Vec<String>), String> {
    if holds_private_key(text) {
        return Err(PRIVATE_KEY_ERROR.into());
    }
    let document = parse_document(text, Origin::Static, algorithms);
    let KeyDocument { keys, remarks, jwks: _ } = document.map_err(|error| error.to_string())?;
    Ok((keys, remarks))
}

/// A key set in JSON.
pub struct KeyDocument<'d> {
    /// The keys.
    pub keys: KeySet,
    /// A remark for each key that was skipped.
    pub remarks: Vec<String>,
    /// The document as JWKs.
    pub jwks: Cow<'d, [u8]>,
}

/// Parses a JWK Set, a single JWK, or a map of PEM texts, with at least one usable key. A byte
/// order mark is ignored.
///
/// # Errors
/// The document is not a key set, or has no usable key.
pub fn parse_document(
    document: &[u8],
    origin: Origin,
    algorithms: AlgorithmSet,
) -> Result<KeyDocument<'_>, JwksError> {
    let document = without_byte_order_mark(document);
    let (jwks, mut remarks, skipped) = match pem_map::to_jwks(document) {
        Some(ConvertedMap { jwks, remarks, skipped }) => (Cow::Owned(jwks), remarks, skipped),
        None => (Cow::Borrowed(document), Vec::new(), Vec::new()),
    };
    match parse_jwks(&jwks, origin, algorithms) {
        Ok((keys, more)) => {
            remarks.extend(more);
            Ok(KeyDocument { keys: keys.with_skipped(skipped), remarks, jwks })
        }
        Err(JwksError::Empty) if !remarks.is_empty() => Err(JwksError::unusable(&remarks)),
        Err(error) => Err(error),
    }
}

/// Error of a key set that has no usable key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JwksError {
    /// It is well-formed and has no members.
    Empty,
    /// It is malformed, or each of its members is unusable.
    Unusable(String),
}

impl JwksError {
    /// The error of a set whose keys were all skipped. It lists the first of them only: the set may
    /// come from an attacker.
    fn unusable(remarks: &[String]) -> Self {
        const MAX_LISTED: usize = 8;
        let listed = remarks.iter().take(MAX_LISTED).map(String::as_str);
        let more = match remarks.len().saturating_sub(MAX_LISTED) {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        let listed = listed.collect::<Vec<_>>().join("; ");
        Self::Unusable(format!("no usable key ({listed}{more})"))
    }
}

impl fmt::Display for JwksError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the key set is empty"),
            Self::Unusable(text) => f.write_str(text),
        }
    }
}

/// Parses a JWK Set, or a single JWK, with at least one usable key.
///
/// # Errors
/// The document is not a JWK Set, or has no usable key.
pub fn parse_jwks(
    json: &[u8],
    origin: Origin,
    algorithms: AlgorithmSet,
) -> Result<(KeySet, Vec<String>), JwksError> {
    let policy = Policy { origin, algorithms: Some(algorithms) };
    let keys =
        KeySet::from_jwks(json, policy).map_err(|error| JwksError::Unusable(error.to_string()))?;
    let remarks: Vec<_> = keys.skipped().iter().map(SkippedKey::to_string).collect();
    match (keys.is_empty(), remarks.is_empty()) {
        (true, true) => return Err(JwksError::Empty),
        (true, false) => {
            return Err(JwksError::unusable(&remarks));
        }
        (false, _) => {}
    }
    Ok((keys, remarks.into_iter().map(|remark| format!("key skipped: {remark}")).collect()))
}

/// Parses a public key or a certificate.
fn parse_public_key(text: &[u8]) -> Result<RemarkedJwk, String> {
    const DER_SEQUENCE: u8 = 0x30;
    let is_text = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
    if text.first() == Some(&DER_SEQUENCE) && !text.iter().all(is_text) {
        return der_to_jwk(text);
    }
    if text.starts_with(b"\xff\xfe") || text.starts_with(b"\xfe\xff") {
        return Err("it is UTF-16: save it as UTF-8".into());
    }
    let lossy = String::from_utf8_lossy(text);
    if is_pem(&lossy) {
        return pem_to_jwk(&lossy);
    }
    if lossy.contains(" PUBLIC KEY ----") || is_ssh_key(&lossy) {
        let remedy = "convert it by ssh-keygen -e -m PKCS8 -f key.pub";
        return Err(format!("it is an SSH key: {remedy}"));
    }
    let bytes = decode_base64(text).ok_or("it is neither PEM, nor base64 of it, nor a JWK")?;
    match str::from_utf8(&bytes) {
        Ok(pem) if is_pem(pem) => pem_to_jwk(pem),
        _ => der_to_jwk(&bytes),
    }
}

fn is_ssh_key(text: &str) -> bool {
    ["ssh-", "ecdsa-sha2-"].iter().any(|kind| text.trim_start().starts_with(kind))
}

/// Returns whether a JWK, or one in a JWK Set, contains a private key, or a text has one in PEM.
fn holds_private_key(json: &[u8]) -> bool {
    const PEM_LABEL: &[u8] = b"PRIVATE KEY-----";
    let document: Value = serde_json::from_slice(json).unwrap_or_default();
    let is_private = |jwk: &Value| jwk["kty"] != "oct" && !jwk["d"].is_null();
    is_private(&document)
        || document["keys"].as_array().is_some_and(|keys| keys.iter().any(is_private))
        || json.windows(PEM_LABEL.len()).any(|text| text == PEM_LABEL)
}
