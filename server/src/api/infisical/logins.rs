//! What the logins by all methods have in common.

use http::Response;

use super::{
    InfisicalContext, body::BodyReader, error::InfisicalError, new_id, role_changes::roles_of,
    tokens,
};
use crate::{
    base::{clock, reply::Body},
    identities::{access_token::AccessTokenFacts, trusted_ips::TrustedIps},
    store::{
        identity_methods::{IdentityMethod, MethodKind},
        machine_identities::MachineIdentity,
    },
};

/// Issues a token for an identity that has logged in by a method.
pub(super) async fn issue_for(
    context: &InfisicalContext<'_>,
    identity: &MachineIdentity,
    (method, kind): (&IdentityMethod, MethodKind),
    client_secret: Option<String>,
    certificate_thumbprint: Option<String>,
) -> Result<Response<Body>, InfisicalError> {
    let terms = &method.terms;
    // Before the roles are read: see `change_roles`.
    let created_at = clock::now();
    let is_unrestricted =
        TrustedIps::parse(&terms.trusted_ips).is_ok_and(|trusted| trusted.is_unrestricted());
    let facts = AccessTokenFacts {
        id: new_id()?,
        identity: identity.id.clone(),
        identity_name: identity.name.clone(),
        organization: identity.organization.clone(),
        roles: roles_of(context, &identity.id).await?,
        method: method.id.clone(),
        method_kind: kind.name().into(),
        client_secret,
        created_at,
        ttl: terms.ttl,
        max_ttl: terms.max_ttl,
        period: terms.period,
        uses_limit: terms.uses_limit,
        is_ip_restricted: !is_unrestricted,
        certificate_thumbprint,
    };
    tokens::issue(context, &facts).await
}

/// Reads the organization that a login names, by the newer or the older name of the member.
pub(super) fn read_organization(reader: &mut BodyReader) -> Option<String> {
    let newer = reader.optional_text("organizationSlug");
    newer.or_else(|| reader.optional_text("subOrganizationName"))
}

/// Checks the organization that a login names. There is only one.
pub(super) fn check_organization_name(
    context: &InfisicalContext<'_>,
    name: Option<&str>,
) -> Result<(), InfisicalError> {
    match name.filter(|name| !name.is_empty() && *name != context.organization.slug) {
        Some(name) => {
            let message = format!("Sub organization with slug {name} not found");
            Err(InfisicalError::not_found(message).because("sub_org_unauthorized"))
        }
        None => Ok(()),
    }
}
