//! `[server]`, `[listen]`, `[limits]`, `[log]`, `[metrics]`, `[identity_headers]`,
//! `[ext_authz]` and `[api_clients]`.

use std::{collections::BTreeMap, sync::Arc};

use http::{HeaderName, HeaderValue, StatusCode, header};

use super::{
    clients::ApiClients,
    ext_authz::ExtAuthz,
    issuer::IssuerSection,
    limits::{SignatureLimits, Timeouts},
    listener::{self, Listener},
    log::LogSettings,
    login::LoginSettings,
    problem::Problem,
    quic::QuicSettings,
    reader::SectionReader,
    setting::Section,
};
use crate::surface::generic;

/// Listeners, and settings that apply to every request.
#[derive(Debug)]
pub struct Server {
    /// Whether `/api/v2` requires a token. `/auth` and `/v1` always do.
    pub auth: bool,
    /// Header with a bare token. It takes precedence over `Authorization`.
    pub additional_header: Option<HeaderName>,
    /// The [`Listener`]s: the main listener first, the metrics listener last.
    pub listeners: Vec<Listener>,
    /// Number of threads that serve requests. `None` for one per core.
    pub threads: Option<usize>,
    /// CPU budgets for bad signatures, see [`SignatureLimits`].
    pub limits: SignatureLimits,
    /// Limit and timeouts of connections, see [`Timeouts`].
    pub timeouts: Timeouts,
    /// QUIC settings of listeners with HTTP/3.
    pub quic: QuicSettings,
    /// Settings of the access log.
    pub log: LogSettings,
    /// Memory of the token cache in bytes. 0 switches the cache off.
    pub cache_bytes: usize,
    /// Status for refused tokens on the Inmanta surface: 403 as in Inmanta, or 401 as in
    /// RFC 6750.
    pub rejected_token_status: StatusCode,
    /// Maximum length of a request body in bytes.
    pub max_body: usize,
    /// `Access-Control-Allow-Origin` of the `/api/v2` surface.
    pub allow_origin: Option<HeaderValue>,
    /// Headers with the caller's identity in answers of `/auth`.
    pub identity_headers: IdentityHeaders,
    /// `[ext_authz]`: contents of gRPC answers to Envoy.
    pub ext_authz: ExtAuthz,
    /// `[api_clients]`: clients that may revoke tokens.
    pub api_clients: ApiClients,
    /// Settings for logins of local users.
    pub login: LoginSettings,
    /// [`AuthorizationProvider`] for API calls.
    pub authorization_provider: AuthorizationProvider,
    /// The section that signs tokens, if any section is configured.
    pub signing: Option<Arc<IssuerSection>>,
}

/// Authorization of calls of the Inmanta API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthorizationProvider {
    /// By client types and environments of tokens.
    Legacy,
    /// By a policy for users. Other callers as with [`Legacy`](Self::Legacy).
    PolicyEngine,
}

/// Names of the identity headers. `None` for a header that is switched off.
#[derive(Clone, Debug)]
pub struct IdentityHeaders {
    /// The claim `sub`.
    pub subject: Option<HeaderName>,
    /// The user's name, from the claim configured for the issuer.
    pub user: Option<HeaderName>,
    /// The claim `iss`.
    pub issuer: Option<HeaderName>,
    /// The client types, comma-separated.
    pub client_types: Option<HeaderName>,
    /// The tenant. Empty until multi-tenancy is configured.
    pub tenant: Option<HeaderName>,
}

/// Default size of the token cache: about 60,000 tokens of the usual size. The memory is
/// allocated as it is used.
const CACHE_MEGABYTES: usize = 64;

impl Server {
    /// Returns the listener named `name`.
    #[must_use]
    pub fn listener(&self, name: &str) -> Option<&Listener> {
        self.listeners.iter().find(|listener| listener.name == name)
    }

    pub(super) fn read(
        sections: &BTreeMap<String, Section>,
        problems: &mut Vec<Problem>,
        warnings: &mut Vec<Problem>,
    ) -> Self {
        check_policy_engine(&mut SectionReader::new(sections, "policy_engine", problems));
        let api_clients = ApiClients::read(sections, problems);
        let identity_headers =
            IdentityHeaders::read(&mut SectionReader::new(sections, "identity_headers", problems));
        let ext_authz = ExtAuthz::read(&mut SectionReader::new(sections, "ext_authz", problems));
        let threads = SectionReader::new(sections, "listen", problems).number("threads", 1..=1024);
        let listeners = listener::read_all(sections, problems, warnings);
        let limits = SignatureLimits::read(sections, problems);
        let timeouts = Timeouts::read(sections, problems);
        let login = LoginSettings::read(sections, problems);
        let log = LogSettings::read(&mut SectionReader::new(sections, "log", problems));
        let cache_bytes = SectionReader::new(sections, "cache", problems)
            .number("megabytes", 0..=1 << 20)
            .unwrap_or(CACHE_MEGABYTES)
            << 20;
        let quic = QuicSettings::read(sections, problems);
        let mut server = SectionReader::new(sections, "server", problems);
        Self {
            auth: server.flag("auth").unwrap_or(false),
            additional_header: read_additional_header(&mut server),
            listeners,
            threads,
            limits,
            timeouts,
            quic,
            log,
            cache_bytes,
            rejected_token_status: read_rejected_status(&mut server),
            max_body: server.number("max_request_body_size", 0..=1 << 30).unwrap_or(100 << 20),
            allow_origin: read_allow_origin(&mut server),
            identity_headers,
            ext_authz,
            api_clients,
            login,
            authorization_provider: read_provider(&mut server),
            signing: None,
        }
    }
}

impl IdentityHeaders {
    fn read(reader: &mut SectionReader<'_>) -> Self {
        let mut name = |option: &str, default: &'static str| match reader.text(option) {
            None => Some(HeaderName::from_static(default)),
            Some(_) => reader.header_name(option),
        };
        let names = Self {
            subject: name("subject", "x-auth-subject"),
            user: name("user", "x-auth-user"),
            issuer: name("issuer", "x-auth-issuer"),
            client_types: name("client_types", "x-auth-client-types"),
            tenant: name("tenant", "x-auth-tenant"),
        };
        names.check(reader);
        names
    }

    /// Returns the names of all headers that are not switched off.
    pub fn names(&self) -> impl Iterator<Item = &HeaderName> + Clone {
        self.all().into_iter().flatten()
    }

    fn all(&self) -> [Option<&HeaderName>; 5] {
        [&self.subject, &self.user, &self.issuer, &self.client_types, &self.tenant]
            .map(Option::as_ref)
    }

    /// Rejects names with another meaning in a response, and names given twice, because
    /// one header would silently replace the other.
    fn check(&self, reader: &mut SectionReader<'_>) {
        let taken = [
            header::CACHE_CONTROL,
            header::CONNECTION,
            header::CONTENT_LENGTH,
            header::DATE,
            header::RETRY_AFTER,
            header::SET_COOKIE,
            header::TRANSFER_ENCODING,
            header::WWW_AUTHENTICATE,
            generic::ERROR_HEADER,
        ];
        let mut seen: Vec<&HeaderName> = taken.iter().collect();
        let options = ["subject", "user", "issuer", "client_types", "tenant"];
        for (option, name) in options.into_iter().zip(self.all()) {
            let Some(name) = name else { continue };
            if seen.contains(&name) {
                let text = format!("the identity header {name} is already in use");
                reader.problem(option, text, "use a different header name for each identity");
            }
            seen.push(name);
        }
    }
}

fn read_provider(server: &mut SectionReader<'_>) -> AuthorizationProvider {
    let Some(name) = server.text("authorization_provider") else {
        return AuthorizationProvider::Legacy;
    };
    match name.to_lowercase().as_str() {
        "legacy" => AuthorizationProvider::Legacy,
        "policy-engine" => AuthorizationProvider::PolicyEngine,
        _ => {
            let text = format!(
                "Invalid value for config option server.authorization-provider: {name}. Valid \
                 values: legacy or policy-engine"
            );
            server.problem("authorization_provider", text, "");
            AuthorizationProvider::Legacy
        }
    }
}

fn check_policy_engine(reader: &mut SectionReader<'_>) {
    if let Some(level) = reader.text("log_level")
        && !["debug", "info", "error"].contains(&level)
    {
        reader.problem(
            "log_level",
            format!("Invalid value {level}. Valid values: ['debug', 'info', 'error']"),
            "",
        );
    }
}

fn read_rejected_status(server: &mut SectionReader<'_>) -> StatusCode {
    match server.text("rejected_token_status") {
        None | Some("403") => StatusCode::FORBIDDEN,
        Some("401") => StatusCode::UNAUTHORIZED,
        Some(other) => {
            server.problem(
                "rejected_token_status",
                format!("rejected_token_status {other:?} is neither 401 nor 403"),
                "",
            );
            StatusCode::FORBIDDEN
        }
    }
}

fn read_additional_header(server: &mut SectionReader<'_>) -> Option<HeaderName> {
    let name = server.header_name("auth_additional_header")?;
    if name == header::AUTHORIZATION {
        let text = "auth_additional_header cannot be Authorization: it carries a bare token \
            without a scheme";
        server.problem(
            "auth_additional_header",
            text,
            "remove the line: Authorization: Bearer is always read",
        );
    }
    Some(name)
}

fn read_allow_origin(server: &mut SectionReader<'_>) -> Option<HeaderValue> {
    let text = server.text("access_control_allow_origin").filter(|text| !text.is_empty())?;
    let value = HeaderValue::from_str(text).ok();
    if value.is_none() {
        let name = header::ACCESS_CONTROL_ALLOW_ORIGIN;
        server.problem(
            "access_control_allow_origin",
            format!("{text:?} is not a valid value of the header {name}"),
            "write an origin or *",
        );
    }
    value
}
