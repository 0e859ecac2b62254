//! Calls of this server as a test of requests sees them: which handler answers, and what the caller
//! needs.

use std::borrow::Cow;

use http::HeaderMap;

use crate::{
    api::{ApiContext, admin, infisical, inmanta::ENVIRONMENT_ARGUMENT},
    authorization::endpoints::api::{PathMatch, find_endpoint},
    base::route::{Route, Serves, path_of},
};

/// What the caller of a call of this server needs.
pub(in crate::api) enum RequiredRight {
    /// No token, for this reason.
    Nothing(&'static str),
    /// A token that may make the call, which is one of the Inmanta API.
    OwnCall,
    /// A token that may make this call of the Inmanta API.
    OtherCall(EquivalentCall),
    /// The token of an administrator.
    Administrator,
    /// The token of an administrator, or of a machine identity with that role.
    IdentityAdministrator,
    /// The token of a machine identity.
    OwnIdentity,
    /// Something that a test does not have, for this reason.
    Unknown(&'static str),
}

/// The call of the Inmanta API that needs the same right as another call.
pub(in crate::api) struct EquivalentCall {
    /// Its method.
    pub(in crate::api) method: &'static str,
    /// Its path and arguments.
    pub(in crate::api) target: String,
    /// The header with its environment, if it has one.
    pub(in crate::api) headers: HeaderMap,
}

const NO_CREDENTIAL: &str = "the call needs no token";
const OF_PREFLIGHT: &str = "the answer to OPTIONS names methods, and needs no token";
const BY_BODY: &str = "the call needs no token but the one in its body";
const BY_CLIENT: &str = "the call needs a client of [api_clients] and its secret, not a token";
const OF_LISTENER: &str = "a listener decides about the request that a proxy describes: select it";
const OF_CONSOLE: &str = "pages of the console need the session of a browser, not a token";
const OF_OPERATIONS: &str = "the call needs no token, on listeners with serves = operations";

impl RequiredRight {
    /// Returns what a call needs; `None` if this server has no such call.
    pub(super) fn of(context: &ApiContext<'_>, method: &str, target: &str) -> Option<Self> {
        let path = path_of(target);
        match route_of(target) {
            Route::Infisical if context.settings.identities.is_some() => {
                infisical::required_right(method, path)
            }
            Route::Inmanta | Route::Infisical => of_inmanta(method, path),
            Route::Admin => admin::required_right(method, path),
            Route::Verify | Route::VerifyBatch => {
                (method == "POST").then_some(Self::Nothing(BY_BODY))
            }
            Route::Revoke | Route::RefreshKeys => {
                (method == "POST").then_some(Self::Unknown(BY_CLIENT))
            }
            Route::ResourceMetadata => {
                let resource = context.auth.resource.as_ref();
                let is_described = resource.is_some_and(|one| one.is_described_by(path));
                (is_described && is_read(method)).then_some(Self::Nothing(NO_CREDENTIAL))
            }
            Route::Jwks | Route::Live | Route::Ready => {
                is_read(method).then_some(Self::Nothing(NO_CREDENTIAL))
            }
            Route::Metrics | Route::Keys => is_read(method).then_some(Self::Nothing(OF_OPERATIONS)),
            Route::GrpcHealth => (method == "POST").then_some(Self::Nothing(NO_CREDENTIAL)),
            Route::Auth | Route::Check => Some(Self::Unknown(OF_LISTENER)),
            Route::Console => Some(Self::Unknown(OF_CONSOLE)),
            Route::LoadTest | Route::None => None,
        }
    }

    /// Whether the call is answered without a look at a token.
    pub(super) const fn ignores_tokens(&self) -> bool {
        matches!(self, Self::Nothing(_) | Self::Unknown(_))
    }

    /// Whether the tokens of machine identities may make the call.
    pub(super) const fn takes_identities(&self) -> bool {
        matches!(self, Self::IdentityAdministrator | Self::OwnIdentity)
    }
}

/// Finds the handler of a target, on the listeners that have one for it.
fn route_of(target: &str) -> Route {
    let routes = [
        Route::of(target, Serves::Everything),
        Route::of_admin_api(target),
        Route::of_console(target),
        Route::of(target, Serves::Operations),
    ];
    routes.into_iter().find(|route| *route != Route::None).unwrap_or(Route::None)
}

/// Returns the environment in a query, which a call of the Inmanta API takes in place of its header.
pub(super) fn environment_argument(target: &str) -> Option<Cow<'_, str>> {
    let (_, query) = target.split_once('?')?;
    let arguments: Vec<(Cow<'_, str>, Cow<'_, str>)> = serde_urlencoded::from_str(query).ok()?;
    arguments.into_iter().find_map(|(name, text)| (name == ENVIRONMENT_ARGUMENT).then_some(text))
}

fn of_inmanta(method: &str, path: &str) -> Option<RequiredRight> {
    if method == "OPTIONS" {
        return Some(RequiredRight::Nothing(OF_PREFLIGHT));
    }
    matches!(find_endpoint(method, path), PathMatch::Endpoint(..)).then_some(RequiredRight::OwnCall)
}

fn is_read(method: &str) -> bool {
    matches!(method, "GET" | "HEAD")
}
