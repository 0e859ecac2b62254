//! Asking a running server: `/api/v2`, JSON in and out, by the way that a transport
//! section describes.

use std::{error::Error, fmt, io, sync::Arc};

use http::{Method, Request, Response, StatusCode, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::{CertificateError, crypto::aws_lc_rs};
use serde_json::Value;
use ureq::{Agent, Body, tls::TlsConfig};

use super::{CommandError, ConfigSource, printable};
use crate::{cli::ServerArgs, config::Transport, trust};

/// The longest answer that is read, in bytes: a list of very many users.
const MAX_RESPONSE_BYTES: u64 = 64 << 20;
/// The header that names the environment of a call.
const ENVIRONMENT_HEADER: &str = "X-Inmanta-tid";

/// A server that can be asked.
pub(super) struct ServerClient {
    transport: Transport,
    agent: Agent,
}

/// One call, below `/api/v2`.
pub(super) struct ApiCall {
    method: Method,
    /// The path, its parameters encoded, and the query.
    target: String,
    environment: Option<String>,
    body: Option<Value>,
    sends_token: bool,
}

impl ApiCall {
    fn new(method: Method, path: &[&str]) -> Self {
        /// What a segment of a path holds as it is (RFC 3986 section 3.3).
        const ENCODED: &AsciiSet =
            &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
        // A segment of dots alone would be a step to somewhere else.
        let encode = |segment: &&str| match *segment {
            "." => "%2E".into(),
            ".." => "%2E%2E".into(),
            segment => utf8_percent_encode(segment, ENCODED).to_string(),
        };
        let path: Vec<_> = path.iter().map(encode).collect();
        Self {
            method,
            target: format!("/api/v2/{}", path.join("/")),
            environment: None,
            body: None,
            sends_token: true,
        }
    }

    pub(super) fn get(path: &[&str]) -> Self {
        Self::new(Method::GET, path)
    }

    pub(super) fn delete(path: &[&str]) -> Self {
        Self::new(Method::DELETE, path)
    }

    pub(super) fn post(path: &[&str], body: Value) -> Self {
        Self { body: Some(body), ..Self::new(Method::POST, path) }
    }

    pub(super) fn put(path: &[&str], body: Value) -> Self {
        Self { body: Some(body), ..Self::new(Method::PUT, path) }
    }

    pub(super) fn patch(path: &[&str], body: Value) -> Self {
        Self { body: Some(body), ..Self::new(Method::PATCH, path) }
    }

    /// With arguments in the query, where a call without a body has them.
    pub(super) fn query(mut self, arguments: &[(&str, &str)]) -> Self {
        // Texts in pairs can always be written.
        let query = serde_urlencoded::to_string(arguments).unwrap_or_default();
        self.target = format!("{}?{query}", self.target);
        self
    }

    /// In an environment.
    pub(super) fn environment(self, id: &str) -> Self {
        Self { environment: Some(id.into()), ..self }
    }

    /// Without the token: a bad one would be refused even where none is needed.
    pub(super) fn anonymous(self) -> Self {
        Self { sends_token: false, ..self }
    }
}

impl ServerClient {
    /// For the command line: by `[cmdline_rest_transport]`, and what was said beside it.
    pub(super) fn of(place: &ConfigSource, args: &ServerArgs) -> Result<Self, CommandError> {
        let mut transport = place.load_for_client()?.transports.cmdline;
        transport.host = args.host.clone().unwrap_or(transport.host);
        transport.port = args.port.unwrap_or(transport.port);
        Ok(Self::new(transport)?)
    }

    pub(super) fn new(transport: Transport) -> Result<Self, CallError> {
        let mut tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(Arc::new(aws_lc_rs::default_provider()));
        if transport.ssl {
            let authorities = match &transport.authorities {
                Some(file) => trust::read_certificates(file)
                    .map_err(|text| CallError::authorities(&transport, &text))?,
                None => Vec::new(),
            };
            let roots = trust::roots(&authorities)
                .ok_or_else(|| CallError::authorities(&transport, trust::NO_SYSTEM_ROOTS))?;
            tls = tls.root_certs(roots);
        }
        let config = Agent::config_builder()
            .tls_config(tls.build())
            .timeout_global(transport.timeout)
            // Somebody may think about a password between two calls: whoever kept the
            // line open has hung up.
            .max_idle_connections(0)
            .http_status_as_error(false)
            // The token is for this server alone.
            .max_redirects(0)
            // A proxy is for the way to others.
            .proxy(None)
            .user_agent("countersign");
        Ok(Self { transport, agent: config.build().new_agent() })
    }

    /// What the server answers: the `data` of it, or null where there is none.
    pub(super) fn call(&self, call: ApiCall) -> Result<Value, CallError> {
        let mut response = self.send(&call)?;
        let status = response.status();
        let bytes = response
            .body_mut()
            .with_config()
            .limit(MAX_RESPONSE_BYTES)
            .read_to_vec()
            .map_err(|error| self.transport_error(&error))?;
        let answer: Option<Value> = serde_json::from_slice(&bytes).ok();
        if !status.is_success() {
            return Err(self.error_response(&call, status, answer.as_ref()));
        }
        match answer {
            Some(mut answer) => Ok(answer.get_mut("data").map_or(Value::Null, Value::take)),
            None if bytes.is_empty() => Ok(Value::Null),
            None => Err(CallError::unreachable(format_args!(
                "what answers at {} is no Inmanta server: its answer is no JSON; {}",
                self.transport.origin(),
                self.address_help()
            ))),
        }
    }

    fn send(&self, call: &ApiCall) -> Result<Response<Body>, CallError> {
        let mut request = Request::builder().method(&call.method).uri(format!(
            "{}{}",
            self.transport.origin(),
            call.target
        ));
        if let Some(token) = self.transport.token.as_ref().filter(|_| call.sends_token) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.expose()));
        }
        if let Some(environment) = &call.environment {
            request = request.header(ENVIRONMENT_HEADER, environment);
        }
        let wrong = |error: http::Error| {
            CallError::unreachable(format_args!("no such request can be sent: {error}"))
        };
        let sent = match &call.body {
            Some(body) => {
                let request =
                    request.header(header::CONTENT_TYPE, "application/json").body(body.to_string());
                self.agent.run(request.map_err(wrong)?)
            }
            None => self.agent.run(request.body(()).map_err(wrong)?),
        };
        sent.map_err(|error| self.transport_error(&error))
    }

    /// The id of an environment that is named by id or name.
    pub(super) fn environment_id(&self, reference: &str) -> Result<String, CommandError> {
        if is_uuid(reference) {
            return Ok(reference.to_lowercase());
        }
        let all = self.call(ApiCall::get(&["environment"]))?;
        let named = all.as_array().into_iter().flatten().filter(|one| one["name"] == reference);
        let ids: Vec<_> = named.filter_map(|one| one["id"].as_str()).collect();
        match ids[..] {
            [id] => Ok(id.into()),
            [] => Err(CommandError::failed(format_args!(
                "no environment has the name {reference:?}: countersign environment list shows those that there are"
            ))),
            _ => Err(CommandError::failed(format_args!(
                "several environments have the name {reference:?}: write the id of one"
            ))),
        }
    }

    /// Where the way to the server is written down.
    fn address_help(&self) -> String {
        format!("host and port are those of [{}], or of --host and --port", self.transport.section)
    }

    /// An answer that says no.
    fn error_response(
        &self,
        call: &ApiCall,
        status: StatusCode,
        answer: Option<&Value>,
    ) -> CallError {
        let said = answer
            .and_then(|answer| answer["message"].as_str().or_else(|| answer["detail"].as_str()));
        let message = said.map_or_else(|| format!("the server answers {status}"), printable);
        let section = self.transport.section;
        let sends_token = call.sends_token && self.transport.token.is_some();
        let help = match (status, sends_token) {
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, true) => {
                format!(
                    "look at the token in [{section}]: countersign token inspect shows what it says"
                )
            }
            (StatusCode::UNAUTHORIZED, false) if call.sends_token => {
                format!(
                    "set token in [{section}]; on the server, countersign token bootstrap makes one for an hour"
                )
            }
            (StatusCode::NOT_FOUND, _) if said.is_none() => self.address_help(),
            _ => String::new(),
        };
        CallError { status: Some(status), text: message, help }
    }

    /// No answer, or half of one.
    fn transport_error(&self, error: &ureq::Error) -> CallError {
        let (authority, section) = (self.transport.authority(), self.transport.section);
        if let Some(error) = tls_error(error) {
            return self.tls_call_error(error);
        }
        match error {
            ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                CallError::unreachable(format_args!(
                    "no server listens at {authority}: the connection is refused"
                ))
                .help(self.address_help())
            }
            ureq::Error::HostNotFound => {
                CallError::unreachable(format_args!("there is no host {}", self.transport.host))
                    .help(self.address_help())
            }
            ureq::Error::Timeout(_) => {
                CallError::unreachable(format_args!("the server at {authority} took too long"))
                    .help(format!("request_timeout in [{section}] says how long it may take"))
            }
            // Two that do not agree on TLS hang up on each other.
            error => {
                let (is_so, should_be) =
                    if self.transport.ssl { ("does not speak", false) } else { ("speaks", true) };
                CallError::unreachable(format_args!("{authority} gives no answer: {error}")).help(
                    format!(
                        "if it {is_so} TLS, write ssl = {should_be} in [{section}]; {}",
                        self.address_help()
                    ),
                )
            }
        }
    }

    fn tls_call_error(&self, error: &rustls::Error) -> CallError {
        let (authority, section) = (self.transport.authority(), self.transport.section);
        let fault = CallError::unreachable(format_args!("no TLS with {authority}: {error}"));
        match error {
            rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            ) => fault.help(format!("host in [{section}] must be a name that the certificate is for")),
            rustls::Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
                fault.help("renew the server's certificate: ssl_cert_file in its [server]")
            }
            // What `openssl req -x509` makes, and no server should present.
            rustls::Error::InvalidCertificate(CertificateError::Other(other))
                if other.to_string().contains("CaUsedAsEndEntity") =>
            {
                fault.help("the certificate is that of an authority (CA:TRUE): give the server one that the authority signed")
            }
            rustls::Error::InvalidCertificate(_) => {
                fault.help(format!("name its authority's certificate as ssl_ca_cert_file in [{section}]"))
            }
            rustls::Error::InvalidMessage(_) => {
                fault.help(format!("if the server does not speak TLS, write ssl = false in [{section}]"))
            }
            _ => fault,
        }
    }
}

/// The error of TLS that is behind another, if there is one.
fn tls_error(error: &ureq::Error) -> Option<&rustls::Error> {
    match error {
        ureq::Error::Rustls(error) => Some(error),
        ureq::Error::Io(error) => error.get_ref()?.downcast_ref(),
        _ => None,
    }
}

/// The form of RFC 9562 section 4.
pub(super) fn is_uuid(text: &str) -> bool {
    let is_hex = |group: &str| group.bytes().all(|byte| byte.is_ascii_hexdigit());
    text.split('-').map(str::len).eq([8, 4, 4, 4, 12]) && text.split('-').all(is_hex)
}

/// Why a call brought nothing.
#[derive(Clone, Debug)]
pub(super) struct CallError {
    /// The status of the answer; `None` where there was none.
    pub(super) status: Option<StatusCode>,
    /// What is wrong.
    pub(super) text: String,
    /// What to do about it; may be empty.
    pub(super) help: String,
}

impl CallError {
    fn unreachable(text: impl fmt::Display) -> Self {
        Self { status: None, text: text.to_string(), help: String::new() }
    }

    fn authorities(transport: &Transport, text: &str) -> Self {
        Self::unreachable(text).help(format!(
            "ssl_ca_cert_file in [{}] names the authority's certificate",
            transport.section
        ))
    }

    fn help(self, help: impl Into<String>) -> Self {
        Self { help: help.into(), ..self }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        if self.help.is_empty() { Ok(()) } else { write!(f, "\n  help: {}", self.help) }
    }
}

impl Error for CallError {}

impl From<CallError> for CommandError {
    fn from(fault: CallError) -> Self {
        Self::failed(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_lead_to_other_calls() {
        assert_eq!(ApiCall::get(&["user", "a/b?c d"]).target, "/api/v2/user/a%2Fb%3Fc%20d");
        assert_eq!(ApiCall::delete(&["user", ".."]).target, "/api/v2/user/%2E%2E");
        let call = ApiCall::delete(&["role"]).query(&[("name", "a&b=\u{e9}")]);
        assert_eq!(call.target, "/api/v2/role?name=a%26b%3D%C3%A9");
    }

    #[test]
    fn an_id_is_told_from_a_name() {
        assert!(is_uuid("11111111-1111-1111-1111-11111111aBcD"));
        for name in [
            "prod",
            "",
            "11111111-1111-1111-1111-11111111abcg",
            "1111111-11111-1111-1111-111111111111",
        ] {
            assert!(!is_uuid(name), "{name}");
        }
    }
}
