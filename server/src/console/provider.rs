//! The OpenID provider with which users of the console sign in.

use std::sync::Arc;

use super::openid::{OpenIdClient, PendingKey, SignInError, SignInSettings};
use crate::keys::IssuerSection;

/// The client of the provider, and the key of sign-ins that have begun.
pub struct ConsoleProvider {
    pub(super) client: Arc<OpenIdClient>,
    pub(super) key: Arc<PendingKey>,
}

impl ConsoleProvider {
    /// Creates the client of a provider. Keeps that of `before`, with what it knows of the
    /// provider, if the settings are the same. `signing` is the section from which the key is
    /// derived.
    ///
    /// # Errors
    /// The trust store is empty, or the operating system cannot create a thread.
    pub fn new(
        settings: &SignInSettings,
        signing: Option<&IssuerSection>,
        before: Option<&Self>,
    ) -> Result<Self, SignInError> {
        let same = before.filter(|before| before.client.settings() == settings);
        let client = match same {
            Some(before) => Arc::clone(&before.client),
            None => Arc::new(OpenIdClient::start(settings.clone())?),
        };
        let key = match same {
            // A random key, which sign-ins that have begun need.
            Some(before) if signing.is_none() => Arc::clone(&before.key),
            _ => Arc::new(PendingKey::new(signing)?),
        };
        Ok(Self { client, key })
    }

    /// Creates the provider of a configuration, as [`new`](Self::new) does. `None` if it has none;
    /// the log has the reason if it cannot be created.
    #[must_use]
    pub fn of_config(
        settings: Option<&SignInSettings>,
        signing: Option<&IssuerSection>,
        before: Option<&Self>,
    ) -> Option<Arc<Self>> {
        let created = Self::new(settings?, signing, before);
        let failed = |error: &SignInError| {
            tracing::error!("users cannot sign in to the console with oidc_authority: {error}");
        };
        created.inspect_err(failed).ok().map(Arc::new)
    }

    /// Whether this section verifies the access tokens of the provider.
    pub(super) fn is_of_section(&self, section: &str) -> bool {
        *self.client.settings().section == *section
    }

    /// The host of the provider, by which users know it.
    pub(super) fn host(&self) -> &str {
        let authority = &*self.client.settings().authority;
        let rest = authority.split_once("://").map_or(authority, |(_, rest)| rest);
        rest.split(['/', '?']).next().unwrap_or(rest)
    }
}
