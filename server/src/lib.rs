//! The Countersign daemon around [`countersign_engine`]: sockets, clocks, files,
//! configuration, and the surfaces of the systems it is compatible with.
//!
//! A library for the sake of its tests and of the `countersign` binary; the
//! engine is the crate to build on.

#![forbid(unsafe_code)]

// A request's way.
pub mod runtime;
pub mod crew;
pub mod worker;
pub mod listen;
pub mod routes;
pub mod surface;
pub mod authorization;
pub mod http;
pub mod grpc;

// What it meets there.
pub mod app;
pub mod admission;
pub mod keysource;
pub mod revocation;
pub mod users;
pub mod store;
pub mod fingerprint;
pub mod upkeep;
pub mod metrics;
pub mod requests;
pub mod telemetry;
pub mod file;
pub mod trust;
pub mod clock;

// How it came to be so.
pub mod config;
pub mod reload;
pub mod state;
pub mod issue;
pub mod cli;
pub mod command;
