//! The [`Principal`] of a request: the bearer of a verified token, as authorization sees it.

use countersign_engine::Verified;
use serde_json::{Map, Value};

use crate::{
    accounts::session::Session,
    base::{
        claims::{
            CLIENT_TYPES_CLAIM, IS_ADMIN_CLAIM, ROLES_CLAIM, TENANT_MEMBER, TENANT_USER_MEMBER,
        },
        exact_json,
    },
    identities::settings::is_access_token,
};

/// The bearer of a verified token.
pub trait Principal {
    /// Returns the client types of the token.
    fn client_types(&self) -> Vec<&str>;

    /// Returns the environment that the token is scoped to, if any.
    fn environment(&self) -> Option<&str>;

    /// Returns all claims.
    fn all_claims(&self) -> Map<String, Value>;

    /// Returns the standing of the issuer.
    fn standing(&self) -> IssuerStanding<'_>;

    /// Returns the claims in the Inmanta server's form. Only an issuer that may administer states
    /// roles and administrators, and no claim takes the name of a member that we add.
    fn policy_claims(&self) -> Map<String, Value> {
        let mut claims = inmanta_claims(self.all_claims(), self.client_types().into_iter());
        claims.retain(|name, _| name != TENANT_MEMBER && name != TENANT_USER_MEMBER);
        if !self.standing().administers {
            claims.retain(|name, _| name != ROLES_CLAIM && name != IS_ADMIN_CLAIM);
        }
        claims
    }
}

/// What an issuer may state about its users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IssuerStanding<'i> {
    /// The section of the issuer.
    pub section: &'i str,
    /// Whether this server signs its tokens.
    pub is_own: bool,
    /// Whether its tokens may administer this server.
    pub administers: bool,
}

/// Returns claims in the Inmanta server's form: strings, booleans, objects and lists. Numbers and
/// nulls are dropped, and the client types are a list.
pub fn inmanta_claims<'c>(
    mut claims: Map<String, Value>,
    client_types: impl Iterator<Item = &'c str>,
) -> Map<String, Value> {
    claims.retain(|_, claim| !claim.is_number() && !claim.is_null());
    claims.insert(CLIENT_TYPES_CLAIM.into(), client_types.collect());
    claims
}

/// The bearer of a token that was just verified.
pub(super) struct VerifiedPrincipal<'v, 't> {
    pub(super) verified: &'v Verified<'t>,
    pub(super) standing: IssuerStanding<'v>,
}

impl Principal for VerifiedPrincipal<'_, '_> {
    fn client_types(&self) -> Vec<&str> {
        self.verified.claims().client_types().collect()
    }

    fn environment(&self) -> Option<&str> {
        // The tokens of machine identities have their login method in its place.
        let scope = self.verified.claims().environment();
        scope.filter(|_| !is_access_token(self.verified))
    }

    fn all_claims(&self) -> Map<String, Value> {
        exact_json::claims(&self.verified.claims().json())
    }

    fn standing(&self) -> IssuerStanding<'_> {
        self.standing
    }
}

impl Principal for Session {
    fn client_types(&self) -> Vec<&str> {
        self.client_types().iter().map(String::as_str).collect()
    }

    fn environment(&self) -> Option<&str> {
        self.environment()
    }

    fn all_claims(&self) -> Map<String, Value> {
        self.claims().clone()
    }

    fn standing(&self) -> IssuerStanding<'_> {
        IssuerStanding {
            section: self.section(),
            is_own: self.is_ours,
            administers: self.may_administer,
        }
    }
}
