//! Several servers on one database: heartbeats, and digests of the settings by which each accepts
//! tokens.

pub mod digest;
pub mod comparison;
pub mod signing_key;
pub mod maintenance;
