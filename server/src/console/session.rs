//! Sessions of the console: from sign-in to their end.
//!
//! A session has the token of its user, encrypted in the database. Every request verifies that
//! token as a call of the API does, so that a session ends with its token, and has the rights that
//! the user has now. Login tokens are short-lived: the session renews them while it is in use.
//! Those of an OpenID provider are [renewed](provider_renewal) there.

mod provider_renewal;

use std::time::Duration;

use countersign_engine::UnixTime;
use http::{Method, StatusCode};
use serde_json::Value;

use super::{
    ConsoleContext, ConsoleRequest,
    api_call::ConsoleCall,
    error_page::ConsoleError,
    page_right::UserRights,
    request,
    session_id::{ProviderPart, SessionId, SessionTokens},
};
use crate::{
    accounts::session::Session,
    api::inmanta,
    auth::Caller,
    base::clock,
    store::{Store, console_sessions::StoredConsoleSession},
};
pub(super) use provider_renewal::session_tokens;

/// Interval in seconds at which [`StoredConsoleSession::used_at`] is stored.
const TOUCH_INTERVAL: u64 = 30;

/// A signed-in user of the console, for the duration of a request. It is made of a
/// [`StoredConsoleSession`] and a verified [`Session`]. Not `Debug`: it has credentials.
pub(super) struct ConsoleUser {
    /// The id of the session, in its cookie.
    pub(super) id: SessionId,
    /// The session in the database.
    pub(super) stored: StoredConsoleSession,
    /// The token of the user.
    pub(super) token: String,
    /// What it has from the provider, if the session began there.
    pub(super) provider: Option<ProviderPart>,
    /// The verified claims of its token.
    pub(super) session: Session,
    /// The pages that it may open, once they are [asked for](Self::with_rights).
    pub(super) rights: UserRights,
}

/// The session of a request, found by [`ConsoleUser::of`].
pub(super) enum RequestSession {
    /// A valid one.
    Valid(Box<ConsoleUser>),
    /// None, or one that has ended.
    Absent,
    /// One that began at the OpenID provider, which has ended with its access token. The provider
    /// may sign the user in again without a question.
    Lapsed,
}

/// A new session, for [`ConsoleUser::begin`].
pub(super) struct NewSession<'s> {
    /// The user.
    pub(super) username: &'s str,
    /// The section of the issuer of the token.
    pub(super) section: &'s str,
    /// The tokens.
    pub(super) tokens: SessionTokens,
    /// The subject at the OpenID provider, if the session began there.
    pub(super) subject: Option<String>,
    /// The session at the OpenID provider, if it has one.
    pub(super) provider_session: Option<String>,
    /// Time at which the user was last asked for a password; `None` if it is unknown.
    pub(super) authenticated_at: Option<UnixTime>,
}

/// Purpose of a request, for [`ConsoleUser::of`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Activity {
    /// The user opened a page, or sent a form.
    User,
    /// A page updates itself, which does not extend the session.
    Background,
}

impl ConsoleUser {
    /// Returns the [`RequestSession`] of a request.
    ///
    /// # Errors
    /// It cannot be decided whether the session is valid.
    pub(super) async fn of(
        context: &ConsoleContext<'_>,
        caller: &Caller<'_, '_>,
        request: &ConsoleRequest,
        activity: Activity,
    ) -> Result<RequestSession, ConsoleError> {
        let absent = Ok(RequestSession::Absent);
        let Some(id) = request::session_id(context, request) else { return absent };
        let store = store(context)?;
        let Some(mut stored) = store.console_session(&id.digest()).await? else { return absent };
        let now = clock::now();
        let has_ended = now >= end(context, stored.created_at, stored.used_at);
        let tokens = if has_ended { None } else { id.open(&stored.sealed) };
        let Some(tokens) = tokens else {
            store.delete_console_session(&stored.id).await?;
            return absent;
        };
        let origin = request::origin(context, request);
        let current =
            provider_renewal::current_tokens(context, caller, (&id, &mut stored), tokens, origin);
        let verified = match current.await? {
            Some(tokens) => {
                let session = verified(context, caller, &tokens.access).await?;
                session.map(|session| (tokens, session))
            }
            None => None,
        };
        let Some((tokens, session)) = verified else {
            return end_invalid(context, &stored, activity).await;
        };
        let SessionTokens { access: token, provider } = tokens;
        let mut user = Self { id, stored, token, provider, session, rights: UserRights::default() };
        if activity == Activity::User {
            user.touch(context, now).await?;
            user.renew(context, caller, now).await?;
        }
        Ok(RequestSession::Valid(Box::new(user)))
    }

    /// Begins a session. Returns its id.
    ///
    /// # Errors
    /// The database cannot be written.
    pub(super) async fn begin(
        context: &ConsoleContext<'_>,
        new: NewSession<'_>,
    ) -> Result<SessionId, ConsoleError> {
        let id = SessionId::random().ok_or(ConsoleError::Unavailable)?;
        let sealed = id.seal(&new.tokens).ok_or(ConsoleError::Unavailable)?;
        let now = clock::now();
        let stored = StoredConsoleSession {
            id: id.digest(),
            username: new.username.into(),
            section: new.section.into(),
            sealed,
            subject: new.subject,
            provider_session: new.provider_session,
            created_at: now,
            used_at: now,
            authenticated_at: new.authenticated_at.map_or(UnixTime(0), |at| at.min(now)),
            expires_at: end(context, now, now),
            confirmations: 0,
        };
        store(context)?.add_console_session(stored).await?;
        Ok(id)
    }

    /// Ends the session that a browser has before a sign-in, which replaces its cookie. One of
    /// which it cannot be decided whether it is valid is left to its end.
    ///
    /// # Errors
    /// The session cannot be deleted.
    pub(super) async fn end_earlier(
        context: &ConsoleContext<'_>,
        caller: &Caller<'_, '_>,
        request: &ConsoleRequest,
    ) -> Result<(), ConsoleError> {
        match Self::of(context, caller, request, Activity::Background).await {
            Ok(RequestSession::Valid(earlier)) => earlier.end(context, caller).await,
            Ok(RequestSession::Lapsed) => delete(context, request).await,
            Ok(RequestSession::Absent) | Err(_) => Ok(()),
        }
    }

    /// Returns the user with the pages that it may open.
    pub(super) fn with_rights(self, context: &ConsoleContext<'_>) -> Self {
        Self { rights: UserRights::of(context, &self.session), ..self }
    }

    /// Whether the session began at the OpenID provider.
    pub(super) const fn is_of_provider(&self) -> bool {
        self.stored.subject.is_some()
    }

    /// Ends the [`Session`]: its token is revoked if it is one of this server, and the session is
    /// deleted.
    ///
    /// # Errors
    /// The session cannot be deleted.
    pub(super) async fn end(
        self,
        context: &ConsoleContext<'_>,
        caller: &Caller<'_, '_>,
    ) -> Result<(), ConsoleError> {
        if self.session.is_login() {
            revoke(context, caller, &self.token).await;
        }
        Ok(store(context)?.delete_console_session(&self.stored.id).await?)
    }

    /// Replaces the token by that of a further sign-in of the same user.
    ///
    /// # Errors
    /// The database cannot be written.
    pub(super) async fn authenticate_again(
        self,
        context: &ConsoleContext<'_>,
        caller: &Caller<'_, '_>,
        token: String,
    ) -> Result<(), ConsoleError> {
        self.replace_token(context, &token, clock::now()).await?;
        revoke(context, caller, &self.token).await;
        Ok(())
    }

    /// Whether the password was checked so recently that a change may be made that cannot be
    /// undone.
    pub(super) fn is_recent(&self, context: &ConsoleContext<'_>) -> bool {
        let until = self.stored.authenticated_at.plus(context.settings.reauthenticate.as_secs());
        clock::now() < until
    }

    /// Whether the time of the last sign-in is known. Not every provider reports it.
    pub(super) const fn has_known_sign_in(&self) -> bool {
        self.stored.authenticated_at.0 > 0
    }

    /// Returns the value that every form of the session has.
    pub(super) fn form_token(&self) -> String {
        self.id.form_token()
    }

    /// Counts a confirmation, if the session has this number of earlier ones. Returns `false` if it
    /// has another: the confirmation was used, or another was meanwhile.
    ///
    /// # Errors
    /// The database cannot be written.
    pub(super) async fn count_confirmation(
        &self,
        context: &ConsoleContext<'_>,
        earlier: u64,
    ) -> Result<bool, ConsoleError> {
        Ok(store(context)?.count_console_confirmation(&self.stored.id, earlier).await?)
    }

    /// Stores the time of this request, unless that of a recent one is stored.
    async fn touch(
        &mut self,
        context: &ConsoleContext<'_>,
        now: UnixTime,
    ) -> Result<(), ConsoleError> {
        if now >= self.stored.used_at.plus(TOUCH_INTERVAL) {
            let expires_at = end(context, self.stored.created_at, now);
            store(context)?.touch_console_session(&self.stored.id, now, expires_at).await?;
            self.stored.used_at = now;
        }
        Ok(())
    }

    /// Renews a login token of which less than half of its lifetime is left. A token that cannot be
    /// renewed is used until its end.
    async fn renew(
        &mut self,
        context: &ConsoleContext<'_>,
        caller: &Caller<'_, '_>,
        now: UnixTime,
    ) -> Result<(), ConsoleError> {
        if !self.session.is_login() || !is_half_over(&self.session, now) {
            return Ok(());
        }
        let call = ConsoleCall {
            token: Some(&self.token),
            environment: None,
            method: Method::POST,
            target: "/api/v2/login/renew",
            body: Value::Null,
        };
        let answer = call.make(context, caller).await;
        let renewed = answer.data()["token"].as_str().map(str::to_owned);
        let Some(token) = renewed.filter(|_| answer.status == StatusCode::OK) else {
            return Ok(());
        };
        self.replace_token(context, &token, self.stored.authenticated_at).await?;
        self.token = token;
        Ok(())
    }

    async fn replace_token(
        &self,
        context: &ConsoleContext<'_>,
        token: &str,
        authenticated_at: UnixTime,
    ) -> Result<(), ConsoleError> {
        let tokens = SessionTokens { access: token.to_owned(), provider: None };
        let sealed = self.id.seal(&tokens).ok_or(ConsoleError::Unavailable)?;
        let (store, id) = (store(context)?, &self.stored.id);
        // A session that has ended meanwhile has no row, and the next request finds that.
        store.replace_console_tokens(id, sealed, authenticated_at).await?;
        Ok(())
    }
}

/// Ends a session without a valid token. One of the provider is left to the next page that the user
/// opens, if a page that updates itself finds its end: only then can the user be signed in again.
async fn end_invalid(
    context: &ConsoleContext<'_>,
    stored: &StoredConsoleSession,
    activity: Activity,
) -> Result<RequestSession, ConsoleError> {
    let store = store(context)?;
    if stored.subject.is_none() || context.provider.is_none() {
        store.delete_console_session(&stored.id).await?;
        return Ok(RequestSession::Absent);
    }
    match activity {
        Activity::User => store.delete_console_session(&stored.id).await?,
        // The next page must not wait for the lease of a renewal that has ended.
        Activity::Background => store.defer_console_renewal(&stored.id, clock::now()).await?,
    }
    Ok(RequestSession::Lapsed)
}

/// Deletes the session of a request.
async fn delete(
    context: &ConsoleContext<'_>,
    request: &ConsoleRequest,
) -> Result<(), ConsoleError> {
    let Some(id) = request::session_id(context, request) else { return Ok(()) };
    Ok(store(context)?.delete_console_session(&id.digest()).await?)
}

/// Verifies the token of a session as for a call of the API. `None` if it is rejected.
async fn verified(
    context: &ConsoleContext<'_>,
    caller: &Caller<'_, '_>,
    token: &str,
) -> Result<Option<Session>, ConsoleError> {
    match inmanta::authenticate(&context.api, caller, token).await {
        Ok(session) => Ok(session),
        Err(reply) => match reply.response.status() {
            StatusCode::TOO_MANY_REQUESTS => Err(ConsoleError::Undecided),
            status if status.is_server_error() => Err(ConsoleError::Undecided),
            _ => Ok(None),
        },
    }
}

/// Revokes a login token. The session ends even if that fails, which the log has.
async fn revoke(context: &ConsoleContext<'_>, caller: &Caller<'_, '_>, token: &str) {
    let call = ConsoleCall {
        token: Some(token),
        environment: None,
        method: Method::POST,
        target: "/api/v2/logout",
        body: Value::Null,
    };
    let answer = call.make(context, caller).await;
    if answer.status != StatusCode::OK {
        tracing::warn!(status = answer.status.as_u16(), "cannot revoke the token of a session");
    }
}

/// Returns the time at which a session ends without a further request.
fn end(context: &ConsoleContext<'_>, created_at: UnixTime, used_at: UnixTime) -> UnixTime {
    let after = |from: UnixTime, limit: Duration| from.plus(limit.as_secs());
    let (idle, max) = (context.settings.session_idle, context.settings.session_max);
    after(used_at, idle).min(after(created_at, max))
}

fn is_half_over(session: &Session, now: UnixTime) -> bool {
    let (Some(from), Some(until)) = (session.issued_at(), session.expires_at()) else {
        return false;
    };
    now.0.saturating_sub(from.0) > until.0.saturating_sub(now.0)
}

/// Returns the database of the sessions.
fn store<'c>(context: &ConsoleContext<'c>) -> Result<&'c Store, ConsoleError> {
    context.api.users.map(|users| &users.store).ok_or(ConsoleError::Unavailable)
}
