//! The auth tier as an HTTP filter in the process of Envoy: `docs/embedding.md`.
//!
//! Envoy loads this library as a dynamic module and calls its [`hooks`]. [`abi`] declares both
//! sides of that interface, and [`envoy`] makes Envoy's side safe: these three have all unsafe
//! code.
//!
//! - **One tier serves all workers**, and all filters with the same configuration file ([`tiers`]).
//! - **A decision that waits** pauses its stream, which is continued on its own thread
//!   ([`pending`]).
//! - **No panic reaches Envoy** ([`panics`]): the request is refused with 500.

mod abi;
mod envoy;
mod panics;
mod options;
mod tiers;
mod pending;
mod metadata;
mod request;
mod filter;
mod hooks;
#[cfg(test)]
mod fake_envoy;
#[cfg(test)]
mod tests;
