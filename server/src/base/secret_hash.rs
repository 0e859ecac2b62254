//! Hashes of random secrets, as configurations contain them: `sha256:` and 64 hexadecimal digits.
//!
//! A plain hash is enough. The secrets are random, so dictionary attacks do not apply.

use aws_lc_rs::digest::{SHA256, digest};

use super::hex::{from_hex, to_hex};

const PREFIX: &str = "sha256:";

/// Returns the SHA-256 of a secret.
#[must_use]
pub fn hash(secret: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    let computed = digest(&SHA256, secret);
    hash.iter_mut().zip(computed.as_ref()).for_each(|(to, byte)| *to = *byte);
    hash
}

/// Returns the hash of a secret as written in a configuration.
#[must_use]
pub fn hash_text(secret: &str) -> String {
    format!("{PREFIX}{}", to_hex(&hash(secret.as_bytes())))
}

/// Reads a hash in the form of [`hash_text`], with a prefix in any case: a hash that was taken for
/// a secret would be one. `None` if the text does not start as a hash.
///
/// # Errors
/// The rest is not 64 hexadecimal digits.
#[must_use]
pub fn parse(text: &str) -> Option<Result<[u8; 32], String>> {
    let (prefix, digits) = text.split_at_checked(PREFIX.len())?;
    prefix.eq_ignore_ascii_case(PREFIX).then(|| from_hex(digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_hash_is_read_again() {
        assert_eq!(parse(&hash_text("s3cret")), Some(Ok(hash(b"s3cret"))));
        assert_ne!(hash(b"s3cret"), hash(b"s3cret "));
        assert_eq!(parse(&hash_text("a").replace("sha", "SHA")), Some(Ok(hash(b"a"))));
        assert_eq!([parse("s3cret"), parse("sha256é"), parse("sha256")], [None, None, None]);
        assert!(parse("sha256:s3cret").is_some_and(|parsed| parsed.is_err()));
    }
}
