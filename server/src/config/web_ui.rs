//! `[web-ui]` and `server.auth_method`: login of the web console.
//!
//! Two deprecated forms are still accepted, with a warning that gives their replacement:
//! `oidc_auth_url` with `oidc_realm` (Keycloak only), and the older `[dashboard]`.

use std::collections::BTreeMap;

use http::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{problem::Problems, reader::SectionReader, setting::Section};
use crate::{
    api::settings::ApiSettings,
    base::redacted::quoted,
    console::{
        config_js::{ConfigJs, DescribedLogin},
        openid::SignInSettings,
    },
    keys::{
        IssuerSection,
        administration::{ConsoleLogin, provider_section},
    },
};

/// Login settings of the web console.
#[derive(Clone, Debug)]
pub struct WebUi {
    /// `server.auth_method`.
    pub auth_method: AuthMethod,
    /// The text of `server.auth_method`, if it is not the name of a method.
    pub unknown_auth_method: Option<String>,
    /// The OpenID provider, if one is configured.
    pub provider: Option<OpenIdProvider>,
    /// `oidc_local_fallback`: whether local users may log in too.
    pub local_fallback: bool,
    is_enabled: bool,
    is_method_written: bool,
}

/// The login method of the web console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMethod {
    /// With an OpenID provider.
    Oidc,
    /// With a password, as a user of the database.
    Database,
    /// At a proxy, which adds a token to requests.
    Jwt,
}

impl AuthMethod {
    const ALL: [Self; 3] = [Self::Oidc, Self::Database, Self::Jwt];

    /// Returns the value's name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Oidc => "oidc",
            Self::Database => "database",
            Self::Jwt => "jwt",
        }
    }
}

/// Settings of an OpenID provider for the web console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenIdProvider {
    /// `oidc_authority`: the base of `/.well-known/openid-configuration`.
    pub authority: String,
    /// `oidc_client_id`: the client id of the web console.
    pub client_id: String,
    /// `oidc_scope`: the scopes that the web console requests.
    pub scope: String,
    /// The deprecated options for Keycloak, if the provider is configured by them.
    pub keycloak: Option<KeycloakRealm>,
}

/// A realm of Keycloak, as `oidc_auth_url` and `oidc_realm` name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeycloakRealm {
    /// `oidc_auth_url`.
    pub url: String,
    /// `oidc_realm`.
    pub name: String,
}

/// Scopes of the console under `[dashboard]`, which has no option for them.
const SCOPE: &str = "openid profile email";

impl WebUi {
    pub(super) fn read(sections: &BTreeMap<String, Section>, problems: &mut Problems) -> Self {
        let mut server = SectionReader::new(sections, "server", problems);
        let auth_method = read_auth_method(&mut server);
        let unknown_auth_method =
            auth_method.is_none().then(|| server.text_or_default("auth_method").to_owned());
        let auth_method = auth_method.unwrap_or(AuthMethod::Oidc);
        let is_method_written = server.given("auth_method").is_some();
        let dashboard = read_dashboard(&mut SectionReader::new(sections, "dashboard", problems));
        let mut reader = SectionReader::new(sections, "web-ui", problems);
        let is_enabled = reader.flag("console_enabled");
        let local_fallback = reader.flag("oidc_local_fallback");
        let provider = match reader.given("oidc_authority") {
            Some(authority) => read_provider(&mut reader, authority),
            None => read_keycloak(&mut reader),
        };
        let provider = provider.or(dashboard);
        Self {
            auth_method,
            unknown_auth_method,
            provider,
            local_fallback,
            is_enabled,
            is_method_written,
        }
    }

    /// Whether the console is served, unless `[console]` decides: it is not switched off, and has a
    /// provider or, if the API `has_accounts`, local users.
    pub(super) const fn serves_console(&self, has_accounts: bool) -> bool {
        self.is_enabled && (has_accounts || self.provider.is_some())
    }

    /// Whether local users sign in to the console with a password.
    pub(super) fn allows_passwords(&self) -> bool {
        self.provider.is_none() || self.local_fallback || self.has_passwords_only()
    }

    /// Whether users sign in with a password even if a provider is configured: `auth_method` is
    /// `database`.
    #[must_use]
    pub fn has_passwords_only(&self) -> bool {
        self.is_method_written && self.auth_method == AuthMethod::Database
    }

    /// Returns how the console signs in with its provider; `None` without a provider or a client
    /// id.
    ///
    /// # Errors
    /// No section verifies the access tokens of the provider, whose URI is returned.
    pub(super) fn sign_in(
        &self,
        sections: &[IssuerSection],
    ) -> Result<Option<SignInSettings>, &str> {
        let login = self.login();
        let provider = self.provider.as_ref().filter(|provider| !provider.client_id.is_empty());
        let Some(provider) = provider.filter(|_| login.provider.is_some()) else {
            return Ok(None);
        };
        let OpenIdProvider { authority, client_id, scope, .. } = provider;
        let section = provider_section(sections, login).ok_or(&**authority)?;
        Ok(Some(SignInSettings::new(authority, client_id, scope, section)))
    }

    /// Returns what `config.js` describes to Inmanta's own web console; `None` if it is not served:
    /// the console is switched off, or tokens are required and no login is possible.
    pub(super) fn config_js(&self, api: &ApiSettings) -> Option<ConfigJs> {
        let is_served = !api.requires_token || api.issues_tokens() || self.provider.is_some();
        (self.is_enabled && is_served).then(|| ConfigJs {
            login: api.requires_token.then(|| self.described_login()),
            provider: api.authorization_provider,
            local_fallback: self.local_fallback && api.signing.is_some(),
        })
    }

    /// Returns the [`DescribedLogin`] of `config.js`, which describes it to Inmanta's web console.
    #[must_use]
    pub fn described_login(&self) -> DescribedLogin {
        match (self.auth_method, &self.provider) {
            (AuthMethod::Database, _) => DescribedLogin::Database,
            (AuthMethod::Jwt, _) => DescribedLogin::Jwt,
            (AuthMethod::Oidc, None) => DescribedLogin::Unconfigured,
            (AuthMethod::Oidc, Some(provider)) => match &provider.keycloak {
                Some(KeycloakRealm { url, name }) => DescribedLogin::Keycloak {
                    url: url.clone(),
                    realm: name.clone(),
                    client_id: provider.client_id.clone(),
                },
                None => DescribedLogin::OpenId {
                    authority: provider.authority.clone(),
                    client_id: provider.client_id.clone(),
                    scope: provider.scope.clone(),
                },
            },
        }
    }

    /// Returns how the console logs in, which decides whose tokens may administer.
    pub(super) fn login(&self) -> ConsoleLogin<'_> {
        if self.has_passwords_only() {
            return ConsoleLogin::default();
        }
        let provider = self.provider.as_ref().filter(|_| self.is_enabled);
        ConsoleLogin {
            provider: provider.map(|provider| provider.authority.as_str()),
            written_method: self.is_method_written.then(|| self.auth_method.name()),
        }
    }
}

/// Reads `auth_method`. An unknown value is a warning, because Inmanta's server accepts it.
fn read_auth_method(server: &mut SectionReader<'_>) -> Option<AuthMethod> {
    let name = server.text_or_default("auth_method");
    let method = AuthMethod::ALL.into_iter().find(|method| method.name() == name);
    if method.is_none() {
        let text = format!(
            "auth_method {} is unknown: the web console uses oidc, and setup refuses it",
            quoted(name)
        );
        let help = format!("choose one of {}", server.choices("auth_method").join(", "));
        server.warn("auth_method", text, &help);
    }
    method
}

fn read_provider(reader: &mut SectionReader<'_>, authority: &str) -> Option<OpenIdProvider> {
    check_uri(reader, "oidc_authority", authority)?;
    for option in ["oidc_auth_url", "oidc_realm"] {
        if reader.given(option).is_some() {
            let text = format!("{option} in web-ui is ignored beside oidc_authority");
            reader.warn(option, text, "remove the line");
        }
    }
    Some(OpenIdProvider {
        authority: authority.into(),
        client_id: read_client_id(reader),
        scope: read_scope(reader),
        keycloak: None,
    })
}

/// Reads the deprecated options for Keycloak.
fn read_keycloak(reader: &mut SectionReader<'_>) -> Option<OpenIdProvider> {
    let url = reader.given("oidc_auth_url")?;
    check_uri(reader, "oidc_auth_url", url)?;
    let name = reader.text_or_default("oidc_realm");
    let authority = realm(url, name);
    let keycloak = Some(KeycloakRealm { url: url.into(), name: name.into() });
    let text = "oidc_auth_url and oidc_realm in web-ui are deprecated: they only support Keycloak";
    let help = format!("replace both with:\n    oidc_authority={authority}");
    reader.warn("oidc_auth_url", text, &help);
    let (client_id, scope) = (read_client_id(reader), read_scope(reader));
    Some(OpenIdProvider { authority, client_id, scope, keycloak })
}

/// Reads `[dashboard]`, the predecessor of `[web-ui]`.
fn read_dashboard(reader: &mut SectionReader<'_>) -> Option<OpenIdProvider> {
    let is_enabled = reader.flag("enabled");
    let url = reader.given("auth_url")?;
    check_uri(reader, "auth_url", url)?;
    let authority = realm(url, reader.text_or_default("realm"));
    let client_id = reader.given("client_id").unwrap_or_default();
    let help = format!(
        "replace it with:\n    [web-ui]\n    oidc_authority={authority}\n    \
         oidc_client_id={client_id}"
    );
    reader.warn("", "[dashboard] is deprecated in favour of [web-ui]", &help);
    is_enabled.then(|| OpenIdProvider {
        authority,
        client_id: client_id.into(),
        scope: SCOPE.into(),
        keycloak: None,
    })
}

/// Returns the URI of a Keycloak realm.
fn realm(url: &str, name: &str) -> String {
    /// Characters to encode in a path segment (RFC 3986 section 3.3).
    const ENCODED: &AsciiSet =
        &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    format!("{}/realms/{}", url.trim_end_matches('/'), utf8_percent_encode(name, ENCODED))
}

fn read_client_id(reader: &mut SectionReader<'_>) -> String {
    let client_id = reader.given("oidc_client_id");
    if client_id.is_none() {
        reader.warn(
            "oidc_client_id",
            "web-ui has an OpenID provider but no oidc_client_id",
            "set it to the client id of the web console at the provider",
        );
    }
    client_id.unwrap_or_default().into()
}

fn read_scope(reader: &SectionReader<'_>) -> String {
    reader.given("oidc_scope").unwrap_or(SCOPE).into()
}

fn check_uri(reader: &mut SectionReader<'_>, option: &str, text: &str) -> Option<()> {
    let uri: Option<Uri> = text.parse().ok();
    let has_credentials =
        |uri: &Uri| uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
    if uri.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && !has_credentials(&uri)
    }) {
        return Some(());
    }
    // The message does not contain the URI, which may contain a password.
    let problem = format!(
        "{option} in {} is not an http:// or https:// URI without credentials",
        reader.section
    );
    reader.error(option, problem, "write one such as https://idp.example/realms/inmanta");
    None
}
