//! Shared parts of the benchmarks: tokens like those of an identity provider, verifiers (ours and
//! the peers') that know their keys, and how a figure is measured and judged. `METHODOLOGY.md`
//! gives the reasons.

// The programs that are measured. [`tokens`] and [`ours`] are re-exported below.
mod parameters;
mod tokens;
mod ours;
pub mod routes;
#[cfg(feature = "peers")]
pub mod peers;
#[cfg(feature = "peers")]
pub mod tables;

// String encoding of HTTP/2 and HTTP/3 requests.
pub mod literal;

// How figures are taken and judged.
pub mod order;
pub mod paired;
pub mod machine;
pub mod own_server;
pub mod latency;
pub mod budget;
pub mod counts;

// Fleets of servers, simulated.
pub mod sim;

// Whole servers, measured by a load generator.
#[cfg(feature = "peers")]
pub mod e2e;

pub use ours::{
    ISSUER_COUNT, accepts, cache_bytes, cached_verifier, hits, hundred_keys, many_issuers,
    padded_key, tenant, verifier, verifier_caching, with_key_replacement,
};
pub use parameters::{AUDIENCE, ISSUER, NOW, SECRET, TOKEN_BYTES};
pub use tokens::{Keys, Tokens, forged, hs256_token, hs256_token_with};
