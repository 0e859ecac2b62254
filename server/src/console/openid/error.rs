//! Errors of signing in with an OpenID provider, grouped by the party that has to act.
//!
//! No error contains a token, a code, a state, or a description that may repeat one of them.

use std::fmt;

use countersign_engine::{Blame, Reject};
use http::StatusCode;

use crate::{
    base::{printable::printable, redacted::may_be_secret},
    keys::fetch::FetchError,
};

/// The party that has to act before a sign-in can succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignInBlame {
    /// The user, or the browser: sign in again.
    Browser,
    /// The provider: it is down, or its answers break a rule.
    Provider,
    /// The operator: an option here, or the registration of the client at the provider.
    Configuration,
    /// This server: it is busy, or lacks keys.
    Server,
}

/// The reason why a sign-in failed. [`SignInError::blame`] groups them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignInError {
    /// The browser has not begun to sign in here, or its cookie is gone, altered, or of another
    /// configuration.
    NotBegun,
    /// The sign-in began too long ago.
    Late,
    /// `state` is not that of the sign-in which this browser began.
    State,
    /// A parameter of the callback is missing or occurs twice.
    Callback(&'static str),
    /// The provider does not accept the code or the refresh token: it has expired, or was used.
    Grant,
    /// The provider refuses the user, with this error code.
    Denied(OAuthCode),
    /// The provider requires the user to do something, with this error code.
    Interaction(OAuthCode),

    /// The provider cannot be reached, or its answer cannot be read.
    Unreachable(FetchError),
    /// The provider reports a fault of its own, with this error code.
    ProviderFailure(OAuthCode),
    /// The metadata of the provider cannot be used.
    Metadata(String),
    /// The callback comes from another provider (`iss`, RFC 9207), or does not name one.
    ResponseIssuer,
    /// The token response cannot be used.
    TokenResponse(String),
    /// The ID token is refused.
    IdToken(Reject),
    /// A claim of the ID token is missing or wrong.
    IdTokenClaim(&'static str),
    /// The user has to sign in anew, and the ID token shows an older sign-in, or none.
    NotFresh,

    /// The provider refuses the client or its request.
    Client {
        /// The error code.
        code: OAuthCode,
        /// The description of the provider, without what may be a secret.
        description: String,
    },
    /// The provider sent no ID token.
    NoIdToken,
    /// The section does not accept the access token.
    AccessToken {
        /// The reason.
        reject: Reject,
        /// The section that verifies access tokens.
        section: Box<str>,
    },
    /// Another section than that of the provider accepts the access token.
    Section {
        /// The section that accepts it.
        accepting: Box<str>,
        /// The section of the provider.
        expected: Box<str>,
    },
    /// The access token has no username.
    Username {
        /// The section that verifies access tokens.
        section: Box<str>,
    },
    /// A renewed token is that of another user.
    OtherUser,

    /// Too many sign-ins are under way.
    Busy,
    /// The system has no randomness.
    Randomness,
    /// The access token cannot be judged, since its keys are not available.
    Undecided(Reject),
}

/// An error code of OAuth 2.0 (RFC 6749 sections 4.1.2.1 and 5.2), in visible ASCII and bounded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OAuthCode(Box<str>);

impl OAuthCode {
    /// Reads a code of a provider. One that cannot be a code is replaced.
    #[must_use]
    pub fn new(code: &str) -> Self {
        const MAX_BYTES: usize = 64;
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        let is_code = (1..=MAX_BYTES).contains(&code.len()) && code.bytes().all(is_allowed);
        Self(if is_code { code.into() } else { "unreadable_error".into() })
    }

    /// The code.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl SignInError {
    /// Returns the error for the code that a provider answers with, at its authorization endpoint
    /// or its token endpoint.
    #[must_use]
    pub fn of_provider(code: &str, description: Option<&str>) -> Self {
        let code = OAuthCode::new(code);
        match code.as_str() {
            "access_denied" => Self::Denied(code),
            "login_required"
            | "interaction_required"
            | "consent_required"
            | "account_selection_required" => Self::Interaction(code),
            "server_error" | "temporarily_unavailable" => Self::ProviderFailure(code),
            "invalid_grant" => Self::Grant,
            _ => {
                let description = shown_description(description.unwrap_or_default());
                Self::Client { code, description }
            }
        }
    }

    /// Returns the error for an access token that is refused.
    #[must_use]
    pub fn of_access_token(reject: Reject, section: &str) -> Self {
        match (reject, reject.blame()) {
            (_, Blame::Unavailable) => Self::Undecided(reject),
            (Reject::Username, _) => Self::Username { section: section.into() },
            _ => Self::AccessToken { reject, section: section.into() },
        }
    }

    /// Returns the [`SignInBlame`]: the party that has to act.
    #[must_use]
    pub const fn blame(&self) -> SignInBlame {
        match self {
            Self::NotBegun
            | Self::Late
            | Self::State
            | Self::Callback(_)
            | Self::Grant
            | Self::Denied(_)
            | Self::Interaction(_)
            | Self::OtherUser => SignInBlame::Browser,
            Self::Unreachable(_)
            | Self::ProviderFailure(_)
            | Self::Metadata(_)
            | Self::ResponseIssuer
            | Self::TokenResponse(_)
            | Self::IdToken(_)
            | Self::IdTokenClaim(_)
            | Self::NotFresh => SignInBlame::Provider,
            Self::Client { .. }
            | Self::NoIdToken
            | Self::AccessToken { .. }
            | Self::Section { .. }
            | Self::Username { .. } => SignInBlame::Configuration,
            Self::Busy | Self::Randomness | Self::Undecided(_) => SignInBlame::Server,
        }
    }

    /// Returns the stable code, for logs and metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotBegun => "not_begun",
            Self::Late => "late",
            Self::State => "state",
            Self::Callback(_) => "callback",
            Self::Grant => "grant",
            Self::Denied(_) => "denied",
            Self::Interaction(_) => "interaction",
            Self::Unreachable(_) => "unreachable",
            Self::ProviderFailure(_) => "provider_failure",
            Self::Metadata(_) => "metadata",
            Self::ResponseIssuer => "response_issuer",
            Self::TokenResponse(_) => "token_response",
            Self::IdToken(_) => "id_token",
            Self::IdTokenClaim(_) => "id_token_claim",
            Self::NotFresh => "not_fresh",
            Self::Client { .. } => "client",
            Self::NoIdToken => "no_id_token",
            Self::AccessToken { .. } => "access_token",
            Self::Section { .. } => "section",
            Self::Username { .. } => "username",
            Self::OtherUser => "other_user",
            Self::Busy => "busy",
            Self::Randomness => "randomness",
            Self::Undecided(_) => "undecided",
        }
    }

    /// Returns the status of the page that reports the error.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match (self, self.blame()) {
            (Self::Denied(_), _) => StatusCode::FORBIDDEN,
            (Self::Unreachable(_) | Self::ProviderFailure(_), _) | (_, SignInBlame::Server) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            (_, SignInBlame::Browser) => StatusCode::BAD_REQUEST,
            (_, SignInBlame::Provider) => StatusCode::BAD_GATEWAY,
            (_, SignInBlame::Configuration) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Returns what to do about the error, as a sentence without a full stop.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::NotBegun | Self::State => {
                "sign in again from the console, in one window, with cookies allowed".into()
            }
            Self::Late | Self::Callback(_) | Self::Grant | Self::Interaction(_) => {
                "sign in again".into()
            }
            Self::Denied(_) => {
                "ask the administrator of the provider for access to this application".into()
            }
            Self::OtherUser => "sign out, and sign in again".into(),
            Self::Unreachable(_) => "check that this server reaches the provider, and that \
                                     oidc_authority of [web-ui] and ca_file of its section are \
                                     right"
                .into(),
            Self::ProviderFailure(_) => "try again, and look into the log of the provider".into(),
            Self::Metadata(_) => {
                "compare oidc_authority of [web-ui] with the metadata of the provider".into()
            }
            Self::ResponseIssuer => {
                "sign in again; if the error stays, compare oidc_authority of [web-ui] with the \
                 issuer in the metadata of the provider"
                    .into()
            }
            Self::TokenResponse(_) => "look into the log of the provider".into(),
            Self::IdToken(reject) => id_token_remedy(*reject).into(),
            Self::IdTokenClaim(_) => {
                "sign in again; if the error stays, check the client at the provider".into()
            }
            Self::NotFresh => {
                "let the provider add auth_time to the ID tokens of this client, and \
                               sign in again"
                    .into()
            }
            Self::Client { code, .. } => client_remedy(code.as_str()).into(),
            Self::NoIdToken => "add openid to oidc_scope of [web-ui]".into(),
            Self::AccessToken { reject, section } => access_token_remedy(*reject, section),
            Self::Section { expected, .. } => {
                format!("give [{expected}] the issuer and audience of these access tokens")
            }
            Self::Username { section } => format!(
                "let the provider add the claim to its access tokens, or set jwt_username_claim of \
                 [{section}] to one that they have"
            ),
            Self::Busy | Self::Undecided(_) => "try again in some seconds".into(),
            Self::Randomness => "look into the log of the operating system".into(),
        }
    }
}

fn id_token_remedy(reject: Reject) -> &'static str {
    match reject {
        Reject::Audience | Reject::AudienceMissing => {
            "set oidc_client_id of [web-ui] to the client id at the provider"
        }
        Reject::IssuerUnknown | Reject::IssuerMissing | Reject::Tenant => {
            "set oidc_authority of [web-ui] to the issuer of the ID tokens; for several tenants, \
             list them in tenants of its section"
        }
        Reject::Expired | Reject::IssuedInFuture | Reject::NotYetValid => {
            "compare the clock of this server with that of the provider"
        }
        _ => {
            "check that the client at the provider signs ID tokens with a public key of its \
              jwks_uri"
        }
    }
}

fn access_token_remedy(reject: Reject, section: &str) -> String {
    match reject {
        // An opaque token is not a JWT.
        _ if reject.blame() == Blame::Malformed => "let the provider issue JWTs as access tokens: \
            some do so only for a scope of your own in oidc_scope of [web-ui], such as \
            api://<client-id>/access"
            .into(),
        Reject::Audience | Reject::AudienceMissing => format!(
            "set audience of [{section}] to the aud of these access tokens, or add the scope of \
             your own application to oidc_scope of [web-ui]"
        ),
        Reject::IssuerUnknown | Reject::IssuerMissing => {
            format!("set issuer of [{section}] to the iss of these access tokens")
        }
        Reject::Expired | Reject::IssuedInFuture | Reject::NotYetValid => {
            "compare the clock of this server with that of the provider".into()
        }
        _ => format!("compare [{section}] with an access token: countersign token explain"),
    }
}

fn client_remedy(code: &str) -> &'static str {
    match code {
        "invalid_client" | "unauthorized_client" => {
            "check oidc_client_id of [web-ui], and that the client at the provider is public and \
             may use the authorization code grant with PKCE"
        }
        "invalid_scope" => "check oidc_scope of [web-ui]",
        _ => {
            "register the origin of the console as a redirect URI at the provider, without a \
             slash at its end"
        }
    }
}

/// Returns the description of a provider without control characters and without words that may be
/// a secret.
fn shown_description(text: &str) -> String {
    const MAX_CHARS: usize = 200;
    let words = text.split_whitespace().map(|word| if may_be_secret(word) { "…" } else { word });
    printable(&words.collect::<Vec<_>>().join(" ").chars().take(MAX_CHARS).collect::<String>())
}

impl fmt::Display for SignInError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotBegun => f.write_str("this browser has not begun to sign in here"),
            Self::Late => f.write_str("the sign-in took longer than 10 minutes"),
            Self::State => f.write_str("the answer belongs to another sign-in (state)"),
            Self::Callback(name) => write!(f, "{name} is missing in the answer, or occurs twice"),
            Self::Grant => {
                f.write_str("the provider does not accept the code: it has expired, or was used")
            }
            Self::Denied(code) => write!(f, "the provider refuses the user ({})", code.as_str()),
            Self::Interaction(code) => {
                write!(f, "the provider needs an action of the user ({})", code.as_str())
            }
            Self::Unreachable(error) => {
                write!(f, "the provider does not answer as expected: {}", error.text)
            }
            Self::ProviderFailure(code) => {
                write!(f, "the provider reports a fault ({})", code.as_str())
            }
            Self::Metadata(text) => f.write_str(text),
            Self::ResponseIssuer => f.write_str("the answer is not from the provider (iss)"),
            Self::TokenResponse(text) => {
                write!(f, "the token response of the provider is unusable: {text}")
            }
            Self::IdToken(reject) => write!(f, "the ID token is refused: {reject}"),
            Self::IdTokenClaim(name) => {
                write!(f, "the claim {name} of the ID token is missing or wrong")
            }
            Self::NotFresh => f.write_str("the provider did not sign the user in anew (auth_time)"),
            Self::Client { code, description } if description.is_empty() => {
                write!(f, "the provider refuses the request ({})", code.as_str())
            }
            Self::Client { code, description } => {
                write!(f, "the provider refuses the request ({}): {description}", code.as_str())
            }
            Self::NoIdToken => f.write_str("the provider sent no ID token"),
            Self::AccessToken { reject, section } => {
                write!(f, "[{section}] does not accept the access token: {reject}")
            }
            Self::Section { accepting, expected } => {
                write!(f, "the access token is one of [{accepting}], not of [{expected}]")
            }
            Self::Username { section } => {
                write!(f, "the access token has no username for [{section}]")
            }
            Self::OtherUser => f.write_str("the renewed token is that of another user"),
            Self::Busy => f.write_str("too many sign-ins are under way"),
            Self::Randomness => f.write_str("the operating system provides no randomness"),
            Self::Undecided(reject) => write!(f, "the access token cannot be judged: {reject}"),
        }
    }
}

impl std::error::Error for SignInError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sign_in_error_of_the_provider_has_its_blame() {
        for (code, blame, status) in [
            ("access_denied", SignInBlame::Browser, 403),
            ("login_required", SignInBlame::Browser, 400),
            ("invalid_grant", SignInBlame::Browser, 400),
            ("temporarily_unavailable", SignInBlame::Provider, 503),
            ("invalid_client", SignInBlame::Configuration, 500),
            ("redirect_uri_mismatch", SignInBlame::Configuration, 500),
        ] {
            let error = SignInError::of_provider(code, None);
            assert_eq!((error.blame(), error.status().as_u16()), (blame, status), "{code}");
            assert!(!error.remedy().is_empty());
        }
    }

    #[test]
    fn sign_in_error_shows_no_secret_of_the_provider() {
        let code = "SplxlOBeZQQYbYS6WxSbIAxyz";
        let description = format!("Code {code} of client\u{1b}[2J console \nis unknown");
        let error = SignInError::of_provider("invalid_request", Some(&description));
        let text = error.to_string();
        let expected = "the provider refuses the request (invalid_request): Code … of \
                        client\\u{1b}[2J console is unknown";
        assert_eq!(text, expected);
        let odd = SignInError::of_provider(&format!("<script>{code}"), None);
        assert!(odd.to_string().contains("(unreadable_error)"), "{odd}");
        let long = SignInError::of_provider("x", Some(&"word ".repeat(1000)));
        assert!(long.to_string().len() < 300, "{long}");
    }

    #[test]
    fn refused_access_token_names_the_line_to_change() {
        let remedy = |reject| SignInError::of_access_token(reject, "auth_jwt_oidc").remedy();
        assert!(remedy(Reject::Segments).contains("oidc_scope"));
        assert!(remedy(Reject::Audience).contains("audience of [auth_jwt_oidc]"));
        assert!(remedy(Reject::Username).contains("jwt_username_claim of [auth_jwt_oidc]"));
        let undecided = SignInError::of_access_token(Reject::KeysUnavailable, "auth_jwt_oidc");
        assert_eq!(undecided.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}
