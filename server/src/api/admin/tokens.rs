//! Tokens of an environment.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    AdminCall, Answer, entity_tag::TaggedResource, error::AdminError, no_content, optional_time,
    page::ListPage, segment, time, with_location,
};
use crate::{
    api::{audited::AuditedCall, inmanta::InnerCall},
    base::reply,
    store::tokens::IssuedToken,
};

/// Path of the calls that do the same.
const PATH: &str = "/api/v2/environment_auth";

/// Returns a [`ListPage`] of the tokens of an environment.
pub(super) async fn list(call: &AdminCall<'_>) -> Answer {
    let page = ListPage::of(call)?;
    let tokens = call.users.store.tokens_of(call.path_parameter("environment")).await?;
    let mut items: Vec<_> = tokens.iter().map(|token| (key(token), token_json(token))).collect();
    items.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(page.of_all(call, items))
}

/// Returns the key of a token in the list: the later its issue, the smaller.
fn key(token: &IssuedToken) -> String {
    format!("{:020}{}", u64::MAX - token.issued_at.0, token.jti)
}

/// Returns a token.
pub(super) async fn get(call: &AdminCall<'_>) -> Answer {
    Ok(call.representation(StatusCode::OK, &current(call).await?))
}

/// Creates a token.
pub(super) async fn create(call: &AdminCall<'_>, audited: &mut AuditedCall<'_>) -> Answer {
    let body = json!({
        "client_types": call.body.get("client_types"),
        "idempotent": call.body.flag("idempotent"),
        "expire": call.body.get("expire"),
    });
    let environment = call.path_parameter("environment");
    let inner = InnerCall {
        environment: Some(environment),
        ..AdminCall::inner(Method::POST, PATH.into(), body)
    };
    let authorized = inner.authorize(&call.context, call.session, audited).await?;
    let executed = authorized.execute(&call.context, call.caller, call.session, audited).await?;
    let id = audited.issued.get().cloned().unwrap_or_default();
    let location = format!("/v1/admin/environments/{environment}/tokens/{id}");
    let created = json!({ "jti": id, "token": executed.data });
    Ok(with_location(reply::json(StatusCode::CREATED, &created), &location))
}

/// Revokes a token.
pub(super) async fn revoke(call: &AdminCall<'_>, audited: &mut AuditedCall<'_>) -> Answer {
    let target = format!("{PATH}/{}", segment(call.path_parameter("jti")));
    let inner = InnerCall {
        environment: Some(call.path_parameter("environment")),
        ..AdminCall::inner(Method::DELETE, target, Value::Null)
    };
    call.change(inner, current(call), audited).await?;
    Ok(no_content())
}

async fn current(call: &AdminCall<'_>) -> Result<TaggedResource, AdminError> {
    let (environment, jti) = (call.path_parameter("environment"), call.path_parameter("jti"));
    let token = call.users.store.token(jti).await?;
    let token = token.filter(|token| token.environment.as_deref() == Some(environment));
    let missing = || AdminError::not_found("the environment has no token of this id");
    token.as_ref().map(|token| token_json(token).into()).ok_or_else(missing)
}

fn token_json(token: &IssuedToken) -> Value {
    json!({
        "jti": token.jti,
        "environment": token.environment,
        "client_types": token.client_types,
        "created_by": token.created_by,
        "issued_at": time(token.issued_at),
        "expires_at": optional_time(token.expires_at),
        "revoked_at": optional_time(token.revoked_at),
        "last_used": optional_time(token.last_used),
    })
}
