//! The calls of the Inmanta API that an auth tier answers: users and their sessions,
//! roles, environments, and the registry of tokens.
//!
//! The order of things is the real system's: a token that comes along is verified, even
//! where none is needed; then the registry is asked; then one is missed; then the
//! arguments are read, the call is authorized, and made.

mod arguments;
mod environments;
mod fault;
mod login;
mod request;
mod roles;
mod tokens;
mod users;

use std::sync::Arc;

use bytes::Bytes;
use countersign_engine::UnixTime;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{Reply, health};
use crate::{
    admission::{Caller, Source},
    app::App,
    authorization::{
        self, Call,
        endpoints::{Endpoint, Found, find},
    },
    config::{IssuerSection, Server},
    http::{Body, empty, json, no_store},
    metrics::Outcome,
    surface::{
        Credential, Style, Surface,
        inmanta::{self, session::Session},
    },
    users::Users,
};
use arguments::Arguments;
use fault::Fault;
use request::Asked;

/// Answers a call.
pub(super) async fn answer(app: &Arc<App>, server: &Server, caller: &Caller<'_, '_>, request: &Request<Bytes>) -> Reply {
    let mut reply = answer_call(app, server, caller, request).await;
    reply.response = no_store(reply.response);
    if let Some(origin) = &server.allow_origin {
        reply.response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    }
    reply
}

async fn answer_call(app: &Arc<App>, server: &Server, caller: &Caller<'_, '_>, request: &Request<Bytes>) -> Reply {
    if request.method() == http::Method::OPTIONS {
        return health::preflight(server).into();
    }
    let (endpoint, of_path) = match find(request.method().as_str(), request.uri().path()) {
        Found::Call(endpoint, of_path) => (endpoint, of_path),
        Found::OtherMethods(methods) => return method_not_allowed(&methods).into(),
        Found::Nothing => return Fault::not_found("there is no such call").answer().into(),
    };
    let session = match session(app, server, caller, request.headers()).await {
        Ok(session) => session,
        Err(reply) => return reply,
    };
    let outcome = session.as_ref().map(|_| Outcome::Verified);
    let response = if session.is_none() && server.auth && endpoint.needs_token {
        Surface::Inmanta.challenge(Style::Body)
    } else {
        let made = make(app, server, caller.source(), session.as_ref(), endpoint, of_path, request).await;
        made.unwrap_or_else(|fault| fault.answer())
    };
    Reply { outcome, ..response.into() }
}

/// Whose call it is: by the token that came along, if authentication is on and one did.
async fn session(app: &App, server: &Server, caller: &Caller<'_, '_>, headers: &HeaderMap) -> Result<Option<Session>, Reply> {
    if !server.auth {
        return Ok(None);
    }
    let refused = |outcome, response| {
        app.metrics.count(outcome);
        Err(Reply::about(outcome, response))
    };
    let token = match Surface::Inmanta.credential(headers, server.additional_header.as_ref()) {
        Credential::None => return Ok(None),
        Credential::Conflict => return refused(Outcome::Conflict, Surface::Inmanta.conflict(Style::Body)),
        Credential::Token(token) => token,
    };
    let session = match app.verify(caller, token).await {
        Ok(verified) => Session::of(&verified, signer(server).is_some_and(|one| one.issuer.name == verified.issuer().name)),
        Err(reject) => {
            let refusal = app.refusal(caller, reject, token);
            return refused(
                Outcome::Rejected(reject),
                Surface::Inmanta.refuse(Style::Body, &refusal, server.rejected_token_status),
            );
        }
    };
    app.metrics.count(Outcome::Verified);
    match check_registry(app, &session).await {
        Ok(()) => Ok(Some(session)),
        Err(fault) => Err(fault.answer().into()),
    }
}

/// A token of ours that has an id is one that we have registered.
async fn check_registry(app: &App, session: &Session) -> Result<(), Fault> {
    let Some(jti) = session.registered_id() else { return Ok(()) };
    match uuid::Uuid::parse_str(jti).is_ok() && users_of(app)?.knows_token(jti).await? {
        true => Ok(()),
        false => Err(Fault::Forbidden("The token is not in the registry, or was revoked.".into())),
    }
}

/// Reads the arguments of a call, authorizes it, and makes it.
async fn make(
    app: &Arc<App>,
    server: &Server,
    source: Source,
    session: Option<&Session>,
    endpoint: &Endpoint,
    of_path: Vec<(&'static str, String)>,
    request: &Request<Bytes>,
) -> Result<Response<Body>, Fault> {
    let users = users_of(app)?;
    let mut arguments = Arguments::read(endpoint, of_path, request)?;
    let environment = environment_of(users, endpoint, &arguments).await?;
    let user = arguments.of_path("username").map(str::to_owned);
    let asked = Asked::read(endpoint.operation, environment.clone(), &mut arguments)?;
    arguments.finish()?;
    if let Some(session) = session {
        let call = Call { endpoint, environment: environment.as_deref(), user: user.as_deref() };
        authorization::authorize(server.authorization_provider, session, &call).map_err(Fault::Forbidden)?;
    }
    let context = Context { app, server, users, source, session };
    match asked {
        Asked::Login { username, password } => login::login(&context, &username, &password).await,
        Asked::RenewLogin => login::renew(&context).await,
        Asked::Users(asked) => users::answer(&context, asked).await,
        Asked::Roles(asked) => roles::answer(&context, asked).await,
        Asked::Tokens(asked) => tokens::answer(&context, asked).await,
        Asked::Environments(asked) => environments::answer(&context, asked).await,
    }
}

/// The environment that a call is about, which there has to be.
async fn environment_of(users: &Users, endpoint: &Endpoint, arguments: &Arguments) -> Result<Option<String>, Fault> {
    let Some(named) = endpoint.environment else { return Ok(None) };
    let id = arguments.environment(named)?;
    match users.store.environment(&id).await? {
        Some(environment) => Ok(Some(environment.id)),
        None => Err(Fault::not_found(format!("The environment with id {id} does not exist."))),
    }
}

/// What a call is made with.
struct Context<'c> {
    app: &'c Arc<App>,
    server: &'c Server,
    users: &'c Users,
    /// Where it comes from.
    source: Source,
    /// Whose it is; nobody's with authentication off.
    session: Option<&'c Session>,
}

impl<'c> Context<'c> {
    /// The section that signs.
    fn signer(&self) -> Result<&'c IssuerSection, Fault> {
        if !self.server.auth {
            return Err(Fault::Request(AUTH_OFF.into()));
        }
        signer(self.server).ok_or_else(|| Fault::Request("No signing config available in the configuration.".into()))
    }
}

const AUTH_OFF: &str =
    "Server authentication should be enabled. To setup the initial user use the inmanta-initial-user-setup tool.";

fn signer(server: &Server) -> Option<&IssuerSection> {
    server.signing.as_deref()
}

fn users_of(app: &App) -> Result<&Users, Fault> {
    app.users.as_ref().ok_or_else(|| Fault::Unavailable("this server has no database".into()))
}

/// An answer with something in it.
fn data(value: &Value) -> Response<Body> {
    json(StatusCode::OK, &json!({ "data": value }))
}

/// An answer with nothing to say.
fn done() -> Response<Body> {
    empty(StatusCode::OK)
}

/// A moment as the API writes it.
fn shown(at: UnixTime) -> Value {
    let moment = i64::try_from(at.0).ok().and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok());
    moment.and_then(|moment| moment.format(&Rfc3339).ok()).map_or(Value::Null, Value::String)
}

fn method_not_allowed(methods: &[&'static str]) -> Response<Body> {
    let allowed = methods.join(", ");
    let mut response = inmanta::answer(StatusCode::METHOD_NOT_ALLOWED, &format!("this call is made by {allowed}"));
    if let Ok(value) = HeaderValue::try_from(allowed) {
        response.headers_mut().insert(header::ALLOW, value);
    }
    response
}

/// The bearer token that an answer hands over beside its body.
fn with_token(mut response: Response<Body>, token: &str) -> Response<Body> {
    let value = HeaderValue::try_from(format!("Bearer {token}"));
    if let (name, Ok(mut value)) = (HeaderName::from(header::AUTHORIZATION), value) {
        value.set_sensitive(true);
        response.headers_mut().insert(name, value);
    }
    response
}
