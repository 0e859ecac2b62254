//! ECDSA with the fixed-length `r || s` signatures of RFC 7518 section 3.4.

use aws_lc_rs::signature::{self, EcdsaVerificationAlgorithm, ParsedPublicKey};

use super::{Algorithm, wrong_curve};
use crate::error::KeyError;

/// Returns the length of a coordinate on this curve (RFC 7518 section 6.2.1.2).
pub(crate) fn field_bytes(curve: &str) -> Option<usize> {
    let curves = [Algorithm::Es256, Algorithm::Es384, Algorithm::Es512].map(parameters);
    let found = curves.into_iter().flatten().find(|(_, name, _)| *name == curve);
    found.map(|(_, _, length)| length)
}

/// Parses a point on the algorithm's curve. `x` and `y` must have exactly the length of the field.
/// A point off the curve is refused.
pub(crate) fn parse(
    algorithm: Algorithm,
    curve: &str,
    x: &[u8],
    y: &[u8],
) -> Result<ParsedPublicKey, KeyError> {
    let (verification, its_curve, length) = parameters(algorithm).ok_or(KeyError::WrongKeyType)?;
    if curve != its_curve {
        return Err(wrong_curve(curve));
    }
    if x.len() != length || y.len() != length {
        return Err(KeyError::CoordinateLength);
    }
    /// SEC 1 section 2.3.3: an uncompressed point.
    const UNCOMPRESSED: u8 = 4;
    let point = [&[UNCOMPRESSED], x, y].concat();
    ParsedPublicKey::new(verification, point).map_err(|_| KeyError::Invalid)
}

fn parameters(
    algorithm: Algorithm,
) -> Option<(&'static EcdsaVerificationAlgorithm, &'static str, usize)> {
    Some(match algorithm {
        Algorithm::Es256 => (&signature::ECDSA_P256_SHA256_FIXED, "P-256", 32),
        Algorithm::Es384 => (&signature::ECDSA_P384_SHA384_FIXED, "P-384", 48),
        Algorithm::Es512 => (&signature::ECDSA_P521_SHA512_FIXED, "P-521", 66),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a6_curve_length_and_point_are_checked() {
        let error = |algorithm, curve, x: &[u8], y: &[u8]| parse(algorithm, curve, x, y).err();
        assert_eq!(
            error(Algorithm::Es256, "P-384", &[1; 32], &[1; 32]),
            Some(KeyError::WrongCurve)
        );
        assert_eq!(
            error(Algorithm::Es256, "P-256", &[1; 31], &[1; 32]),
            Some(KeyError::CoordinateLength)
        );
        assert_eq!(
            error(Algorithm::Es512, "P-521", &[1; 65], &[1; 66]),
            Some(KeyError::CoordinateLength)
        );
        assert_eq!(error(Algorithm::Es256, "P-256", &[1; 32], &[1; 32]), Some(KeyError::Invalid));
        assert_eq!(error(Algorithm::Es256, "P-256", &[0; 32], &[0; 32]), Some(KeyError::Invalid));
        assert_eq!(
            error(Algorithm::Rs256, "P-256", &[1; 32], &[1; 32]),
            Some(KeyError::WrongKeyType)
        );
    }
}
