//! Reasons to refuse a key or a whole key set: mistakes of its publisher or of the operator.
//! Reasons to refuse a token are in [`Reject`](crate::Reject).

use core::fmt;

use crate::algorithm::{UNSUPPORTED_ALGORITHMS, UNSUPPORTED_CURVES};

/// The reason why a key was refused. The rest of its set can still be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// The JWK is not a JSON object (RFC 8259).
    NotAnObject,
    /// Two members of the JWK, or of an object in it, have the same name.
    DuplicateMember,
    /// The JWK is nested deeper than [`limits::MAX_DEPTH`](crate::limits::MAX_DEPTH).
    TooDeep,
    /// The `kid` is longer than [`limits::MAX_KID_BYTES`](crate::limits::MAX_KID_BYTES).
    KidTooLong,
    /// Neither a certificate nor a public key of a supported type can be read in its PEM.
    Pem,
    /// A member that the key type requires is missing, `null` or empty.
    MissingMember(&'static str),
    /// A member is neither base64url nor base64.
    Encoding(&'static str),
    /// A member has the wrong JSON type.
    MemberType(&'static str),
    /// The `kty` is not `oct`, `RSA`, `EC` or `OKP`.
    UnknownKeyType,
    /// The key type does not fit the algorithm.
    WrongKeyType,
    /// The `alg` is not a supported signature algorithm.
    UnknownAlgorithm,
    /// The `alg` is a registered signature algorithm that is not supported
    /// ([`Algorithm::unsupported`](crate::Algorithm::unsupported)).
    UnsupportedAlgorithm(&'static str),
    /// The `crv` is a registered curve for signatures that is not supported.
    UnsupportedCurve(&'static str),
    /// `alg` is missing, and no algorithm is configured to take its place.
    NoAlgorithm,
    /// The `alg` is not configured for the issuer.
    AlgorithmNotConfigured,
    /// `use` or `key_ops` exclude verifying signatures.
    NotForSignatures,
    /// A shared secret in a set of public keys.
    SecretInPublicSet,
    /// The private half of a key pair was published.
    Private,
    /// The secret is shorter than the hash of its algorithm.
    SecretTooShort,
    /// The RSA modulus is outside 2048 to 8192 bits.
    ModulusSize,
    /// The RSA exponent is even, one, or longer than 32 bits.
    Exponent,
    /// The modulus has the ROCA weakness (CVE-2017-15361).
    Roca,
    /// An Ed25519 public key of small order, for which anyone can forge signatures.
    SmallOrder,
    /// The curve does not fit the algorithm.
    WrongCurve,
    /// A coordinate is longer than the curve's field, or an Ed25519 key is not 32 bytes long.
    CoordinateLength,
    /// The cryptography library refuses the key: a point off the curve, or an even modulus.
    Invalid,
    /// An earlier key of the set is the same with the same `kid` and `alg`, or is a shared secret
    /// with them.
    Duplicate,
    /// [`limits::MAX_TRIED_KEYS`](crate::limits::MAX_TRIED_KEYS) earlier keys of the set have the
    /// same `kid` and `alg`.
    TooManyOfOneKid,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::NotAnObject => "it is not a JSON object",
            Self::DuplicateMember => "one of its members is there twice",
            Self::TooDeep => "its JSON is nested more than 16 levels deep",
            Self::KidTooLong => "its kid is longer than 1,024 bytes",
            Self::Pem => "its PEM is damaged, or of an unsupported kind",
            Self::MissingMember(name) => {
                return write!(f, "its member \"{name}\" is missing");
            }
            Self::Encoding(name) => {
                return write!(f, "its member \"{name}\" is not base64url");
            }
            Self::MemberType(name) => {
                return write!(f, "its member \"{name}\" has the wrong JSON type");
            }
            Self::UnsupportedAlgorithm(name) => {
                return write!(f, "its algorithm (alg) {name} is not supported");
            }
            Self::UnsupportedCurve(name) => {
                return write!(f, "its curve (crv) {name} is not supported");
            }
            Self::UnknownKeyType => "its key type (kty) is not one of oct, RSA, EC, OKP",
            Self::WrongKeyType => "its key type (kty) does not fit its algorithm (alg)",
            Self::UnknownAlgorithm => "its algorithm (alg) is not a supported signature algorithm",
            Self::NoAlgorithm => "it names no algorithm (alg)",
            Self::AlgorithmNotConfigured => "its algorithm (alg) is not configured for this issuer",
            Self::NotForSignatures => "its use or key_ops do not include verifying signatures",
            Self::SecretInPublicSet => "a shared secret (oct) must not be in a published key set",
            Self::Private => {
                "it contains the private key (member \"d\"): publish the public key only"
            }
            Self::SecretTooShort => "the secret is shorter than the hash of its algorithm",
            Self::ModulusSize => "the RSA modulus is not between 2048 and 8192 bits long",
            Self::Exponent => "the RSA exponent is even, one, or longer than 32 bits",
            Self::Roca => "the RSA modulus has the ROCA weakness (CVE-2017-15361)",
            Self::SmallOrder => {
                "it is an Ed25519 point of small order, for which anyone can forge signatures"
            }
            Self::WrongCurve => "its curve (crv) does not fit its algorithm (alg)",
            Self::CoordinateLength => "a coordinate is not a number of the curve's field",
            Self::Invalid => "it is not a valid public key",
            Self::Duplicate => "an earlier key of the set is the same, with the same kid and alg",
            Self::TooManyOfOneKid => "four earlier keys of the set have the same kid and alg",
        };
        f.write_str(text)
    }
}

impl core::error::Error for KeyError {}

impl KeyError {
    /// Returns the error with the text that [`Display`](fmt::Display) writes, for a process that
    /// learns of a refused key from another one. `None` for any other text.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let of_members = MEMBERS.into_iter().flat_map(|name| {
            [Self::MissingMember(name), Self::Encoding(name), Self::MemberType(name)]
        });
        let of_algorithms = UNSUPPORTED_ALGORITHMS.into_iter().map(Self::UnsupportedAlgorithm);
        let of_curves = UNSUPPORTED_CURVES.into_iter().map(Self::UnsupportedCurve);
        let named = of_members.chain(of_algorithms).chain(of_curves);
        UNNAMED.into_iter().chain(named).find(|error| error.to_string() == text)
    }
}

/// The members of a JWK that are read.
const MEMBERS: [&str; 11] = ["kty", "kid", "alg", "use", "key_ops", "crv", "k", "n", "e", "x", "y"];

/// The errors that do not name anything.
const UNNAMED: [KeyError; 23] = [
    KeyError::NotAnObject,
    KeyError::DuplicateMember,
    KeyError::TooDeep,
    KeyError::KidTooLong,
    KeyError::Pem,
    KeyError::UnknownKeyType,
    KeyError::WrongKeyType,
    KeyError::UnknownAlgorithm,
    KeyError::NoAlgorithm,
    KeyError::AlgorithmNotConfigured,
    KeyError::NotForSignatures,
    KeyError::SecretInPublicSet,
    KeyError::Private,
    KeyError::SecretTooShort,
    KeyError::ModulusSize,
    KeyError::Exponent,
    KeyError::Roca,
    KeyError::SmallOrder,
    KeyError::WrongCurve,
    KeyError::CoordinateLength,
    KeyError::Invalid,
    KeyError::Duplicate,
    KeyError::TooManyOfOneKid,
];

/// The reason why a whole key set was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeySetError {
    /// Longer than [`limits::MAX_KEY_SET_BYTES`](crate::limits::MAX_KEY_SET_BYTES).
    TooLong,
    /// Not a strict JSON object.
    Json,
    /// Neither a `keys` array nor a single JWK.
    NotAKeySet,
    /// More than [`limits::MAX_KEYS`](crate::limits::MAX_KEYS) keys.
    TooManyKeys,
    /// A static set contains both shared secrets and public keys.
    Mixed,
    /// Two keys of a static set have the same `kid`.
    DuplicateKid,
}

impl KeySetError {
    /// The stable code of the reason.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::TooLong => "key_set_too_long",
            Self::Json => "key_set_json",
            Self::NotAKeySet => "key_set_format",
            Self::TooManyKeys => "key_set_too_many_keys",
            Self::Mixed => "key_set_mixed",
            Self::DuplicateKid => "key_set_duplicate_kid",
        }
    }
}

impl fmt::Display for KeySetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "the key set is longer than 4 MiB",
            Self::Json => "the key set is not a strict JSON object (RFC 8259, no duplicate members, at most 16 levels)",
            Self::NotAKeySet => "the key set has no array called \"keys\" (RFC 7517 section 5)",
            Self::TooManyKeys => "the key set has more than 1,024 keys",
            Self::Mixed => "the key set mixes shared secrets (oct) with public keys: keep them in separate sets",
            Self::DuplicateKid => "two keys of the set have the same kid: give each its own",
        })
    }
}

impl core::error::Error for KeySetError {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails to compile if an error is not known here: add it to [`UNNAMED`], or to the names.
    const fn is_named(error: KeyError) -> bool {
        use KeyError as E;
        match error {
            E::MissingMember(_)
            | E::Encoding(_)
            | E::MemberType(_)
            | E::UnsupportedAlgorithm(_)
            | E::UnsupportedCurve(_) => true,
            E::NotAnObject | E::DuplicateMember | E::TooDeep | E::KidTooLong | E::Pem => false,
            E::UnknownKeyType | E::WrongKeyType | E::UnknownAlgorithm | E::NoAlgorithm => false,
            E::AlgorithmNotConfigured | E::NotForSignatures | E::SecretInPublicSet => false,
            E::Private | E::SecretTooShort | E::ModulusSize | E::Exponent | E::Roca => false,
            E::SmallOrder | E::WrongCurve | E::CoordinateLength | E::Invalid => false,
            E::Duplicate | E::TooManyOfOneKid => false,
        }
    }

    #[test]
    fn key_error_is_read_from_its_text() {
        let named = [
            KeyError::MissingMember("y"),
            KeyError::Encoding("n"),
            KeyError::MemberType("key_ops"),
            KeyError::UnsupportedAlgorithm("ES256K"),
            KeyError::UnsupportedCurve("secp256k1"),
        ];
        assert!(named.into_iter().all(is_named) && !UNNAMED.into_iter().any(is_named));
        for error in UNNAMED.into_iter().chain(named) {
            assert_eq!(KeyError::from_text(&error.to_string()), Some(error));
        }
        assert_eq!(KeyError::from_text("it is something else"), None);
    }
}
