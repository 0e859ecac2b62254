//! Signature verification without claims: a compact JWS (RFC 7515) with any payload, checked
//! against one [`KeySet`]. No issuer, no time, no claims.

use crate::{
    algorithm::Algorithm,
    keyset::KeySet,
    reject::Reject,
    token::{header_json, with_scratch},
};

/// Verifies the signature of a compact JWS and returns its payload.
///
/// # Errors
/// The first [`Reject`] found; never one about a claim.
pub fn verify(token: &[u8], keys: &KeySet) -> Result<Vec<u8>, Reject> {
    with_scratch(|scratch| {
        let jws = scratch.jws.decode(token)?;
        let name = jws.header.algorithm.ok_or(Reject::AlgorithmMissing)?;
        let algorithm = Algorithm::from_name(name).ok_or(Reject::AlgorithmUnsupported)?;
        keys.select(jws.header.key, algorithm)?.verify(jws.signing_input, jws.signature)?;
        Ok(jws.payload.to_vec())
    })
}

/// The decoded parts of a token whose signature was not checked.
///
/// For display and for error messages only. Do not base a decision on its contents.
#[derive(Clone, PartialEq, Eq)]
pub struct UnverifiedToken {
    /// The header's bytes: a strict JSON object.
    pub header: Vec<u8>,
    /// The payload's bytes, of any format.
    pub payload: Vec<u8>,
}

impl UnverifiedToken {
    /// Decodes a token without checking its signature.
    ///
    /// # Errors
    /// The [`Reject`] that [`verify`] would return before it looks for a key.
    pub fn decode(token: &[u8]) -> Result<Self, Reject> {
        with_scratch(|scratch| {
            let jws = scratch.jws.decode(token)?;
            Ok(Self { header: header_json(token)?, payload: jws.payload.to_vec() })
        })
    }
}
