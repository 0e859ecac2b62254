//! Machine identities, which log in without a person.

/// Client certificates: the rules of an identity, and the certificates that clients present.
pub mod certificate;
