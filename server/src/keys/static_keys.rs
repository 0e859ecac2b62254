//! Parser of static keys, in every form an operator may configure.
//!
//! Secrets are in base64. Public keys and X.509 certificates are in PEM, or in one line as the
//! base64 of PEM or DER. JWKs and JWK Sets are in JSON. Every form is converted to JWKs first
//! and parsed by [`KeySet::from_jwks`], so that one parser checks all keys.

use std::fmt;

use base64::{
    Engine as _,
    alphabet::URL_SAFE,
    engine::{
        DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig,
        general_purpose::{STANDARD, URL_SAFE_NO_PAD},
    },
};
use countersign_engine::{
    AlgorithmSet, KeyError, KeyMaterial, KeySet, KeyType, UnixTime, VerificationKey,
    jwks::{Origin, Policy, SkippedKey},
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, SubjectPublicKeyInfoDer, pem::SectionKind};
use serde_json::{Value, json};
use x509_parser::{
    certificate::X509Certificate,
    der_parser::Oid,
    oid_registry::{OID_EC_P256, OID_NIST_EC_P384, OID_NIST_EC_P521, OID_SIG_ED25519},
    prelude::FromDer as _,
    public_key::PublicKey,
    x509::SubjectPublicKeyInfo,
};

use crate::base::{clock, redacted::pem_sections};

/// Lenient base64 for configured secrets: padding is optional and trailing bits are ignored,
/// as in the other programs that read the same configuration. Tokens never use it.
const SECRET_BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Decodes a secret in urlsafe base64.
#[must_use]
pub fn decode_secret(text: &str) -> Option<Vec<u8>> {
    SECRET_BASE64.decode(text).ok()
}

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

/// Parses static keys in any of the forms. Returns the keys, and a remark for each key that
/// was skipped.
///
/// # Errors
/// A description of the problem. It never contains any part of the text, which may be secret.
pub fn parse_keys(text: &[u8], algorithms: AlgorithmSet) -> Result<(KeySet, Vec<String>), String> {
    let text = text.trim_ascii();
    if text.starts_with(b"{") {
        return if holds_private_key(text) {
            Err(PRIVATE_KEY_ERROR.into())
        } else {
            parse_jwks(text, Origin::Static, algorithms).map_err(|error| error.to_string())
        };
    }
    if algorithms.iter().all(|algorithm| algorithm.key_type() == KeyType::Secret) {
        let secret = str::from_utf8(text)
            .ok()
            .and_then(decode_secret)
            .ok_or("it is neither urlsafe base64 nor a JWK")?;
        return Ok((
            secret_keys(&secret, algorithms).map_err(|error| error.to_string())?,
            Vec::new(),
        ));
    }
    let (jwk, expiry) = if text.starts_with(b"-----") {
        pem_to_jwk(text)?
    } else {
        der_to_jwk(&from_base64(text)?)?
    };
    let (keys, mut remarks) = parse_jwks(jwk.to_string().as_bytes(), Origin::Static, algorithms)
        .map_err(|error| error.to_string())?;
    remarks.extend(expiry);
    Ok((keys, remarks))
}

/// Error of a key set that has no usable key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JwksError {
    /// It is well-formed and has no members.
    Empty,
    /// It is malformed, or each of its members is unusable.
    Unusable(String),
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
    let (keys, skipped) =
        KeySet::from_jwks(json, policy).map_err(|error| JwksError::Unusable(error.to_string()))?;
    let remarks: Vec<_> = skipped.iter().map(SkippedKey::to_string).collect();
    match (keys.is_empty(), remarks.is_empty()) {
        (true, true) => return Err(JwksError::Empty),
        (true, false) => {
            return Err(JwksError::Unusable(format!("no usable key ({})", remarks.join("; "))));
        }
        (false, _) => {}
    }
    Ok((keys, remarks.into_iter().map(|remark| format!("key skipped: {remark}")).collect()))
}

/// Decodes the base64 of PEM or DER in one line, the form used in environment variables.
fn from_base64(text: &[u8]) -> Result<Vec<u8>, &'static str> {
    STANDARD.decode(text).map_err(|_| "it is neither PEM, nor base64 of it, nor a JWK")
}

/// A JWK, and a remark about the certificate that it is from.
type RemarkedJwk = (Value, Option<String>);

fn der_to_jwk(bytes: &[u8]) -> Result<RemarkedJwk, String> {
    if bytes.starts_with(b"-----") {
        return pem_to_jwk(bytes);
    }
    match X509Certificate::from_der(bytes) {
        Ok(([], certificate)) => Ok((to_jwk(certificate.public_key())?, expiry_of(&certificate))),
        Ok(_) => Err("bytes follow the certificate".into()),
        Err(_) if PrivateKeyDer::try_from(bytes).is_ok() => Err(PRIVATE_KEY_ERROR.into()),
        Err(_) => Ok((spki_to_jwk(bytes)?, None)),
    }
}

/// Returns a remark if the certificate has expired. Its key is used nevertheless: tokens are signed
/// with it until it is replaced, and not the certificate but the configuration vouches for it.
fn expiry_of(certificate: &X509Certificate<'_>) -> Option<String> {
    let end = certificate.validity().not_after.timestamp();
    let end = UnixTime(u64::try_from(end).unwrap_or_default());
    (end < clock::now()).then(|| {
        let date = clock::rfc3339(end).unwrap_or_default();
        format!("the certificate expired at {date}; its key is used nevertheless, so replace both")
    })
}

/// Parses exactly one public key or certificate. With a certificate chain the signing key
/// would be a guess, and the key of a certificate authority must not become one that signs
/// tokens.
fn pem_to_jwk(pem: &[u8]) -> Result<RemarkedJwk, String> {
    let sections: Vec<(SectionKind, Vec<u8>)> = pem_sections(pem)?;
    match &sections[..] {
        [(SectionKind::PublicKey, der)] => {
            Ok((spki_to_jwk(&SubjectPublicKeyInfoDer::from(&der[..]))?, None))
        }
        [(SectionKind::Certificate, der)] => der_to_jwk(&CertificateDer::from(&der[..])),
        [(SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey, _), ..] => Err(PRIVATE_KEY_ERROR.into()),
        [] => Err("it holds neither a PUBLIC KEY nor a CERTIFICATE".into()),
        [_] => Err("it is neither a PUBLIC KEY nor a CERTIFICATE".into()),
        _ => Err("it holds several keys or certificates: give the one that signs, or a JWK Set with a kid for each".into()),
    }
}

/// Returns whether a JWK, or one in a JWK Set, contains a private key.
fn holds_private_key(json: &[u8]) -> bool {
    let document: Value = serde_json::from_slice(json).unwrap_or_default();
    let is_private = |jwk: &Value| jwk["kty"] != "oct" && !jwk["d"].is_null();
    is_private(&document)
        || document["keys"].as_array().is_some_and(|keys| keys.iter().any(is_private))
}

const PRIVATE_KEY_ERROR: &str =
    "it holds a private key: give the public one, by openssl pkey -in key.pem -pubout";

fn spki_to_jwk(der: &[u8]) -> Result<Value, String> {
    let (rest, spki) = SubjectPublicKeyInfo::from_der(der).map_err(|_| DAMAGED)?;
    if rest.is_empty() { to_jwk(&spki) } else { Err("bytes follow the public key".into()) }
}

/// Converts a public key to a JWK without `kid` and `alg`.
fn to_jwk(spki: &SubjectPublicKeyInfo<'_>) -> Result<Value, String> {
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let significant = |number: &[u8]| {
        text(&number[number.iter().position(|byte| *byte != 0).unwrap_or(number.len())..])
    };
    if *spki.algorithm.oid() == OID_SIG_ED25519 {
        return Ok(
            json!({ "kty": "OKP", "crv": "Ed25519", "x": text(&spki.subject_public_key.data) }),
        );
    }
    match spki.parsed().map_err(|_| DAMAGED)? {
        PublicKey::RSA(key) => Ok(
            json!({ "kty": "RSA", "n": significant(key.modulus), "e": significant(key.exponent) }),
        ),
        PublicKey::EC(point) => {
            let curve = spki.algorithm.parameters().and_then(|parameters| parameters.as_oid().ok());
            let curve = curve
                .as_ref()
                .and_then(curve_name)
                .ok_or("its curve is not P-256, P-384 or P-521")?;
            let coordinates = point.data().strip_prefix(&[4]).ok_or("its point is compressed")?;
            let (x, y) = coordinates.split_at(coordinates.len() / 2);
            Ok(json!({ "kty": "EC", "crv": curve, "x": text(x), "y": text(y) }))
        }
        _ => Err("it is neither an RSA, an EC nor an Ed25519 key".into()),
    }
}

fn curve_name(oid: &Oid<'_>) -> Option<&'static str> {
    [(OID_EC_P256, "P-256"), (OID_NIST_EC_P384, "P-384"), (OID_NIST_EC_P521, "P-521")]
        .into_iter()
        .find_map(|(known, name)| (*oid == known).then_some(name))
}

/// The parser's own message is left out: it may quote the key.
const DAMAGED: &str = "it is damaged";
