//! Machine identities as Infisical has them: how they log in, and the access tokens that they get.
//!
//! An access token is a JWT of an [issuer of its own](settings::IdentitySettings), which the engine
//! verifies like any other. What can change during its life is checked with
//! [each use](checks::IdentityChecks): the trusted addresses of its login method, and the number of
//! uses. Revocations are those of every token.

pub mod certificate;
pub mod settings;
pub mod trusted_ips;
pub mod access_token;
pub mod revocation;
pub mod roles;
pub mod lockouts;
pub mod checks;
pub mod use_counts;
