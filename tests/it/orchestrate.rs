//! Behaviours of Orchestrate's authentication, by number: started with its environment variables
//! alone, in front of a provider shaped as Auth0 is.

/// The tier and its provider.
pub(crate) mod tier;
/// API keys and tokens: which credential counts.
mod credentials;
/// Tokens that are refused.
mod tokens;
/// The tenant and the user that a request acts for.
mod tenants;
/// Tokens and keys as Auth0 issues and rotates them.
mod auth0;
/// Rules by route and policies: the tenant in authorization.
mod authorization;
/// `/v1/verify`: the tenant in its answers.
mod verify;
/// Metrics with the names of Orchestrate, and probes.
mod metrics;
/// Start and configuration.
mod start;
