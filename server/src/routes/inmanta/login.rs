//! Sessions of users.

use std::time::Duration;

use countersign_engine::{Reject, UnixTime};
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
    users::{LoginFault, LoginOutcome},
};

/// `POST /login`.
pub(super) async fn login(context: &Context<'_>, username: &str, password: &str) -> Result<Response<Body>, Fault> {
    const PAUSE: Duration = Duration::from_millis(100);
    const PAUSES: usize = 30;
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
    for _ in 0..PAUSES {
        // In this order: what ends the sessions of this user after this moment ends the new
        // one too, and what did before is seen now.
        let now = clock::now();
        let still = context.users.store.user(username).await?.filter(|still| still.password_hash == user.password_hash);
        let still = still.ok_or(LoginFault::Wrong)?;
        match begin_session(context, section, &still, now).await? {
            Some(answer) => return Ok(answer),
            // Those of before were revoked in this very second: it is over first.
            None => sleep(PAUSE).await,
        }
    }
    Err(Fault::Unavailable("the sessions of this user are revoked".into()))
}

/// `POST /login/renew`.
pub(super) async fn renew(context: &Context<'_>) -> Result<Response<Body>, Fault> {
    let section = context.signer()?;
    let login = context.session.filter(|session| session.is_login());
    let Some((session, username)) = login.and_then(|session| Some((session, session.subject()?))) else {
        return Err(Fault::request("Only login sessions issued by this server can be renewed."));
    };
    let user = context.users.store.user(username).await?;
    let user = user.ok_or_else(|| Fault::Unauthorized("User account no longer exists.".into()))?;
    // As of before the old one was verified: what has ended that since ends this one too.
    let renewed = begin_session(context, section, &user, session.asked_at).await?;
    renewed.ok_or_else(|| Fault::Forbidden(Reject::Revoked.to_string()))
}

/// Begins a session as of a moment, unless those of that moment are revoked.
async fn begin_session(
    context: &Context<'_>,
    section: &IssuerSection,
    user: &User,
    now: UnixTime,
) -> Result<Option<Response<Body>>, Fault> {
    let roles = context.users.store.roles_of(&user.username).await?;
    let lifetime = lifetime(section, context.server.login.session);
    let token = issue::sign(section, &request(user, &roles, lifetime), now)?;
    if matches!(context.app.verifier.verify(token.as_bytes(), clock::now()), Err(Reject::Revoked)) {
        return Ok(None);
    }
    let mut answer = json!({ "token": token, "user": shown_user(user, None) });
    if let Some(seconds) = lifetime.seconds(section) {
        answer["expires_in"] = seconds.into();
    }
    Ok(Some(with_token(data(&answer), &token)))
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
