//! Token verification as a deterministic core: no I/O, no clock, no runtime, no
//! database. Time is an argument and keys are handed in.
//!
//! A [`Verifier`] holds one immutable [`Snapshot`] of issuers, keys and rules
//! behind an atomic pointer. [`Verifier::verify`] takes the bytes of a compact
//! JWT and the time and returns either [`Verified`], which nothing else can make,
//! or a [`Reject`], a one-byte reason with a stable code.
//!
//! What it promises:
//!
//! - The key decides the algorithm, never the token (RFC 8725 section 3.1).
//! - A key vouches only for the issuer it is configured for (section 3.8).
//! - Parsing is strict: one spelling of base64url, no duplicate members at any
//!   level, bounds on everything ([`limits`]) before any cryptography.
//! - A token that was verified [before](Verifier::with_cache) is verified again at about
//!   the cost of reading it, and every answer is as if it had not been.
//! - Neither verifying a token nor refusing it allocates, once a thread has the memory
//!   it works in.
//! - A key that was replaced, and a token that was [revoked](RevocationsWriter), are refused
//!   by every verification that starts afterwards.
//! - No secret and no claim is shown by any `Debug`.
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

// Data plane: the way of a token.
mod verifier;
mod cache;
mod token;
mod keyset;
mod algorithm;
mod rules;
mod reject;
mod verified;
mod note;
mod identity;
mod time;
pub mod jws;

// Control plane: what the data plane knows.
mod snapshot;
mod issuer;
mod fault;
pub mod jwks;
pub mod rotation;
mod revocation;
pub mod limits;

// The public interface, all of it beside the modules `jws`, `jwks`, `rotation` and `limits`.
pub use algorithm::{Algorithm, AlgorithmSet, KeyType};
pub use cache::{CacheAllocationError, CacheStatistics, StoreStatistics};
pub use fault::{KeyError, KeySetError};
pub use identity::header_safe;
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
