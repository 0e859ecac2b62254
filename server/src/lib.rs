//! The Countersign daemon around [`countersign_engine`] and [`countersign_front`]: files, clocks,
//! configuration, and the systems that it is compatible with.
//!
//! A library for its tests and for the `countersign` binary. The engine is the crate to build on.
//!
//! Modules are listed from the bottom up; a module imports only from those above it in this
//! list. `tests/tidy.rs` holds the order.

#![forbid(unsafe_code)]

// What everything stands on. `config` has the syntax of configuration files here, and the
// assembly of all settings below `app`.
pub mod base;
pub mod client;
pub mod observe;

// Features: settings, logic, storage and routes of one thing in one place.
pub mod admission;
pub mod tls;
pub mod keys;
pub mod store;
pub mod revocation;
pub mod accounts;
pub mod cluster;
pub mod authorization;

// The question, and what else is answered.
pub mod auth;
pub mod api;

// The whole.
pub mod config;
pub mod app;
pub mod reload;
pub mod serve;
pub mod cli;
