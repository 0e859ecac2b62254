//! `ANY /auth` and `/auth/*`: forward authentication for reverse proxies (`auth_request`,
//! ForwardAuth).
//!
//! No response has a body, because nginx reuses its connection only then. Every 200 carries every
//! identity header, empty if absent, so that a proxy overwrites whatever the
//! client sent under those names.

use countersign_engine::Identity;
use http::{HeaderName, HeaderValue, StatusCode, header};

use super::{AuthDecision, settings::AuthSettings};
use crate::base::reply::{Reply, empty};

/// Returns the response to a check whose decision was pending.
#[must_use]
pub fn reply(settings: &AuthSettings, decision: AuthDecision<'_>) -> Reply {
    let allowed = match decision {
        AuthDecision::Refused(reply) => return reply,
        allowed => allowed,
    };
    let mut response = empty(StatusCode::OK);
    for (name, value) in headers(settings, allowed.caller()) {
        // The engine writes visible ASCII only.
        let value = HeaderValue::from_bytes(value).unwrap_or(HeaderValue::from_static(""));
        response.headers_mut().insert(name, value);
    }
    Reply::with_outcome(allowed.outcome(), response)
}

/// Returns the header lines of a response that allows a request: that of a caller, or a preflight.
pub fn headers<'l>(
    settings: &'l AuthSettings,
    caller: Option<Identity<'l>>,
) -> impl Iterator<Item = (&'l HeaderName, &'l [u8])> {
    [(&header::CACHE_CONTROL, &b"no-store"[..])]
        .into_iter()
        .chain(identity_headers(settings, caller))
}

/// Returns every configured identity header, with its value for this caller. Without a caller, all
/// of them are empty.
pub(super) fn identity_headers<'l>(
    settings: &'l AuthSettings,
    caller: Option<Identity<'l>>,
) -> impl Iterator<Item = (&'l HeaderName, &'l [u8])> + Clone {
    let names = &settings.identity_headers;
    let [subject, user, issuer, client_types, environment] = caller.map_or([""; 5], |caller| {
        [
            caller.subject(),
            caller.user(),
            caller.issuer(),
            caller.client_types(),
            caller.environment(),
        ]
    });
    let identity = [
        (&names.subject, subject),
        (&names.user, user),
        (&names.issuer, issuer),
        (&names.client_types, client_types),
        (&names.environment, environment),
        (&names.tenant, ""),
    ];
    let identity =
        identity.into_iter().filter_map(|(name, value)| Some((name.as_ref()?, value.as_bytes())));
    identity.chain(names.claims.lines(caller))
}
