//! The libraries that we are measured against, each configured to check what we
//! check: signature, issuer, audience. Each gives claims out as a program would use
//! them.

use std::collections::HashSet;

use countersign_engine::Algorithm;
use jwt_simple::prelude::{
    ECDSAP256PublicKeyLike as _, ES256PublicKey, Ed25519PublicKey, EdDSAPublicKeyLike as _,
    HS256Key, MACLike as _, RS256PublicKey, RSAPublicKeyLike as _, UnixTimeStamp,
    VerificationOptions,
};

use crate::{
    ours::{AUDIENCE, ISSUER},
    tokens::{Keys, NOW, SECRET},
};
use aws_lc_rs::signature::KeyPair as _;

/// A verification of one token by a peer, and whether it was accepted.
pub type Peer = Box<dyn Fn(&str) -> bool>;

/// What a program that uses jsonwebtoken deserializes: the same claims we hand on.
#[derive(serde::Deserialize)]
#[expect(dead_code, reason = "filled and dropped, as a program would use them")]
pub struct PeerClaims {
    sub: String,
    exp: u64,
    preferred_username: String,
    #[serde(rename = "urn:inmanta:ct")]
    client_types: String,
}

/// jsonwebtoken with a key of these.
///
/// # Panics
/// It knows no such algorithm or refuses the key.
#[must_use]
pub fn jsonwebtoken(keys: &Keys, algorithm: Algorithm) -> Peer {
    jsonwebtoken_into::<PeerClaims>(keys, algorithm)
}

/// The same for a program that wants every claim, whatever it is called.
///
/// # Panics
/// Likewise.
#[must_use]
pub fn jsonwebtoken_every_claim(keys: &Keys, algorithm: Algorithm) -> Peer {
    jsonwebtoken_into::<serde_json::Map<String, serde_json::Value>>(keys, algorithm)
}

fn jsonwebtoken_into<C: serde::de::DeserializeOwned>(keys: &Keys, algorithm: Algorithm) -> Peer {
    use jsonwebtoken::DecodingKey;
    let public = keys.rsa.public_key();
    let (n, e) = (
        public.modulus().big_endian_without_leading_zero(),
        public.exponent().big_endian_without_leading_zero(),
    );
    let key = match algorithm {
        Algorithm::Rs256 => DecodingKey::from_rsa_raw_components(n, e),
        // Despite their names these take the bare point.
        Algorithm::Es256 => DecodingKey::from_ec_der(keys.ecdsa.public_key().as_ref()),
        Algorithm::EdDsa => DecodingKey::from_ed_der(keys.ed25519.public_key().as_ref()),
        _ => DecodingKey::from_secret(&SECRET),
    };
    let mut validation =
        jsonwebtoken::Validation::new(algorithm.name().parse().expect("an algorithm of both"));
    validation.set_audience(&[AUDIENCE]);
    validation.set_issuer(&[ISSUER]);
    // The tokens live at a fixed time; its own clock would find them expired.
    validation.validate_exp = false;
    Box::new(move |token| jsonwebtoken::decode::<C>(token, &key, &validation).is_ok())
}

/// What a program that uses jwt-simple adds to the claims it knows.
#[derive(serde::Serialize, serde::Deserialize)]
struct CustomClaims {
    preferred_username: String,
    #[serde(rename = "urn:inmanta:ct")]
    client_types: String,
}

/// jwt-simple with a key of these.
///
/// # Panics
/// It refuses the key.
#[must_use]
pub fn jwt_simple(keys: &Keys, algorithm: Algorithm) -> Peer {
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
            // It takes its options by value.
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

/// josekit with a key of these.
///
/// # Panics
/// It refuses the key.
#[cfg(feature = "josekit")]
#[must_use]
pub fn josekit(keys: &Keys, algorithm: Algorithm) -> Peer {
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

/// All of them that were built in, by name.
#[must_use]
pub fn all(keys: &Keys, algorithm: Algorithm) -> Vec<(&'static str, Peer)> {
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
    fn every_peer_accepts_the_tokens_and_refuses_a_bad_signature() {
        let keys = Keys::generate();
        for algorithm in [Algorithm::Hs256, Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa] {
            let (token, other) = (keys.token(algorithm, 1), keys.token(algorithm, 2));
            let (input, _) = token.rsplit_once('.').unwrap();
            let (_, signature) = other.rsplit_once('.').unwrap();
            for (name, peer) in all(&keys, algorithm) {
                assert!(peer(&token), "{name} refused a good {algorithm} token");
                assert!(
                    !peer(&format!("{input}.{signature}")),
                    "{name} accepted a bad {algorithm} signature"
                );
            }
        }
    }
}
