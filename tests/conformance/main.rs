//! Conformance with published vectors.

/// What a published example must and must not do.
mod example;
/// JSON Web Signature: its examples.
mod rfc7515;
/// The JOSE cookbook: section 4 with the keys of section 3.
mod rfc7520;
/// The unencoded payload option, which a JWT must not use.
mod rfc7797;
/// Ed25519 signatures, and the keys that are for something else.
mod rfc8037;
/// Wycheproof's JOSE vectors, where they lie beside the project.
mod wycheproof;
