//! Behaviours of Orchestrate's authentication, by number: started with its environment variables
//! alone, in front of a provider shaped as Auth0 is.

/// The tier and its provider.
mod tier;
/// API keys and tokens: which credential counts.
mod credentials;
/// Tokens that are refused.
mod tokens;
/// The tenant and the user that a request acts for.
mod tenants;
/// Start, configuration and metrics.
mod start;
