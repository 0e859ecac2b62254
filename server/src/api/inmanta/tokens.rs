//! Token endpoints: issue tokens for programs, list and revoke them.

use countersign_engine::UnixTime;
use http::{Response, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    CallContext, data,
    error::{ApiError, unknown_environment},
    ok_empty,
    request::{TokenApiRequest, TokenOptions},
};
use crate::{
    accounts::{
        session::Session,
        signing::{self, Lifetime, SigningError, TokenRequest},
    },
    base::{
        claims::{CREATED_BY_CLAIM, ClientType},
        clock,
        reply::{Body, json},
    },
    keys::IssuerSection,
    revocation::{RevocationEntry, record::RevocationRecord},
    store::{StoreError, tokens::IssuedToken},
};

pub(super) async fn respond(
    context: &CallContext<'_>,
    request: TokenApiRequest,
) -> Result<Response<Body>, ApiError> {
    match request {
        TokenApiRequest::Create { environment, wanted, is_v1 } => {
            let token = create(context, environment, &wanted).await?;
            Ok(if is_v1 {
                json(StatusCode::OK, &json!({ "token": token }))
            } else {
                data(&Value::String(token))
            })
        }
        TokenApiRequest::List { environment } => {
            let tokens = context.users.store.tokens_of(&environment).await?;
            Ok(data(&tokens.iter().map(token_json).collect()))
        }
        TokenApiRequest::Revoke { environment, jti } => revoke(context, &environment, &jti).await,
    }
}

/// Issues a token. It is registered before it is returned.
async fn create(
    context: &CallContext<'_>,
    environment: String,
    wanted: &TokenOptions,
) -> Result<String, ApiError> {
    if !context.api.settings.requires_token {
        let text = "Authentication is disabled, generating a token is not allowed";
        return Err(ApiError::request(text));
    }
    let section = context.signer()?;
    let now = clock::now();
    let lifetime = permitted_lifetime(context.session, wanted, section, now)?;
    let created_by = context.session.and_then(creator).map(str::to_owned);
    let claim = |name: &String| (CREATED_BY_CLAIM.to_owned(), Value::String(name.clone()));
    let mut request = TokenRequest {
        client_types: wanted.client_types.clone(),
        environment: Some(environment.clone()),
        custom_claims: created_by.iter().map(claim).collect(),
        lifetime,
    };
    let mut issued = IssuedToken {
        jti: random_uuid()?.to_string(),
        issuer: section.issuer.name.to_string(),
        created_by,
        client_types: wanted.client_types.iter().map(ClientType::to_string).collect(),
        environment: Some(environment),
        issued_at: now,
        expires_at: lifetime.seconds(section).map(|seconds| now.plus(seconds)),
        revoked_at: None,
        last_used: None,
        signing_input_sha256: None,
    };
    if wanted.is_idempotent {
        let token = sign(section, &request, now)?;
        let digest = signing::token_digest(token.as_bytes());
        issued.jti = signing::id_of_digest(&digest).to_string();
        issued.signing_input_sha256 = Some(digest);
        let _first = context.issued.set(issued.jti.clone());
        return register_idempotent(context, issued).await.map(|()| token);
    }
    request.custom_claims.push(("jti".into(), Value::String(issued.jti.clone())));
    let _first = context.issued.set(issued.jti.clone());
    // Signed before the registration, so that a signing error leaves no entry.
    let token = sign(section, &request, now)?;
    register(context, issued).await?;
    Ok(token)
}

/// Signs a token.
///
/// # Errors
/// The section does not allow it. The client type that it does not allow is located.
fn sign(
    section: &IssuerSection,
    request: &TokenRequest,
    now: UnixTime,
) -> Result<String, ApiError> {
    signing::sign(section, request, now).map_err(|error| match &error {
        SigningError::ClientType(refused, _) => {
            let index = request.client_types.iter().position(|one| one == refused);
            let name =
                index.map_or_else(|| "client_types".into(), |at| format!("client_types/{at}"));
            ApiError::argument(&name, error.to_string())
        }
        _ => error.into(),
    })
}

/// Registers a token, unless its environment was deleted meanwhile.
async fn register(context: &CallContext<'_>, issued: IssuedToken) -> Result<(), ApiError> {
    context.users.store.register_token(issued).await.map_err(|error| match error {
        StoreError::ForeignKeyViolation => unknown_environment(),
        error => error.into(),
    })
}

/// Returns the user on whose behalf a caller creates tokens: the user of the session, or the
/// creator of the caller's own token.
fn creator(session: &Session) -> Option<&str> {
    session.username().or_else(|| session.claim(CREATED_BY_CLAIM)?.as_str())
}

/// Registers an idempotent token. The same request gives the same token, so it may be registered
/// already, and may have been revoked.
async fn register_idempotent(
    context: &CallContext<'_>,
    issued: IssuedToken,
) -> Result<(), ApiError> {
    let store = &context.users.store;
    let jti = issued.jti.clone();
    register(context, issued).await?;
    match store.token(&jti).await? {
        Some(token) if token.revoked_at.is_some() => Err(ApiError::Conflict(format!(
            "The idempotent token {jti} was revoked, and the same request always gives the same \
             token: ask for one that is not idempotent."
        ))),
        _ => Ok(()),
    }
}

/// Returns the lifetime of a new token. A caller without the client type `api` issues tokens for
/// agents and compilers only, and none that outlives its own: otherwise the token of one compile
/// job would be worth an administrator's.
fn permitted_lifetime(
    caller: Option<&Session>,
    wanted: &TokenOptions,
    section: &IssuerSection,
    now: UnixTime,
) -> Result<Lifetime, ApiError> {
    let lifetime = wanted_lifetime(wanted)?;
    let Some(caller) = caller.filter(|caller| !caller.has_client_type(ClientType::Api)) else {
        return Ok(lifetime);
    };
    if wanted.client_types.contains(&ClientType::Api) {
        return Err(ApiError::Forbidden(
            "A token without the client type api cannot issue one with it.".into(),
        ));
    }
    let Some(end) = caller.expires_at() else { return Ok(lifetime) };
    if wanted.is_idempotent {
        return Err(ApiError::Forbidden(
            "An idempotent token never expires, but the authorization token does.".into(),
        ));
    }
    let left = end.0.saturating_sub(now.0).max(1);
    let seconds = lifetime.seconds(section).map_or(left, |seconds| seconds.min(left));
    Ok(Lifetime::Seconds(seconds))
}

fn wanted_lifetime(wanted: &TokenOptions) -> Result<Lifetime, ApiError> {
    let Some(seconds) = wanted.expire else {
        return Ok(if wanted.is_idempotent { Lifetime::Idempotent } else { Lifetime::Default });
    };
    let Ok(seconds @ 1..) = u64::try_from(seconds) else {
        let text = "expire must be a positive number of seconds";
        return Err(ApiError::argument("expire", text));
    };
    if wanted.is_idempotent {
        let text =
            "An idempotent token cannot have an expiry: such tokens carry no time-based claims";
        return Err(ApiError::argument("expire", text));
    }
    Ok(Lifetime::Seconds(seconds))
}

async fn revoke(
    context: &CallContext<'_>,
    environment: &str,
    jti: &str,
) -> Result<Response<Body>, ApiError> {
    let known = context.users.store.token(jti).await?;
    let token = known.filter(|token| token.environment.as_deref() == Some(environment));
    let token = token.ok_or_else(|| {
        let text = format!("No token with jti {jti} exists in environment {environment}.");
        ApiError::not_found(text)
    })?;
    revoke_registered(context, &token).await?;
    Ok(ok_empty())
}

/// Revokes a registered token: first for verification, then in the registry.
async fn revoke_registered(context: &CallContext<'_>, token: &IssuedToken) -> Result<(), ApiError> {
    /// More than the largest leeway that a section allows.
    const LEEWAY: u64 = 86_400;
    let now = clock::now();
    if token.expires_at.is_none_or(|end| end > now) {
        let until = token.expires_at.map(|end| end.plus(LEEWAY).0);
        let record = match &token.signing_input_sha256 {
            Some(digest) => RevocationRecord {
                signing_input_sha256: Some(digest.clone()),
                until,
                ..RevocationRecord::default()
            },
            None => RevocationRecord {
                issuer: Some(token.issuer.clone()),
                jti: Some(token.jti.clone()),
                until,
                ..RevocationRecord::default()
            },
        };
        let revocation = record.into_revocation().map_err(ApiError::Unavailable)?;
        context.api.revocations.revoke(RevocationEntry::Proven(revocation)).await?;
    }
    context.users.forget_token(&token.jti);
    Ok(context.users.store.mark_revoked(&token.jti, now).await?)
}

fn token_json(token: &IssuedToken) -> Value {
    let time = |at: UnixTime| clock::python_time(at).map_or(Value::Null, Value::String);
    let moment = |at: Option<UnixTime>| at.map_or(Value::Null, time);
    json!({
        "jti": token.jti,
        "created_by": token.created_by,
        "client_types": token.client_types,
        "environment": token.environment,
        "issued_at": time(token.issued_at),
        "expires_at": moment(token.expires_at),
        "revoked_at": moment(token.revoked_at),
        "last_used": moment(token.last_used),
    })
}

pub(super) fn random_uuid() -> Result<Uuid, ApiError> {
    signing::random_uuid()
        .map_err(|_| ApiError::Unavailable("the operating system gives no randomness".into()))
}
