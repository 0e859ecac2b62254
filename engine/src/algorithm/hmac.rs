//! HMAC (RFC 7518 section 3.2), implemented by ring. For inputs of the size of a token it takes
//! 0.83 of the time of aws-lc (`bench/record`). The tests compare the two implementations.

use ring::hmac;

use super::Algorithm;
use crate::error::KeyError;

/// Parses a secret, which must be at least as long as the hash (RFC 7518 section 3.2).
pub(crate) fn parse(algorithm: Algorithm, secret: &[u8]) -> Result<hmac::Key, KeyError> {
    let hash = match algorithm {
        Algorithm::Hs256 => hmac::HMAC_SHA256,
        Algorithm::Hs384 => hmac::HMAC_SHA384,
        Algorithm::Hs512 => hmac::HMAC_SHA512,
        _ => return Err(KeyError::WrongKeyType),
    };
    if algorithm.min_secret_bytes().is_none_or(|shortest| secret.len() < shortest) {
        return Err(KeyError::SecretTooShort);
    }
    Ok(hmac::Key::new(hash, secret))
}

/// Whether `tag` authenticates `message`. The comparison takes constant time, and a truncated tag
/// is never accepted.
pub(crate) fn verify(key: &hmac::Key, message: &[u8], tag: &[u8]) -> bool {
    hmac::verify(key, message, tag).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a5_secret_shorter_than_the_hash_is_refused() {
        for (algorithm, shortest) in
            [(Algorithm::Hs256, 32), (Algorithm::Hs384, 48), (Algorithm::Hs512, 64)]
        {
            assert!(parse(algorithm, &vec![7; shortest]).is_ok());
            assert_eq!(
                parse(algorithm, &vec![7; shortest - 1]).err(),
                Some(KeyError::SecretTooShort)
            );
            assert_eq!(parse(algorithm, &[]).err(), Some(KeyError::SecretTooShort));
        }
        assert_eq!(parse(Algorithm::Rs256, &[7; 64]).err(), Some(KeyError::WrongKeyType));
    }

    #[test]
    fn hmac_implementations_agree() {
        for (algorithm, other) in [
            (Algorithm::Hs256, aws_lc_rs::hmac::HMAC_SHA256),
            (Algorithm::Hs384, aws_lc_rs::hmac::HMAC_SHA384),
            (Algorithm::Hs512, aws_lc_rs::hmac::HMAC_SHA512),
        ] {
            for length in [64, 65, 127, 128, 129, 200, 1000] {
                let secret: Vec<u8> = (0..=u8::MAX).cycle().take(length).collect();
                let tag =
                    aws_lc_rs::hmac::sign(&aws_lc_rs::hmac::Key::new(other, &secret), &secret);
                assert!(
                    verify(&parse(algorithm, &secret).unwrap(), &secret, tag.as_ref()),
                    "{algorithm} {length}"
                );
            }
        }
    }

    #[test]
    fn tag_of_another_length_is_refused() {
        let key = parse(Algorithm::Hs256, &[7; 32]).unwrap();
        let tag = hmac::sign(&key, b"message");
        assert!(verify(&key, b"message", tag.as_ref()));
        assert!(!verify(&key, b"message", &tag.as_ref()[..31]));
        assert!(!verify(&key, b"message", &[tag.as_ref(), &[0]].concat()));
        assert!(!verify(&key, b"message", b""));
        assert!(!verify(&key, b"messagf", tag.as_ref()));
    }
}
