//! The JWT libraries that Countersign is compared with. Each is configured to check the same
//! things: signature, issuer and audience. Each returns claims the way a program would use them.

use std::collections::HashSet;

use countersign_engine::Algorithm;
use jwt_simple::prelude::{
    ECDSAP256PublicKeyLike as _, ES256PublicKey, Ed25519PublicKey, EdDSAPublicKeyLike as _,
    HS256Key, MACLike as _, RS256PublicKey, RSAPublicKeyLike as _, UnixTimeStamp,
    VerificationOptions,
};

use crate::{
    parameters::{AUDIENCE, ISSUER, NOW, SECRET},
    tokens::Keys,
};
use aws_lc_rs::signature::KeyPair as _;

/// A peer's verification of one token; returns whether it accepted the token.
pub type PeerVerifier = Box<dyn Fn(&str) -> bool>;

/// The claims that a program using jsonwebtoken would deserialize: those that Countersign passes
/// on.
#[derive(serde::Deserialize)]
#[expect(dead_code, reason = "filled and dropped, as a program would use them")]
pub struct PeerClaims {
    sub: String,
    exp: u64,
    preferred_username: String,
    #[serde(rename = "urn:inmanta:ct")]
    client_types: String,
}

/// Returns a [`PeerVerifier`] of jsonwebtoken with one of these keys.
///
/// # Panics
/// The library does not support the algorithm or rejects the key.
#[must_use]
pub fn jsonwebtoken(keys: &Keys, algorithm: Algorithm) -> PeerVerifier {
    jsonwebtoken_into::<PeerClaims>(keys, algorithm)
}

/// Returns the same as [`jsonwebtoken()`], for a program that wants every claim, whatever its name.
///
/// # Panics
/// As for [`jsonwebtoken()`].
#[must_use]
pub fn jsonwebtoken_every_claim(keys: &Keys, algorithm: Algorithm) -> PeerVerifier {
    jsonwebtoken_into::<serde_json::Map<String, serde_json::Value>>(keys, algorithm)
}

fn jsonwebtoken_into<C: serde::de::DeserializeOwned>(
    keys: &Keys,
    algorithm: Algorithm,
) -> PeerVerifier {
    use jsonwebtoken::DecodingKey;
    let public = keys.rsa.public_key();
    let (n, e) = (
        public.modulus().big_endian_without_leading_zero(),
        public.exponent().big_endian_without_leading_zero(),
    );
    let key = match algorithm {
        Algorithm::Rs256 => DecodingKey::from_rsa_raw_components(n, e),
        // Despite their names, these two take the raw point, not DER.
        Algorithm::Es256 => DecodingKey::from_ec_der(keys.ecdsa.public_key().as_ref()),
        Algorithm::EdDsa => DecodingKey::from_ed_der(keys.ed25519.public_key().as_ref()),
        _ => DecodingKey::from_secret(&SECRET),
    };
    let mut validation = jsonwebtoken::Validation::new(
        algorithm.name().parse().expect("an algorithm that both support"),
    );
    validation.set_audience(&[AUDIENCE]);
    validation.set_issuer(&[ISSUER]);
    // The tokens are verified at a fixed time. By jsonwebtoken's own clock they might be expired.
    validation.validate_exp = false;
    Box::new(move |token| jsonwebtoken::decode::<C>(token, &key, &validation).is_ok())
}

/// The claims that a program using jwt-simple adds to the registered ones.
#[derive(serde::Serialize, serde::Deserialize)]
struct CustomClaims {
    preferred_username: String,
    #[serde(rename = "urn:inmanta:ct")]
    client_types: String,
}

/// Returns a [`PeerVerifier`] of jwt-simple with one of these keys.
///
/// # Panics
/// The library rejects the key.
#[must_use]
pub fn jwt_simple(keys: &Keys, algorithm: Algorithm) -> PeerVerifier {
    let only = |name: &str| Some(HashSet::from([name.to_owned()]));
    let options = VerificationOptions {
        allowed_issuers: only(ISSUER),
        allowed_audiences: only(AUDIENCE),
        artificial_time: Some(UnixTimeStamp::from_secs(NOW.0)),
        ..VerificationOptions::default()
    };
    macro_rules! peer {
        ($key:expr) => {{
            let key = $key;
            // jwt-simple takes its options by value, so that a program has to clone them.
            Box::new(move |token| {
                key.verify_token::<CustomClaims>(token, Some(options.clone())).is_ok()
            })
        }};
    }
    match algorithm {
        Algorithm::Rs256 => {
            let public = keys.rsa.public_key();
            let (n, e) = (
                public.modulus().big_endian_without_leading_zero(),
                public.exponent().big_endian_without_leading_zero(),
            );
            peer!(RS256PublicKey::from_components(n, e).expect("a key"))
        }
        Algorithm::Es256 => {
            peer!(ES256PublicKey::from_bytes(keys.ecdsa.public_key().as_ref()).expect("a key"))
        }
        Algorithm::EdDsa => {
            peer!(Ed25519PublicKey::from_bytes(keys.ed25519.public_key().as_ref()).expect("a key"))
        }
        _ => peer!(HS256Key::from_bytes(&SECRET)),
    }
}

/// Returns a [`PeerVerifier`] of josekit with one of these keys.
///
/// # Panics
/// The library rejects the key.
#[cfg(feature = "josekit")]
#[must_use]
pub fn josekit(keys: &Keys, algorithm: Algorithm) -> PeerVerifier {
    use std::time::{Duration, SystemTime};

    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    use josekit::{
        jwk::Jwk,
        jws::{ES256, EdDSA, HS256, JwsVerifier, RS256},
        jwt::{self, JwtPayloadValidator},
    };

    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let jwk = |value: serde_json::Value| Jwk::from_bytes(value.to_string()).expect("a JWK");
    let verifier: Box<dyn JwsVerifier> = match algorithm {
        Algorithm::Rs256 => {
            let public = keys.rsa.public_key();
            let (n, e) = (
                public.modulus().big_endian_without_leading_zero(),
                public.exponent().big_endian_without_leading_zero(),
            );
            let jwk = jwk(serde_json::json!({ "kty": "RSA", "n": encode(n), "e": encode(e) }));
            Box::new(RS256.verifier_from_jwk(&jwk).expect("a key"))
        }
        Algorithm::Es256 => {
            let (x, y) = keys.ecdsa.public_key().as_ref()[1..].split_at(32);
            let jwk = jwk(
                serde_json::json!({ "kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y) }),
            );
            Box::new(ES256.verifier_from_jwk(&jwk).expect("a key"))
        }
        Algorithm::EdDsa => {
            let x = encode(keys.ed25519.public_key().as_ref());
            let jwk = jwk(serde_json::json!({ "kty": "OKP", "crv": "Ed25519", "x": x }));
            Box::new(EdDSA.verifier_from_jwk(&jwk).expect("a key"))
        }
        _ => Box::new(HS256.verifier_from_bytes(SECRET).expect("a key")),
    };
    let mut validator = JwtPayloadValidator::new();
    validator.set_base_time(SystemTime::UNIX_EPOCH + Duration::from_secs(NOW.0));
    validator.set_issuer(ISSUER);
    validator.set_audience(AUDIENCE);
    Box::new(move |token| {
        jwt::decode_with_verifier(token, &*verifier)
            .is_ok_and(|(payload, _)| validator.validate(&payload).is_ok())
    })
}

/// Returns the peers that were compiled in, by name.
#[must_use]
pub fn all(keys: &Keys, algorithm: Algorithm) -> Vec<(&'static str, PeerVerifier)> {
    vec![
        ("jsonwebtoken", jsonwebtoken(keys, algorithm)),
        ("jwt-simple", jwt_simple(keys, algorithm)),
        #[cfg(feature = "josekit")]
        ("josekit", josekit(keys, algorithm)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_accept_tokens_and_reject_bad_signatures() {
        let keys = Keys::generate();
        for algorithm in [Algorithm::Hs256, Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa] {
            let (token, other) = (keys.token(algorithm, 1), keys.token(algorithm, 2));
            let (input, _) = token.rsplit_once('.').unwrap();
            let (_, signature) = other.rsplit_once('.').unwrap();
            for (name, peer) in all(&keys, algorithm) {
                assert!(peer(&token), "{name} rejected a good {algorithm} token");
                assert!(
                    !peer(&format!("{input}.{signature}")),
                    "{name} accepted a bad {algorithm} signature"
                );
            }
        }
    }
}
