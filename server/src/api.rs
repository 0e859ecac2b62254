//! What answers JSON: the API of each system, and the revocation endpoint.

pub mod health;
pub mod inmanta;
pub mod revoke;
pub mod settings;
pub mod well_known;

use self::settings::ApiSettings;
use crate::{
    accounts::Users,
    auth::{Authenticator, settings::AuthSettings},
    revocation::RevocationService,
};

/// What the handlers of the API work with.
#[derive(Clone, Copy)]
pub struct ApiContext<'a> {
    /// Verifies tokens.
    pub authenticator: &'a Authenticator,
    /// Revokes tokens.
    pub revocations: &'a RevocationService,
    /// The local users, if the server has a database.
    pub users: Option<&'a Users>,
    /// Where credentials are found.
    pub auth: &'a AuthSettings,
    /// Settings of the API.
    pub settings: &'a ApiSettings,
}
