//! More than one server on one database: heartbeats, and digests of what each accepts.

pub mod digest;
pub mod heartbeat;
