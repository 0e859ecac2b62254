//! All bounds on the engine's input, in one place.
//!
//! They are checked before any cryptography, so a hostile token or key set costs at most a scan of
//! its own bytes. None is configurable: legitimate tokens do not come near them, and a raised bound
//! is an attack surface that is easily forgotten.

/// Largest compact JWS accepted, in bytes.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// Maximum nesting of JSON objects and arrays; the outermost object is level 1.
pub const MAX_DEPTH: usize = 16;

/// Largest sum of the values of all exported claims, in bytes. Servers accept heads of 8 KiB and
/// more.
pub const MAX_EXPORTED_BYTES: usize = 8 * 1024;

/// Maximum number of [`TokenCondition`](crate::TokenCondition)s of an issuer. Each is evaluated for
/// every token that is not cached.
pub const MAX_CONDITIONS: usize = 1024;

/// Largest JWK Set document accepted, in bytes: [`MAX_KEYS`] RSA keys of 4096 bits, each with a
/// certificate.
pub const MAX_KEY_SET_BYTES: usize = 4 * 1024 * 1024;

/// Longest `kid` of a JWK, in bytes. Reports of key sets contain it.
pub const MAX_KID_BYTES: usize = 1024;

/// Maximum number of JWKs in one JWK Set. A JWK without `alg` can become several keys.
pub const MAX_KEYS: usize = 1024;

/// Maximum number of keys that are tried for one token: keys with its `kid`, or all of its
/// algorithm if it names no key.
pub const MAX_TRIED_KEYS: usize = 4;

/// Accepted sizes of an RSA modulus, in bits. RFC 7518 section 3.3 sets the lower bound. The upper
/// bound keeps a hostile key from consuming CPU time.
pub const RSA_MODULUS_BITS: core::ops::RangeInclusive<usize> = 2048..=8192;

/// Maximum length of an RSA public exponent, in bits.
pub const MAX_RSA_EXPONENT_BITS: usize = 32;

/// Latest time in a numeric claim, in seconds: 2^53 - 1, the largest integer that every JSON
/// implementation reads alike (RFC 8259 section 6).
pub const MAX_TIME: u64 = (1 << 53) - 1;

/// Longest time from now until `exp`, in seconds: 100 years. An `exp` in milliseconds is further
/// ahead, and would never end.
pub const MAX_TIME_TO_EXPIRY: u64 = 100 * 31_557_600;
