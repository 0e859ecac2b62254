//! Conformance with published vectors.

/// Examples of the RFCs, typed in.
mod rfc;
/// Wycheproof's JOSE vectors, where they lie beside the project.
mod wycheproof;
