//! Why a key, or a whole key set, was refused: the mistakes of whoever wrote or
//! published it, as [`Reject`](crate::Reject) names those of a token.

use core::fmt;

/// Why a key was refused. The set it came in may still be good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// A member that the key type needs is missing or no string.
    MissingMember(&'static str),
    /// A member is no canonical base64url.
    Encoding(&'static str),
    /// A `kid`, `alg`, `use` or `key_ops` of the wrong JSON type.
    MemberType(&'static str),
    /// A `kty` other than `oct`, `RSA`, `EC` and `OKP`.
    UnknownKeyType,
    /// The key type does not fit the algorithm.
    WrongKeyType,
    /// An `alg` that is no signature algorithm we implement.
    UnknownAlgorithm,
    /// No `alg`, and nothing configured to take its place.
    NoAlgorithm,
    /// An `alg` that the issuer is not configured for.
    AlgorithmNotConfigured,
    /// `use` or `key_ops` say that the key is not for verifying signatures.
    NotForSignatures,
    /// A shared secret where only public keys belong.
    SecretInPublicSet,
    /// The private half of a key pair, published.
    Private,
    /// A secret shorter than the hash of its algorithm.
    SecretTooShort,
    /// An RSA modulus outside 2048 to 8192 bits.
    ModulusSize,
    /// An RSA exponent that is even, one, or over 32 bits.
    Exponent,
    /// A number with leading zero bytes.
    LeadingZeros,
    /// A modulus with the ROCA weakness (CVE-2017-15361).
    Roca,
    /// An Ed25519 key for which anyone can sign.
    SmallOrder,
    /// A curve other than the algorithm's.
    WrongCurve,
    /// A coordinate that is not exactly as long as the curve's field.
    CoordinateLength,
    /// The cryptography library refuses it: a point off the curve, an even modulus.
    Invalid,
    /// The same `kid` and `alg` as an earlier key of the set.
    Duplicate,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::MissingMember(name) => {
                return write!(f, "its member \"{name}\" is missing or no string");
            }
            Self::Encoding(name) => {
                return write!(f, "its member \"{name}\" is not base64url without padding");
            }
            Self::MemberType(name) => {
                return write!(f, "its member \"{name}\" has the wrong JSON type");
            }
            Self::UnknownKeyType => "its key type (kty) is none of oct, RSA, EC, OKP",
            Self::WrongKeyType => "its key type (kty) does not fit its algorithm (alg)",
            Self::UnknownAlgorithm => "its algorithm (alg) is not a supported signature algorithm",
            Self::NoAlgorithm => "it names no algorithm (alg)",
            Self::AlgorithmNotConfigured => "its algorithm (alg) is not configured for this issuer",
            Self::NotForSignatures => "its use or key_ops do not include verifying signatures",
            Self::SecretInPublicSet => "a shared secret (oct) has no place in a published key set",
            Self::Private => {
                "it holds the private key (its member \"d\"): give the public one only"
            }
            Self::SecretTooShort => "the secret is shorter than the hash of its algorithm",
            Self::ModulusSize => "the RSA modulus is not between 2048 and 8192 bits long",
            Self::Exponent => "the RSA exponent is even, one, or longer than 32 bits",
            Self::LeadingZeros => "a number of it has leading zero bytes",
            Self::Roca => "the RSA modulus has the ROCA weakness (CVE-2017-15361)",
            Self::SmallOrder => "it is an Ed25519 point of small order, for which anyone can sign",
            Self::WrongCurve => "its curve (crv) does not fit its algorithm (alg)",
            Self::CoordinateLength => "a coordinate does not have the length of the curve's field",
            Self::Invalid => "it is not a valid public key",
            Self::Duplicate => "an earlier key of the set has the same kid and alg",
        };
        f.write_str(text)
    }
}

/// Why a whole set was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeySetError {
    /// Longer than [`limits::MAX_KEY_SET_BYTES`](crate::limits::MAX_KEY_SET_BYTES).
    TooLong,
    /// No strict JSON object.
    Json,
    /// Neither an array called `keys` nor a single JWK.
    NotAKeySet,
    /// More than [`limits::MAX_KEYS`](crate::limits::MAX_KEYS) keys.
    TooManyKeys,
    /// Shared secrets beside public keys, in a static set.
    Mixed,
    /// One `kid` for two keys, in a static set.
    DuplicateKid,
}

impl KeySetError {
    /// The stable name of the reason.
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
            Self::TooLong => "the key set is longer than 512 KiB",
            Self::Json => "the key set is not a strict JSON object (RFC 8259, no duplicate members, at most 16 levels)",
            Self::NotAKeySet => "the key set has no array called \"keys\" (RFC 7517 section 5)",
            Self::TooManyKeys => "the key set has more than 256 keys",
            Self::Mixed => "the key set mixes shared secrets (oct) with public keys: keep them in separate sets",
            Self::DuplicateKid => "two keys of the set have the same kid: give each its own",
        })
    }
}

impl core::error::Error for KeySetError {}
