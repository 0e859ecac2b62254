//! Several servers on one database: heartbeats, and fingerprints of the tokens that each accepts.

pub mod fingerprint;
pub mod maintenance;
