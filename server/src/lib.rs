//! The Countersign daemon and command line. It adds configuration, key rotation, storage and HTTP
//! routes to [`countersign_engine`] (token verification) and [`countersign_front`] (HTTP).
//!
//! This library serves the `countersign` binary and the tests. To embed token verification, use
//! the engine.
//!
//! Modules are listed from the bottom up: a module imports only from modules above it in this
//! list. `tests/tidy.rs` checks the order.

#![forbid(unsafe_code)]

// Shared by all features. The parsers in `config` count as part of this layer, because each feature
// reads its own options with them.
pub mod base;
pub mod client;
pub mod observe;

// Features: each with its settings, logic and storage in one place.
pub mod admission;
pub mod tls;
pub mod store;
pub mod keys;
pub mod revocation;
pub mod feed;
pub mod accounts;
pub mod audit;
pub mod cluster;
pub mod backup;
pub mod import;
pub mod load_test;
pub mod identities;
pub mod tenancy;
pub mod authorization;

// HTTP and gRPC handlers: authentication checks, the API, and the console.
pub mod auth;
pub mod api;
pub mod console;

// The assembled server, its configuration, and the command line.
pub mod config;
pub mod app;
pub mod reload;
pub mod serve;
pub mod embedding;
pub mod cli;
