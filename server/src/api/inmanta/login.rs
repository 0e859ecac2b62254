//! Login endpoints: issue and extend the sessions of users.

use std::time::Duration;

use countersign_engine::Reject;
use http::Response;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{CallContext, data, error::ApiError, users::user_json, with_token};
use crate::{
    accounts::{
        LoginError,
        signing::{self, Lifetime, TokenRequest},
    },
    base::{
        claims::{ClientType, IS_ADMIN_CLAIM, ROLES_CLAIM},
        clock,
        reply::Body,
    },
    keys::IssuerSection,
    observe::metrics::{LoginOutcome, MetricEvent},
    store::users::{Roles, User},
};

/// `POST /login`.
pub(super) async fn login(
    context: &CallContext<'_>,
    username: &str,
    password: &str,
) -> Result<Response<Body>, ApiError> {
    let section = context.signer()?;
    let authenticated = context.users.authenticate(username, password, context.source).await;
    let outcome = authenticated.as_ref().map_or_else(LoginError::outcome, |_| LoginOutcome::Done);
    context.api.authenticator.metrics.count_event(MetricEvent::Login(outcome));
    let user = match authenticated {
        Ok(user) => user,
        Err(error) => {
            tracing::warn!(user = truncated(username), client = %context.source, "login refused: {error}");
            return Err(error.into());
        }
    };
    tracing::info!(user = username, client = %context.source, "login");
    let is_same = |now: &User| now.password_hash == user.password_hash;
    begin_session(context, section, username, is_same, || LoginError::Wrong.into()).await
}

/// `POST /login/renew`.
pub(super) async fn renew(context: &CallContext<'_>) -> Result<Response<Body>, ApiError> {
    let section = context.signer()?;
    let login = context.session.filter(|session| session.is_login());
    let Some((session, username)) = login.and_then(|session| Some((session, session.subject()?)))
    else {
        return Err(ApiError::request("Only login sessions issued by this server can be renewed."));
    };
    if context.users.store.user(username).await?.is_none() {
        return Err(ApiError::Unauthorized("User account no longer exists.".into()));
    }
    let is_current = |now: &User| session.issued_at() >= Some(now.sessions_since);
    begin_session(context, section, username, is_current, || {
        ApiError::Unauthorized("The session was ended.".into())
    })
    .await
}

/// Issues a session of a user, if `is_unchanged` accepts the stored user.
///
/// The session is dated before the user is read. A change after that time ends the session,
/// because changes end all sessions issued before them.
async fn begin_session(
    context: &CallContext<'_>,
    section: &IssuerSection,
    username: &str,
    is_unchanged: impl Fn(&User) -> bool,
    refusal: impl Fn() -> ApiError,
) -> Result<Response<Body>, ApiError> {
    const RETRY_INTERVAL: Duration = Duration::from_millis(100);
    const MAX_RETRIES: usize = 30;
    // Recorded before the session exists, so that ending the sessions covers this issuer.
    context.users.store.record_signer(&section.issuer.name).await?;
    for _ in 0..MAX_RETRIES {
        let now = clock::now();
        let user =
            context.users.store.user(username).await?.filter(&is_unchanged).ok_or_else(&refusal)?;
        let roles = context.users.store.roles_of(username).await?;
        let lifetime = lifetime(section, context.api.settings.login.session);
        let token = signing::sign(section, &request(&user, &roles, lifetime), now)?;
        // Earlier sessions may have been ended within this second. The new session must be
        // dated later.
        let is_revoked = context
            .api
            .authenticator
            .verifier
            .verify(token.as_bytes(), now)
            .is_err_and(|reject| reject == Reject::Revoked);
        if now >= user.sessions_since && !is_revoked {
            let mut session = json!({ "token": token, "user": user_json(&user, None) });
            if let Some(seconds) = lifetime.seconds(section) {
                session["expires_in"] = seconds.into();
            }
            return Ok(with_token(data(&session), &token));
        }
        sleep(RETRY_INTERVAL).await;
    }
    Err(ApiError::Unavailable("the sessions of this user are revoked".into()))
}

/// Truncates a username for the log. It is unchecked input, of any length.
fn truncated(username: &str) -> &str {
    const MAX_LOGGED_CHARS: usize = 64;
    username.char_indices().nth(MAX_LOGGED_CHARS).map_or(username, |(end, _)| &username[..end])
}

/// Returns the lifetime of sessions, limited to that of the section's tokens.
fn lifetime(section: &IssuerSection, session: u32) -> Lifetime {
    let limit = section.issuer.rules.max_lifetime;
    match (session, limit) {
        (0, _) => Lifetime::Default,
        (session, limit) => {
            Lifetime::Seconds(limit.map_or(session, |limit| session.min(limit)).into())
        }
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
