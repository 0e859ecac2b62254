//! Public keys and certificates in PEM and DER, converted to JWKs.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_engine::UnixTime;
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use x509_parser::{
    certificate::X509Certificate,
    der_parser::Oid,
    oid_registry::{OID_EC_P256, OID_NIST_EC_P384, OID_NIST_EC_P521, OID_SIG_ED25519},
    prelude::FromDer as _,
    public_key::{PublicKey, RSAPublicKey},
    x509::SubjectPublicKeyInfo,
};

use super::pem::{self, PemSection};
use crate::base::clock;

/// A JWK without `kid` and `alg`, and a remark about the certificate that it is from.
pub(super) type RemarkedJwk = (Value, Option<String>);

/// Error of a private key in place of a public one.
pub(super) const PRIVATE_KEY_ERROR: &str =
    "it holds a private key: give the public one, by openssl pkey -in key.pem -pubout";

/// The parser's own message is left out: it may quote the key.
const DAMAGED: &str = "it is damaged";

/// Converts PEM with exactly one public key or certificate. With a certificate chain the signing
/// key would be a guess, and the key of a certificate authority must not become one that signs
/// tokens.
///
/// # Errors
/// A description of the problem, without any part of the text.
pub(super) fn pem_to_jwk(text: &str) -> Result<RemarkedJwk, String> {
    let mut sections = pem::sections(text)?;
    if sections.iter().any(is_private) {
        return Err(PRIVATE_KEY_ERROR.into());
    }
    // Written by openssl beside a key that names its curve itself.
    sections.retain(|section| section.label != "EC PARAMETERS");
    match &sections[..] {
        [section] => match section.label {
            "PUBLIC KEY" | "RSA PUBLIC KEY" | "CERTIFICATE" | "X509 CERTIFICATE" => {
                der_to_jwk(&section.der()?)
            }
            "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => Err(
                "it holds a certificate request: give its public key, by openssl req -in \
                 request.pem -noout -pubkey"
                    .into(),
            ),
            "TRUSTED CERTIFICATE" => Err(
                "it holds a TRUSTED CERTIFICATE: convert it by openssl x509 -in file.pem".into(),
            ),
            _ => Err("it is neither a PUBLIC KEY nor a CERTIFICATE".into()),
        },
        [] => Err("it holds neither a PUBLIC KEY nor a CERTIFICATE".into()),
        _ => Err("it holds several keys or certificates: give the one that signs, or a JWK Set with a kid for each".into()),
    }
}

fn is_private(section: &PemSection<'_>) -> bool {
    section.label.ends_with("PRIVATE KEY")
}

/// Converts the DER of a certificate, or of a public key in either form: a `SubjectPublicKeyInfo`
/// (RFC 5280 section 4.1) or an `RSAPublicKey` (PKCS#1, RFC 8017 appendix A.1.1).
///
/// # Errors
/// A description of the problem, without any part of the key.
pub(super) fn der_to_jwk(der: &[u8]) -> Result<RemarkedJwk, String> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => {
            return Ok((to_jwk(certificate.public_key())?, expiry_of(&certificate)));
        }
        Ok(_) => return Err("bytes follow the certificate".into()),
        Err(_) => {}
    }
    if PrivateKeyDer::try_from(der).is_ok() {
        return Err(PRIVATE_KEY_ERROR.into());
    }
    if let Ok(([], key)) = RSAPublicKey::from_der(der) {
        return Ok((rsa_jwk(&key), None));
    }
    match SubjectPublicKeyInfo::from_der(der) {
        Ok(([], spki)) => Ok((to_jwk(&spki)?, None)),
        Ok(_) => Err("bytes follow the public key".into()),
        Err(_) => Err(DAMAGED.into()),
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

fn to_jwk(spki: &SubjectPublicKeyInfo<'_>) -> Result<Value, String> {
    if *spki.algorithm.oid() == OID_SIG_ED25519 {
        return Ok(
            json!({ "kty": "OKP", "crv": "Ed25519", "x": encode(&spki.subject_public_key.data) }),
        );
    }
    match spki.parsed().map_err(|_| DAMAGED)? {
        PublicKey::RSA(key) => Ok(rsa_jwk(&key)),
        PublicKey::EC(point) => {
            let curve = spki.algorithm.parameters().and_then(|parameters| parameters.as_oid().ok());
            let curve = curve
                .as_ref()
                .and_then(curve_name)
                .ok_or("its curve is not P-256, P-384 or P-521")?;
            let coordinates = point.data().strip_prefix(&[4]).ok_or("its point is compressed")?;
            let (x, y) = coordinates.split_at(coordinates.len() / 2);
            Ok(json!({ "kty": "EC", "crv": curve, "x": encode(x), "y": encode(y) }))
        }
        _ => Err("it is neither an RSA, an EC nor an Ed25519 key".into()),
    }
}

fn rsa_jwk(key: &RSAPublicKey<'_>) -> Value {
    let significant = |number: &[u8]| {
        encode(&number[number.iter().position(|byte| *byte != 0).unwrap_or(number.len())..])
    };
    json!({ "kty": "RSA", "n": significant(key.modulus), "e": significant(key.exponent) })
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn curve_name(oid: &Oid<'_>) -> Option<&'static str> {
    [(OID_EC_P256, "P-256"), (OID_NIST_EC_P384, "P-384"), (OID_NIST_EC_P521, "P-521")]
        .into_iter()
        .find_map(|(known, name)| (*oid == known).then_some(name))
}
