//! `[web-ui]` and `server.auth_method`: where the web console sends people to log in. Two earlier forms are
//! understood, each with the lines to write instead: `oidc_auth_url` with
//! `oidc_realm`, for Keycloak alone, and the `[dashboard]` before it.

use std::collections::BTreeMap;

use http::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{problem::Problem, reader::SectionReader, setting::Section};

/// What the web console is told.
#[derive(Clone, Debug)]
pub struct WebUi {
    /// `server.auth_method`.
    pub auth_method: AuthMethod,
    /// The OpenID provider, if one is named.
    pub provider: Option<OpenIdProvider>,
    /// `oidc_local_fallback`: whether the server's own users may log in beside it.
    pub local_fallback: bool,
}

/// Where people log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMethod {
    /// At an OpenID provider.
    Oidc,
    /// Here, as users in the database.
    Database,
    /// Elsewhere, before their requests come here.
    Jwt,
}

impl AuthMethod {
    const ALL: [Self; 3] = [Self::Oidc, Self::Database, Self::Jwt];

    /// Its name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Oidc => "oidc",
            Self::Database => "database",
            Self::Jwt => "jwt",
        }
    }
}

/// An OpenID provider, as the web console uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenIdProvider {
    /// `oidc_authority`: its metadata are at `/.well-known/openid-configuration` below.
    pub authority: String,
    /// `oidc_client_id`: the web console's name there.
    pub client_id: String,
    /// `oidc_scope`: what the web console asks for.
    pub scope: String,
}

/// What everyone who logs in by OpenID Connect asks for.
const SCOPE: &str = "openid profile email";
/// The realm that Inmanta's older guides have people make.
const REALM: &str = "inmanta";

impl WebUi {
    pub(super) fn read(
        sections: &BTreeMap<String, Section>,
        problems: &mut Vec<Problem>,
        warnings: &mut Vec<Problem>,
    ) -> Self {
        let auth_method =
            read_auth_method(&SectionReader::new(sections, "server", problems), warnings);
        let dashboard =
            read_dashboard(&mut SectionReader::new(sections, "dashboard", problems), warnings);
        let mut reader = SectionReader::new(sections, "web-ui", problems);
        reader.flag("console_enabled");
        let local_fallback = reader.flag("oidc_local_fallback").unwrap_or(false);
        let provider = match given(&reader, "oidc_authority") {
            Some(authority) => read_provider(&mut reader, authority, warnings),
            None => read_keycloak(&mut reader, warnings),
        };
        Self { auth_method, provider: provider.or(dashboard), local_fallback }
    }
}

/// Only warned about: the real server leaves it to its web console to complain.
fn read_auth_method(server: &SectionReader<'_>, warnings: &mut Vec<Problem>) -> AuthMethod {
    let Some(name) = server.text("auth_method") else { return AuthMethod::Oidc };
    AuthMethod::ALL.into_iter().find(|method| method.name() == name).unwrap_or_else(|| {
        let text = format!("auth_method {name:?} is none of oidc, database, jwt");
        warnings.push(Problem::new(server.place("auth_method"), text).help("oidc is assumed"));
        AuthMethod::Oidc
    })
}

fn read_provider(
    reader: &mut SectionReader<'_>,
    authority: &str,
    warnings: &mut Vec<Problem>,
) -> Option<OpenIdProvider> {
    check_uri(reader, "oidc_authority", authority)?;
    for option in
        ["oidc_auth_url", "oidc_realm"].into_iter().filter(|option| given(reader, option).is_some())
    {
        let text = format!("{option} in web-ui is ignored beside oidc_authority");
        warnings.push(Problem::new(reader.place(option), text).help("remove the line"));
    }
    Some(OpenIdProvider {
        authority: authority.into(),
        client_id: read_client_id(reader, warnings),
        scope: read_scope(reader),
    })
}

/// The form that only knew Keycloak.
fn read_keycloak(
    reader: &mut SectionReader<'_>,
    warnings: &mut Vec<Problem>,
) -> Option<OpenIdProvider> {
    let url = given(reader, "oidc_auth_url")?;
    check_uri(reader, "oidc_auth_url", url)?;
    let authority = realm(url, given(reader, "oidc_realm").unwrap_or(REALM));
    let text = "oidc_auth_url and oidc_realm in web-ui are deprecated: they are for Keycloak alone";
    let help = format!("write instead of both:\n    oidc_authority={authority}");
    warnings.push(Problem::new(reader.place("oidc_auth_url"), text).help(help));
    Some(OpenIdProvider {
        authority,
        client_id: read_client_id(reader, warnings),
        scope: read_scope(reader),
    })
}

/// The section before `[web-ui]`.
fn read_dashboard(
    reader: &mut SectionReader<'_>,
    warnings: &mut Vec<Problem>,
) -> Option<OpenIdProvider> {
    let is_enabled = reader.flag("enabled").unwrap_or(true);
    let url = given(reader, "auth_url")?;
    check_uri(reader, "auth_url", url)?;
    let authority = realm(url, given(reader, "realm").unwrap_or(REALM));
    let client_id = given(reader, "client_id").unwrap_or_default();
    let help = format!(
        "write instead:\n    [web-ui]\n    oidc_authority={authority}\n    oidc_client_id={client_id}"
    );
    warnings.push(
        Problem::new(reader.place(""), "[dashboard] has been replaced by [web-ui]").help(help),
    );
    is_enabled.then(|| OpenIdProvider {
        authority,
        client_id: client_id.into(),
        scope: SCOPE.into(),
    })
}

/// Where Keycloak has a realm.
fn realm(url: &str, name: &str) -> String {
    /// What a segment of a path holds as it is (RFC 3986 section 3.3).
    const ENCODED: &AsciiSet =
        &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    format!("{}/realms/{}", url.trim_end_matches('/'), utf8_percent_encode(name, ENCODED))
}

fn read_client_id(reader: &SectionReader<'_>, warnings: &mut Vec<Problem>) -> String {
    let client_id = given(reader, "oidc_client_id");
    if client_id.is_none() {
        let problem = Problem::new(
            reader.place("oidc_client_id"),
            "web-ui names an OpenID provider but no oidc_client_id",
        );
        warnings.push(problem.help("write the id under which the provider knows the web console"));
    }
    client_id.unwrap_or_default().into()
}

fn read_scope(reader: &SectionReader<'_>) -> String {
    given(reader, "oidc_scope").unwrap_or(SCOPE).into()
}

/// An empty text is none, as the real system has it.
fn given<'r>(reader: &SectionReader<'r>, option: &str) -> Option<&'r str> {
    reader.text(option).map(str::trim).filter(|text| !text.is_empty())
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
    // Not shown: it may hold a password.
    let problem =
        format!("{option} in {} is no http:// or https:// URI without credentials", reader.section);
    reader.problem(option, problem, "write one such as https://idp.example/realms/inmanta");
    None
}
