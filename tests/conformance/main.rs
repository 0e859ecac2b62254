//! Conformance with published test vectors.

/// Assertions shared by all vectors.
mod example;
/// Error codes of HTTP/2, HTTP/3 and QPACK.
mod error_codes;
/// JSON Web Signature: examples of the appendices.
mod rfc7515;
/// JOSE cookbook: section 4 with the keys of section 3.
mod rfc7520;
/// Unencoded payload option, which a JWT must not use.
mod rfc7797;
/// Ed25519 signatures, and keys of other curves.
mod rfc8037;
/// Wycheproof's JOSE vectors, if present next to the checkout.
mod wycheproof;
