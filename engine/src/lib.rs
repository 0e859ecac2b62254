//! Verifies JSON Web Tokens (RFC 7519) as a deterministic core: no I/O, no clock, no runtime, no
//! database. The caller passes in the time as a [`UnixTime`] and the keys as [`KeySet`]s.
//!
//! A [`Verifier`] has the accepted issuers with their keys and rules. [`Verifier::verify`] takes
//! the bytes of a token and the time. It returns [`Verified`], a proof that only this crate can
//! create, or a [`Reject`], a one-byte reason with a stable code.
//!
//! # Quick start
//!
//! ```
//! use countersign_engine::{
//!     Algorithm, IssuerConfig, KeyMaterial, KeySet, Reject, UnixTime, VerificationKey, Verifier,
//! };
//!
//! let secret = KeyMaterial::Secret(b"an example secret with 32 bytes!");
//! let key = VerificationKey::new(None, Algorithm::Hs256, secret)?;
//! let issuer = IssuerConfig::new("https://idp.example/", "api", [Algorithm::Hs256]);
//! let verifier = Verifier::builder().issuer(issuer, KeySet::new(vec![key])).build()?;
//!
//! // {"iss":"https://idp.example/","aud":"api","sub":"alice","exp":1800000000}
//! let token = "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJodHRwczovL2lkcC5leGFtcGxlLyIsImF1ZCI6ImFwaSIsInN1\
//!              YiI6ImFsaWNlIiwiZXhwIjoxODAwMDAwMDAwfQ.DgQ5FuiidF-kgWv3JdADuH4a65t6JV4G7V8SjvX8-Cs";
//! let verified = verifier.verify(token.as_bytes(), UnixTime(1_799_999_999))?;
//! assert_eq!(verified.claims().subject(), Some("alice"));
//!
//! let reject = verifier.verify(token.as_bytes(), UnixTime(1_800_000_000)).unwrap_err();
//! assert_eq!((reject, reject.code()), (Reject::Expired, "expired"));
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! The crate's `examples` directory has one for each next step:
//!
//! - `verify_jwks` reads the key set of a provider ([`KeySet::from_jwks`]),
//! - `rotate` fetches keys when they are due ([`rotation`]) and replaces them
//!   ([`Verifier::update`]),
//! - `revoke` refuses single tokens, or all tokens of a subject ([`RevocationsWriter`]).
//!
//! # Guarantees
//!
//! - The key decides the algorithm, never the token (RFC 8725 section 3.1).
//! - A key authenticates only tokens of the issuer it is configured for (section 3.8).
//! - Parsing is strict: one canonical base64url encoding, no duplicate members at any level, and
//!   bounds on everything ([`limits`]) before any cryptography.
//! - Verifying a cached token costs about as much as reading it, and the result is always the same
//!   as without a cache.
//! - Neither verifying nor refusing a token allocates, once a thread has its buffers.
//! - A replaced key and a revoked token are refused by every verification that starts afterwards.
//! - No `Debug` implementation shows a secret or a claim.
//!
//! [`docs`] has more about performance, limitations and internals.

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
mod builder;
mod cache;
mod token;
mod keyset;
mod algorithm;
mod rules;
mod claim_path;
mod exported_claim;
mod presentation;
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

pub mod docs;

// The complete public interface, together with the modules `jws`, `jwks`, `rotation` and `limits`.

// Verifying a token, and the result.
pub use presentation::{CertificateThumbprint, Presentation};
pub use reject::{Blame, Reject};
pub use time::UnixTime;
pub use verified::{Claims, Identity, Verified};
pub use verifier::{SignatureCheck, TokenExplanation, UnknownKid, Verifier};

// Configuring a verifier, and changing its issuers and keys.
pub use builder::{BuildError, DEFAULT_CACHE_BYTES, VerifierBuilder};
pub use claim_path::ClaimPath;
pub use exported_claim::{ExportFormat, ExportedClaim};
pub use issuer::{Issuer, IssuerConfig, IssuerTenants, TENANT, is_tenant};
pub use rules::{
    AudienceRule, ClaimCheck, ClientTypes, Constraint, MetConditions, Rules, TokenCondition,
    TokenConditions, TooManyConditionsError, UsernameRule,
};
pub use snapshot::{DuplicateIssuerError, Snapshot, UnknownIssuerError};

// Keys.
pub use algorithm::{Algorithm, AlgorithmSet, KeyType, RsaImplementation};
pub use error::{KeyError, KeySetError};
pub use keyset::{
    Candidates, KeyIdentity, KeyMaterial, KeyName, KeySet, KidHash, SignatureInput, VerificationKey,
};

// Revocations.
pub use revocation::{
    Revocation, RevocationCapacityError, RevocationTarget, Revocations, RevocationsWriter,
};

// Observing the cache, and passing claims on in HTTP headers.
pub use cache::{CacheAllocationError, CacheStatistics, StoreStatistics};
pub use escape::header_safe;
