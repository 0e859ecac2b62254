//! Requests of OAuth 2.0: to the authorization endpoint by a redirect of the browser, and to the
//! token endpoint.

use std::{borrow::Cow, fmt, time::Duration};

use oauth2::{
    AccessToken, AuthUrl, AuthorizationCode, Client, ClientId, CsrfToken, EndpointNotSet,
    EndpointSet, HttpRequest, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RefreshToken,
    RequestTokenError, Scope, StandardRevocableToken, TokenResponse, TokenUrl,
    basic::{
        BasicErrorResponse, BasicRevocationErrorResponse, BasicTokenIntrospectionResponse,
        BasicTokenType,
    },
};
use serde::{Deserialize, Serialize};

use super::{
    error::SignInError, metadata::ProviderMetadata, pending::PendingSignIn,
    provider::ProviderSource, requests::RequestError, settings::SignInSettings,
};
use crate::base::redacted::json_error;

/// Tokens as the provider sends them in a [`TokenDocument`]. Nothing in them is verified.
pub(super) struct ReceivedTokens {
    pub(super) access_token: String,
    pub(super) refresh_token: Option<String>,
    pub(super) id_token: Option<String>,
}

/// A client without a secret, of one provider.
type PublicClient = Client<
    BasicErrorResponse,
    TokenDocument,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointSet,
>;

/// A token response (OpenID Connect Core 1.0 section 3.1.3.3). Other members are ignored: the
/// tokens themselves have their end, in a form that is the same for every provider.
#[derive(Debug, Serialize, Deserialize)]
struct TokenDocument {
    access_token: AccessToken,
    token_type: BasicTokenType,
    refresh_token: Option<RefreshToken>,
    id_token: Option<IdTokenText>,
}

/// The text of an ID token, which its [`Debug`](fmt::Debug) output hides.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct IdTokenText(String);

impl fmt::Debug for IdTokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdTokenText(..)")
    }
}

impl TokenResponse for TokenDocument {
    type TokenType = BasicTokenType;

    fn access_token(&self) -> &AccessToken {
        &self.access_token
    }

    fn token_type(&self) -> &BasicTokenType {
        &self.token_type
    }

    fn expires_in(&self) -> Option<Duration> {
        None
    }

    fn refresh_token(&self) -> Option<&RefreshToken> {
        self.refresh_token.as_ref()
    }

    fn scopes(&self) -> Option<&Vec<Scope>> {
        None
    }
}

/// Returns the URI to which the browser is redirected (OpenID Connect Core 1.0 section 3.1.2.1).
pub(super) fn authorization_uri(
    settings: &SignInSettings,
    metadata: &ProviderMetadata,
    pending: &PendingSignIn,
) -> Result<String, SignInError> {
    let client = client(settings, metadata)?;
    let verifier = PkceCodeVerifier::new(pending.verifier.clone());
    let request = client
        .authorize_url(|| CsrfToken::new(pending.state.clone()))
        .add_scopes(settings.scopes.iter().cloned().map(Scope::new))
        .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&verifier))
        .set_redirect_uri(Cow::Owned(redirect_uri(&pending.origin)?))
        .add_extra_param("nonce", pending.nonce.as_str());
    let request = if pending.is_fresh {
        request.add_extra_param("prompt", "login").add_extra_param("max_age", "0")
    } else {
        request
    };
    Ok(request.url().0.into())
}

impl ProviderSource {
    /// Redeems an authorization code (RFC 6749 section 4.1.3, RFC 7636 section 4.5). Blocks the
    /// calling thread.
    pub(super) fn redeem(
        &self,
        metadata: &ProviderMetadata,
        pending: PendingSignIn,
        code: String,
    ) -> Result<ReceivedTokens, SignInError> {
        let origin = pending.origin;
        let tokens = client(&self.settings, metadata)?
            .exchange_code(AuthorizationCode::new(code))
            .set_pkce_verifier(PkceCodeVerifier::new(pending.verifier))
            .set_redirect_uri(Cow::Owned(redirect_uri(&origin)?))
            .request(&|request: HttpRequest| self.client.post(request, &origin));
        read(tokens)
    }

    /// Exchanges a refresh token (RFC 6749 section 6). Blocks the calling thread.
    pub(super) fn renew(
        &self,
        metadata: &ProviderMetadata,
        refresh_token: String,
        origin: &str,
    ) -> Result<ReceivedTokens, SignInError> {
        let tokens = client(&self.settings, metadata)?
            .exchange_refresh_token(&RefreshToken::new(refresh_token))
            .request(&|request: HttpRequest| self.client.post(request, origin));
        read(tokens)
    }
}

fn client(
    settings: &SignInSettings,
    metadata: &ProviderMetadata,
) -> Result<PublicClient, SignInError> {
    let invalid = |_| SignInError::Metadata("an endpoint of the provider is not a URI".into());
    let authorization = AuthUrl::new(metadata.authorization_endpoint.clone()).map_err(invalid)?;
    let token = TokenUrl::new(metadata.token_endpoint.clone()).map_err(invalid)?;
    let client = Client::new(ClientId::new(settings.client_id.clone()));
    Ok(client.set_auth_uri(authorization).set_token_uri(token))
}

/// Returns the redirect URI exactly as it is registered: the origin, without a slash.
fn redirect_uri(origin: &str) -> Result<RedirectUrl, SignInError> {
    RedirectUrl::new(origin.into()).map_err(|_| SignInError::Callback("the origin of the console"))
}

fn read(
    tokens: Result<TokenDocument, RequestTokenError<RequestError, BasicErrorResponse>>,
) -> Result<ReceivedTokens, SignInError> {
    let TokenDocument { access_token, token_type, refresh_token, id_token } =
        tokens.map_err(request_error)?;
    // A token that is bound to a key (DPoP) is of no use to a browser session.
    if !token_type.as_ref().eq_ignore_ascii_case("bearer") {
        return Err(SignInError::TokenResponse("its token_type is not Bearer".into()));
    }
    Ok(ReceivedTokens {
        access_token: access_token.into_secret(),
        refresh_token: refresh_token.map(RefreshToken::into_secret),
        id_token: id_token.map(|IdTokenText(text)| text),
    })
}

/// Returns the [`SignInError`] without the response, which may have tokens.
fn request_error(error: RequestTokenError<RequestError, BasicErrorResponse>) -> SignInError {
    match error {
        RequestTokenError::ServerResponse(refusal) => {
            let description = refusal.error_description().map(String::as_str);
            SignInError::of_provider(refusal.error().as_ref(), description)
        }
        RequestTokenError::Request(RequestError(error)) => SignInError::Unreachable(error),
        RequestTokenError::Parse(error, _response) => {
            SignInError::TokenResponse(json_error(error.inner()))
        }
        RequestTokenError::Other(_) => {
            SignInError::TokenResponse("it is empty, or not of type application/json".into())
        }
    }
}

#[cfg(test)]
mod tests {
    use countersign_engine::UnixTime;

    use super::{
        super::{
            pending::SignInRequest,
            provider::tests::{CLIENT_ID, ISSUER, provider, settings},
        },
        *,
    };

    /// The public key of RFC 8037 appendix A.2.
    const X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    fn uri(is_fresh: bool) -> (String, PendingSignIn) {
        let request =
            SignInRequest { origin: "http://localhost:8888", return_to: "/console", is_fresh };
        let pending = PendingSignIn::begin(&request, UnixTime(0)).unwrap();
        let uri = authorization_uri(&settings(), &provider(X).metadata, &pending).unwrap();
        (uri, pending)
    }

    #[test]
    fn authorization_uri_has_pkce_state_and_nonce() {
        let (uri, pending) = uri(false);
        let (endpoint, query) = uri.split_once('?').unwrap();
        assert_eq!(endpoint, format!("{ISSUER}/auth"));
        let query: Vec<(String, String)> = serde_urlencoded::from_str(query).unwrap();
        let value = |name: &str| {
            let mut values = query.iter().filter(|(one, _)| one == name).map(|(_, value)| &**value);
            let first = values.next();
            assert_eq!(values.next(), None, "{name} occurs once");
            first
        };
        let verifier = PkceCodeVerifier::new(pending.verifier.clone());
        let challenge = PkceCodeChallenge::from_code_verifier_sha256(&verifier);
        for (name, expected) in [
            ("response_type", "code"),
            ("client_id", CLIENT_ID),
            ("scope", "openid"),
            ("state", &pending.state),
            ("nonce", &pending.nonce),
            ("code_challenge", challenge.as_str()),
            ("code_challenge_method", "S256"),
            ("redirect_uri", "http://localhost:8888"),
        ] {
            assert_eq!(value(name), Some(expected), "{name}");
        }
        assert_eq!((value("prompt"), value("max_age")), (None, None));
        assert!(!uri.contains(&pending.verifier));
    }

    #[test]
    fn fresh_sign_in_asks_for_the_password_again() {
        let (uri, _) = uri(true);
        assert!(uri.contains("&prompt=login") && uri.contains("&max_age=0"), "{uri}");
    }

    #[test]
    fn token_response_error_has_no_part_of_it() {
        let document = r#"{"access_token":"secret-1","token_type":5}"#;
        let error = serde_json::from_str::<TokenDocument>(document).unwrap_err();
        assert!(!json_error(&error).contains("secret"), "{error}");
        let document = r#"{"access_token":"secret-1","token_type":"Bearer","id_token":"secret-2","expires_in":"3600"}"#;
        let document = serde_json::from_str::<TokenDocument>(document).unwrap();
        assert!(!format!("{document:?}").contains("secret"), "{document:?}");
        assert_eq!(read(Ok(document)).unwrap().id_token.as_deref(), Some("secret-2"));
    }

    #[test]
    fn token_of_another_type_is_refused() {
        let document = r#"{"access_token":"a","token_type":"DPoP"}"#;
        let document = serde_json::from_str::<TokenDocument>(document).unwrap();
        assert!(matches!(read(Ok(document)), Err(SignInError::TokenResponse(_))));
    }
}
