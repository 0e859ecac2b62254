//! Revocation of refresh tokens at the provider (RFC 7009), when a user signs out.

use std::time::Duration;

use http::{Method, Request, StatusCode, header};
use tokio::time::timeout;

use super::{
    OpenIdClient,
    error::SignInError,
    provider::{ProviderFreshness, ProviderSource},
};
use crate::keys::fetch::FetchError;

/// Longest wait of a sign-out for the provider.
const REVOCATION_TIMEOUT: Duration = Duration::from_secs(5);

impl OpenIdClient {
    /// Revokes a refresh token, as a page of this origin. Returns `false` if the provider has no
    /// endpoint for that.
    ///
    /// # Errors
    /// The provider does not answer within five seconds, or refuses the request.
    pub async fn revoke(&self, refresh_token: String, origin: &str) -> Result<bool, SignInError> {
        let origin = origin.trim_end_matches('/').to_owned();
        let revoke = async {
            let provider = self.threads.provider(ProviderFreshness::Usual).await?;
            let Some(endpoint) = provider.metadata.revocation_endpoint.clone() else {
                return Ok(false);
            };
            let revoke = move |source: &ProviderSource| {
                source.revoke(&endpoint, &refresh_token, &origin).map_err(SignInError::Unreachable)
            };
            self.threads.run(revoke).await.map(|()| true)
        };
        timeout(REVOCATION_TIMEOUT, revoke).await.unwrap_or_else(|_elapsed| {
            let text = "the provider did not answer in time";
            Err(SignInError::Unreachable(FetchError::new("timeout", text)))
        })
    }
}

impl ProviderSource {
    /// Sends a revocation request (RFC 7009 section 2.1). Blocks the calling thread.
    fn revoke(&self, endpoint: &str, refresh_token: &str, origin: &str) -> Result<(), FetchError> {
        let fields = [
            ("token", refresh_token),
            ("token_type_hint", "refresh_token"),
            ("client_id", self.settings.client_id.as_str()),
        ];
        let unusable = || FetchError::new("unreachable", "its revocation_endpoint is not a URI");
        let body = serde_urlencoded::to_string(fields).map_err(|_| unusable())?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(endpoint)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT, "application/json")
            .body(body.into_bytes())
            .map_err(|_| unusable())?;
        // A token that is not valid any more is answered with 200, too (section 2.2).
        match self.client.post(request, origin).map_err(|error| error.0)?.status() {
            StatusCode::OK => Ok(()),
            status => {
                let text = format!("the revocation endpoint answered {status}");
                Err(FetchError::new("status", text))
            }
        }
    }
}
