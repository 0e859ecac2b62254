//! The part of Infisical's API about machine identities: identities, their login methods and access
//! tokens, and their roles.
//!
//! The order of the checks:
//! 1. The token of the request is verified, and used from a trusted address; not at a login, a
//!    renewal and a revocation, which authenticate by their body.
//! 2. The caller must be an administrator, unless it asks about itself.
//! 3. The body is read, the change recorded as begun, the use of the token counted, and the call
//!    executed.

mod body;
mod caller;
mod client_secrets;
mod error;
mod identities;
mod inner_call;
mod logins;
mod methods;
mod organizations;
mod projects;
mod role_changes;
mod route;
mod tls_cert_auth;
mod tls_login;
mod tokens;
mod universal_auth;

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use countersign_engine::UnixTime;
use countersign_front::BadRequest;
use http::{HeaderMap, Request, Response, StatusCode};
use serde_json::Value;

use self::{
    caller::InfisicalCaller,
    route::{InfisicalMatch, InfisicalOperation as Operation},
};
pub(super) use self::{
    error::InfisicalError,
    inner_call::IdentityCall,
    methods::{MAX_TTL, MAX_USES},
    route::required_right,
    tls_cert_auth::MAX_CA,
};
use crate::{
    accounts::{Users, signing::random_uuid},
    api::{ApiContext, audited::AuditedCall},
    audit::AuditTarget,
    auth::Caller,
    base::{
        clock,
        reply::{Body, Reply, json, no_store},
    },
    identities::{
        certificate::CertificateSource, checks::IdentityChecks, settings::IdentitySettings,
    },
    observe::metrics::{LoginOutcome, MetricEvent},
    store::{
        identity_methods::MethodKind,
        machine_identities::{IdentityChanges, IdentityFilter},
        organizations::{DEFAULT_ORGANIZATION, Organization},
    },
};

/// Context of a call.
struct InfisicalContext<'c> {
    api: ApiContext<'c>,
    settings: &'c IdentitySettings,
    users: &'c Users,
    checks: &'c Arc<IdentityChecks>,
    caller: &'c Caller<'c, 'c>,
    organization: &'c Organization,
    /// Set to the id of an issued token, for the audit log.
    issued: &'c OnceLock<String>,
}

impl<'c> InfisicalContext<'c> {
    fn new(
        api: &ApiContext<'c>,
        settings: &'c IdentitySettings,
        caller: &'c Caller<'c, 'c>,
        organization: &'c Organization,
        issued: &'c OnceLock<String>,
    ) -> Result<Self, InfisicalError> {
        let (users, checks) = database(api)?;
        Ok(Self { api: *api, settings, users, checks, caller, organization, issued })
    }
}

/// Returns what the calls need of the database.
fn database<'c>(
    api: &ApiContext<'c>,
) -> Result<(&'c Users, &'c Arc<IdentityChecks>), InfisicalError> {
    let database = api.users.zip(api.identities);
    database.ok_or_else(|| InfisicalError::unavailable("This server has no database"))
}

/// Answers a call of a server with machine identities.
pub async fn respond(
    context: &ApiContext<'_>,
    settings: &IdentitySettings,
    caller: (&Caller<'_, '_>, CertificateSource<'_>),
    request: &Request<Bytes>,
) -> Reply {
    let response = match answer(context, settings, caller, request).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    };
    no_store(response).into()
}

/// Answers a call whose body is not accepted.
pub fn refuse(reason: &BadRequest) -> Reply {
    no_store(InfisicalError::of_body(reason).into_response()).into()
}

async fn answer(
    api: &ApiContext<'_>,
    settings: &IdentitySettings,
    (caller, certificate): (&Caller<'_, '_>, CertificateSource<'_>),
    request: &Request<Bytes>,
) -> Result<Response<Body>, InfisicalError> {
    let path = request.uri().path();
    let (operation, ids) = match route::find(request.method().as_str(), path) {
        InfisicalMatch::Call(operation, ids) => (operation, ids),
        InfisicalMatch::OtherMethods(methods) => {
            return Err(InfisicalError::method_not_allowed(&methods));
        }
        InfisicalMatch::NotFound => return Err(InfisicalError::unknown_route()),
    };
    let mut audited = AuditedCall::new(api.audit, operation.audited(), caller);
    let (organization, issued) = (organization(api).await?, OnceLock::new());
    let context = InfisicalContext::new(api, settings, caller, &organization, &issued)?;
    let called = (operation, &*ids, request);
    let done = execute(&context, called, certificate, &mut audited).await;
    if let Some(id) = issued.into_inner() {
        let _first = audited.issued.set(id);
    }
    if matches!(operation, Operation::TlsLogin | Operation::UniversalLogin) {
        let outcome =
            done.as_ref().map_or_else(InfisicalError::login_outcome, |_| LoginOutcome::Done);
        api.authenticator.metrics.count_event(MetricEvent::IdentityLogin(outcome));
    }
    let reason = done.as_ref().err().and_then(InfisicalError::reason);
    let response = done.unwrap_or_else(InfisicalError::into_response);
    Ok(audited.finish(response, reason).await)
}

/// Returns the organization of this server, which is made when it is needed first.
async fn organization(api: &ApiContext<'_>) -> Result<Arc<Organization>, InfisicalError> {
    let (users, checks) = database(api)?;
    if let Some(known) = checks.organization() {
        return Ok(known);
    }
    let new = Organization {
        id: new_id()?,
        slug: DEFAULT_ORGANIZATION.into(),
        name: "Organization".into(),
        created_at: clock::now(),
    };
    Ok(checks.keep_organization(users.store.ensure_organization(new).await?))
}

/// Authenticates and authorizes a call, and executes it. `certificate` is where that of the client
/// is found.
async fn execute(
    context: &InfisicalContext<'_>,
    (operation, ids, request): (Operation, &[&str], &Request<Bytes>),
    certificate: CertificateSource<'_>,
    audited: &mut AuditedCall<'_>,
) -> Result<Response<Body>, InfisicalError> {
    if operation.is_open() {
        return execute_open(context, (operation, request), certificate, audited).await;
    }
    let caller = InfisicalCaller::authenticate(context, request.headers(), audited).await?;
    audited.set_audited_caller(caller.audited(&context.settings.issuer));
    check_selected_organization(context, request.headers())?;
    if operation != Operation::OwnDetails
        && let Err(refusal) = caller.check_administrator(context)
    {
        audited.set_target((operation.target_in_path(ids), None));
        return Err(refusal);
    }
    let call = InfisicalCall::read(context, operation, ids, request)?;
    audited.set_target(call.audit_target());
    audited.begin().await?;
    caller.count_use(context).await?;
    call.execute(context, Some(&caller)).await
}

async fn execute_open(
    context: &InfisicalContext<'_>,
    (operation, request): (Operation, &Request<Bytes>),
    certificate: CertificateSource<'_>,
    audited: &mut AuditedCall<'_>,
) -> Result<Response<Body>, InfisicalError> {
    let body = request.body();
    match operation {
        Operation::TlsLogin => {
            let login = tls_login::CertificateLogin::read(body)?;
            let kind = MethodKind::TlsCertificate.name().to_owned();
            audited.set_target((login.audit_target(), Some(kind)));
            login.log_in(context, (certificate, request.headers())).await
        }
        Operation::RenewToken => {
            let facts = tokens::verify_to_renew(context, &tokens::read(body)?, audited).await?;
            audited.set_target((tokens::audit_target(&facts), Some(facts.method_kind.clone())));
            tokens::renew(context, facts).await
        }
        Operation::RevokeToken => {
            match tokens::verify_to_revoke(context, &tokens::read(body)?).await? {
                Some(facts) => {
                    audited.set_target((tokens::audit_target(&facts), None));
                    tokens::revoke(context, &facts).await?;
                }
                // It was revoked before, and nothing changes.
                None => audited.discard(),
            }
            Ok(tokens::revoked())
        }
        Operation::UniversalLogin => {
            let login = client_secrets::ClientLogin::read(body)?;
            audited.set_target(login.audit_target());
            let client = login.find_client(context).await?;
            audited.set_target(login.audit_target_of(&client));
            login.log_in(context, client).await
        }
        _ => Err(InfisicalError::unknown_route()),
    }
}

/// A call that needs a token, with its arguments.
enum InfisicalCall<'r> {
    CreateIdentity(identities::NewIdentity),
    ListIdentities { organization: String },
    SearchIdentities(IdentityFilter),
    OwnDetails,
    GetIdentity(&'r str),
    ModifyIdentity(&'r str, IdentityChanges),
    DeleteIdentity(&'r str),
    ListProjectsOfIdentity(&'r str),
    AttachTls(&'r str, tls_cert_auth::TlsMembers),
    ModifyTls(&'r str, tls_cert_auth::TlsMembers),
    GetTls(&'r str),
    DeleteTls(&'r str),
    Universal(&'r str, UniversalCall<'r>),
    Organizations(organizations::OrganizationCall<'r>),
    Projects(projects::ProjectCall<'r>),
}

/// A call about the login method of an identity by a client id.
enum UniversalCall<'r> {
    Attach(universal_auth::UniversalMembers),
    Modify(universal_auth::UniversalMembers),
    Get,
    Delete,
    ClearLockouts,
    CreateSecret(client_secrets::NewSecret),
    ListSecrets,
    GetSecret(&'r str),
    RevokeSecret(&'r str),
}

impl<'r> UniversalCall<'r> {
    fn read(operation: Operation, secret: &'r str, body: &Bytes) -> Result<Self, InfisicalError> {
        use universal_auth::UniversalMembers;
        Ok(match operation {
            Operation::AttachUniversal => Self::Attach(UniversalMembers::read(body, false)?),
            Operation::ModifyUniversal => Self::Modify(UniversalMembers::read(body, true)?),
            Operation::DeleteUniversal => Self::Delete,
            Operation::ClearLockouts => Self::ClearLockouts,
            Operation::CreateSecret => Self::CreateSecret(client_secrets::NewSecret::read(body)?),
            Operation::ListSecrets => Self::ListSecrets,
            Operation::GetSecret => Self::GetSecret(secret),
            Operation::RevokeSecret => Self::RevokeSecret(secret),
            _ => Self::Get,
        })
    }

    async fn execute(
        self,
        context: &InfisicalContext<'_>,
        identity: &str,
    ) -> Result<Response<Body>, InfisicalError> {
        match self {
            Self::Attach(members) => universal_auth::attach(context, identity, members).await,
            Self::Modify(members) => universal_auth::modify(context, identity, members).await,
            Self::Get => universal_auth::get(context, identity).await,
            Self::Delete => universal_auth::delete(context, identity).await,
            Self::ClearLockouts => universal_auth::clear_lockouts(context, identity).await,
            Self::CreateSecret(new) => client_secrets::create(context, identity, new).await,
            Self::ListSecrets => client_secrets::list(context, identity).await,
            Self::GetSecret(id) => client_secrets::get(context, identity, id).await,
            Self::RevokeSecret(id) => client_secrets::revoke(context, identity, id).await,
        }
    }
}

impl<'r> InfisicalCall<'r> {
    fn read(
        context: &InfisicalContext<'_>,
        operation: Operation,
        ids: &[&'r str],
        request: &Request<Bytes>,
    ) -> Result<Self, InfisicalError> {
        let body = request.body();
        let first = ids.first().copied().unwrap_or_default();
        Ok(match operation {
            Operation::CreateIdentity => Self::CreateIdentity(identities::NewIdentity::read(body)?),
            Operation::ListIdentities => {
                let organization = query_value(request, "orgId");
                let organization = organization.unwrap_or_else(|| context.organization.id.clone());
                Self::ListIdentities { organization }
            }
            Operation::SearchIdentities => {
                Self::SearchIdentities(identities::read_search(context, body)?)
            }
            Operation::OwnDetails => Self::OwnDetails,
            Operation::GetIdentity => Self::GetIdentity(first),
            Operation::ModifyIdentity => {
                Self::ModifyIdentity(first, identities::read_changes(body)?)
            }
            Operation::DeleteIdentity => Self::DeleteIdentity(first),
            Operation::ListProjectsOfIdentity => Self::ListProjectsOfIdentity(first),
            Operation::AttachTls => {
                Self::AttachTls(first, tls_cert_auth::TlsMembers::read(body, false)?)
            }
            Operation::ModifyTls => {
                Self::ModifyTls(first, tls_cert_auth::TlsMembers::read(body, true)?)
            }
            Operation::GetTls => Self::GetTls(first),
            Operation::DeleteTls => Self::DeleteTls(first),
            Operation::ListOrganizations
            | Operation::ListOrganizationRoles
            | Operation::CreateOrganizationRole => {
                Self::Organizations(organizations::OrganizationCall::read(operation, first, body)?)
            }
            Operation::ListProjectRoles
            | Operation::CreateProjectRole
            | Operation::ListMembers
            | Operation::AddMember
            | Operation::ModifyMember
            | Operation::GetMember
            | Operation::RemoveMember => {
                Self::Projects(projects::ProjectCall::read(operation, ids, body)?)
            }
            Operation::AttachUniversal
            | Operation::ModifyUniversal
            | Operation::GetUniversal
            | Operation::DeleteUniversal
            | Operation::ClearLockouts
            | Operation::CreateSecret
            | Operation::ListSecrets
            | Operation::GetSecret
            | Operation::RevokeSecret => {
                let secret = ids.get(1).copied().unwrap_or_default();
                Self::Universal(first, UniversalCall::read(operation, secret, body)?)
            }
            Operation::TlsLogin
            | Operation::UniversalLogin
            | Operation::RenewToken
            | Operation::RevokeToken => return Err(InfisicalError::unknown_route()),
        })
    }

    /// Returns what the call is applied to, and further facts. Neither has a secret.
    fn audit_target(&self) -> (AuditTarget, Option<String>) {
        let of = |identity: &str| AuditTarget {
            user: Some(identity.to_owned()),
            ..AuditTarget::default()
        };
        match self {
            Self::CreateIdentity(new) => (of(&new.id), Some(new.name.clone())),
            Self::ModifyIdentity(id, changes) => (of(id), changes.role.clone()),
            Self::DeleteIdentity(id) => (of(id), None),
            Self::AttachTls(id, _) | Self::ModifyTls(id, _) | Self::DeleteTls(id) => {
                (of(id), Some(MethodKind::TlsCertificate.name().into()))
            }
            Self::Universal(id, _) => (of(id), Some(MethodKind::UniversalAuth.name().into())),
            Self::Organizations(call) => call.audit_target(),
            Self::Projects(call) => call.audit_target(),
            Self::ListIdentities { .. }
            | Self::SearchIdentities(_)
            | Self::OwnDetails
            | Self::GetIdentity(_)
            | Self::ListProjectsOfIdentity(_)
            | Self::GetTls(_) => (AuditTarget::default(), None),
        }
    }

    async fn execute(
        self,
        context: &InfisicalContext<'_>,
        caller: Option<&InfisicalCaller>,
    ) -> Result<Response<Body>, InfisicalError> {
        match self {
            Self::CreateIdentity(new) => identities::create(context, new).await,
            Self::ListIdentities { organization } => identities::list(context, &organization).await,
            Self::SearchIdentities(filter) => identities::list_filtered(context, filter).await,
            Self::OwnDetails => identities::own_details(context, caller),
            Self::GetIdentity(id) => identities::get(context, id).await,
            Self::ModifyIdentity(id, changes) => identities::modify(context, id, changes).await,
            Self::DeleteIdentity(id) => identities::delete(context, id).await,
            Self::ListProjectsOfIdentity(id) => identities::list_projects(context, id).await,
            Self::AttachTls(id, members) => tls_cert_auth::attach(context, id, members).await,
            Self::ModifyTls(id, members) => tls_cert_auth::modify(context, id, members).await,
            Self::GetTls(id) => tls_cert_auth::get(context, id).await,
            Self::DeleteTls(id) => tls_cert_auth::delete(context, id).await,
            Self::Universal(id, call) => call.execute(context, id).await,
            Self::Organizations(call) => call.execute(context).await,
            Self::Projects(call) => call.execute(context).await,
        }
    }
}

/// Checks that a call concerns the organization of this server.
fn check_organization(context: &InfisicalContext<'_>, id: &str) -> Result<(), InfisicalError> {
    if id == context.organization.id {
        return Ok(());
    }
    Err(InfisicalError::forbidden("You are not a member of this organization"))
}

/// Checks the header that selects an organization by its slug. There is only one.
fn check_selected_organization(
    context: &InfisicalContext<'_>,
    headers: &HeaderMap,
) -> Result<(), InfisicalError> {
    let selected = headers.get("x-infisical-org").map(|value| value.as_bytes());
    match selected {
        Some(slug) if slug != context.organization.slug.as_bytes() => {
            let slug = String::from_utf8_lossy(slug);
            let message = format!("Sub organization with slug {slug} not found");
            Err(InfisicalError::not_found(message))
        }
        _ => Ok(()),
    }
}

/// Returns a parameter of the query.
fn query_value(request: &Request<Bytes>, name: &str) -> Option<String> {
    let query = request.uri().query()?;
    let pairs: Vec<(String, String)> = serde_urlencoded::from_str(query).ok()?;
    pairs.into_iter().find_map(|(key, value)| (key == name).then_some(value))
}

/// Returns a new id, a UUID.
fn new_id() -> Result<String, InfisicalError> {
    Ok(random_uuid().map_err(|_| no_randomness())?.to_string())
}

fn no_randomness() -> InfisicalError {
    InfisicalError::unavailable("The operating system gives no randomness")
}

fn ok(value: &Value) -> Response<Body> {
    json(StatusCode::OK, value)
}

/// Returns a time in UTC with milliseconds, as Infisical shows it.
fn shown_time(at: UnixTime) -> Value {
    clock::rfc3339(at).map_or(Value::Null, |text| text.replace('Z', ".000Z").into())
}
