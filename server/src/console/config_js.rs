//! `/console/**/config.js`: the settings of Inmanta's own web console, for operators who keep it.
//!
//! The text is that of the real server, byte for byte: one assignment to `window.auth` if tokens
//! are required, and the exported `features`. It has no secret.

use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use super::{ConsoleContext, error_page::ConsoleError};
use crate::{
    authorization::AuthorizationProvider,
    base::{
        reply::{Body, typed},
        route::CONSOLE_PATH,
    },
};

/// Whether a path is one at which the file is served.
#[must_use]
pub fn is_path(path: &str) -> bool {
    path.strip_prefix(CONSOLE_PATH)
        .is_some_and(|rest| rest.starts_with('/') && rest.ends_with("/config.js"))
}

/// Answers a request for the file.
///
/// # Errors
/// It is not served, or whether a user exists cannot be decided.
pub(super) async fn respond(context: &ConsoleContext<'_>) -> Result<Response<Body>, ConsoleError> {
    let config = context.config_js.ok_or(ConsoleError::NotFound)?;
    let local_fallback = match context.api.users.filter(|_| config.local_fallback) {
        Some(users) => users.store.has_users().await?,
        None => false,
    };
    Ok(ConfigJs { local_fallback, ..config.clone() }.respond())
}

/// The login that the file describes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DescribedLogin {
    /// `auth_method = database`: with a password.
    Database,
    /// `auth_method = jwt`: at a proxy, which adds a token to requests.
    Jwt,
    /// With any OpenID provider, by authorization code.
    OpenId {
        /// `oidc_authority`.
        authority: String,
        /// `oidc_client_id`.
        client_id: String,
        /// `oidc_scope`.
        scope: String,
    },
    /// With Keycloak, by the deprecated implicit grant.
    Keycloak {
        /// `oidc_auth_url`.
        url: String,
        /// `oidc_realm`.
        realm: String,
        /// `oidc_client_id`.
        client_id: String,
    },
    /// With a provider, of which no option names one. The real server describes Keycloak without a
    /// place then.
    Unconfigured,
}

/// The content of the file, with its [`DescribedLogin`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigJs {
    /// The login; `None` if requests need no token.
    pub login: Option<DescribedLogin>,
    /// `server.authorization-provider`.
    pub provider: AuthorizationProvider,
    /// Whether local users may log in beside the provider: `oidc_local_fallback` is set, a section
    /// signs, and a user exists.
    pub local_fallback: bool,
}

impl ConfigJs {
    /// Returns the file. Browsers must not store it, since it follows the configuration.
    #[must_use]
    pub fn respond(&self) -> Response<Body> {
        let mut response = typed(StatusCode::OK, "application/javascript", self.text());
        for (name, value) in
            [(header::CACHE_CONTROL, "no-cache"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")]
        {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }

    /// Returns the text of the file.
    #[must_use]
    pub fn text(&self) -> String {
        const FEATURES: &str = "\nexport const features = [];\n";
        match &self.login {
            None => FEATURES.into(),
            Some(login) => format!("\nwindow.auth = {};\n{FEATURES}", self.auth(login)),
        }
    }

    fn auth(&self, login: &DescribedLogin) -> String {
        /// `oidc_realm` without a value.
        const DEFAULT_REALM: &str = "inmanta";
        let (provider, fallback) = (json!(self.provider.name()), json!(self.local_fallback));
        let keycloak = |realm: &str, url: Value, client_id: Value| {
            python_object(&[
                ("method", json!("oidc")),
                ("realm", json!(realm)),
                ("url", url),
                ("clientId", client_id),
                ("provider", provider.clone()),
            ])
        };
        match login {
            DescribedLogin::Database => {
                python_object(&[("method", json!("database")), ("provider", provider)])
            }
            DescribedLogin::Jwt => python_object(&[
                ("method", json!("jwt")),
                ("provider", provider),
                ("localFallback", fallback),
            ]),
            DescribedLogin::OpenId { authority, client_id, scope } => python_object(&[
                ("method", json!("oidc-generic")),
                ("authority", json!(authority)),
                ("clientId", json!(client_id)),
                ("provider", provider),
                ("localFallback", fallback),
                ("scope", json!(scope)),
            ]),
            DescribedLogin::Keycloak { url, realm, client_id } => {
                keycloak(realm, json!(url), json!(client_id))
            }
            DescribedLogin::Unconfigured => keycloak(DEFAULT_REALM, Value::Null, Value::Null),
        }
    }
}

/// Writes an object as Python's `json.dumps`: in ASCII, with spaces after separators. JavaScript
/// reads it as a literal.
fn python_object(members: &[(&str, Value)]) -> String {
    let member = |(name, value): &(&str, Value)| format!("\"{name}\": {}", ascii(value));
    format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(", "))
}

fn ascii(value: &Value) -> String {
    let mut text = String::new();
    for character in value.to_string().chars() {
        if character.is_ascii() && character != '\u{7f}' {
            text.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                text.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(login: Option<DescribedLogin>, local_fallback: bool) -> String {
        ConfigJs { login, provider: AuthorizationProvider::Legacy, local_fallback }.text()
    }

    const FEATURES: &str = "\nexport const features = [];\n";

    #[test]
    fn config_js_has_the_form_of_the_real_server() {
        assert_eq!(text(None, true), FEATURES);
        let keycloak = DescribedLogin::Keycloak {
            url: "http://keycloak.example:8080".into(),
            realm: "inmanta".into(),
            client_id: "inmantaso".into(),
        };
        let open_id = DescribedLogin::OpenId {
            authority: "https://idp.example/".into(),
            client_id: "console".into(),
            scope: "openid api://x/access".into(),
        };
        for (login, fallback, auth) in [
            (DescribedLogin::Database, true, r#"{"method": "database", "provider": "legacy"}"#),
            (
                DescribedLogin::Jwt,
                true,
                r#"{"method": "jwt", "provider": "legacy", "localFallback": true}"#,
            ),
            (
                open_id,
                false,
                r#"{"method": "oidc-generic", "authority": "https://idp.example/", "clientId": "console", "provider": "legacy", "localFallback": false, "scope": "openid api://x/access"}"#,
            ),
            (
                keycloak,
                true,
                r#"{"method": "oidc", "realm": "inmanta", "url": "http://keycloak.example:8080", "clientId": "inmantaso", "provider": "legacy"}"#,
            ),
            (
                DescribedLogin::Unconfigured,
                false,
                r#"{"method": "oidc", "realm": "inmanta", "url": null, "clientId": null, "provider": "legacy"}"#,
            ),
        ] {
            let expected = format!("\nwindow.auth = {auth};\n{FEATURES}");
            assert_eq!(text(Some(login), fallback), expected);
        }
    }

    #[test]
    fn config_js_values_cannot_leave_their_literal() {
        let login = DescribedLogin::OpenId {
            authority: "https://idp/\"};alert(1)//\\\u{2028}é".into(),
            client_id: String::new(),
            scope: String::new(),
        };
        let text = text(Some(login), false);
        let expected = r#""authority": "https://idp/\"};alert(1)//\\\u2028\u00e9", "#;
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn config_js_is_not_cached() {
        let config =
            ConfigJs { login: None, provider: AuthorizationProvider::None, local_fallback: false };
        let response = config.respond();
        assert_eq!(response.headers()["cache-control"], "no-cache");
        assert_eq!(response.headers()["content-type"], "application/javascript");
    }
}
