//! The web console for operators, at `/console`.
//!
//! Pages are rendered on the server and work without a script, except for figures that update
//! themselves. What a page shows or changes goes through the handlers and the authorizer of the
//! API, with the token of the user, which the browser never has.

mod administrator_page;
mod api_call;
mod assets;
mod audit_event;
mod audit_log;
mod back_channel;
mod cluster;
pub mod config_js;
mod configuration;
mod danger;
mod error_page;
mod identities;
mod inspector;
mod issuers;
mod layout;
mod live;
pub mod loaded_config;
pub mod openid;
mod overview;
mod page_right;
pub mod page_updates;
mod policy;
pub mod provider;
mod provider_sign_in;
mod reference;
mod refused_requests;
mod request;
mod request_test;
mod row_filter;
mod security_headers;
mod session;
mod session_id;
pub mod settings;
mod sign_in;
mod table;
mod tenants;
mod text;
mod tokens;
mod traffic;
mod users;

use bytes::Bytes;
use countersign_front::Peer;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};

use self::{
    api_call::UserCalls,
    config_js::ConfigJs,
    error_page::ConsoleError,
    page_updates::PageUpdates,
    provider::ConsoleProvider,
    request::FormFields,
    session::{Activity, ConsoleUser, RequestSession},
    settings::ConsoleSettings,
};
use crate::{
    api::{ApiContext, inmanta},
    auth::Caller,
    base::{
        reply::{Body, Reply, empty, no_store},
        route::CONSOLE_PATH,
    },
    client::ClientSettings,
    identities::certificate::CertificateSource,
};

/// Path of the sign-in, which may have to wait for its turn.
pub const SIGN_IN_PATH: &str = "/console/sign-in";

/// A request to the console.
type ConsoleRequest = Request<Bytes>;

/// Context of the pages: that of the calls that they make ([`ApiContext`]), and of the request.
pub struct ConsoleContext<'a> {
    /// The context of the calls that pages make.
    pub api: ApiContext<'a>,
    /// Settings of the console.
    pub settings: &'a ConsoleSettings,
    /// The OpenID provider, if users can sign in with one.
    pub provider: Option<&'a ConsoleProvider>,
    /// What `config.js` describes, if it is served.
    pub config_js: Option<&'a ConfigJs>,
    /// Updates of the overview.
    pub updates: &'a PageUpdates,
    /// The peer of the connection.
    pub peer: Peer<'a>,
    /// The proxies that the listener trusts.
    pub client: &'a ClientSettings,
    /// Whether the listener has TLS.
    pub is_tls: bool,
    /// Where calls about machine identities find the certificate of the client.
    pub certificate: CertificateSource<'a>,
}

/// A page or an action of the console, by its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConsolePath<'p> {
    /// `/`: the redirect URI of OpenID providers.
    Root,
    /// A file below `/console/assets/`.
    Asset(&'p str),
    /// `/console/**/config.js`, of Inmanta's own web console.
    ConfigJs,
    SignIn,
    /// `/console/sign-in/provider`: begins a sign-in with the OpenID provider.
    SignInAtProvider,
    /// `/console/back-channel-logout`: the OpenID provider ends sessions.
    BackChannel,
    SignOut,
    /// `/console/confirm`: asks for the password again.
    Confirm,
    Overview,
    /// `/console/overview/live`: the figures of the overview.
    Live,
    Issuers,
    RefreshKeys,
    Audit,
    Tokens,
    /// `/console/tokens/...`: a change of tokens.
    TokenChange(&'p str),
    Users,
    /// `/console/users/...`: a change of users or their roles.
    UserChange(&'p str),
    /// `/console/danger/...`: a change that needs a recent sign-in and a typed name.
    DangerousChange(&'p str),
    /// `/console/inspect`: the token inspector, whose form is answered by the same page.
    Inspector,
    /// `/console/policy`, whose form is answered by the same page.
    Policy,
    Configuration,
    Cluster,
    Identities,
    Tenants,
    /// `/console/reference`: the meaning of figures and reasons.
    Reference,
}

impl<'p> ConsolePath<'p> {
    fn of(path: &'p str) -> Option<Self> {
        let below = match path.strip_prefix(CONSOLE_PATH) {
            Some(below) => below,
            None if path == "/" => return Some(Self::Root),
            None => return None,
        };
        if config_js::is_path(path) {
            return Some(Self::ConfigJs);
        }
        Some(match below {
            "" => Self::Overview,
            "/sign-in" => Self::SignIn,
            "/sign-in/provider" => Self::SignInAtProvider,
            "/back-channel-logout" => Self::BackChannel,
            "/sign-out" => Self::SignOut,
            "/confirm" => Self::Confirm,
            "/overview/live" => Self::Live,
            "/issuers" => Self::Issuers,
            "/issuers/refresh" => Self::RefreshKeys,
            "/audit" => Self::Audit,
            "/tokens" => Self::Tokens,
            "/users" => Self::Users,
            "/inspect" => Self::Inspector,
            "/policy" => Self::Policy,
            "/configuration" => Self::Configuration,
            "/cluster" => Self::Cluster,
            "/identities" => Self::Identities,
            "/tenants" => Self::Tenants,
            "/reference" => Self::Reference,
            _ => match below.split_once("assets/") {
                Some(("/", file)) => Self::Asset(file),
                _ => Self::of_change(path, below)?,
            },
        })
    }

    /// Returns the change at a path, the end of which is `below` the console.
    fn of_change(path: &'p str, below: &'p str) -> Option<Self> {
        if let Some(change) = path.strip_prefix(danger::PATH) {
            return Some(Self::DangerousChange(change));
        }
        match below.strip_prefix("/tokens/") {
            Some(change) => Some(Self::TokenChange(change)),
            None => below.strip_prefix("/users/").map(Self::UserChange),
        }
    }

    /// The methods that it has.
    const fn methods(self) -> &'static str {
        match self {
            Self::SignIn
            | Self::Confirm
            | Self::Inspector
            | Self::Policy
            | Self::DangerousChange(_) => "GET, HEAD, POST",
            Self::SignOut
            | Self::BackChannel
            | Self::RefreshKeys
            | Self::TokenChange(_)
            | Self::UserChange(_) => "POST",
            _ => "GET, HEAD",
        }
    }
}

/// Answers a request.
pub async fn respond(
    context: &ConsoleContext<'_>,
    caller: &Caller<'_, '_>,
    request: &ConsoleRequest,
) -> Reply {
    let mut response = answer(context, caller, request)
        .await
        .unwrap_or_else(|error| error_page::respond(&error, None));
    if !response.headers().contains_key(header::CACHE_CONTROL) {
        response = no_store(response);
    }
    security_headers::add(&mut response, request::is_secure(context, request));
    response.into()
}

async fn answer(
    context: &ConsoleContext<'_>,
    caller: &Caller<'_, '_>,
    request: &ConsoleRequest,
) -> Result<Response<Body>, ConsoleError> {
    let path = request.uri().path();
    let page = ConsolePath::of(path).ok_or(ConsoleError::NotFound)?;
    let is_post = *request.method() == Method::POST;
    if !page.methods().split(", ").any(|method| method == request.method().as_str()) {
        return Err(ConsoleError::Method(page.methods()));
    }
    if page == ConsolePath::BackChannel && context.provider.is_some() {
        return Ok(back_channel::respond(context, caller, request).await);
    }
    if is_post && !request::is_same_origin(context, request) {
        return Err(ConsoleError::CrossSite);
    }
    match page {
        ConsolePath::Root => {
            return Ok(provider_sign_in::callback(context, caller, request).await);
        }
        ConsolePath::Asset(file) => return assets::respond(file).ok_or(ConsoleError::NotFound),
        ConsolePath::ConfigJs => return config_js::respond(context).await,
        ConsolePath::SignIn if is_post => return sign_in::sign_in(context, caller, request).await,
        ConsolePath::SignIn => return sign_in::page(context, request).await,
        ConsolePath::SignInAtProvider => return provider_sign_in::begin(context, request).await,
        ConsolePath::BackChannel => return Err(ConsoleError::NotFound),
        _ => {}
    }
    let activity = if page == ConsolePath::Live { Activity::Background } else { Activity::User };
    let user = match ConsoleUser::of(context, caller, request, activity).await? {
        RequestSession::Valid(user) if page == ConsolePath::Live => *user,
        RequestSession::Valid(user) => user.with_rights(context),
        _ if page == ConsolePath::Live => return Ok(empty(StatusCode::UNAUTHORIZED)),
        RequestSession::Absent => return Ok(sign_in::redirect(request, false)),
        RequestSession::Lapsed => return Ok(sign_in::redirect(request, true)),
    };
    if !is_post {
        let shown = show(context, caller, &user, page, request).await;
        return Ok(shown.unwrap_or_else(|error| error_page::respond(&error, Some(&user))));
    }
    let form = request::form(request).ok_or(ConsoleError::Form)?;
    if !user.id.is_form_token(form.get(FORM_TOKEN)) {
        return Err(ConsoleError::CrossSite);
    }
    let calls = UserCalls { context, caller, user: &user };
    if let Some(redirect) = danger::sign_in_again(&calls, path) {
        return Ok(redirect);
    }
    match page {
        ConsolePath::SignOut => sign_in::sign_out(context, caller, user, request).await,
        ConsolePath::Confirm => sign_in::confirm(context, caller, user, &form).await,
        ConsolePath::RefreshKeys => issuers::refresh(context, caller, &user).await,
        ConsolePath::TokenChange(change) => tokens::change(&calls, change, &form).await,
        ConsolePath::UserChange(change) => users::change(&calls, change, &form).await,
        ConsolePath::DangerousChange(name) => danger::make(&calls, name, &form).await,
        ConsolePath::Inspector => inspector::page(context, &user, &form).await,
        ConsolePath::Policy => policy::page(context, &user, &form).await,
        _ => Err(ConsoleError::NotFound),
    }
}

/// Shows a page to a user.
async fn show(
    context: &ConsoleContext<'_>,
    caller: &Caller<'_, '_>,
    user: &ConsoleUser,
    page: ConsolePath<'_>,
    request: &ConsoleRequest,
) -> Result<Response<Body>, ConsoleError> {
    let calls = UserCalls { context, caller, user };
    match page {
        ConsolePath::Confirm => return Ok(sign_in::confirmation_page(context, user, request)),
        ConsolePath::Audit => return audit_log::page(context, user, request).await,
        ConsolePath::Tokens => return tokens::page(&calls, request).await,
        ConsolePath::Users => return users::page(&calls, request).await,
        ConsolePath::Identities => return identities::page(&calls, request).await,
        ConsolePath::DangerousChange(name) => return danger::page(&calls, name, request).await,
        ConsolePath::Inspector => {
            return inspector::page(context, user, &FormFields::default()).await;
        }
        ConsolePath::Policy => return policy::page(context, user, &FormFields::default()).await,
        ConsolePath::Configuration => return configuration::page(context, user, request),
        ConsolePath::Cluster => return cluster::page(context, user, request).await,
        ConsolePath::Tenants => return tenants::page(context, user, request),
        _ => {}
    }
    let (method, path) = STATUS;
    if !inmanta::may_call(&context.api, &user.session, method, path) {
        return Err(ConsoleError::Forbidden("You may not read the state of the server.".into()));
    }
    match page {
        ConsolePath::Live => live::respond(context, user).await,
        ConsolePath::Issuers => Ok(issuers::page(context, user, request)),
        ConsolePath::Reference => Ok(reference::page(context, user, request)),
        _ => overview::page(context, user).await,
    }
}

/// The call whose authorization the state of the server and its issuers needs.
const STATUS: (&str, &str) = ("GET", "/api/v1/serverstatus");

/// The field of every form that proves that it comes from a page of the session.
const FORM_TOKEN: &str = "form_token";

/// Returns a redirect to a page, which the browser gets.
fn see_other(path: &str) -> Response<Body> {
    let mut response = empty(StatusCode::SEE_OTHER);
    let location = HeaderValue::from_str(path);
    let location = location.unwrap_or_else(|_| HeaderValue::from_static(CONSOLE_PATH));
    response.headers_mut().insert(header::LOCATION, location);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn console_paths_have_one_spelling() {
        for (path, expected) in [
            ("/", Some(ConsolePath::Root)),
            ("/console", Some(ConsolePath::Overview)),
            ("/console/", None),
            ("/console/users", Some(ConsolePath::Users)),
            ("/console/users/add", Some(ConsolePath::UserChange("add"))),
            ("/console/danger/x", Some(ConsolePath::DangerousChange("x"))),
            ("/console/assets/a.css", Some(ConsolePath::Asset("a.css"))),
            ("/console/x/assets/a.css", None),
            ("/console/sign-in/provider", Some(ConsolePath::SignInAtProvider)),
            ("/console/config.js", Some(ConsolePath::ConfigJs)),
            ("/console/nothing", None),
            ("/other", None),
        ] {
            assert_eq!(ConsolePath::of(path), expected, "{path}");
        }
    }
}
