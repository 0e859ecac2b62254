//! Ed25519 (RFC 8037 section 3.1).

use aws_lc_rs::signature::{self, ParsedPublicKey};

use super::Algorithm;
use crate::fault::KeyFault;

/// Takes the 32 bytes of an Ed25519 public key.
pub(crate) fn parse(algorithm: Algorithm, curve: &str, x: &[u8]) -> Result<ParsedPublicKey, KeyFault> {
    if algorithm != Algorithm::EdDsa {
        return Err(KeyFault::WrongKeyType);
    }
    if curve != "Ed25519" {
        return Err(KeyFault::WrongCurve);
    }
    if x.len() != 32 {
        return Err(KeyFault::CoordinateLength);
    }
    ParsedPublicKey::new(&signature::ED25519, x).map_err(|_| KeyFault::Invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a6_curve_and_length_are_checked() {
        assert_eq!(parse(Algorithm::EdDsa, "Ed448", &[1; 57]).err(), Some(KeyFault::WrongCurve));
        assert_eq!(parse(Algorithm::EdDsa, "X25519", &[1; 32]).err(), Some(KeyFault::WrongCurve));
        assert_eq!(parse(Algorithm::EdDsa, "Ed25519", &[1; 31]).err(), Some(KeyFault::CoordinateLength));
        assert_eq!(parse(Algorithm::Es256, "Ed25519", &[1; 32]).err(), Some(KeyFault::WrongKeyType));
    }
}
