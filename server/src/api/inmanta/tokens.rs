//! Token endpoints: issue tokens for programs, list and revoke them.

use countersign_engine::UnixTime;
use http::{Response, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    CallContext, data,
    error::ApiError,
    request::{TokenApiRequest, TokenOptions},
    rfc3339,
};
use crate::{
    accounts::signing::{self, Lifetime, TokenRequest},
    base::{
        claims::ClientType,
        clock,
        reply::{Body, json},
    },
    revocation::{RevocationEntry, record::RevocationRecord},
    store::tokens::IssuedToken,
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

/// Issues a token. It is registered before it is returned, unless it is idempotent.
async fn create(
    context: &CallContext<'_>,
    environment: String,
    wanted: &TokenOptions,
) -> Result<String, ApiError> {
    let section = context.signer()?;
    let now = clock::now();
    let lifetime = match (wanted.is_idempotent, wanted.expire) {
        (true, _) => Lifetime::Idempotent,
        (false, Some(seconds)) => Lifetime::Seconds(seconds),
        (false, None) => Lifetime::Default,
    };
    let client_types = wanted.client_types.clone();
    let mut request = TokenRequest {
        client_types,
        environment: Some(environment.clone()),
        custom_claims: Vec::new(),
        lifetime,
    };
    if wanted.is_idempotent {
        return Ok(signing::sign(section, &request, now)?);
    }
    let jti = random_uuid()?.to_string();
    let created_by = context.session.and_then(|session| session.username()).map(str::to_owned);
    request.custom_claims.push(("jti".into(), Value::String(jti.clone())));
    request
        .custom_claims
        .extend(created_by.iter().map(|name| ("created_by".into(), Value::String(name.clone()))));
    // Signed before the registration, so that a signing error leaves no entry.
    let token = signing::sign(section, &request, now)?;
    let issued = IssuedToken {
        jti,
        issuer: section.issuer.name.to_string(),
        created_by,
        client_types: wanted.client_types.iter().map(ClientType::to_string).collect(),
        environment: Some(environment),
        issued_at: now,
        expires_at: lifetime.seconds(section).map(|seconds| now.plus(seconds)),
        revoked_at: None,
        last_used: None,
    };
    context.users.store.register_token(issued).await?;
    Ok(token)
}

async fn revoke(
    context: &CallContext<'_>,
    environment: &str,
    jti: &str,
) -> Result<Response<Body>, ApiError> {
    let unknown = || ApiError::not_found(format!("Token with id {jti} does not exist."));
    // In canonical form, as in the registry.
    let id = Uuid::parse_str(jti).map_err(|_| unknown())?.to_string();
    let known = context.users.store.token(&id).await?;
    let token = known
        .filter(|token| token.environment.as_deref() == Some(environment))
        .ok_or_else(unknown)?;
    revoke_registered(context, &token).await?;
    let token = context.users.store.token(&id).await?.ok_or_else(unknown)?;
    Ok(data(&token_json(&token)))
}

/// Revokes a registered token: first for verification, then in the registry.
pub(super) async fn revoke_registered(
    context: &CallContext<'_>,
    token: &IssuedToken,
) -> Result<(), ApiError> {
    /// More than the largest leeway that a section allows.
    const LEEWAY: u64 = 86_400;
    let now = clock::now();
    if token.expires_at.is_none_or(|end| end > now) {
        let record = RevocationRecord {
            issuer: Some(token.issuer.clone()),
            jti: Some(token.jti.clone()),
            until: token.expires_at.map(|end| end.plus(LEEWAY).0),
            ..RevocationRecord::default()
        };
        let revocation = record.into_revocation().map_err(ApiError::Unavailable)?;
        context.api.revocations.revoke(RevocationEntry::Proven(revocation)).await?;
    }
    context.users.forget_token(&token.jti);
    Ok(context.users.store.mark_revoked(&token.jti, now).await?)
}

fn token_json(token: &IssuedToken) -> Value {
    let moment = |at: Option<UnixTime>| at.map_or(Value::Null, rfc3339);
    json!({
        "jti": token.jti,
        "created_by": token.created_by,
        "client_types": token.client_types,
        "environment": token.environment,
        "issued_at": rfc3339(token.issued_at),
        "expires_at": moment(token.expires_at),
        "revoked_at": moment(token.revoked_at),
        "last_used": moment(token.last_used),
    })
}

pub(super) fn random_uuid() -> Result<Uuid, ApiError> {
    signing::random_uuid()
        .map_err(|_| ApiError::Unavailable("the operating system gives no randomness".into()))
}
