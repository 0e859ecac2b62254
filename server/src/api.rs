//! Handlers that return JSON: the Inmanta API, token revocation, key fetches, health, and `/.well-known`.

pub mod admin;
mod audited;
pub mod health;
mod html;
pub mod infisical;
pub mod inmanta;
pub mod revoke;
pub mod refresh_keys;
pub(crate) mod request_test;
pub mod settings;
pub mod well_known;

use std::sync::Arc;

use countersign_front::{RequestHead, Step};

use self::settings::ApiSettings;
use crate::{
    accounts::{Users, session::Session},
    audit::Audit,
    auth::{Authenticator, Caller, credential::Credential, settings::AuthSettings},
    base::claims::ClientType,
    identities::checks::IdentityChecks,
    observe::figures::RecentFigures,
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
    /// Recent figures.
    pub figures: &'a RecentFigures,
}

impl ApiContext<'_> {
    /// Whether the token in a request may be accepted: it is not rejected at once. One that waits
    /// for the keys of its issuer may be. `None` without a token.
    fn may_be_accepted<H: RequestHead>(&self, caller: &Caller<'_, '_>, head: &H) -> Option<bool> {
        match self.auth.credentials.in_headers(head) {
            Credential::None => None,
            Credential::Conflict | Credential::CrossSite => Some(false),
            Credential::Token(token) => {
                let verified = self.authenticator.try_verify(caller, token);
                Some(!matches!(verified, Step::Done(Err(_))))
            }
        }
    }

    /// Whether the holder of a session may administer this server: make calls, and see pages of
    /// the console, that the access policy does not know.
    ///
    /// It is so if it may make others administrators, which is the most powerful call that the
    /// policy knows. A policy may let more users read the list of users, or add to it.
    pub(crate) fn is_administrator(&self, session: &Session) -> bool {
        session.may_administer
            && session.has_client_type(ClientType::Api)
            && session.environment().is_none()
            && inmanta::may_call(self, session, "PATCH", "/api/v2/is_admin")
    }
}
