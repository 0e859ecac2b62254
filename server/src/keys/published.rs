//! Defaults of a section whose issuer publishes its keys: issuer and audience suffice.

use countersign_engine::{Algorithm, KeyType};

use crate::{
    base::uri::is_protected,
    config::reader::{SectionReader, parse_flag},
};

/// Returns every algorithm of public keys, the default of `algorithms`. Each of them is safe as a
/// default: a key verifies only its own algorithm, and a public key never becomes a shared secret.
pub(crate) fn public_key_algorithms() -> impl Iterator<Item = Algorithm> {
    let is_public = |algorithm: &Algorithm| algorithm.key_type() != KeyType::Secret;
    Algorithm::ALL.iter().copied().filter(is_public)
}

/// Whether the keys of a section are at a URI: a written one, or that of
/// [`default_discovery_uri`].
pub(super) fn has_published_keys(reader: &SectionReader<'_>) -> bool {
    let is_written = ["jwks_uri", "discovery_uri"].iter().any(|one| reader.text(one).is_some());
    (is_written && !signs(reader)) || default_discovery_uri(reader).is_some()
}

/// Returns the default of `discovery_uri`, for a section that has an issuer and no source of keys.
///
/// Inmanta's option `algorithm` has no such default: its RS256 requires a `jwks_uri`.
pub(super) fn default_discovery_uri(reader: &SectionReader<'_>) -> Option<String> {
    const OTHERS: [&str; 5] = ["algorithm", "key", "key_file", "jwks_uri", "discovery_uri"];
    if signs(reader) || OTHERS.iter().any(|option| reader.text(option).is_some()) {
        return None;
    }
    // A tenant would have to be chosen.
    let is_usable = |issuer: &&str| is_protected(issuer) && !issuer.contains(['?', '#', '@', '{']);
    reader.given_list("issuer").into_iter().find(is_usable).map(discovery_uri_of)
}

fn signs(reader: &SectionReader<'_>) -> bool {
    reader.text("sign").and_then(parse_flag) == Some(true)
}

/// Returns the URI of an OpenID provider's metadata (OpenID Connect Discovery 1.0 section 4).
#[must_use]
pub fn discovery_uri_of(issuer: &str) -> String {
    let base = issuer.strip_suffix('/').unwrap_or(issuer);
    format!("{base}/.well-known/openid-configuration")
}
