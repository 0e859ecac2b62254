use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_engine::{
    Algorithm, KeySet, Reject,
    jwks::{Origin, Policy},
    jws,
};

/// Verifies a token with this key only.
pub(crate) fn verify(jwk: &str, algorithm: Algorithm, token: &str) -> Result<Vec<u8>, Reject> {
    jws::verify(token.as_bytes(), &key(jwk, algorithm))
}

/// Asserts that the token verifies, that its payload is returned unchanged, and that a change of
/// any byte of header, payload or signature is detected.
#[track_caller]
pub(crate) fn assert_genuine(jwk: &str, algorithm: Algorithm, token: &str, payload: &str) {
    let keys = key(jwk, algorithm);
    assert_eq!(jws::verify(token.as_bytes(), &keys).as_deref(), Ok(payload.as_bytes()), "{token}");
    let mut segments = token.split('.').map(|segment| URL_SAFE_NO_PAD.decode(segment).unwrap());
    let segments: [_; 3] = std::array::from_fn(|_| segments.next().unwrap());
    for (index, segment) in segments.iter().enumerate() {
        for byte in 0..segment.len() {
            let mut altered = segments.clone();
            altered[index][byte] ^= 1;
            let altered = altered.map(|segment| URL_SAFE_NO_PAD.encode(segment)).join(".");
            let result = jws::verify(altered.as_bytes(), &keys);
            // An altered header may be refused for its new content.
            let detected =
                if index == 0 { result.is_err() } else { result == Err(Reject::Signature) };
            assert!(detected, "byte {byte} of segment {index} of {altered}: {result:?}");
        }
    }
}

/// Asserts that the signature is valid for these bytes, so that a refusal is not due to an error in
/// the vector.
#[track_caller]
pub(crate) fn assert_signs(jwk: &str, algorithm: Algorithm, signing_input: &str, signature: &str) {
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let keys = key(jwk, algorithm);
    assert_eq!(
        keys.iter().next().unwrap().verify(signing_input.as_bytes(), &signature),
        Ok(()),
        "{signing_input}"
    );
}

/// Parses the key of an example. Most have no `alg`, so the algorithm is configured.
fn key(jwk: &str, algorithm: Algorithm) -> KeySet {
    let policy =
        Policy { origin: Origin::Static, algorithms: Some([algorithm].into_iter().collect()) };
    let keys = KeySet::from_jwks(jwk.as_bytes(), policy).unwrap();
    assert_eq!((keys.len(), keys.skipped()), (1, &[][..]));
    keys
}
