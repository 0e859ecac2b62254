//! Who makes a call of the API, by the token that came along.

use countersign_engine::{UnixTime, Verified};
use serde_json::{Map, Value};

use crate::authorization::IS_ADMIN_CLAIM;

/// What a verified token says, kept for as long as a call takes. Not `Debug`: what a
/// token says is nobody's business in a log.
pub struct Session {
    claims: Map<String, Value>,
    username: Option<String>,
    client_types: Vec<String>,
    environment: Option<String>,
    /// Whether it was signed by us.
    pub is_ours: bool,
}

impl Session {
    /// Of a token, which was signed by us or not.
    #[must_use]
    pub fn of(verified: &Verified<'_>, is_ours: bool) -> Self {
        let claims = verified.claims();
        Self {
            claims: serde_json::from_slice(&claims.json()).unwrap_or_default(),
            username: claims.username().map(str::to_owned),
            client_types: claims.client_types().map(str::to_owned).collect(),
            environment: claims.environment().map(str::to_owned),
            is_ours,
        }
    }

    /// A claim.
    #[must_use]
    pub fn claim(&self, name: &str) -> Option<&Value> {
        self.claims.get(name)
    }

    /// `sub`.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.claim("sub")?.as_str()
    }

    /// When it was issued, if it says so.
    #[must_use]
    pub fn issued_at(&self) -> Option<UnixTime> {
        self.claim("iat")?.as_u64().map(UnixTime)
    }

    /// The name of the user, if it is one's.
    #[must_use]
    pub fn username(&self) -> Option<&str> {
        self.username.as_deref()
    }

    /// What its bearer is.
    #[must_use]
    pub fn client_types(&self) -> &[String] {
        &self.client_types
    }

    /// The environment that it is for, if it is for one.
    #[must_use]
    pub fn environment(&self) -> Option<&str> {
        self.environment.as_deref()
    }

    /// Its id in the registry, if it is one of ours that has one.
    #[must_use]
    pub fn registered_id(&self) -> Option<&str> {
        self.claim("jti")?.as_str().filter(|_| self.is_ours)
    }

    /// Whether it is what [login](crate::routes) gives: of a user, for a while, and not in
    /// the registry.
    #[must_use]
    pub fn is_login(&self) -> bool {
        self.is_ours
            && self.registered_id().is_none()
            && self.subject().is_some()
            && self.claim(IS_ADMIN_CLAIM).is_some()
    }

    /// Whether policies are asked about it: those of agents and compilers are not.
    #[must_use]
    pub fn is_user(&self) -> bool {
        self.client_types.iter().all(|one| one == "api")
    }
}
