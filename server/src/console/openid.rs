//! Signing in to the console with an OpenID provider, on the server: authorization code with PKCE
//! (OpenID Connect Core 1.0 section 3.1, RFC 7636), refresh, and logout at both ends.
//!
//! 1. [`OpenIdClient::begin`] returns the URI of the provider for the browser, and a
//!    [`PendingSignIn`], which is sealed in a cookie.
//! 2. The provider sends the browser back to the origin of the console, with a code.
//!    [`OpenIdClient::finish`] compares the answer with the pending sign-in, redeems the code,
//!    verifies the ID token with the keys of the provider, and the access token as the section of
//!    the provider does. The user is that of the access token.
//! 3. The tokens never reach the browser. The console keeps them in its session, verifies the
//!    access token at every request, and [renews](OpenIdClient::refresh) it.
//!
//! No request waits for the provider but these: each of them runs on one of a few threads, with the
//! timeout of the section.

mod callback;
mod end_session;
pub mod error;
mod id_token;
pub mod logout_token;
mod metadata;
pub mod pending;
mod provider;
mod requests;
mod revocation;
pub mod settings;
mod tokens;

use std::{fmt, sync::Arc};

use countersign_engine::{UnixTime, Verified};

use self::{
    callback::CallbackQuery,
    id_token::{ExpectedToken, IdToken},
    provider::{ProviderFreshness, ProviderThreads, may_have_new_key},
    tokens::{ReceivedTokens, authorization_uri},
};
pub use self::{
    end_session::SIGNED_OUT_STATE,
    error::{SignInBlame, SignInError},
    logout_token::{LogoutToken, LogoutTokenError},
    pending::{PendingKey, PendingSignIn, SignInRequest},
    settings::SignInSettings,
};
use crate::{
    auth::{Authenticator, Caller},
    base::clock,
};

/// The console as a client of one provider.
pub struct OpenIdClient {
    threads: ProviderThreads,
}

/// A sign-in that [`OpenIdClient::begin`] has begun.
pub struct BegunSignIn {
    /// The URI to which the browser is redirected. It has no secret but the state and the nonce.
    pub location: String,
    /// What the answer is compared with.
    pub pending: PendingSignIn,
}

/// The tokens of a session. Their [`Debug`](fmt::Debug) output hides them.
#[derive(Clone, PartialEq, Eq)]
pub struct ProviderTokens {
    /// The access token, which was verified.
    pub access_token: String,
    /// The refresh token, if the provider issues one.
    pub refresh_token: Option<String>,
    /// The last ID token, to sign out at the provider.
    pub id_token: Option<String>,
}

/// A user whose sign-in [`OpenIdClient::finish`] has finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedIn {
    /// The username in the access token.
    pub username: String,
    /// The subject of the ID token.
    pub subject: String,
    /// The session at the provider (`sid`), by which a logout token may name it.
    pub session: Option<String>,
    /// Time of the sign-in at the provider, if it is known.
    pub authenticated_at: Option<UnixTime>,
    /// First second in which the access token has expired; `None` if it never expires.
    pub expires_at: Option<UnixTime>,
    /// The tokens.
    pub tokens: ProviderTokens,
    /// The page to show: a path of the console.
    pub return_to: String,
}

/// A session whose access token is renewed by [`OpenIdClient::refresh`].
#[derive(Clone, Copy)]
pub struct RenewableSession<'s> {
    /// Its username.
    pub username: &'s str,
    /// Its subject at the provider.
    pub subject: &'s str,
    /// Its tokens.
    pub tokens: &'s ProviderTokens,
    /// The origin of the console.
    pub origin: &'s str,
}

/// Renewed tokens of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenewedSession {
    /// The tokens. The refresh token may be a new one, and the old one is of no use then.
    pub tokens: ProviderTokens,
    /// First second in which the access token has expired; `None` if it never expires.
    pub expires_at: Option<UnixTime>,
}

/// How access tokens are verified: as those of any API call by this caller.
#[derive(Clone, Copy)]
pub struct AccessCheck<'c, 'r> {
    /// Verifies tokens.
    pub authenticator: &'c Authenticator,
    /// The caller: the browser.
    pub caller: &'c Caller<'c, 'r>,
}

impl fmt::Debug for ProviderTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProviderTokens(..)")
    }
}

impl OpenIdClient {
    /// Creates the client. The provider is first contacted when a user signs in.
    ///
    /// # Errors
    /// The trust store is empty, or the operating system cannot create a thread.
    pub fn start(settings: SignInSettings) -> Result<Self, SignInError> {
        Ok(Self { threads: ProviderThreads::start(settings)? })
    }

    /// The settings of the client.
    #[must_use]
    pub fn settings(&self) -> &SignInSettings {
        self.threads.settings()
    }

    /// Begins a sign-in.
    ///
    /// # Errors
    /// The provider cannot be reached, or its metadata cannot be used.
    pub async fn begin(&self, request: SignInRequest<'_>) -> Result<BegunSignIn, SignInError> {
        let provider = self.threads.provider(ProviderFreshness::Usual).await?;
        let pending = PendingSignIn::begin(&request, clock::now())?;
        let location = authorization_uri(self.settings(), &provider.metadata, &pending)?;
        Ok(BegunSignIn { location, pending })
    }

    /// Checks that the query of a callback belongs to a [`PendingSignIn`].
    ///
    /// # Errors
    /// It does not, or its parameters are malformed.
    pub fn check_state(&self, pending: &PendingSignIn, query: &str) -> Result<(), SignInError> {
        CallbackQuery::parse(query)?.check_state(pending)
    }

    /// Finishes a [`PendingSignIn`] with the query of the callback.
    ///
    /// # Errors
    /// The [`SignInError`], after which a new sign-in has to begin.
    pub async fn finish(
        &self,
        pending: PendingSignIn,
        query: &str,
        access: AccessCheck<'_, '_>,
    ) -> Result<SignedIn, SignInError> {
        let query = CallbackQuery::parse(query)?;
        query.check_state(&pending)?;
        let provider = self.threads.provider(ProviderFreshness::Usual).await?;
        let code = query.into_code(&provider.metadata)?;
        let return_to = pending.return_to().to_owned();
        let nonce = pending.nonce.clone();
        let leeway = self.settings().leeway.into();
        let fresh_since = UnixTime(pending.begun_at().0.saturating_sub(leeway));
        let fresh_since = pending.is_fresh.then_some(fresh_since);
        let metadata = Arc::clone(&provider);
        let redeem =
            self.threads.run(move |source| source.redeem(&metadata.metadata, pending, code));
        let received = redeem.await?;
        let id_token = received.id_token.as_deref().ok_or(SignInError::NoIdToken)?;
        let expected = ExpectedToken {
            client_id: &self.settings().client_id,
            nonce: Some(&nonce),
            access_token: &received.access_token,
            fresh_since,
        };
        let id_token = self.verify_id_token(id_token, expected).await?;
        let identity = self.verify_access_token(&received.access_token, access).await?;
        Ok(SignedIn {
            username: identity.username,
            subject: id_token.subject,
            session: id_token.session,
            authenticated_at: id_token.authenticated_at,
            expires_at: identity.expires_at,
            tokens: received.into(),
            return_to,
        })
    }

    /// Renews the access token of a session. Of several requests of one session, only one may do
    /// so: providers end a session whose refresh token is used twice.
    ///
    /// # Errors
    /// The [`SignInError`]. After [`SignInError::Grant`] the user has to sign in again;
    /// `NotBegun` if the session has no refresh token.
    pub async fn refresh(
        &self,
        session: RenewableSession<'_>,
        access: AccessCheck<'_, '_>,
    ) -> Result<RenewedSession, SignInError> {
        let RenewableSession { username, subject, tokens: before, origin } = session;
        let refresh_token = before.refresh_token.clone().ok_or(SignInError::NotBegun)?;
        let provider = self.threads.provider(ProviderFreshness::Usual).await?;
        let origin = origin.trim_end_matches('/').to_owned();
        let renew = self
            .threads
            .run(move |source| source.renew(&provider.metadata, refresh_token, &origin));
        let received = renew.await?;
        if let Some(id_token) = &received.id_token {
            // OpenID Connect Core 1.0 section 12.2.
            let expected = ExpectedToken {
                client_id: &self.settings().client_id,
                nonce: None,
                access_token: &received.access_token,
                fresh_since: None,
            };
            if self.verify_id_token(id_token, expected).await?.subject != subject {
                return Err(SignInError::OtherUser);
            }
        }
        let identity = self.verify_access_token(&received.access_token, access).await?;
        if identity.username != username {
            return Err(SignInError::OtherUser);
        }
        let received = ProviderTokens::from(received);
        let tokens = ProviderTokens {
            refresh_token: received.refresh_token.or_else(|| before.refresh_token.clone()),
            id_token: received.id_token.or_else(|| before.id_token.clone()),
            access_token: received.access_token,
        };
        Ok(RenewedSession { tokens, expires_at: identity.expires_at })
    }

    /// Verifies a logout token that the provider sends (OpenID Connect Back-Channel Logout 1.0),
    /// within the budgets of its caller for bad signatures. It still has to be
    /// [used](LogoutToken::end_sessions), which is possible once.
    ///
    /// # Errors
    /// The [`LogoutTokenError`].
    pub async fn verify_logout_token(
        &self,
        token: &str,
        caller: &Caller<'_, '_>,
    ) -> Result<LogoutToken, LogoutTokenError> {
        let provider = |freshness| async move {
            self.threads.provider(freshness).await.map_err(LogoutTokenError::Unavailable)
        };
        let known = provider(ProviderFreshness::Usual).await?;
        match LogoutToken::verify(&known, token, caller).await {
            Err(error) if error.may_have_new_key() => {
                let known = provider(ProviderFreshness::NewKeys).await?;
                LogoutToken::verify(&known, token, caller).await
            }
            verified => verified,
        }
    }

    async fn verify_id_token(
        &self,
        token: &str,
        expected: ExpectedToken<'_>,
    ) -> Result<IdToken, SignInError> {
        let known = self.threads.provider(ProviderFreshness::Usual).await?;
        match IdToken::verify(&known, token, expected, clock::now()) {
            Err(SignInError::IdToken(reject)) if may_have_new_key(reject) => {
                let known = self.threads.provider(ProviderFreshness::Newest).await?;
                IdToken::verify(&known, token, expected, clock::now())
            }
            verified => verified,
        }
    }

    /// Verifies an access token as that of an API call, and reads its user.
    async fn verify_access_token(
        &self,
        token: &str,
        access: AccessCheck<'_, '_>,
    ) -> Result<AccessIdentity, SignInError> {
        let section = &*self.settings().section;
        let verified = access.authenticator.verify(access.caller, token.as_bytes()).await;
        let verified = verified
            .map_err(|rejection| SignInError::of_access_token(rejection.reject, section))?;
        AccessIdentity::of(&verified, section)
    }
}

impl From<ReceivedTokens> for ProviderTokens {
    fn from(received: ReceivedTokens) -> Self {
        let ReceivedTokens { access_token, refresh_token, id_token } = received;
        Self { access_token, refresh_token, id_token }
    }
}

/// The user of a verified access token.
struct AccessIdentity {
    username: String,
    expires_at: Option<UnixTime>,
}

impl AccessIdentity {
    fn of(verified: &Verified<'_>, section: &str) -> Result<Self, SignInError> {
        let accepting = &verified.issuer().section;
        if **accepting != *section {
            let (accepting, expected) = (accepting.clone(), section.into());
            return Err(SignInError::Section { accepting, expected });
        }
        let claims = verified.claims();
        let username = claims.username().filter(|name| !name.is_empty());
        let username = username.ok_or_else(|| SignInError::Username { section: section.into() })?;
        Ok(Self { username: username.into(), expires_at: claims.expires_at() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_a_session_are_not_shown() {
        let tokens = ProviderTokens {
            access_token: "secret".into(),
            refresh_token: Some("secret".into()),
            id_token: None,
        };
        assert_eq!(format!("{tokens:?}"), "ProviderTokens(..)");
    }
}
