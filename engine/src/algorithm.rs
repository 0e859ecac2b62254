//! The signature algorithms (RFC 7518 section 3, RFC 8037, RFC 9864): how each one reads its keys
//! and verifies signatures.
//!
//! The *key's* algorithm is the one that runs (RFC 8725 section 3.1). A token's `alg` only selects
//! among keys and never decides how a key is used.

pub(crate) mod ecdsa;
pub(crate) mod eddsa;
pub(crate) mod hmac;
pub(crate) mod rsa;

pub use rsa::RsaImplementation;

use core::fmt;

use crate::error::KeyError;

/// The type of key that an algorithm needs; the `kty` of a JWK.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyType {
    /// A shared secret: `oct`.
    Secret,
    /// `RSA`.
    Rsa,
    /// `EC`.
    EllipticCurve,
    /// `OKP` (RFC 8037).
    OctetKeyPair,
}

macro_rules! algorithms {
    ($( $(#[$doc:meta])* $variant:ident, $name:literal, $type:ident; )*) => {
        /// A signature algorithm.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Algorithm {
            $( $(#[$doc])* $variant, )*
        }

        impl Algorithm {
            /// Every algorithm.
            pub const ALL: &'static [Self] = &[ $( Self::$variant, )* ];

            /// Returns the algorithm with exactly this `alg` name; names are case-sensitive.
            /// `EdDSA` has two: RFC 9864 section 2.2 calls it `Ed25519`.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $( $name => Some(Self::$variant), )*
                    "Ed25519" => Some(Self::EdDsa),
                    _ => None,
                }
            }

            /// The `alg` name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $( Self::$variant => $name, )* }
            }

            /// The type of key that it needs.
            #[must_use]
            pub const fn key_type(self) -> KeyType {
                match self { $( Self::$variant => KeyType::$type, )* }
            }

            /// The minimum length of a secret, that of the hash (RFC 7518 section 3.2); `None` for
            /// public keys.
            #[must_use]
            pub const fn min_secret_bytes(self) -> Option<usize> {
                match self {
                    Self::Hs256 => Some(32),
                    Self::Hs384 => Some(48),
                    Self::Hs512 => Some(64),
                    _ => None,
                }
            }

            const fn bit(self) -> u16 {
                #[expect(clippy::as_conversions, reason = "the discriminants count from zero to twelve")]
                1u16.wrapping_shl(self as u32)
            }
        }
    };
}

algorithms! {
    /// HMAC with SHA-256.
    Hs256, "HS256", Secret;
    /// HMAC with SHA-384.
    Hs384, "HS384", Secret;
    /// HMAC with SHA-512.
    Hs512, "HS512", Secret;
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256, "RS256", Rsa;
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384, "RS384", Rsa;
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512, "RS512", Rsa;
    /// RSASSA-PSS with SHA-256 and a salt of the hash's length.
    Ps256, "PS256", Rsa;
    /// RSASSA-PSS with SHA-384 and a salt of the hash's length.
    Ps384, "PS384", Rsa;
    /// RSASSA-PSS with SHA-512 and a salt of the hash's length.
    Ps512, "PS512", Rsa;
    /// ECDSA on P-256 with SHA-256.
    Es256, "ES256", EllipticCurve;
    /// ECDSA on P-384 with SHA-384.
    Es384, "ES384", EllipticCurve;
    /// ECDSA on P-521 with SHA-512.
    Es512, "ES512", EllipticCurve;
    /// Ed25519 (RFC 8037 section 3.1); also named `Ed25519` (RFC 9864).
    EdDsa, "EdDSA", OctetKeyPair;
}

impl Algorithm {
    /// Returns the name if it is that of a registered signature algorithm which is not supported,
    /// so that a message can distinguish it from a misspelled one.
    #[must_use]
    pub fn unsupported(name: &str) -> Option<&'static str> {
        UNSUPPORTED_ALGORITHMS.into_iter().find(|unsupported| *unsupported == name)
    }
}

/// The names of other signature algorithms in the IANA registries for JOSE and COSE (RFC 8812, RFC
/// 9864). Those of COSE are here because providers and libraries use them in JWKs too.
pub(crate) const UNSUPPORTED_ALGORITHMS: [&str; 12] = [
    "Ed448",
    "ES256K",
    "ESP256",
    "ESP384",
    "ESP512",
    "ESB256",
    "ESB320",
    "ESB384",
    "ESB512",
    "ML-DSA-44",
    "ML-DSA-65",
    "ML-DSA-87",
];

/// Other curves for signatures (RFC 8037, RFC 8812).
pub(crate) const UNSUPPORTED_CURVES: [&str; 2] = ["Ed448", "secp256k1"];

/// Returns the error of a curve that does not fit the algorithm of its key.
pub(crate) fn wrong_curve(curve: &str) -> KeyError {
    let unsupported = UNSUPPORTED_CURVES.into_iter().find(|unsupported| *unsupported == curve);
    unsupported.map_or(KeyError::WrongCurve, KeyError::UnsupportedCurve)
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of algorithms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AlgorithmSet(u16);

impl AlgorithmSet {
    /// Whether `algorithm` is in the set.
    #[must_use]
    pub const fn contains(self, algorithm: Algorithm) -> bool {
        self.0 & algorithm.bit() != 0
    }

    /// Iterates over the members, in the order of [`Algorithm::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Algorithm> {
        Algorithm::ALL.iter().copied().filter(move |algorithm| self.contains(*algorithm))
    }
}

impl FromIterator<Algorithm> for AlgorithmSet {
    fn from_iter<I: IntoIterator<Item = Algorithm>>(algorithms: I) -> Self {
        Self(algorithms.into_iter().fold(0, |bits, algorithm| bits | algorithm.bit()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn algorithm_names_round_trip_and_others_fail() {
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::from_name(algorithm.name()), Some(*algorithm));
            assert_eq!(Algorithm::from_name(&algorithm.name().to_lowercase()), None);
        }
        let others = ["none", "None", "NONE", "nOnE", "", "HS1", "RSA1_5", "HS256 ", "ed25519"];
        for name in others.into_iter().chain(UNSUPPORTED_ALGORITHMS) {
            assert_eq!(Algorithm::from_name(name), None, "{name}");
        }
        assert!(others.into_iter().all(|name| Algorithm::unsupported(name).is_none()));
    }

    #[test]
    fn ed25519_is_a_name_of_eddsa() {
        assert_eq!(Algorithm::from_name("Ed25519"), Some(Algorithm::EdDsa));
        assert_eq!(Algorithm::EdDsa.name(), "EdDSA");
    }

    #[test]
    fn algorithm_set_contains_exactly_its_members() {
        let set: AlgorithmSet = [Algorithm::EdDsa, Algorithm::Rs256].into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), [Algorithm::Rs256, Algorithm::EdDsa]);
        assert_eq!(
            Algorithm::ALL.iter().copied().collect::<AlgorithmSet>().iter().count(),
            Algorithm::ALL.len()
        );
        assert_eq!(AlgorithmSet::default().iter().count(), 0);
    }
}
