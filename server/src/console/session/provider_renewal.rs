//! Renewal of the access token of a session at the OpenID provider.
//!
//! Most providers end a session whose refresh token is used twice. So one request at a time renews
//! the tokens of a session, of all requests on all servers: it takes a lease in the database. The
//! others go on with the present access token, or wait if it has expired.

use std::time::Duration;

use countersign_engine::UnixTime;
use tokio::time::sleep;

use super::{
    super::{
        ConsoleContext,
        error_page::ConsoleError,
        openid::{
            AccessCheck, ProviderTokens, RenewableSession, SignInBlame, SignInError, SignInSettings,
        },
        provider::ConsoleProvider,
        session_id::{ProviderPart, SessionId, SessionTokens},
    },
    store,
};
use crate::{
    auth::Caller,
    base::{clock, printable::printable},
    store::console_sessions::StoredConsoleSession,
};

/// Seconds before its expiry from which an access token is renewed, unless half of its lifetime is
/// less.
const RENEW_BEFORE: u64 = 60;
/// Seconds by which a lease outlasts the timeout of the provider: the renewal waits for a thread,
/// and may fetch the keys of the provider first.
const LEASE_MARGIN: u64 = 30;
/// Seconds after a failed renewal until the next one.
const COOL_DOWN: u64 = 3;
/// Interval at which a request looks whether another one has renewed the tokens.
const WAIT_INTERVAL: Duration = Duration::from_millis(100);
/// Number of times that it looks.
const MAX_LOOKS: usize = 100;

/// Returns what a session keeps of tokens that the provider has just issued.
pub(in crate::console) fn session_tokens(
    settings: &SignInSettings,
    tokens: ProviderTokens,
    expires_at: Option<UnixTime>,
) -> SessionTokens {
    let ProviderTokens { access_token, refresh_token, id_token } = tokens;
    let lifetime = expires_at.map(|end| end.0.saturating_sub(clock::now().0));
    let renew_at = expires_at
        .zip(lifetime)
        .map(|(end, lifetime)| end.0.saturating_sub(RENEW_BEFORE.min(lifetime / 2)));
    let expires_at = expires_at.map(|end| end.0);
    let issued_by = settings.provider_and_client();
    let provider =
        ProviderPart { issued_by, refresh: refresh_token, id_token, renew_at, expires_at };
    SessionTokens { access: access_token, provider: Some(provider) }
}

/// Returns the tokens of a session, renewed at the provider if that is due; `None` if the session
/// has ended.
///
/// # Errors
/// The access token has expired and cannot be renewed now, or the database cannot be queried.
pub(super) async fn current_tokens(
    context: &ConsoleContext<'_>,
    caller: &Caller<'_, '_>,
    (id, stored): (&SessionId, &mut StoredConsoleSession),
    mut tokens: SessionTokens,
    origin: Option<String>,
) -> Result<Option<SessionTokens>, ConsoleError> {
    let is_of_other = |provider: &ConsoleProvider| {
        let part = tokens.provider.as_ref();
        part.is_some_and(|part| part.issued_by != provider.client.settings().provider_and_client())
    };
    if context.provider.is_some_and(is_of_other) {
        // The configuration names another provider now, which must not get the tokens.
        return Ok(None);
    }
    let provider = context.provider.filter(|provider| provider.is_of_section(&stored.section));
    let Some((provider, origin)) = provider.zip(origin) else { return Ok(Some(tokens)) };
    let lease = provider.client.settings().timeout.as_secs() + LEASE_MARGIN;
    for _ in 0..MAX_LOOKS {
        let now = clock::now();
        if !is_due(&tokens, now) {
            return Ok(Some(tokens));
        }
        let (store, until) = (store(context)?, now.plus(lease));
        if store.begin_console_renewal(&stored.id, &stored.sealed, now, until).await? {
            let renewal = TokenRenewal { context, caller, provider, origin: &origin };
            return renewal.renew(id, stored, tokens).await;
        }
        if !has_expired(&tokens, now) {
            return Ok(Some(tokens));
        }
        sleep(WAIT_INTERVAL).await;
        let Some(now_stored) = store.console_session(&stored.id).await? else { return Ok(None) };
        let Some(now_tokens) = id.open(&now_stored.sealed) else { return Ok(None) };
        (*stored, tokens) = (now_stored, now_tokens);
    }
    Err(ConsoleError::Undecided)
}

/// A renewal that has its lease.
struct TokenRenewal<'r> {
    context: &'r ConsoleContext<'r>,
    caller: &'r Caller<'r, 'r>,
    provider: &'r ConsoleProvider,
    origin: &'r str,
}

impl TokenRenewal<'_> {
    async fn renew(
        &self,
        id: &SessionId,
        stored: &mut StoredConsoleSession,
        tokens: SessionTokens,
    ) -> Result<Option<SessionTokens>, ConsoleError> {
        let store = store(self.context)?;
        let renewed = match self.request(stored, &tokens).await {
            Ok(renewed) => renewed,
            Err(error) if ends_session(&error) => {
                let code = error.code();
                tracing::info!(user = %printable(&stored.username), code, "session ended: {error}");
                return Ok(None);
            }
            Err(error) => {
                let code = error.code();
                tracing::warn!(code, "cannot renew the access token of a session: {error}");
                let now = clock::now();
                store.defer_console_renewal(&stored.id, now.plus(COOL_DOWN)).await?;
                let is_usable = !has_expired(&tokens, now);
                return if is_usable { Ok(Some(tokens)) } else { Err(ConsoleError::Provider) };
            }
        };
        let sealed = id.seal(&renewed).ok_or(ConsoleError::Unavailable)?;
        let replaced =
            store.replace_console_tokens(&stored.id, sealed.clone(), stored.authenticated_at);
        if !replaced.await? {
            // It was ended meanwhile.
            return Ok(None);
        }
        stored.sealed = sealed;
        Ok(Some(renewed))
    }

    async fn request(
        &self,
        stored: &StoredConsoleSession,
        tokens: &SessionTokens,
    ) -> Result<SessionTokens, SignInError> {
        let part = tokens.provider.as_ref().ok_or(SignInError::NotBegun)?;
        let before = ProviderTokens {
            access_token: tokens.access.clone(),
            refresh_token: part.refresh.clone(),
            id_token: part.id_token.clone(),
        };
        let session = RenewableSession {
            username: &stored.username,
            subject: stored.subject.as_deref().unwrap_or_default(),
            tokens: &before,
            origin: self.origin,
        };
        let authenticator = self.context.api.authenticator;
        let access = AccessCheck { authenticator, caller: self.caller };
        let renewed = self.provider.client.refresh(session, access).await?;
        let settings = self.provider.client.settings();
        Ok(session_tokens(settings, renewed.tokens, renewed.expires_at))
    }
}

/// Whether a session ends because its token was not renewed: the provider refuses, or the new token
/// is not one that this server accepts.
const fn ends_session(error: &SignInError) -> bool {
    matches!(error.blame(), SignInBlame::Browser | SignInBlame::Configuration)
}

fn is_due(tokens: &SessionTokens, now: UnixTime) -> bool {
    let part = tokens.provider.as_ref().filter(|part| part.refresh.is_some());
    part.and_then(|part| part.renew_at).is_some_and(|at| now >= UnixTime(at))
}

fn has_expired(tokens: &SessionTokens, now: UnixTime) -> bool {
    let expires_at = tokens.provider.as_ref().and_then(|part| part.expires_at);
    expires_at.is_some_and(|at| now >= UnixTime(at))
}
