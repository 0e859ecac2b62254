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

/// How we listen, and what is true of every request.
#[derive(Debug)]
pub struct Server {
    /// Whether the `/api/v2` surface asks for a token at all. `/auth` and `/v1`
    /// always do.
    pub auth: bool,
    /// A header that carries a bare token and wins over `Authorization`.
    pub additional_header: Option<HeaderName>,
    /// The listeners: the main one first, that for metrics and probes last.
    pub listeners: Vec<Listener>,
    /// Threads that serve requests; `None` for one per core.
    pub threads: Option<usize>,
    /// How much time bad signatures may take.
    pub limits: SignatureLimits,
    /// How many connections there may be, and how long they may take.
    pub timeouts: Timeouts,
    /// What listeners share that speak HTTP/3.
    pub quic: QuicSettings,
    /// What is written down of requests.
    pub log: LogSettings,
    /// The memory for verified tokens, in bytes; none are remembered with 0.
    pub cache_bytes: usize,
    /// The status of a refused token on the Inmanta surface: 403 as the real
    /// system, or 401 as RFC 6750.
    pub rejected_token_status: StatusCode,
    /// The largest request body, in bytes.
    pub max_body: usize,
    /// `Access-Control-Allow-Origin` of the `/api/v2` surface.
    pub allow_origin: Option<HeaderValue>,
    /// The headers that carry a caller's identity on `/auth`.
    pub identity_headers: IdentityHeaders,
    /// `[ext_authz]`: what Envoy is told over gRPC.
    pub ext_authz: ExtAuthz,
    /// `[api_clients]`: who may revoke tokens.
    pub api_clients: ApiClients,
    /// How users log in.
    pub login: LoginSettings,
    /// Who decides which calls of the API may be made.
    pub authorization_provider: AuthorizationProvider,
    /// The section that signs our own tokens, if any section is configured.
    pub signing: Option<Arc<IssuerSection>>,
}

/// Who decides which calls of the Inmanta API may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthorizationProvider {
    /// Client types and environments.
    Legacy,
    /// A policy, for users; others as with `legacy`.
    PolicyEngine,
}

/// The names of the identity headers; `None` where one is switched off.
#[derive(Clone, Debug)]
pub struct IdentityHeaders {
    /// `sub`.
    pub subject: Option<HeaderName>,
    /// The user's name, from the claim configured for the issuer.
    pub user: Option<HeaderName>,
    /// `iss`.
    pub issuer: Option<HeaderName>,
    /// The client types, comma-separated.
    pub client_types: Option<HeaderName>,
    /// The tenant; empty until multi-tenancy is configured.
    pub tenant: Option<HeaderName>,
}

/// Room for some 60,000 tokens of the usual size. It is taken as it is used.
const CACHE_MEGABYTES: usize = 64;

impl Server {
    /// The listener of this name.
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

    /// Those that are not switched off.
    pub fn names(&self) -> impl Iterator<Item = &HeaderName> + Clone {
        self.all().into_iter().flatten()
    }

    fn all(&self) -> [Option<&HeaderName>; 5] {
        [&self.subject, &self.user, &self.issuer, &self.client_types, &self.tenant]
            .map(Option::as_ref)
    }

    /// Refuses names that mean something else in an answer, and names given twice:
    /// one identity would silently take the place of the other.
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
                let text = format!("the identity header {name} is taken already");
                reader.problem(option, text, "give each identity a header name of its own");
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
                "Invalid value for config option server.authorization-provider: {name}. Valid values: legacy or policy-engine"
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
        let text = "auth_additional_header cannot be Authorization: that one carries a scheme, this one a bare token";
        server.problem(
            "auth_additional_header",
            text,
            "remove the line; Authorization: Bearer is always read",
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
            format!("{text:?} cannot be sent as {name}"),
            "write an origin or *",
        );
    }
    value
}
