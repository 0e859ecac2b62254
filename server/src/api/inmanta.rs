//! The part of the Inmanta API that an auth tier implements: users and sessions, roles, projects
//! and environments, and the registry of tokens.
//!
//! The order of the checks is that of the Inmanta server:
//! 1. A token in the request is verified, even if the endpoint requires none.
//! 2. The token is looked up in the registry.
//! 3. A missing token is refused, if the endpoint requires one.
//! 4. The arguments are read, the call is authorized, and executed.

mod arguments;
mod audited;
mod docs;
mod environment_settings;
mod environments;
mod error;
mod inner_call;
mod login;
mod logout;
mod projects;
mod request;
mod roles;
mod session;
mod status;
mod tokens;
mod users;

use std::sync::OnceLock;

use arguments::CallArguments;
use bytes::Bytes;
use countersign_front::RequestHead;
use error::unknown_environment;
use http::{HeaderValue, Request, Response, StatusCode, header};
use request::ApiRequest;
use serde_json::{Map, Value, json};

pub(super) use self::{
    arguments::ENVIRONMENT_ARGUMENT,
    error::{ApiError, ChangeRefusal, advise_client},
    inner_call::{InnerAnswer, InnerCall},
    session::{MACHINE_IDENTITY, SessionRefusal, verify as verify_session},
    users::user_json,
};
use crate::{
    accounts::{Users, attempts::LoginOrigin, session::Session},
    admission::Source,
    api::{
        ApiContext,
        audited::AuditedCall,
        settings::{ApiSettings, ISSUES_NOTHING, NO_SUCH_CALL},
    },
    auth::{
        Caller,
        credential::{self, Credential},
        profile::{Profile, Style, inmanta},
    },
    authorization::{
        self, ApiCall, Denial,
        endpoints::api::{ApiEndpoint, ApiOperation, PathMatch, find_endpoint},
        invalidate_decisions,
    },
    base::{
        outcome::Outcome,
        reply::{Body, Reply, empty, json, no_store},
        route::{ENVIRONMENT_HEADER, path_of},
    },
    keys::IssuerSection,
};

/// Path of the login, which may have to wait for its turn.
pub const LOGIN_PATH: &str = "/api/v2/login";

/// Whether the body of a call can matter: the call exists, and its token is accepted, or it needs
/// none. A token that has to wait for the keys of its issuer may still be accepted.
pub fn may_use_body<H: RequestHead>(
    context: &ApiContext<'_>,
    caller: &Caller<'_, '_>,
    head: &H,
) -> bool {
    let PathMatch::Endpoint(endpoint, _) = find_endpoint(head.method(), path_of(head.target()))
    else {
        return false;
    };
    if !context.settings.requires_token {
        return true;
    }
    if context.settings.signing.is_none() && endpoint.operation != ApiOperation::Health {
        return false;
    }
    context.may_be_accepted(caller, head).unwrap_or(!endpoint.needs_token)
}

/// Answers a call.
pub async fn respond(
    context: &ApiContext<'_>,
    caller: &Caller<'_, '_>,
    request: &Request<Bytes>,
) -> Reply {
    let mut reply = answer_call(context, caller, request).await;
    reply.response = no_store(reply.response);
    if let Some(origin) = &context.settings.allow_origin {
        reply.response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    }
    reply
}

/// Verifies a token as for a call, and returns its session; `None` if calls need no token.
///
/// # Errors
/// The response to a rejected token.
pub(crate) async fn authenticate(
    context: &ApiContext<'_>,
    caller: &Caller<'_, '_>,
    token: &str,
) -> Result<Option<Session>, Box<Reply>> {
    session::authenticate(context, caller, Credential::Token(token.as_bytes())).await
}

/// Whether a session may make a call that has no arguments.
pub(crate) fn may_call(
    context: &ApiContext<'_>,
    session: &Session,
    method: &str,
    path: &str,
) -> bool {
    may_call_within(context, session, None, (method, path))
}

/// As [`may_call`], for a call within an environment, if it has one.
pub(crate) fn may_call_within(
    context: &ApiContext<'_>,
    session: &Session,
    environment: Option<&str>,
    (method, path): (&str, &str),
) -> bool {
    let PathMatch::Endpoint(endpoint, _) = find_endpoint(method, path) else { return false };
    let named = endpoint.environment.zip(environment);
    let named = named.map(|(parameter, id)| (parameter.to_owned(), Value::from(id)));
    let (parameters, arguments) = (named.into_iter().collect(), Map::new());
    let call = ApiCall { endpoint, environment, parameters, arguments };
    let provider = context.settings.authorization_provider;
    context.auth.authorization.authorize_api(provider, session, call).is_ok()
}

/// Returns the response to a call that the holder of a session may not make; `None` if it may, or
/// if the arguments are invalid, which the call itself reports.
pub(crate) fn denial(
    context: &ApiContext<'_>,
    session: &Session,
    request: &Request<Bytes>,
) -> Option<Response<Body>> {
    let found = find_endpoint(request.method().as_str(), request.uri().path());
    let PathMatch::Endpoint(endpoint, of_path) = found else { return None };
    let denial = match parse(endpoint, of_path, request) {
        Ok(ParsedCall { environment, parameters, arguments, .. }) => {
            let environment = environment.as_deref();
            let call = ApiCall { endpoint, environment, parameters, arguments };
            let provider = context.settings.authorization_provider;
            context.auth.authorization.authorize_api(provider, session, call).err()
        }
        Err(_) => authorization::is_barred(session, endpoint).then_some(Denial::MayNotAdminister),
    };
    denial.map(|denial| ApiError::Forbidden(denial.to_string()).into_response())
}

async fn answer_call(
    context: &ApiContext<'_>,
    caller: &Caller<'_, '_>,
    request: &Request<Bytes>,
) -> Reply {
    if request.method() == http::Method::OPTIONS {
        return preflight(context.settings).into();
    }
    let (endpoint, of_path) = match find_endpoint(request.method().as_str(), request.uri().path()) {
        PathMatch::Endpoint(endpoint, of_path) => (endpoint, of_path),
        PathMatch::OtherMethods(methods) => return method_not_allowed(&methods).into(),
        PathMatch::NotFound => {
            return ApiError::not_found(NO_SUCH_CALL).into_response().into();
        }
    };
    if context.settings.requires_token
        && context.settings.signing.is_none()
        && endpoint.operation != ApiOperation::Health
    {
        return without_accounts().into();
    }
    let mut audited =
        AuditedCall::new(context.audit, audited::operation(endpoint.operation), caller);
    let credential = credential_of(context, endpoint, request);
    let session = match session::authenticate(context, caller, credential).await {
        Ok(session) => session,
        Err(reply) => {
            let Reply { outcome, response, .. } = *reply;
            let response = audited.finish(response, outcome.map(Outcome::name)).await;
            return Reply { outcome, ..response.into() };
        }
    };
    if let Some(session) = &session {
        audited.set_caller(session);
    }
    let outcome = session.as_ref().map(|_| Outcome::Verified);
    let response = if session.is_none() && context.settings.requires_token && endpoint.needs_token {
        let response = Profile::Inmanta.challenge(Style::Body, &context.auth.challenges);
        audited.finish(response, Some(Outcome::NoToken.name())).await
    } else {
        let executed = execute(
            context,
            origin_of(caller),
            session.as_ref(),
            endpoint,
            (of_path, request),
            &mut audited,
        )
        .await;
        audited.finish(executed.unwrap_or_else(ApiError::into_response), None).await
    };
    Reply { outcome, ..response.into() }
}

/// Returns the credential of a call. A browser opens the documentation by a link, which may have a
/// token in its query, in place of one in a header. No other call has one there.
fn credential_of<'r>(
    context: &ApiContext<'_>,
    endpoint: &ApiEndpoint,
    request: &'r Request<Bytes>,
) -> Credential<'r> {
    if endpoint.operation == ApiOperation::Docs
        && let Some(credential) = credential::in_query(request.uri().query().unwrap_or_default())
    {
        return credential;
    }
    context.auth.credentials.in_headers(request.headers())
}

/// Answers a call where no section signs tokens, so that accounts cannot exist.
fn without_accounts() -> Response<Body> {
    ApiError::Unauthorized(ISSUES_NOTHING.into()).into_response()
}

fn origin_of(caller: &Caller<'_, '_>) -> LoginOrigin {
    LoginOrigin {
        source: Source::of(caller.client.get()),
        is_shared: caller.client.is_unlisted_proxy(),
    }
}

/// Reads the arguments of a call, authorizes it, and executes it.
async fn execute(
    context: &ApiContext<'_>,
    origin: LoginOrigin,
    session: Option<&Session>,
    endpoint: &ApiEndpoint,
    called: CalledPath<'_>,
    audited: &mut AuditedCall<'_>,
) -> Result<Response<Body>, ApiError> {
    let lookup = EnvironmentLookup::BeforeAuthorization;
    let api_request = authorize(context, session, (endpoint, lookup), called, audited).await?;
    perform(context, origin, session, (endpoint, api_request), audited).await
}

/// The arguments in the path of a request, and the request.
type CalledPath<'r> = (Vec<(&'static str, String)>, &'r Request<Bytes>);

/// When the environment that a header names is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EnvironmentLookup {
    /// As in the Inmanta server.
    BeforeAuthorization,
    /// A caller that may not make the call does not learn whether the environment exists.
    AfterAuthorization,
}

/// Reads the arguments of a call, and authorizes it.
async fn authorize(
    context: &ApiContext<'_>,
    session: Option<&Session>,
    (endpoint, lookup): (&ApiEndpoint, EnvironmentLookup),
    (of_path, request): CalledPath<'_>,
    audited: &mut AuditedCall<'_>,
) -> Result<ApiRequest, ApiError> {
    let parsed = parse(endpoint, of_path, request);
    // A caller that may not administer is refused, whatever is wrong with the arguments.
    if parsed.is_err() && session.is_some_and(|session| authorization::is_barred(session, endpoint))
    {
        return Err(ApiError::Forbidden(Denial::MayNotAdminister.to_string()));
    }
    let ParsedCall { api_request, environment, parameters, arguments } = parsed?;
    audited.set_target(audited::target(&api_request));
    // An environment in the path is looked up after the authorization.
    let is_looked_up_first = endpoint.environment == Some(ENVIRONMENT_HEADER)
        && lookup == EnvironmentLookup::BeforeAuthorization;
    if is_looked_up_first {
        require_environment(context, endpoint, environment.as_deref()).await?;
    }
    // Without authentication the caller is unknown, and the changes would stay in force once
    // authentication is enabled.
    if !context.settings.requires_token && !endpoint.read_only && !api_request.creates_token() {
        return Err(ApiError::Request(AUTH_OFF.into()));
    }
    if let Some(session) = session {
        let environment = environment.as_deref();
        let call = ApiCall { endpoint, environment, parameters, arguments };
        let provider = context.settings.authorization_provider;
        let authorized = context.auth.authorization.authorize_api(provider, session, call);
        authorized.map_err(|denial| ApiError::Forbidden(denial.to_string()))?;
    }
    if !is_looked_up_first && endpoint.operation != ApiOperation::CreateEnvironment {
        require_environment(context, endpoint, environment.as_deref()).await?;
    }
    Ok(api_request)
}

/// Executes a call that is authorized.
async fn perform(
    context: &ApiContext<'_>,
    origin: LoginOrigin,
    session: Option<&Session>,
    (endpoint, api_request): (&ApiEndpoint, ApiRequest),
    audited: &mut AuditedCall<'_>,
) -> Result<Response<Body>, ApiError> {
    audited.begin().await?;
    let (api, issued) = (context, &audited.issued);
    let context = || {
        Ok::<_, ApiError>(CallContext {
            api: *context,
            users: require_users(context)?,
            origin,
            session,
            is_v1: endpoint.is_v1(),
            issued,
        })
    };
    if endpoint.operation.changes_rights() {
        invalidate_decisions();
    }
    match api_request {
        ApiRequest::Nothing => Ok(data(&Value::Null)),
        ApiRequest::Login { username, password } => {
            login::login(&context()?, &username, &password).await
        }
        ApiRequest::RenewLogin => login::renew(&context()?).await,
        ApiRequest::Logout { all } => logout::log_out(&context()?, all).await,
        ApiRequest::Users(request) => users::respond(&context()?, request).await,
        ApiRequest::Roles(request) => roles::respond(&context()?, request).await,
        ApiRequest::Tokens(request) => tokens::respond(&context()?, request).await,
        ApiRequest::Projects(request) => projects::respond(&context()?, request).await,
        ApiRequest::Environments(request) => environments::respond(&context()?, request).await,
        ApiRequest::ServerStatus => Ok(status::respond(api).await),
        ApiRequest::Docs { format, description } => Ok(docs::respond(api, format, description)),
    }
}

/// A call with its arguments.
struct ParsedCall {
    api_request: ApiRequest,
    /// The environment that it concerns.
    environment: Option<String>,
    /// The parameters of its path and headers.
    parameters: Map<String, Value>,
    /// Those of its query or body. Passwords are masked.
    arguments: Map<String, Value>,
}

fn parse(
    endpoint: &ApiEndpoint,
    of_path: Vec<(&'static str, String)>,
    request: &Request<Bytes>,
) -> Result<ParsedCall, ApiError> {
    let mut arguments = CallArguments::read(endpoint, of_path, request)?;
    let environment = match endpoint.environment {
        Some(named) => arguments.environment(named)?,
        None => None,
    };
    let parameters = arguments.parameters(endpoint, environment.as_deref());
    let masked = arguments.masked();
    let api_request = ApiRequest::read(endpoint, environment.clone(), &mut arguments)?;
    arguments.finish()?;
    Ok(ParsedCall { api_request, environment, parameters, arguments: masked })
}

/// Checks that the environment of a call exists.
async fn require_environment(
    context: &ApiContext<'_>,
    endpoint: &ApiEndpoint,
    id: Option<&str>,
) -> Result<(), ApiError> {
    let Some(id) = id else { return Ok(()) };
    if require_users(context)?.store.environment(id).await?.is_some() {
        return Ok(());
    }
    Err(match (endpoint.environment, endpoint.method) {
        (Some(ENVIRONMENT_HEADER), _) => unknown_environment(),
        (_, "DELETE") => ApiError::not_found("The environment with given id does not exist."),
        _ => ApiError::not_found("The environment id does not exist."),
    })
}

/// Context in which a call is executed.
struct CallContext<'c> {
    api: ApiContext<'c>,
    users: &'c Users,
    /// Where the call comes from.
    origin: LoginOrigin,
    /// Session of the caller; `None` if authentication is off.
    session: Option<&'c Session>,
    /// Whether the call is of version 1 of the API.
    is_v1: bool,
    /// Set to the id of an issued token, for the audit log.
    issued: &'c OnceLock<String>,
}

impl<'c> CallContext<'c> {
    /// Returns the section that signs tokens.
    fn signer(&self) -> Result<&'c IssuerSection, ApiError> {
        if !self.api.settings.requires_token {
            return Err(ApiError::Request(AUTH_OFF.into()));
        }
        signer(self.api.settings).ok_or_else(|| {
            ApiError::Request("No signing config available in the configuration.".into())
        })
    }
}

const AUTH_OFF: &str = "Server authentication should be enabled. To setup the initial user use the inmanta-initial-user-setup tool.";

fn signer(settings: &ApiSettings) -> Option<&IssuerSection> {
    settings.signing.as_deref()
}

fn require_users<'c>(context: &ApiContext<'c>) -> Result<&'c Users, ApiError> {
    context.users.ok_or_else(|| ApiError::Unavailable("this server has no database".into()))
}

/// Returns a response with a value in the envelope of the version of the call: `data`, or the name
/// of the value in version 1.
fn enveloped(context: &CallContext<'_>, v1_name: &str, value: &Value) -> Response<Body> {
    if context.is_v1 { json(StatusCode::OK, &json!({ v1_name: value })) } else { data(value) }
}

/// Returns a response with a value in `data`.
fn data(value: &Value) -> Response<Body> {
    json(StatusCode::OK, &json!({ "data": value }))
}

/// Returns 200 without a body.
fn ok_empty() -> Response<Body> {
    empty(StatusCode::OK)
}

/// Answers a CORS preflight request.
fn preflight(settings: &ApiSettings) -> Response<Body> {
    let allowed = if settings.requires_token {
        "Origin, Accept, Content-Type, X-Requested-With, X-CSRF-Token, X-Inmanta-tid, Authorization"
    } else {
        "Origin, Accept, Content-Type, X-Requested-With, X-CSRF-Token, X-Inmanta-tid"
    };
    let methods = "HEAD, GET, POST, PUT, OPTIONS, DELETE, PATCH";
    let mut response = empty(StatusCode::OK);
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_METHODS, methods),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, allowed),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn method_not_allowed(methods: &[&'static str]) -> Response<Body> {
    let allowed = methods.join(", ");
    let mut response = inmanta::message_response(
        StatusCode::METHOD_NOT_ALLOWED,
        &format!("this call is made by {allowed}"),
    );
    if let Ok(value) = HeaderValue::try_from(allowed) {
        response.headers_mut().insert(header::ALLOW, value);
    }
    response
}

/// Adds the issued token to the headers of a response.
fn with_token(mut response: Response<Body>, token: &str) -> Response<Body> {
    if let Ok(mut value) = HeaderValue::try_from(format!("Bearer {token}")) {
        value.set_sensitive(true);
        response.headers_mut().insert(header::AUTHORIZATION, value);
    }
    response
}
