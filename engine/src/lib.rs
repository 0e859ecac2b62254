//! Token verification as a deterministic core: no I/O, no clock, no runtime, no database.
//! The caller passes in the time as a [`UnixTime`] and the keys as [`KeySet`]s.
//!
//! A [`Verifier`] holds one immutable [`Snapshot`] of issuers, keys and rules behind an atomic
//! pointer. [`Verifier::verify`] takes the bytes of a compact JWT and the time. It returns
//! [`Verified`], a proof that only this crate can create, or a [`Reject`], a one-byte reason with
//! a stable code.
//!
//! # Guarantees
//!
//! - The key decides the algorithm, never the token (RFC 8725 section 3.1).
//! - A key authenticates only tokens of the issuer it is configured for (section 3.8).
//! - Parsing is strict: one canonical base64url encoding, no duplicate members at any level, and
//!   bounds on everything ([`limits`]) before any cryptography.
//! - Verifying a token that is in the [cache](Verifier::with_cache) costs about as much as reading
//!   it, and the result is always the same as without a cache.
//! - Neither verifying nor refusing a token allocates, once a thread has its buffers.
//! - A replaced key and a [revoked](RevocationsWriter) token are refused by every verification that
//!   starts afterwards.
//! - No `Debug` implementation shows a secret or a claim.
//!
//! # Example
//!
//! ```
//! use countersign_engine::{Reject, Snapshot, UnixTime, Verifier};
//!
//! let verifier = Verifier::new(Snapshot::default());
//! let refused = verifier.verify(b"not.a.token", UnixTime(1_700_000_000)).unwrap_err();
//! assert_eq!(refused, Reject::Base64);
//! assert_eq!(refused.code(), "base64");
//! ```

#![cfg_attr(
    not(test),
    warn(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
    )
)]

// Data plane: verification of one token.
mod verifier;
mod cache;
mod token;
mod keyset;
mod algorithm;
mod rules;
mod reject;
mod verified;

mod escape;
mod time;
pub mod jws;

// Control plane: the state that the data plane reads.
mod snapshot;
mod issuer;
mod error;
pub mod jwks;
pub mod rotation;
mod revocation;
pub mod limits;

// The complete public interface, together with the modules `jws`, `jwks`, `rotation` and `limits`.
pub use algorithm::{Algorithm, AlgorithmSet, KeyType};
pub use cache::{CacheAllocationError, CacheStatistics, StoreStatistics};
pub use error::{KeyError, KeySetError};
pub use escape::header_safe;
pub use issuer::{Issuer, IssuerConfig};
pub use keyset::{KeyIdentity, KeyMaterial, KeySet, VerificationKey};
pub use reject::{Blame, Reject};
pub use revocation::{
    Revocation, RevocationCapacityError, RevocationTarget, Revocations, RevocationsWriter,
};
pub use rules::{ClientTypes, Constraint, Rules};
pub use snapshot::{DuplicateIssuerError, Snapshot};
pub use time::UnixTime;
pub use verified::{Claims, Identity, Verified};
pub use verifier::{SignatureCheck, Verifier};
