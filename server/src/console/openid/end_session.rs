//! Sign-out at the provider (OpenID Connect RP-Initiated Logout 1.0).

use countersign_engine::Verifier;
use http::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{OpenIdClient, SignInError, provider::ProviderFreshness};
use crate::base::clock;

/// `state` of a sign-out, with which the browser returns from the provider.
pub const SIGNED_OUT_STATE: &str = "signed-out";

impl OpenIdClient {
    /// Returns the URI at which a user signs out of the provider, who then returns to the origin of
    /// the console (OpenID Connect RP-Initiated Logout 1.0 section 2). `None` if the provider has
    /// none.
    ///
    /// The ID token of the session is part of the URI, unless `verifier` would accept it as an
    /// access token: URIs are in histories and logs.
    ///
    /// # Errors
    /// The provider cannot be reached, or its metadata cannot be used.
    pub async fn end_session_uri(
        &self,
        id_token: Option<&str>,
        origin: &str,
        verifier: &Verifier,
    ) -> Result<Option<String>, SignInError> {
        let provider = self.threads.provider(ProviderFreshness::Usual).await?;
        let Some(endpoint) = &provider.metadata.end_session_endpoint else { return Ok(None) };
        let is_credential = |token: &&str| verifier.verify(token.as_bytes(), clock::now()).is_ok();
        let hint = id_token.filter(|token| !is_credential(token));
        let origin = origin.trim_end_matches('/');
        let parameters = [
            ("client_id", Some(&*self.settings().client_id)),
            ("post_logout_redirect_uri", Some(origin)),
            ("state", Some(SIGNED_OUT_STATE)),
            ("id_token_hint", hint),
        ];
        Ok(Some(with_parameters(endpoint, &parameters)))
    }
}

/// Adds parameters to an endpoint, which may have a query of its own.
fn with_parameters(endpoint: &str, parameters: &[(&str, Option<&str>)]) -> String {
    /// Characters to encode in a value (RFC 3986 section 2.3).
    const ENCODED: &AsciiSet =
        &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    let has_query = endpoint.parse::<Uri>().is_ok_and(|uri| uri.query().is_some());
    let (mut uri, mut separator) = (endpoint.to_owned(), if has_query { '&' } else { '?' });
    for (name, value) in parameters {
        if let Some(value) = value {
            uri.push(separator);
            uri.push_str(name);
            uri.push('=');
            uri.extend(utf8_percent_encode(value, ENCODED));
            separator = '&';
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_follow_those_of_the_endpoint() {
        let uri = |endpoint: &str| {
            let parameters = [("a", Some("x&y=é")), ("b", None), ("c", Some("http://h:1"))];
            with_parameters(endpoint, &parameters)
        };
        assert_eq!(uri("https://idp/end"), "https://idp/end?a=x%26y%3D%C3%A9&c=http%3A%2F%2Fh%3A1");
        assert!(uri("https://idp/end?realm=r").starts_with("https://idp/end?realm=r&a=x"));
    }
}
