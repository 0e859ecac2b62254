//! What the benchmarks share: tokens as an identity provider issues them, verifiers
//! of ours and of others that know their keys, and how a figure is taken and judged.
//! `METHODOLOGY.md` says why each is as it is.

// What is measured.
mod tokens;
mod ours;
#[cfg(feature = "peers")]
pub mod peers;
#[cfg(feature = "peers")]
pub mod tables;

// What requests of HTTP/2 and HTTP/3 are made of.
pub mod literal;

// How.
pub mod order;
pub mod paired;
pub mod machine;
pub mod budget;

// A whole server, from the other end of a connection.
#[cfg(feature = "peers")]
pub mod e2e;

pub use ours::{
    AUDIENCE, ISSUER, MANY, accepts, cache_of, cached, cached_verifier, hits, hundred_keys,
    many_issuers, padded_key, replacing, tenant, verifier,
};
pub use tokens::{Keys, NOW, SECRET, TOKEN_BYTES, Tokens, forged, secret_token};
