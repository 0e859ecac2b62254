//! Login endpoints: issue and extend the sessions of users.

use std::time::Duration;

use countersign_engine::{Reject, UnixTime};
use http::Response;
use serde_json::{Map, Value, json};
use tokio::time::sleep;

use super::{
    CallContext, data, error::ApiError, tokens::random_uuid, users::user_json, with_token,
};
use crate::{
    accounts::{
        Credentials, LoginError, RENEWAL_OVERLAP, record_renewal,
        session::Session,
        settings::LoginSettings,
        signing::{self, Lifetime, TokenRequest},
    },
    base::{
        claims::{AUTH_TIME_CLAIM, ClientType, IS_ADMIN_CLAIM, ROLES_CLAIM, SESSION_ID_CLAIM},
        clock,
        printable::printable,
        reply::Body,
    },
    keys::IssuerSection,
    observe::metrics::{LoginOutcome, MetricEvent},
    store::{
        renewals::{SessionRenewal, SessionState, SessionToken},
        users::{Roles, User},
    },
};

/// `POST /login`.
pub(super) async fn login(
    context: &CallContext<'_>,
    username: &str,
    password: &str,
) -> Result<Response<Body>, ApiError> {
    let section = context.signer()?;
    let authenticated = authenticate(context, section, username, password).await;
    let outcome = authenticated.as_ref().map_or_else(LoginError::outcome, |_| LoginOutcome::Done);
    context.api.authenticator.metrics.count_event(MetricEvent::Login(outcome));
    let user = match authenticated {
        Ok(user) => user,
        Err(error) => {
            // Without the name, which may be a password in the wrong field. The audit log has that
            // of a user.
            tracing::warn!(client = %context.origin, "login refused: {error}");
            return Err(error.into());
        }
    };
    tracing::info!(user = %printable(username), client = %context.origin, "login");
    Ok(begin_session(context, section, username, &user.password_hash).await?.into_response())
}

/// Checks a name and a password.
pub(super) async fn authenticate(
    context: &CallContext<'_>,
    section: &IssuerSection,
    username: &str,
    password: &str,
) -> Result<User, LoginError> {
    let source_digest = section.keyed_digest([username, &context.origin.to_string()]);
    let credentials =
        Credentials { username, password, origin: context.origin, source_digest: &source_digest };
    context.users.authenticate(&credentials).await
}

/// Begins a session of a user, unless the user has changed since the password was checked.
pub(super) async fn begin_session(
    context: &CallContext<'_>,
    section: &IssuerSection,
    username: &str,
    password_hash: &str,
) -> Result<IssuedSession, ApiError> {
    let is_same = |now: &User| now.password_hash == password_hash;
    let identity = SessionIdentity {
        id: random_uuid()?.to_string(),
        logged_in_at: None,
        dated_from: UnixTime(0),
    };
    issue_session(context, section, username, &identity, is_same, || LoginError::Wrong.into()).await
}

/// `POST /login/renew`.
///
/// The renewed token is accepted for [`RENEWAL_OVERLAP`] more. A second renewal of it in this time,
/// on any node, returns the same successor.
pub(super) async fn renew(context: &CallContext<'_>) -> Result<Response<Body>, ApiError> {
    let section = context.signer()?;
    // The session has an id if it began here. One of another server with the same signing key may
    // be that of another user of the same name.
    let login = login_session(context).filter(|(session, _)| session.session_id().is_some());
    let (session, username) = login.ok_or_else(|| {
        ApiError::request("Only login sessions issued by this server can be renewed.")
    })?;
    let store = &context.users.store;
    if store.user(username).await?.is_none() {
        return Err(ApiError::Unauthorized("User account no longer exists.".into()));
    }
    context.users.begin_renewal(username)?;
    let state = store.session_state(&session.token().digest).await?;
    if state != SessionState::Current {
        return repeat(context, section, username, state).await;
    }
    let is_current = |now: &User| session.issued_at() >= Some(now.sessions_since);
    let identity = SessionIdentity::of(session)?;
    let issued = issue_session(context, section, username, &identity, is_current, ended).await?;
    let renewal = SessionRenewal {
        token: session.token().clone(),
        revoke_at: clock::now().plus(RENEWAL_OVERLAP.as_secs()),
        successor: SessionToken {
            digest: signing::token_digest(issued.token.as_bytes()),
            expires_at: issued.expires_at.map(|end| end.plus(section.issuer.rules.leeway.into())),
        },
        claims: issued.claims.clone(),
    };
    if !record_renewal(store, context.api.revocations, renewal).await? {
        // Renewed or ended at the same time.
        let state = store.session_state(&session.token().digest).await?;
        return repeat(context, section, username, state).await;
    }
    Ok(issued.into_response())
}

/// Returns the login session of a call, and its user.
pub(super) fn login_session<'c>(context: &CallContext<'c>) -> Option<(&'c Session, &'c str)> {
    let session = context.session.filter(|session| session.is_login())?;
    Some((session, session.subject()?))
}

/// Returns the successor that an earlier renewal of the same token returned.
async fn repeat(
    context: &CallContext<'_>,
    section: &IssuerSection,
    username: &str,
    state: SessionState,
) -> Result<Response<Body>, ApiError> {
    let now = clock::now();
    let SessionState::Renewed(renewal) = state else { return Err(ended()) };
    if renewal.revoke_at <= now {
        return Err(ended());
    }
    let claims: Map<String, Value> = serde_json::from_str(&renewal.claims).unwrap_or_default();
    let time = |name: &str| claims.get(name).and_then(Value::as_u64).map(UnixTime);
    let user = context.users.store.user(username).await?;
    let user = user.filter(|user| time("iat") >= Some(user.sessions_since)).ok_or_else(ended)?;
    let token = signing::sign_claims(section, &renewal.claims)?;
    if is_revoked(context, &token, now) {
        return Err(ended());
    }
    let expires_at = time("exp");
    let expires_in = expires_at.map(|end| end.0.saturating_sub(now.0));
    let issued = IssuedSession { token, claims: renewal.claims, user, expires_at, expires_in };
    Ok(issued.into_response())
}

fn ended() -> ApiError {
    ApiError::Unauthorized("The session was ended.".into())
}

fn is_revoked(context: &CallContext<'_>, token: &str, now: UnixTime) -> bool {
    let verified = context.api.authenticator.verifier.verify(token.as_bytes(), now);
    verified.is_err_and(|reject| reject == Reject::Revoked)
}

/// An issued token of a session. Not `Debug`: it contains the token.
pub(super) struct IssuedSession {
    token: String,
    /// The claims of the token, as signed.
    claims: String,
    user: User,
    expires_at: Option<UnixTime>,
    expires_in: Option<u64>,
}

impl IssuedSession {
    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// Returns the response with the token.
    pub(super) fn into_response(self) -> Response<Body> {
        let session = json!({
            "token": self.token,
            "user": user_json(&self.user, None),
            "expires_in": self.expires_in,
        });
        with_token(data(&session), &self.token)
    }
}

/// What the tokens of a session have in common.
struct SessionIdentity {
    id: String,
    /// Time of the login; `None` for the issue of the token.
    logged_in_at: Option<UnixTime>,
    /// Earliest time of issue.
    dated_from: UnixTime,
}

impl SessionIdentity {
    /// Returns the identity of a session to renew. The new token is dated later than the old one,
    /// since it is revoked apart from it: the two must differ.
    fn of(session: &Session) -> Result<Self, ApiError> {
        let id = session.session_id().ok_or_else(ended)?.to_owned();
        let dated_from = session.issued_at().map_or(UnixTime(0), |at| at.plus(1));
        // An unreadable claim is not an absent one.
        let logged_in_at = Some(session.logged_in_at().ok_or_else(ended)?);
        Ok(Self { id, logged_in_at, dated_from })
    }
}

/// Issues a token of a session, if `is_unchanged` accepts the stored user.
///
/// The session is dated before the user is read. A change after that time ends the session,
/// because changes end all sessions issued before them.
async fn issue_session(
    context: &CallContext<'_>,
    section: &IssuerSection,
    username: &str,
    identity: &SessionIdentity,
    is_unchanged: impl Fn(&User) -> bool,
    refusal: impl Fn() -> ApiError,
) -> Result<IssuedSession, ApiError> {
    const RETRY_INTERVAL: Duration = Duration::from_millis(100);
    const MAX_RETRIES: usize = 30;
    let store = &context.users.store;
    // Recorded before the session exists, so that ending the sessions covers this issuer.
    store.record_signer(&section.issuer.name).await?;
    for _ in 0..MAX_RETRIES {
        let now = clock::now();
        let user = store.user(username).await?.filter(&is_unchanged).ok_or_else(&refusal)?;
        let roles = store.roles_of(username).await?;
        // Earlier sessions may have been ended with a time that lies ahead, by a second and the
        // leeway. The new session must be dated later.
        let issued_at = now.max(user.sessions_since).max(identity.dated_from);
        let logged_in_at = identity.logged_in_at.unwrap_or(issued_at);
        let expires_in = lifetime(section, &context.api.settings.login, issued_at, logged_in_at)?;
        let request = request(&user, &roles, expires_in, (logged_in_at, &identity.id));
        let claims = signing::claims(section, &request, issued_at)?;
        let token = signing::sign_claims(section, &claims)?;
        let is_accepted = issued_at <= now.plus(section.issuer.rules.leeway.into())
            && !is_revoked(context, &token, now);
        if is_accepted {
            let expires_at = expires_in.map(|seconds| issued_at.plus(seconds));
            return Ok(IssuedSession { token, claims, user, expires_at, expires_in });
        }
        sleep(RETRY_INTERVAL).await;
    }
    Err(ApiError::Unavailable("the sessions of this user are revoked".into()))
}

/// Returns the lifetime of a session token in seconds; `None` if it never expires. It is limited
/// to that of the section's tokens, and to the time that is left of the session.
fn lifetime(
    section: &IssuerSection,
    login: &LoginSettings,
    issued_at: UnixTime,
    logged_in_at: UnixTime,
) -> Result<Option<u64>, ApiError> {
    let limit = section.issuer.rules.max_lifetime;
    let lifetime = match login.session {
        0 => Lifetime::Default,
        session => Lifetime::Seconds(limit.map_or(session, |limit| session.min(limit)).into()),
    };
    let lifetime = lifetime.seconds(section);
    let Some(max) = login.session_max else { return Ok(lifetime) };
    let left = logged_in_at.plus(max.get().into()).0.saturating_sub(issued_at.0);
    if left == 0 {
        let text = "The session has reached its maximum duration: log in again.";
        return Err(ApiError::Unauthorized(text.into()));
    }
    Ok(Some(lifetime.map_or(left, |lifetime| lifetime.min(left))))
}

fn request(
    user: &User,
    roles: &Roles,
    expires_in: Option<u64>,
    (logged_in_at, session_id): (UnixTime, &str),
) -> TokenRequest {
    let claims = [
        ("sub", Value::String(user.username.clone())),
        (ROLES_CLAIM, json!(roles)),
        (IS_ADMIN_CLAIM, Value::Bool(user.is_admin)),
        (AUTH_TIME_CLAIM, json!(logged_in_at.0)),
        (SESSION_ID_CLAIM, json!(session_id)),
    ];
    TokenRequest {
        client_types: vec![ClientType::Api],
        environment: None,
        custom_claims: claims.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        // Zero for a token that never expires.
        lifetime: Lifetime::Seconds(expires_in.unwrap_or(0)),
    }
}
