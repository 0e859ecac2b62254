//! What the crate does not do, and why.
//!
//! - **No I/O.** The caller fetches key sets, stores revocations and reads the clock.
//!   [`rotation`](crate::rotation) decides when to fetch. The server `countersign` does the rest.
//! - **No signing.** Tests and examples make tokens with the primitives of a cryptography library.
//! - **Compact JWS only.** JWE, the JSON serializations (RFC 7515 section 7.2), unencoded payloads
//!   (RFC 7797) and nested tokens are refused, and so is every `crit`.
//! - **Keys come from the configuration only.** `jwk`, `jku`, `x5c` and `x5u` in a header are
//!   ignored, since an attacker writes them too.
//! - **The algorithms of RFC 7518 section 3 and Ed25519**: no `none`, no Ed448, no secp256k1.
//! - **One audience per issuer.** A token with several is accepted if this one is among them. For
//!   two audiences of one issuer use two verifiers.
//! - **Authentication, not authorization.** A [`Verified`](crate::Verified) token is authentic,
//!   current and for this audience. Its scopes and roles are for the caller to judge.
//! - **One proof of possession**: a client certificate ([`Presentation`](crate::Presentation)). A
//!   token bound in another way, such as by DPoP (RFC 9449), is refused.
//! - **Bounds are constants** ([`limits`](crate::limits)): legitimate tokens stay far below them,
//!   and a raised bound is an attack surface.
//! - **Revocations are held in memory.** A [`RevocationsWriter`](crate::RevocationsWriter) has a
//!   capacity and no storage. After a start,
//!   [`RevocationsWriter::unavailable`](crate::RevocationsWriter::unavailable) refuses every token
//!   until the stored revocations are restored.
//! - **A token is cached by its bytes.** Two encodings of the same claims are two entries, and the
//!   cache belongs to one process.
//! - **An HMAC that fails is computed again each time**, since a look-up takes as long.
//! - **Requires `std`** and a platform with 64-bit atomics.
