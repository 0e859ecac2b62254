//! Sessions of users.

use std::time::Duration;

use countersign_engine::Reject;
use http::Response;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{Context, data, fault::Fault, users::shown_user, with_token};
use crate::{
    authorization::{IS_ADMIN_CLAIM, ROLES_CLAIM},
    clock,
    config::{ClientType, IssuerSection},
    http::Body,
    issue::{self, Lifetime, TokenRequest},
    metrics::Event,
    store::users::{Roles, User},
    users::LoginOutcome,
};

/// `POST /login`.
pub(super) async fn login(context: &Context<'_>, username: &str, password: &str) -> Result<Response<Body>, Fault> {
    let section = context.signer()?;
    let authenticated = context.users.authenticate(username, password, context.source).await;
    context.app.metrics.note(Event::Login(LoginOutcome::of(&authenticated)));
    let user = match authenticated {
        Ok(user) => user,
        Err(fault) => {
            tracing::warn!(user = username, client = %context.source, "login refused: {fault}");
            return Err(fault.into());
        }
    };
    tracing::info!(user = username, client = %context.source, "login");
    begin_session(context, section, &user).await
}

/// `POST /login/renew`.
pub(super) async fn renew(context: &Context<'_>) -> Result<Response<Body>, Fault> {
    let section = context.signer()?;
    let login = context.session.filter(|session| session.is_login());
    let Some(username) = login.and_then(|session| session.subject()) else {
        return Err(Fault::request("Only login sessions issued by this server can be renewed."));
    };
    let user = context.users.store.user(username).await?;
    let user = user.ok_or_else(|| Fault::Unauthorized("User account no longer exists.".into()))?;
    begin_session(context, section, &user).await
}

async fn begin_session(context: &Context<'_>, section: &IssuerSection, user: &User) -> Result<Response<Body>, Fault> {
    let roles = context.users.store.roles_of(&user.username).await?;
    let lifetime = lifetime(section, context.server.login.session);
    let token = sign(context, section, &request(user, &roles, lifetime)).await?;
    let mut answer = json!({ "token": token, "user": shown_user(user, None) });
    if let Some(seconds) = lifetime.seconds(section) {
        answer["expires_in"] = seconds.into();
    }
    Ok(with_token(data(&answer), &token))
}

/// As long as sessions last, and no longer than tokens of the section may.
fn lifetime(section: &IssuerSection, session: u32) -> Lifetime {
    let most = section.issuer.rules.max_lifetime;
    match (session, most) {
        (0, _) => Lifetime::OfSection,
        (session, most) => Lifetime::Seconds(most.map_or(session, |most| session.min(most)).into()),
    }
}

fn request(user: &User, roles: &Roles, lifetime: Lifetime) -> TokenRequest {
    let claims = [
        ("sub", Value::String(user.username.clone())),
        (ROLES_CLAIM, json!(roles)),
        (IS_ADMIN_CLAIM, Value::Bool(user.is_admin)),
    ];
    TokenRequest {
        client_types: vec![ClientType::Api],
        environment: None,
        custom_claims: claims.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        lifetime,
    }
}

/// Signs a session. Those of before may have been revoked in this very second: then it
/// is over first.
async fn sign(context: &Context<'_>, section: &IssuerSection, request: &TokenRequest) -> Result<String, Fault> {
    const PAUSE: Duration = Duration::from_millis(100);
    const PAUSES: usize = 30;
    for _ in 0..PAUSES {
        let now = clock::now();
        let token = issue::sign(section, request, now)?;
        match context.app.verifier.verify(token.as_bytes(), now) {
            Err(Reject::Revoked) => sleep(PAUSE).await,
            _ => return Ok(token),
        }
    }
    Err(Fault::Unavailable("the sessions of this user are revoked".into()))
}
