//! Every bound the engine puts on what it is given, in one place.
//!
//! All of them are checked before any cryptography: a hostile token or key set
//! costs at most a scan of its own bytes. None is configurable, because no
//! legitimate token comes near them and a raised bound is an attack surface
//! nobody remembers raising.

/// Largest compact JWS accepted, in bytes.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// Most members any one JSON object of a token may have.
pub const MAX_MEMBERS: usize = 256;

/// Deepest nesting of JSON objects and arrays; the outermost object is level 1.
pub const MAX_DEPTH: usize = 16;

/// Largest JWK Set document accepted, in bytes.
pub const MAX_KEY_SET_BYTES: usize = 512 * 1024;

/// Most JWKs one JWK Set may hold. One without `alg` may become several keys.
pub const MAX_KEYS: usize = 256;

/// RSA moduli outside this range of bits are refused (RFC 7518 section 3.3 sets
/// the lower end; the upper one keeps a hostile key from buying our CPU time).
pub const RSA_MODULUS_BITS: core::ops::RangeInclusive<usize> = 2048..=8192;

/// Longest RSA public exponent accepted, in bits.
pub const MAX_RSA_EXPONENT_BITS: usize = 32;

/// Latest moment a numeric claim may name, in seconds: 2^53 - 1, the largest
/// integer that every JSON implementation reads alike (RFC 8259 section 6).
pub const MAX_TIME: u64 = (1 << 53) - 1;
