use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_engine::{
    Algorithm, KeySet, Reject,
    jwks::{Origin, Policy},
    jws,
};

/// What a verifier with this one key says.
pub(crate) fn verify(jwk: &str, algorithm: Algorithm, token: &str) -> Result<Vec<u8>, Reject> {
    jws::verify(token.as_bytes(), &key(jwk, algorithm))
}

/// It verifies, its payload comes out byte for byte, and a change of any one byte
/// of header, payload or signature is noticed.
#[track_caller]
pub(crate) fn assert_genuine(jwk: &str, algorithm: Algorithm, token: &str, payload: &str) {
    let keys = key(jwk, algorithm);
    assert_eq!(jws::verify(token.as_bytes(), &keys).as_deref(), Ok(payload.as_bytes()), "{token}");
    let mut segments = token.split('.').map(|segment| URL_SAFE_NO_PAD.decode(segment).unwrap());
    let segments: [_; 3] = std::array::from_fn(|_| segments.next().unwrap());
    for (place, segment) in segments.iter().enumerate() {
        for byte in 0..segment.len() {
            let mut altered = segments.clone();
            altered[place][byte] ^= 1;
            let altered = altered.map(|segment| URL_SAFE_NO_PAD.encode(segment)).join(".");
            let answer = jws::verify(altered.as_bytes(), &keys);
            // A header that was altered may be refused for what it now says.
            let noticed =
                if place == 0 { answer.is_err() } else { answer == Err(Reject::Signature) };
            assert!(noticed, "byte {byte} of segment {place} of {altered}: {answer:?}");
        }
    }
}

/// The signature is right for these bytes, so that whatever is refused about them
/// is not a slip in the vector.
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

/// The key of an example. Most of them name no `alg`, as if an operator had
/// configured the one.
fn key(jwk: &str, algorithm: Algorithm) -> KeySet {
    let policy =
        Policy { origin: Origin::Static, algorithms: Some([algorithm].into_iter().collect()) };
    let (keys, skipped) = KeySet::from_jwks(jwk.as_bytes(), policy).unwrap();
    assert_eq!((keys.len(), skipped), (1, vec![]));
    keys
}
