//! Compatibility with the real Inmanta server: its recorded answers, and its client library and
//! command line against this server.

mod clients;
mod recorded;
mod shape;
