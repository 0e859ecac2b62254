//! The Admin API, for our own tools: one API for what `/api/v2` and `/api/v1` have in the forms of
//! other systems, and for the state of the server.
//!
//! A table of operations (`table`) is the router and the source of the OpenAPI document. The order
//! of the checks:
//! 1. The token of the request is verified, and looked up in the registry.
//! 2. The caller must be allowed to make the call, by the authorization of the call of `/api/v2`
//!    that does the same, or as an administrator.
//! 3. The query and the body are checked, then `If-Match`, and the change is recorded and made.

mod access_rules;
mod api_keys;
mod audit_events;
mod authentication;
mod body;
mod change_turns;
mod configuration;
mod docs;
mod entity_tag;
mod environments;
mod error;
mod identities;
mod identity_changes;
mod inspection;
mod issuers;
mod openapi;
mod operation;
mod overview;
mod page;
mod query;
mod refused_requests;
mod required_right;
mod resources;
mod revocations;
mod roles;
mod schema;
mod servers;
mod table;
mod tenants;
mod tested_request;
mod tokens;
mod users;

pub(super) use self::required_right::required_right;
use bytes::Bytes;
use countersign_engine::UnixTime;
use countersign_front::RequestHead;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use self::{
    authentication::authenticate,
    body::BodyValues,
    entity_tag::TaggedResource,
    error::AdminError,
    operation::{AdminAction, AdminOperation, AdminPermission, OperationMatch},
    query::QueryValues,
};
use crate::{
    accounts::{Users, session::Session},
    api::{
        ApiContext,
        audited::AuditedCall,
        inmanta::{InnerAnswer, InnerCall},
    },
    auth::Caller,
    authorization::{
        self, Denial,
        endpoints::api::{PathMatch, find_endpoint},
    },
    base::{
        clock,
        outcome::Outcome,
        reply::{Body, Reply, empty, no_store, problem},
        route::path_of,
    },
};

/// A call whose caller is authenticated, with its arguments.
struct AdminCall<'c> {
    context: ApiContext<'c>,
    caller: &'c Caller<'c, 'c>,
    session: &'c Session,
    users: &'c Users,
    operation: &'static AdminOperation,
    /// The parameters of the path, decoded.
    path: Vec<(&'static str, String)>,
    /// The path as it was sent.
    encoded_path: &'c str,
    query: QueryValues,
    body: BodyValues,
    headers: &'c HeaderMap,
}

/// Result of an [`AdminCall`].
type Answer = Result<Response<Body>, AdminError>;

impl AdminCall<'_> {
    /// Returns a parameter of the path; empty without one.
    fn path_parameter(&self, name: &str) -> &str {
        let found = self.path.iter().find(|(of, _)| *of == name);
        found.map_or("", |(_, text)| text)
    }

    /// Checks `If-Match` against a resource as it is now.
    fn check_match(&self, resource: &TaggedResource) -> Result<(), AdminError> {
        entity_tag::check(self.headers, resource)
    }

    /// Returns a response with a representation and its tag.
    fn representation(&self, status: StatusCode, resource: &TaggedResource) -> Response<Body> {
        let is_read = self.operation.audited.is_none();
        entity_tag::respond(is_read.then_some(self.headers), status, resource)
    }

    /// Returns the [`InnerCall`] of `/api/v2` with these arguments.
    fn inner<'i>(method: Method, target: String, body: Value) -> InnerCall<'i> {
        InnerCall { method, target, environment: None, body }
    }

    /// Authorizes an [`InnerCall`] of `/api/v2`, checks `If-Match` against what it changes, and
    /// executes it.
    async fn change(
        &self,
        inner: InnerCall<'_>,
        current: impl Future<Output = Result<TaggedResource, AdminError>>,
        audited: &mut AuditedCall<'_>,
    ) -> Result<InnerAnswer, AdminError> {
        let authorized = inner.authorize(&self.context, self.session, audited).await?;
        self.check_match(&current.await?)?;
        Ok(authorized.execute(&self.context, self.caller, self.session, audited).await?)
    }
}

/// Whether the body of a call can matter: the call exists and has one, and its token is accepted.
pub fn may_use_body<H: RequestHead>(
    context: &ApiContext<'_>,
    caller: &Caller<'_, '_>,
    head: &H,
) -> bool {
    if !context.settings.issues_tokens()
        || !matches!(
            operation::find(head.method(), path_of(head.target())),
            OperationMatch::Found(..)
        )
    {
        return false;
    }
    context.may_be_accepted(caller, head).unwrap_or(false)
}

/// Answers a call of a server that has accounts.
pub async fn respond(
    context: &ApiContext<'_>,
    caller: &Caller<'_, '_>,
    request: &Request<Bytes>,
) -> Reply {
    let reply = answer(context, caller, request).await;
    let mut response = no_store(reply.response);
    let nosniff = HeaderValue::from_static("nosniff");
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    Reply { response, ..reply }
}

async fn answer(
    context: &ApiContext<'_>,
    caller: &Caller<'_, '_>,
    request: &Request<Bytes>,
) -> Reply {
    let encoded_path = request.uri().path();
    let (operation, path) = match operation::find(request.method().as_str(), encoded_path) {
        OperationMatch::Found(operation, path) => (operation, path),
        OperationMatch::OtherMethods(methods) => return method_not_allowed(&methods).into(),
        OperationMatch::NotFound => return AdminError::no_such_call().into_response().into(),
    };
    if operation.permission == AdminPermission::Open {
        return match operation.action {
            AdminAction::Docs => docs::respond().into(),
            _ => openapi::respond().into(),
        };
    }
    let mut audited = AuditedCall::new(context.audit, operation.audited, caller);
    let session = match authenticate(context, caller, request.headers()).await {
        Ok(session) => session,
        Err(refused) => {
            let Reply { outcome, response, .. } = *refused;
            let response = audited.finish(response, outcome.map(Outcome::name)).await;
            return Reply { outcome, ..response.into() };
        }
    };
    audited.set_caller(&session);
    let called = (operation, path, request);
    let executed = authorize_and_execute(context, caller, &session, called, &mut audited).await;
    let response = executed.unwrap_or_else(AdminError::into_response);
    let response = audited.finish(response, None).await;
    Reply::with_outcome(Outcome::Verified, response)
}

async fn authorize_and_execute(
    context: &ApiContext<'_>,
    caller: &Caller<'_, '_>,
    session: &Session,
    (operation, path, request): (
        &'static AdminOperation,
        Vec<(&'static str, String)>,
        &Request<Bytes>,
    ),
    audited: &mut AuditedCall<'_>,
) -> Answer {
    // A caller that may not make the call is refused, whatever is wrong with its arguments.
    check_permission(context, session, operation)?;
    entity_tag::refuse_others(request.headers(), operation)?;
    body::check_coding(request.headers(), request.body())?;
    let call = AdminCall {
        context: *context,
        caller,
        session,
        users: context
            .users
            .ok_or_else(|| AdminError::unavailable("this server has no database"))?,
        operation,
        path: operation::checked(path)?,
        encoded_path: request.uri().path(),
        query: QueryValues::read(operation, request.uri().query().unwrap_or_default())?,
        body: BodyValues::read(operation.body, request.body())?,
        headers: request.headers(),
    };
    if operation.audited.is_none() {
        check_read(&call, audited).await?;
    }
    let _turn = change_turns::wait(&call).await?;
    execute(call, audited).await
}

/// Checks as much of the [`AdminPermission`] as does not depend on the arguments.
fn check_permission(
    context: &ApiContext<'_>,
    session: &Session,
    operation: &AdminOperation,
) -> Result<(), AdminError> {
    match operation.permission {
        AdminPermission::Open => Ok(()),
        AdminPermission::Administrator if context.is_administrator(session) => Ok(()),
        AdminPermission::Administrator => {
            Err(AdminError::forbidden("You are not allowed to administer this server."))
        }
        AdminPermission::Call(method, path) => match find_endpoint(method, path) {
            PathMatch::Endpoint(endpoint, _) if authorization::is_barred(session, endpoint) => {
                Err(AdminError::forbidden(Denial::MayNotAdminister.to_string()))
            }
            _ => Ok(()),
        },
    }
}

/// Checks that a caller may read, as by a call of `/api/v2` within the same environment.
async fn check_read(call: &AdminCall<'_>, audited: &mut AuditedCall<'_>) -> Result<(), AdminError> {
    let AdminPermission::Call(_, path) = call.operation.permission else { return Ok(()) };
    let named = Some(call.path_parameter("environment")).filter(|id| !id.is_empty());
    let environment = named.filter(|_| names_environment(path));
    let inner =
        InnerCall { environment, ..AdminCall::inner(Method::GET, path.to_owned(), Value::Null) };
    inner.authorize(&call.context, call.session, audited).await?;
    Ok(())
}

/// Whether a call of `/api/v2` has an environment in a header.
fn names_environment(path: &str) -> bool {
    matches!(find_endpoint("GET", path), PathMatch::Endpoint(one, _) if one.environment.is_some())
}

async fn execute(call: AdminCall<'_>, audited: &mut AuditedCall<'_>) -> Answer {
    match call.operation.action {
        AdminAction::OpenApi => Ok(openapi::respond()),
        AdminAction::Docs => Ok(docs::respond()),
        AdminAction::GetOverview => overview::get(&call),
        AdminAction::ListRefusedRequests => refused_requests::list(&call),
        AdminAction::ListIssuers => issuers::list(&call),
        AdminAction::GetIssuer => issuers::get(&call),
        AdminAction::RefreshIssuer => issuers::refresh(&call, audited).await,
        AdminAction::RefreshIssuers => issuers::refresh_all(&call, audited).await,
        AdminAction::ListEnvironments => environments::list(&call).await,
        AdminAction::ListTokens => tokens::list(&call).await,
        AdminAction::CreateToken => tokens::create(&call, audited).await,
        AdminAction::GetToken => tokens::get(&call).await,
        AdminAction::RevokeToken => tokens::revoke(&call, audited).await,
        AdminAction::InspectToken => inspection::inspect(&call),
        AdminAction::ListRevocations => revocations::list(&call).await,
        AdminAction::AddRevocation => revocations::add(call, audited).await,
        AdminAction::ListUsers => users::list(&call).await,
        AdminAction::AddUser => users::add(&call, audited).await,
        AdminAction::GetUser => users::get(&call).await,
        AdminAction::SetAdmin => users::set_admin(&call, audited).await,
        AdminAction::SetPassword => users::set_password(&call, audited).await,
        AdminAction::DeleteUser => users::delete(&call, audited).await,
        AdminAction::ListRoles => roles::list(&call).await,
        AdminAction::AddRole => roles::add(&call, audited).await,
        AdminAction::GetRole => roles::get(&call).await,
        AdminAction::DeleteRole => roles::delete(&call, audited).await,
        AdminAction::ListAssignments => roles::list_assignments(&call).await,
        AdminAction::AssignRole => roles::assign(&call, audited).await,
        AdminAction::UnassignRole => roles::unassign(&call, audited).await,
        AdminAction::ListIdentities => identities::list(&call).await,
        AdminAction::GetIdentity => identities::get(&call).await,
        AdminAction::CreateIdentity
        | AdminAction::ChangeIdentity
        | AdminAction::DeleteIdentity
        | AdminAction::AttachMethod
        | AdminAction::ChangeTlsMethod
        | AdminAction::DetachTlsMethod => Box::pin(change_identity(&call, audited)).await,
        AdminAction::GetTlsMethod => identities::get_tls_method(&call).await,
        AdminAction::ListMethods => identities::list_methods(&call).await,
        AdminAction::ListApiKeys => api_keys::list(&call),
        AdminAction::ListTenants => tenants::list(&call),
        AdminAction::GetAuthorization => access_rules::get(&call),
        AdminAction::ListEndpoints => access_rules::list_endpoints(&call),
        AdminAction::TestRequest => Box::pin(tested_request::test(&call)).await,
        AdminAction::ListAuditEvents => audit_events::list(&call).await,
        AdminAction::ListConfiguration => configuration::list(&call),
        AdminAction::ListServers => servers::list(&call).await,
    }
}

/// Makes a change of a machine identity. Apart from [`execute`], so that the memory of its work is
/// not counted for every other call.
async fn change_identity(call: &AdminCall<'_>, audited: &mut AuditedCall<'_>) -> Answer {
    match call.operation.action {
        AdminAction::CreateIdentity => identity_changes::create(call, audited).await,
        AdminAction::DeleteIdentity => identity_changes::delete(call, audited).await,
        AdminAction::AttachMethod => identity_changes::attach(call, audited).await,
        AdminAction::ChangeTlsMethod => identity_changes::change_method(call, audited).await,
        AdminAction::DetachTlsMethod => identity_changes::detach(call, audited).await,
        _ => identity_changes::change(call, audited).await,
    }
}

/// Returns a segment of a path, percent-encoded.
fn segment(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// Returns a time in UTC; null for one that the format cannot express.
fn time(at: UnixTime) -> Value {
    clock::rfc3339(at).map_or(Value::Null, Value::String)
}

/// Returns a time in UTC, or null.
fn optional_time(at: Option<UnixTime>) -> Value {
    at.map_or(Value::Null, time)
}

/// Returns 204.
fn no_content() -> Response<Body> {
    empty(StatusCode::NO_CONTENT)
}

/// Adds the address of a resource that was created.
fn with_location(mut response: Response<Body>, location: &str) -> Response<Body> {
    if let Ok(location) = HeaderValue::from_str(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

fn method_not_allowed(methods: &[&'static str]) -> Response<Body> {
    let allowed = methods.join(", ");
    let detail = format!("this path answers {allowed}");
    let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &detail);
    if let Ok(value) = HeaderValue::try_from(allowed) {
        response.headers_mut().insert(header::ALLOW, value);
    }
    response
}
