//! Handlers that return JSON: the Inmanta API, token revocation, key fetches, health, and `/.well-known`.

mod audited;
pub mod health;
pub mod infisical;
pub mod inmanta;
pub mod revoke;
pub mod refresh_keys;
pub mod settings;
pub mod well_known;

use std::sync::Arc;

use self::settings::ApiSettings;
use crate::{
    accounts::Users,
    audit::Audit,
    auth::{Authenticator, settings::AuthSettings},
    identities::checks::IdentityChecks,
    revocation::RevocationService,
};

/// Context of the API handlers.
#[derive(Clone, Copy)]
pub struct ApiContext<'a> {
    /// Verifies tokens.
    pub authenticator: &'a Authenticator,
    /// Stores and publishes revocations.
    pub revocations: &'a Arc<RevocationService>,
    /// The audit log.
    pub audit: &'a Audit,
    /// The local users, if the server has a database.
    pub users: Option<&'a Users>,
    /// Checks the uses of access tokens of machine identities, if the server has a database.
    pub identities: Option<&'a Arc<IdentityChecks>>,
    /// Settings for finding credentials.
    pub auth: &'a AuthSettings,
    /// Settings of the API.
    pub settings: &'a ApiSettings,
}
