//! `ANY /auth` and `/auth/*`: forward authentication for reverse proxies (`auth_request`,
//! ForwardAuth).
//!
//! No response has a body, because nginx reuses its connection only then. Every 200 carries every
//! identity header, empty if absent, so that a proxy overwrites whatever the
//! client sent under those names.

use countersign_engine::Verified;
use http::{HeaderName, HeaderValue, StatusCode, header};

use super::{AuthDecision, settings::AuthSettings};
use crate::{
    base::reply::{Reply, empty},
    identities::settings::is_access_token,
    tenancy::identity::TenantIdentity,
};

/// Returns the response to a check whose decision was pending.
#[must_use]
pub fn reply(settings: &AuthSettings, decision: AuthDecision<'_>) -> Reply {
    let allowed = match decision {
        AuthDecision::Refused(reply) => return reply,
        allowed => allowed,
    };
    let mut response = empty(StatusCode::OK);
    for (name, value) in headers(settings, &allowed) {
        // The engine writes visible ASCII only.
        let value = HeaderValue::from_bytes(value).unwrap_or(HeaderValue::from_static(""));
        response.headers_mut().insert(name, value);
    }
    Reply::with_outcome(allowed.outcome(), response)
}

/// Returns the header lines of a response that allows a request.
pub fn headers<'l>(
    settings: &'l AuthSettings,
    decision: &'l AuthDecision<'_>,
) -> impl Iterator<Item = (&'l HeaderName, &'l [u8])> {
    [(&header::CACHE_CONTROL, &b"no-store"[..])]
        .into_iter()
        .chain(identity_headers(settings, decision))
}

/// Returns every configured identity header, with its value for the caller of a request. Without a
/// caller, all of them are empty. The allowed tenants are left out unless there is a tenant: an
/// application may read an empty list as all of them.
pub(super) fn identity_headers<'l>(
    settings: &'l AuthSettings,
    decision: &'l AuthDecision<'_>,
) -> impl Iterator<Item = (&'l HeaderName, &'l [u8])> + Clone {
    let names = &settings.identity_headers;
    let (verified, tenant) = (decision.verified(), decision.tenant());
    let caller = verified.map(Verified::identity);
    let [subject, user, issuer, client_types, environment] =
        caller.map_or([&b""[..]; 5], |caller| {
            [
                caller.subject(),
                caller.user(),
                caller.issuer(),
                caller.client_types(),
                caller.environment(),
            ]
        });
    // The tokens of machine identities have their login method in the place of an environment.
    let environment = if verified.is_some_and(is_access_token) { b"" } else { environment };
    let identity = [
        (&names.subject, subject),
        (&names.user, tenant.map_or(user, TenantIdentity::user)),
        (&names.issuer, issuer),
        (&names.client_types, client_types),
        (&names.environment, environment),
        (&names.tenant, tenant.map_or(b"", TenantIdentity::tenant)),
    ];
    let identity = identity.into_iter().filter_map(|(name, value)| Some((name.as_ref()?, value)));
    let allowed = tenant.map(TenantIdentity::allowed_tenants);
    let allowed = names.allowed_tenants.as_ref().zip(allowed);
    identity.chain(allowed).chain(names.claims.lines(caller))
}
