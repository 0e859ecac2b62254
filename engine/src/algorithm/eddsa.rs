//! Ed25519 (RFC 8037 section 3.1).

use aws_lc_rs::signature::{self, ParsedPublicKey};

use super::{Algorithm, wrong_curve};
use crate::error::KeyError;

/// Parses the 32 bytes of an Ed25519 public key.
pub(crate) fn parse(
    algorithm: Algorithm,
    curve: &str,
    x: &[u8],
) -> Result<ParsedPublicKey, KeyError> {
    if algorithm != Algorithm::EdDsa {
        return Err(KeyError::WrongKeyType);
    }
    if curve != "Ed25519" {
        return Err(wrong_curve(curve));
    }
    if x.len() != 32 {
        return Err(KeyError::CoordinateLength);
    }
    if has_small_order(x) {
        return Err(KeyError::SmallOrder);
    }
    ParsedPublicKey::new(&signature::ED25519, x).map_err(|_| KeyError::Invalid)
}

/// Whether the point lies in the subgroup of order eight. For such a key anyone can forge
/// signatures: with `s = 0` the equation of RFC 8032 section 5.1.7 holds for one of eight fixed
/// `R`.
fn has_small_order(x: &[u8]) -> bool {
    let Some((last, rest)) = x.split_last() else { return true };
    // The top bit is the sign of the other coordinate, and both signs are refused.
    SMALL_ORDER.iter().any(|point| rest == &point[..31] && last & 0x7f == point[31])
}

/// The y coordinates of order 1, 2, 4 and 8, little-endian, including those that are not reduced
/// modulo 2^255 - 19.
#[rustfmt::skip]
const SMALL_ORDER: [[u8; 32]; 7] = [
    // 0: order 4
    [0; 32],
    // 1: order 1
    [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    // order 8
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0,
        0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    // order 8
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f,
        0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
    // p - 1: order 2
    near_field_prime(0xec),
    // p, which is 0: order 4
    near_field_prime(0xed),
    // p + 1, which is 1: order 1
    near_field_prime(0xee),
];

/// 2^255 - 256 + `low`, little-endian.
const fn near_field_prime(low: u8) -> [u8; 32] {
    let mut bytes = [0xff; 32];
    bytes[0] = low;
    bytes[31] = 0x7f;
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check is necessary: the cryptography library accepts a forged signature for every one of
    /// these keys that it accepts at all.
    #[test]
    fn a6_forgeable_keys_of_small_order_are_refused() {
        let mut forgeable = 0;
        for point in SMALL_ORDER {
            for sign in [0, 0x80] {
                let mut x = point;
                x[31] |= sign;
                assert_eq!(
                    parse(Algorithm::EdDsa, "Ed25519", &x).err(),
                    Some(KeyError::SmallOrder),
                    "{x:?}"
                );
                let Ok(key) = ParsedPublicKey::new(&signature::ED25519, x) else { continue };
                forgeable += usize::from(is_forgeable(&key));
            }
        }
        assert!(forgeable >= 8, "forgeable: {forgeable}");
    }

    fn is_forgeable(key: &ParsedPublicKey) -> bool {
        (0..64u8).any(|message| {
            SMALL_ORDER.iter().flat_map(|point| [(point, 0), (point, 0x80)]).any(|(point, sign)| {
                let mut forged = [0; 64];
                forged[..32].copy_from_slice(point);
                forged[31] |= sign;
                key.verify_sig(&[message], &forged).is_ok()
            })
        })
    }

    #[test]
    fn a6_curve_and_length_are_checked() {
        let unsupported = KeyError::UnsupportedCurve("Ed448");
        assert_eq!(parse(Algorithm::EdDsa, "Ed448", &[1; 57]).err(), Some(unsupported));
        assert_eq!(parse(Algorithm::EdDsa, "X25519", &[1; 32]).err(), Some(KeyError::WrongCurve));
        assert_eq!(
            parse(Algorithm::EdDsa, "Ed25519", &[1; 31]).err(),
            Some(KeyError::CoordinateLength)
        );
        assert_eq!(
            parse(Algorithm::Es256, "Ed25519", &[1; 32]).err(),
            Some(KeyError::WrongKeyType)
        );
    }
}
