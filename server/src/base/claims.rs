//! Names of private claims (RFC 7519 section 4.3): Inmanta's, and ours.

use std::{fmt, str::FromStr};

use super::redacted::quoted;

/// `typ` header of signed tokens.
pub const TOKEN_TYPE: &str = "JWT";
/// The claim with the time of a login, in seconds since 1970 (OpenID Connect Core section 2).
pub const AUTH_TIME_CLAIM: &str = "auth_time";
/// The claim with the id of a session (OpenID Connect Front-Channel Logout section 3).
pub const SESSION_ID_CLAIM: &str = "sid";
/// The user on whose behalf a token was created.
pub const CREATED_BY_CLAIM: &str = "urn:inmanta:created_by";
/// The claim with the client types of a token.
pub const CLIENT_TYPES_CLAIM: &str = "urn:inmanta:ct";
/// The claim that scopes a token to one environment.
pub const ENVIRONMENT_CLAIM: &str = "urn:inmanta:env";
/// The claim that makes its subject an administrator.
pub const IS_ADMIN_CLAIM: &str = "urn:inmanta:is_admin";
/// The claim with the roles of its subject, by environment.
pub const ROLES_CLAIM: &str = "urn:inmanta:roles";

/// Member of `input.token` of a policy, which no claim can take the place of: the tenant of the
/// token.
pub const TENANT_MEMBER: &str = "urn:countersign:tenant";
/// As [`TENANT_MEMBER`], the user of the token within its tenant.
pub const TENANT_USER_MEMBER: &str = "urn:countersign:username";

/// Kind of client, which determines the API calls it may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClientType {
    /// A deployment agent.
    Agent,
    /// A compiler.
    Compiler,
    /// All other clients: command lines, consoles, third-party programs.
    Api,
}

impl ClientType {
    /// Every client type.
    pub const ALL: [Self; 3] = [Self::Agent, Self::Compiler, Self::Api];

    /// Returns the name in tokens and configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Compiler => "compiler",
            Self::Api => "api",
        }
    }
}

impl fmt::Display for ClientType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ClientType {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|one| one.name() == name);
        known.ok_or_else(|| {
            format!("{} is not a client type: choose agent, compiler or api", quoted(name))
        })
    }
}
