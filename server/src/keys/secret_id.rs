//! Ids of shared secrets, by which servers compare secrets without revealing them.

use aws_lc_rs::{
    digest::{SHA256, digest},
    hmac,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::base::hex::to_hex;

/// Minimum length of a secret with an id, in bytes.
const MIN_BYTES: usize = 32;
/// Length of an id in bytes.
const ID_BYTES: usize = 8;
const LABEL: &[u8] = b"countersign key id";

/// Returns the id of a secret: 8 bytes of HMAC-SHA256 of a label under it, in hexadecimal.
///
/// An id allows to check guesses of the secret offline, as any token signed with it does. So only
/// a secret that cannot be guessed has one: at least 32 bytes that look random.
#[must_use]
pub fn secret_id(secret: &[u8]) -> Option<String> {
    if !looks_random(secret) {
        return None;
    }
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), LABEL);
    tag.as_ref().get(..ID_BYTES).map(to_hex)
}

/// Returns a digest of `parts` that only a holder of the secret can compare with guesses, in
/// hexadecimal: HMAC-SHA256, or SHA-256 if the secret could itself be guessed from the digest.
#[must_use]
pub fn keyed_digest(secret: &[u8], parts: [&str; 2]) -> String {
    const LABEL: &str = "countersign keyed digest";
    let [first, second] = parts;
    // The length separates the parts.
    let text = format!("{LABEL}\0{}\0{first}{second}", first.len());
    if looks_random(secret) {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        return to_hex(hmac::sign(&key, text.as_bytes()).as_ref());
    }
    to_hex(digest(&SHA256, text.as_bytes()).as_ref())
}

/// Returns the secret for a purpose that is derived from another: HMAC-SHA256 of the purpose.
pub(crate) fn derived_secret(secret: &[u8], purpose: &str) -> [u8; 32] {
    const LABEL: &str = "countersign derived secret";
    let tag = hmac::sign(
        &hmac::Key::new(hmac::HMAC_SHA256, secret),
        format!("{LABEL}\0{purpose}").as_bytes(),
    );
    let mut derived = [0; 32];
    derived.copy_from_slice(tag.as_ref());
    derived
}

/// Whether a secret looks generated. A false negative costs a comparison. A false positive would
/// allow to guess a phrase, so a phrase is detected both as bytes and as base64 text.
fn looks_random(secret: &[u8]) -> bool {
    // Of 32 random bytes, 30 are distinct on average, and fewer than 20 practically never.
    const MIN_DISTINCT: usize = 20;
    let mut is_used = [false; 256];
    secret.iter().for_each(|byte| is_used[usize::from(*byte)] = true);
    let distinct = is_used.iter().filter(|is_used| **is_used).count();
    let text = URL_SAFE_NO_PAD.encode(secret);
    let has = |class: fn(&u8) -> bool| text.as_bytes().iter().any(class);
    secret.len() >= MIN_BYTES
        && distinct >= MIN_DISTINCT
        && std::str::from_utf8(secret).is_err()
        && has(u8::is_ascii_lowercase)
        && has(u8::is_ascii_uppercase)
        && has(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::secret_encoding::SecretEncoding;

    fn decode_secret(text: &str) -> Option<Vec<u8>> {
        SecretEncoding::Base64Url.decode(text.as_bytes())
    }

    #[test]
    fn secret_id_is_an_hmac_of_a_label() {
        let secret = decode_secret("NYR2LtAsKSs7TuY0D8ZIqmMaLcICC3lf_ur4FGlLUcQ").unwrap();
        // printf 'countersign key id' | openssl dgst -sha256 -mac HMAC -macopt hexkey:358476...
        assert_eq!(secret_id(&secret).unwrap(), "7f10eed70d2c39a8");
    }

    #[test]
    fn guessable_secrets_have_no_id() {
        let phrase = "correct-horse-battery-staple-and-many-more-words";
        for secret in [
            phrase.as_bytes().to_vec(),
            decode_secret(phrase).unwrap(),
            decode_secret("Passwords-Of-People-Have-Few-Digits-And-Many-Words").unwrap(),
            vec![7; 64],
            b"\x8f\x01 a random start, then text that a person chose".to_vec()[..31].to_vec(),
        ] {
            assert_eq!(secret_id(&secret), None, "{secret:?}");
        }
    }

    #[test]
    fn keyed_digest_needs_a_random_secret_for_its_key() {
        let random = decode_secret("NYR2LtAsKSs7TuY0D8ZIqmMaLcICC3lf_ur4FGlLUcQ").unwrap();
        let other = decode_secret("rID3kG4OwGpajIsxnGDhat4UFcMkyFZQc1y3oKQTPRs").unwrap();
        let digest = |secret: &[u8]| keyed_digest(secret, ["bob", "192.0.2.1"]);
        assert_ne!(digest(&random), digest(&other));
        assert_eq!(digest(&[b'x'; 32]), digest(&[b'y'; 32]), "a guessable secret is not used");
        assert_ne!(keyed_digest(&random, ["a", "bc"]), keyed_digest(&random, ["ab", "c"]));
    }
}
