//! RSA signatures, PKCS#1 v1.5 and PSS (RFC 7518 sections 3.3 and 3.5).
//!
//! [`RsaKey::verify`] is that of aws-lc. Signatures of a batch are verified eight at a time, where the
//! processor has the instructions ([`verify_all`], docs/decisions/051-rsa-lanes.md).

mod montgomery;
mod padding;
#[cfg(target_arch = "x86_64")]
mod ifma;
#[cfg(not(target_arch = "x86_64"))]
#[path = "rsa/no_ifma.rs"]
mod ifma;
mod lanes;
mod differential;
mod random;
mod wycheproof;

pub(crate) use lanes::{RsaCheck, verify_all};

use aws_lc_rs::{
    rsa::PublicKeyComponents,
    signature::{self, ParsedPublicKey, RsaParameters},
};

use montgomery::MontgomeryKey;
use padding::PaddingScheme;

use super::Algorithm;
use crate::{error::KeyError, limits};

/// The code that verifies RSA signatures.
///
/// The results are the same. [`AwsLc`](Self::AwsLc) is there to rule the other out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RsaImplementation {
    /// Own code for signatures of a batch, eight at a time if there are enough, where the processor
    /// has AVX-512 IFMA; aws-lc otherwise.
    #[default]
    Auto,
    /// Always aws-lc.
    AwsLc,
}

/// A key, parsed by aws-lc, and prepared for lanes if there are some for it.
pub(crate) struct RsaKey {
    parsed: ParsedPublicKey,
    padding: PaddingScheme,
    montgomery: Option<Box<MontgomeryKey>>,
}

impl RsaKey {
    /// Verifies one signature.
    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        self.parsed.verify_sig(message, signature).is_ok()
    }
}

/// Parses a modulus and exponent, both big-endian without leading zeros.
pub(crate) fn parse(algorithm: Algorithm, n: &[u8], e: &[u8]) -> Result<RsaKey, KeyError> {
    let parameters = parameters(algorithm).ok_or(KeyError::WrongKeyType)?;
    let padding = PaddingScheme::of(algorithm).ok_or(KeyError::WrongKeyType)?;
    if !limits::RSA_MODULUS_BITS.contains(&bits(n)) {
        return Err(KeyError::ModulusSize);
    }
    let odd = e.last().is_some_and(|byte| byte & 1 == 1);
    if !odd || e == [1] || bits(e) > limits::MAX_RSA_EXPONENT_BITS {
        return Err(KeyError::Exponent);
    }
    if is_roca(n) {
        return Err(KeyError::Roca);
    }
    let parsed = PublicKeyComponents { n, e }
        .to_parsed_public_key(parameters)
        .map_err(|_| KeyError::Invalid)?;
    let montgomery = ifma::is_available().then(|| MontgomeryKey::new(n, e)).flatten().map(Box::new);
    Ok(RsaKey { parsed, padding, montgomery })
}

fn parameters(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        Algorithm::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        Algorithm::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
        Algorithm::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
        Algorithm::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}

/// The length in bits of a big-endian number without leading zero bytes.
fn bits(number: &[u8]) -> usize {
    let unused =
        number.first().map_or(0, |byte| usize::try_from(byte.leading_zeros()).unwrap_or(0));
    number.len().saturating_mul(8).saturating_sub(unused)
}

/// Whether the modulus has the structure of the ROCA weakness (CVE-2017-15361).
///
/// Such a modulus is a product of primes of the form `k * M + (65537^a mod M)`
/// with `M` a product of small primes, so modulo each of those small primes it
/// lies in the subgroup that 65537 generates. A random modulus lies in all of
/// these subgroups with a probability below 2^-27.
fn is_roca(n: &[u8]) -> bool {
    /// The small primes for which 65537 generates a proper subgroup.
    const PRIMES: [u32; 17] =
        [11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157];
    PRIMES.iter().all(|prime| in_subgroup_of_65537(remainder(n, *prime), *prime))
}

/// A big-endian number modulo a small prime.
fn remainder(number: &[u8], prime: u32) -> u32 {
    number.iter().fold(0u32, |rest, byte| {
        rest.wrapping_mul(256).wrapping_add(u32::from(*byte)).checked_rem(prime).unwrap_or(0)
    })
}

fn in_subgroup_of_65537(element: u32, prime: u32) -> bool {
    let step = 65_537u32.checked_rem(prime).unwrap_or(0);
    let mut power = 1u32;
    // The subgroup has at most `prime - 1` elements.
    for _ in 0..prime {
        if power == element {
            return true;
        }
        power = power.wrapping_mul(step).checked_rem(prime).unwrap_or(0);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modulus(bytes: usize) -> Vec<u8> {
        let mut n = vec![0xb5; bytes];
        *n.last_mut().unwrap() = 0x01;
        n
    }

    #[test]
    fn a5_a13_modulus_of_wrong_size_is_refused() {
        let error = |n: &[u8]| parse(Algorithm::Rs256, n, &[1, 0, 1]).err();
        assert_eq!(error(&modulus(128)), Some(KeyError::ModulusSize));
        assert_eq!(error(&modulus(1025)), Some(KeyError::ModulusSize));
        let mut bits_2047 = modulus(256);
        bits_2047[0] = 0x7f;
        assert_eq!(error(&bits_2047), Some(KeyError::ModulusSize));
        assert_eq!(error(&modulus(256)), None);
        assert_eq!(error(&modulus(1024)), None);
        assert_eq!(error(&[]), Some(KeyError::ModulusSize));
    }

    #[test]
    fn a6_a13_even_one_or_huge_exponent_is_refused() {
        let error = |e: &[u8]| parse(Algorithm::Ps256, &modulus(256), e).err();
        for e in [&[][..], &[1], &[2], &[1, 0, 0], &[1, 0, 0, 0, 1]] {
            assert_eq!(error(e), Some(KeyError::Exponent), "{e:?}");
        }
        assert_eq!(error(&[3]), None);
        assert_eq!(error(&[1, 0, 1]), None);
    }

    #[test]
    fn a5_every_roca_prime_has_a_proper_subgroup() {
        for prime in [11u32, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157] {
            let inside = (1..prime).filter(|element| in_subgroup_of_65537(*element, prime)).count();
            assert!(
                inside < usize::try_from(prime - 1).unwrap(),
                "{prime} generates the whole group"
            );
        }
    }

    #[test]
    fn a5_modulus_in_every_roca_subgroup_is_refused() {
        // 65537^64 is 1025 bits; its powers lie in every subgroup by construction.
        let mut n = vec![1u8];
        for _ in 0..126 {
            // Times 65537: shift by 16 bits and add.
            let mut shifted = n.clone();
            shifted.extend([0, 0]);
            let mut carry = 0u16;
            for place in (0..shifted.len()).rev() {
                let low = shifted.len() - 1 - place;
                let addend = n.len().checked_sub(1 + low).map_or(0, |index| n[index]);
                let sum = u16::from(shifted[place]) + u16::from(addend) + carry;
                shifted[place] = u8::try_from(sum & 255).unwrap();
                carry = sum >> 8;
            }
            assert_eq!(carry, 0);
            n = shifted;
        }
        // The leading byte is 1: 126 * 16 bits and one.
        assert_eq!(bits(&n), 2017);
        assert!(is_roca(&n));
        assert!(!is_roca(&modulus(256)));
    }
}
