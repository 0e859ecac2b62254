//! The session of an API call: the verified token of its caller.

use countersign_engine::{UnixTime, Verified};
use serde_json::{Map, Value};

use super::signing::token_digest;
use crate::{
    base::{
        claims::{AUTH_TIME_CLAIM, ClientType, IS_ADMIN_CLAIM, SESSION_ID_CLAIM},
        exact_json,
    },
    store::renewals::SessionToken,
};

/// Claims of a verified token, kept for the duration of a call. Not `Debug`: claims must not
/// get into a log.
pub struct Session {
    claims: Map<String, Value>,
    subject: Option<String>,
    username: Option<String>,
    client_types: Vec<String>,
    environment: Option<String>,
    expires_at: Option<UnixTime>,
    section: Box<str>,
    /// Whether this server signed it.
    pub is_ours: bool,
    /// Whether tokens of its issuer may administer.
    pub may_administer: bool,
    token: SessionToken,
}

impl Session {
    /// Creates the session of a verified `token`.
    #[must_use]
    pub fn of(verified: &Verified<'_>, token: &[u8], is_ours: bool, may_administer: bool) -> Self {
        let (claims, leeway) = (verified.claims(), verified.issuer().rules.leeway);
        let refused_at = claims.expires_at().map(|end| end.plus(leeway.into()));
        Self {
            claims: exact_json::claims(&claims.json()),
            subject: claims.subject().map(str::to_owned),
            username: claims.username().map(str::to_owned),
            client_types: claims.client_types().map(str::to_owned).collect(),
            environment: claims.environment().map(str::to_owned),
            expires_at: claims.expires_at(),
            section: verified.issuer().section.clone(),
            is_ours,
            may_administer,
            token: SessionToken { digest: token_digest(token), expires_at: refused_at },
        }
    }

    /// Returns all claims.
    #[must_use]
    pub fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }

    /// Returns the section of its issuer.
    #[must_use]
    pub fn section(&self) -> &str {
        &self.section
    }

    /// Returns a claim.
    #[must_use]
    pub fn claim(&self, name: &str) -> Option<&Value> {
        self.claims.get(name)
    }

    /// Returns `sub`.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    /// Returns `iat`.
    #[must_use]
    pub fn issued_at(&self) -> Option<UnixTime> {
        self.claim("iat")?.as_u64().map(UnixTime)
    }

    /// Returns `exp`; `None` for a token that never expires.
    #[must_use]
    pub const fn expires_at(&self) -> Option<UnixTime> {
        self.expires_at
    }

    /// Whether its bearer is an administrator. Only an issuer whose tokens may administer can say
    /// so.
    #[must_use]
    pub fn is_admin(&self) -> bool {
        self.may_administer && self.claim(IS_ADMIN_CLAIM) == Some(&Value::Bool(true))
    }

    /// Returns the time of the login: `auth_time`, or `iat` of a token from before that claim.
    #[must_use]
    pub fn logged_in_at(&self) -> Option<UnixTime> {
        self.claim(AUTH_TIME_CLAIM).map_or_else(|| self.issued_at(), |at| at.as_u64().map(UnixTime))
    }

    /// Returns the id that all tokens of a login session share.
    #[must_use]
    pub fn session_id(&self) -> Option<&str> {
        self.claim(SESSION_ID_CLAIM)?.as_str()
    }

    /// Returns its token, by the digest.
    #[must_use]
    pub fn token(&self) -> &SessionToken {
        &self.token
    }

    /// Returns the username, if the token belongs to a user.
    #[must_use]
    pub fn username(&self) -> Option<&str> {
        self.username.as_deref()
    }

    /// Returns the client types of its bearer.
    #[must_use]
    pub fn client_types(&self) -> &[String] {
        &self.client_types
    }

    /// Returns the environment that it is scoped to, if any.
    #[must_use]
    pub fn environment(&self) -> Option<&str> {
        self.environment.as_deref()
    }

    /// Returns its id in the registry, if this server signed it and it has a `jti`.
    #[must_use]
    pub fn registered_id(&self) -> Option<&str> {
        self.claim("jti")?.as_str().filter(|_| self.is_ours)
    }

    /// Returns whether it is a login session: signed by this server for a user, and not in the
    /// registry.
    #[must_use]
    pub fn is_login(&self) -> bool {
        self.is_ours && is_login(&self.claims)
    }

    /// Whether it has this client type.
    #[must_use]
    pub fn has_client_type(&self, client_type: ClientType) -> bool {
        self.client_types.iter().any(|one| one == client_type.name())
    }

    /// Returns whether access policies apply to it. They do not apply to agents and compilers.
    #[must_use]
    pub fn is_user(&self) -> bool {
        self.client_types.iter().all(|one| one == "api")
    }
}

/// Returns whether claims are those of a login session, if this server signed them.
#[must_use]
pub fn is_login(claims: &Map<String, Value>) -> bool {
    claims.get("jti").and_then(Value::as_str).is_none()
        && claims.get("sub").is_some_and(Value::is_string)
        && claims.contains_key(IS_ADMIN_CLAIM)
}
