//! What the logins by all methods have in common.

use countersign_engine::UnixTime;
use http::Response;

use super::{
    InfisicalContext, body::BodyReader, error::InfisicalError, no_randomness,
    role_changes::with_roles, tokens,
};
use crate::{
    accounts::signing::time_ordered_uuid,
    base::reply::Body,
    identities::{access_token::AccessTokenFacts, trusted_ips::TrustedIps},
    store::{
        identity_logins::MemberIdentity,
        identity_methods::{IdentityMethod, MethodKind},
    },
};

/// Issues a token for an identity that has logged in by a method. `created_at` is a time before the
/// identity was read: see [`change_roles`](super::role_changes::change_roles).
pub(super) async fn issue_for(
    context: &InfisicalContext<'_>,
    member: MemberIdentity,
    created_at: UnixTime,
    (method, kind): (&IdentityMethod, MethodKind),
    client_secret: Option<String>,
    certificate_thumbprint: Option<String>,
) -> Result<Response<Body>, InfisicalError> {
    let terms = &method.terms;
    let (identity, roles) = with_roles(member);
    let is_unrestricted =
        TrustedIps::parse(&terms.trusted_ips).is_ok_and(|trusted| trusted.is_unrestricted());
    let facts = AccessTokenFacts {
        // In the order of time, so that tokens with a limit of uses are stored side by side.
        id: time_ordered_uuid(created_at).map_err(|_| no_randomness())?.to_string(),
        identity: identity.id,
        identity_name: identity.name,
        organization: identity.organization,
        roles,
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
