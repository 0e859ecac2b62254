//! Client of a running server's `/api/v2` and `/api/v1`, with JSON bodies, over a
//! [`ServerConnection`].

mod pinned_tls;

use std::{error::Error, fmt, io, sync::Arc};

use http::{Method, Request, Response, StatusCode, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use pinned_tls::PinnedTlsConnector;
use rustls::{CertificateError, crypto::aws_lc_rs};
use serde_json::{Value, json};
use ureq::{
    Agent, Body,
    tls::TlsConfig,
    unversioned::{
        resolver::DefaultResolver,
        transport::{Connector as _, TcpConnector},
    },
};

use super::{
    CommandError, ConfigSource, arguments::ServerArgs, connection::ServerConnection, printable,
};
use crate::{
    api::settings::ISSUES_NOTHING,
    base::route::ENVIRONMENT_HEADER,
    base::{redacted::quoted, roots},
};

/// Maximum length of a response in bytes. It admits lists of very many users.
const MAX_RESPONSE_BYTES: u64 = 64 << 20;

/// HTTP client of one server, for [`ApiCall`]s.
pub(super) struct ServerClient {
    connection: ServerConnection,
    agent: Agent,
}

/// One API call.
pub(super) struct ApiCall {
    method: Method,
    /// Path with encoded parameters, and query.
    target: String,
    environment: Option<String>,
    body: Option<Value>,
    sends_token: bool,
}

impl ApiCall {
    fn new(method: Method, path: &[&str]) -> Self {
        Self::below("/api/v2", method, path)
    }

    /// A call of the API of machine identities, which has the form of Infisical's.
    pub(super) fn infisical(method: Method, path: &[&str]) -> Self {
        Self::below("/api/v1", method, path)
    }

    fn below(root: &str, method: Method, path: &[&str]) -> Self {
        /// Characters to encode in a path segment (RFC 3986 section 3.3).
        const ENCODED: &AsciiSet =
            &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
        // Dot segments would be resolved to another path, so they are encoded.
        let encode = |segment: &&str| match *segment {
            "." => "%2E".into(),
            ".." => "%2E%2E".into(),
            segment => utf8_percent_encode(segment, ENCODED).to_string(),
        };
        let path: Vec<_> = path.iter().map(encode).collect();
        Self {
            method,
            target: format!("{root}/{}", path.join("/")),
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

    /// A call with a JSON body and without a token, outside of `/api/v2`.
    pub(super) fn post_outside_api(target: &str, body: Value) -> Self {
        let call = Self::new(Method::POST, &[]).anonymous();
        Self { target: target.into(), body: Some(body), ..call }
    }

    pub(super) fn put(path: &[&str], body: Value) -> Self {
        Self { body: Some(body), ..Self::new(Method::PUT, path) }
    }

    pub(super) fn patch(path: &[&str], body: Value) -> Self {
        Self { body: Some(body), ..Self::new(Method::PATCH, path) }
    }

    /// Sets the body.
    pub(super) fn body(self, body: Value) -> Self {
        Self { body: Some(body), ..self }
    }

    /// Adds arguments as a query, for calls without a body.
    pub(super) fn query(mut self, arguments: &[(&str, &str)]) -> Self {
        // Pairs of strings always serialize.
        let query = serde_urlencoded::to_string(arguments).unwrap_or_default();
        self.target = format!("{}?{query}", self.target);
        self
    }

    /// Sets the environment of the call.
    pub(super) fn environment(self, id: &str) -> Self {
        Self { environment: Some(id.into()), ..self }
    }

    /// Omits the token. Servers refuse an invalid token even on calls that need none.
    pub(super) fn anonymous(self) -> Self {
        Self { sends_token: false, ..self }
    }
}

impl ServerClient {
    /// Creates a client with the address and token of the command line.
    pub(super) fn of(source: &ConfigSource, args: &ServerArgs) -> Result<Self, CommandError> {
        Ok(Self::new(ServerConnection::resolve(source, args)?)?)
    }

    pub(super) fn new(connection: ServerConnection) -> Result<Self, CallError> {
        let transport = &connection.transport;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut tls =
            TlsConfig::builder().unversioned_rustls_crypto_provider(Arc::clone(&provider));
        let (host, pinned) = (&transport.host, Arc::clone(&provider));
        let connector = match (&connection.certificate, &transport.authorities) {
            (Some(file), _) => Some(PinnedTlsConnector::own(file, host, pinned)),
            (None, Some(file)) if transport.ssl => {
                Some(PinnedTlsConnector::trusting(file, host, pinned))
            }
            _ => None,
        };
        let connector =
            connector.transpose().map_err(|text| CallError::certificates(&connection, &text))?;
        if transport.ssl && connector.is_none() {
            let roots = roots::roots(&[])
                .ok_or_else(|| CallError::certificates(&connection, roots::NO_SYSTEM_ROOTS))?;
            tls = tls.root_certs(roots);
        }
        let config = Agent::config_builder()
            .tls_config(tls.build())
            .timeout_global(transport.timeout)
            // A password prompt may separate two calls for longer than the server keeps an
            // idle connection open.
            .max_idle_connections(0)
            .http_status_as_error(false)
            // A redirect must not carry the token to another server.
            .max_redirects(0)
            // Proxies of the environment are for requests to key providers.
            .proxy(None)
            .user_agent("countersign");
        let agent = match connector {
            None => config.build().new_agent(),
            Some(connector) => {
                let chain = ().chain(TcpConnector::default()).chain(connector);
                Agent::with_parts(config.build(), chain, DefaultResolver::default())
            }
        };
        Ok(Self { connection, agent })
    }

    /// Returns the address and the token of the calls.
    pub(super) fn connection(&self) -> &ServerConnection {
        &self.connection
    }

    /// Makes a call and returns the `data` of the response. Null if the response has none.
    pub(super) fn call(&self, call: ApiCall) -> Result<Value, CallError> {
        let mut response = self.call_whole(call)?;
        Ok(response.get_mut("data").map_or(Value::Null, Value::take))
    }

    /// Makes a call and returns the response. Null if it is empty.
    pub(super) fn call_whole(&self, call: ApiCall) -> Result<Value, CallError> {
        self.read(&call, self.send(&call)?)
    }

    /// Makes a call and returns the token in the header of the response.
    pub(super) fn call_for_token(&self, call: ApiCall) -> Result<Option<String>, CallError> {
        let response = self.send(&call)?;
        let value = response.headers().get(header::AUTHORIZATION);
        let token = value.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let token = token.map(str::to_owned);
        self.read(&call, response).map(|_| token)
    }

    fn read(&self, call: &ApiCall, mut response: Response<Body>) -> Result<Value, CallError> {
        let status = response.status();
        let bytes = response
            .body_mut()
            .with_config()
            .limit(MAX_RESPONSE_BYTES)
            .read_to_vec()
            .map_err(|error| self.transport_error(&error))?;
        let response: Option<Value> = serde_json::from_slice(&bytes).ok();
        if !status.is_success() {
            return Err(self.error_response(call, status, response.as_ref()));
        }
        match response {
            Some(response) => Ok(response),
            None if bytes.is_empty() => Ok(Value::Null),
            None => Err(CallError::unreachable(format_args!(
                "the response from {} is not JSON, so it is not an Inmanta server; {}",
                self.connection.transport.origin(),
                self.connection.address_help()
            ))),
        }
    }

    fn send(&self, call: &ApiCall) -> Result<Response<Body>, CallError> {
        let transport = &self.connection.transport;
        let mut request = Request::builder().method(&call.method).uri(format!(
            "{}{}",
            transport.origin(),
            call.target
        ));
        if let Some(token) = transport.token.as_ref().filter(|_| call.sends_token) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.expose()));
        }
        if let Some(environment) = &call.environment {
            request = request.header(ENVIRONMENT_HEADER, environment);
        }
        let invalid = |error: http::Error| {
            CallError::unreachable(format_args!("cannot build the request: {error}"))
        };
        let sent = match &call.body {
            Some(body) => {
                let request =
                    request.header(header::CONTENT_TYPE, "application/json").body(body.to_string());
                self.agent.run(request.map_err(invalid)?)
            }
            None => self.agent.run(request.body(()).map_err(invalid)?),
        };
        sent.map_err(|error| self.transport_error(&error))
    }

    /// Returns the id of an environment given by id or name.
    pub(super) fn environment_id(&self, reference: &str) -> Result<String, CommandError> {
        self.id_of("environment", reference)
    }

    /// Returns the id of a project given by id or name.
    pub(super) fn project_id(&self, reference: &str) -> Result<String, CommandError> {
        self.id_of("project", reference)
    }

    /// Returns the id of the project named `default`, which is added if it does not exist.
    pub(super) fn default_project_id(&self) -> Result<String, CommandError> {
        const NAME: &str = "default";
        let all = self.call(ApiCall::get(&["project"]))?;
        let known = all.as_array().into_iter().flatten().find(|one| one["name"] == NAME).cloned();
        let project = match known {
            Some(project) => project,
            None => self.call(ApiCall::put(&["project"], json!({ "name": NAME })))?,
        };
        Ok(project["id"].as_str().unwrap_or_default().to_owned())
    }

    fn id_of(&self, kind: &str, reference: &str) -> Result<String, CommandError> {
        if is_uuid(reference) {
            return Ok(reference.to_lowercase());
        }
        let all = self.call(ApiCall::get(&[kind]))?;
        id_of_name(kind, reference, &all)
    }

    /// Converts an error response.
    fn error_response(
        &self,
        call: &ApiCall,
        status: StatusCode,
        response: Option<&Value>,
    ) -> CallError {
        let text = response.and_then(error_text);
        let message =
            text.as_deref().map_or_else(|| format!("the server answered {status}"), printable);
        let connection = &self.connection;
        let sends_token = call.sends_token && connection.transport.token.is_some();
        let help = match (status, sends_token) {
            (StatusCode::UNAUTHORIZED, _) if message == ISSUES_NOTHING => {
                "use tokens of the issuers that it verifies".into()
            }
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, true) => connection.token_help(),
            (StatusCode::UNAUTHORIZED, false) if call.sends_token => {
                connection.missing_token_help()
            }
            (StatusCode::NOT_FOUND, _) if text.is_none() => connection.address_help(),
            _ => String::new(),
        };
        CallError { status: Some(status), text: message, help, is_timeout: false }
    }

    /// Converts a missing or incomplete response.
    fn transport_error(&self, error: &ureq::Error) -> CallError {
        if let Some(error) = tls_error(error) {
            return self.tls_call_error(error);
        }
        let connection = &self.connection;
        let authority = connection.transport.authority();
        match error {
            ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                CallError::unreachable(format_args!(
                    "no server listens at {authority}: connection refused"
                ))
                .help(connection.address_help())
            }
            ureq::Error::HostNotFound => CallError::unreachable(format_args!(
                "cannot resolve host {}",
                connection.transport.host
            ))
            .help(connection.address_help()),
            ureq::Error::Timeout(_) => {
                let timeout = connection.transport.timeout.unwrap_or_default().as_secs_f64();
                let error = CallError::unreachable(format_args!(
                    "the server at {authority} did not answer within {timeout} s"
                ));
                let error = error.help(format!(
                    "check that it is not stopped or overloaded; for slow requests, raise \
                     request_timeout in [{}]",
                    connection.section()
                ));
                CallError { is_timeout: true, ..error }
            }
            // Also the result if only one side uses TLS.
            error => CallError::unreachable(format_args!("no response from {authority}: {error}"))
                .help(format!("{}; {}", connection.tls_help(), connection.address_help())),
        }
    }

    fn tls_call_error(&self, error: &rustls::Error) -> CallError {
        let connection = &self.connection;
        let authority = connection.transport.authority();
        let failure = CallError::unreachable(format_args!("TLS to {authority} failed: {error}"));
        match error {
            rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            ) => failure.help(connection.name_help()),
            rustls::Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. },
            ) => failure.help("renew the server's certificate: ssl_cert_file in its [server]"),
            // The result of `openssl req -x509`: no authority vouches for it.
            rustls::Error::InvalidCertificate(CertificateError::Other(other))
                if other.to_string().contains("CaUsedAsEndEntity") =>
            {
                failure.help(format!(
                    "the server's certificate is its own authority (CA:TRUE): {}",
                    connection.trust_help()
                ))
            }
            rustls::Error::InvalidCertificate(_) => failure.help(connection.trust_help()),
            rustls::Error::InvalidMessage(_) => failure.help(connection.tls_help()),
            _ => failure,
        }
    }
}

/// Returns the text of an error response. That about the members of a body is a list.
fn error_text(response: &Value) -> Option<String> {
    if let Some(issues) = response["message"].as_array() {
        let issues = issues.iter().filter_map(|issue| {
            let text = issue["message"].as_str()?;
            Some(match issue["path"][0].as_str() {
                Some(member) => format!("{member}: {text}"),
                None => text.into(),
            })
        });
        return Some(issues.collect::<Vec<_>>().join("; "));
    }
    let texts = ["message", "detail", "error_description"];
    texts.iter().find_map(|name| response[name].as_str()).map(str::to_owned)
}

/// Returns the TLS error that caused `error`, if there is one.
fn tls_error(error: &ureq::Error) -> Option<&rustls::Error> {
    match error {
        ureq::Error::Rustls(error) => Some(error),
        ureq::Error::Io(error) => error.get_ref()?.downcast_ref(),
        _ => None,
    }
}

/// Returns the id of the only member of a list with this name.
pub(super) fn id_of_name(kind: &str, name: &str, all: &Value) -> Result<String, CommandError> {
    let named = all.as_array().into_iter().flatten().filter(|one| one["name"] == name);
    let ids: Vec<_> = named.filter_map(|one| one["id"].as_str()).collect();
    match ids[..] {
        [id] => Ok(id.into()),
        [] => Err(CommandError::failed(format_args!(
            "no {kind} is named {}: see countersign {kind} list",
            quoted(name)
        ))),
        _ => Err(CommandError::failed(format_args!(
            "more than one {kind} is named {}: use an id instead",
            quoted(name)
        ))),
    }
}

/// Whether `text` is a UUID (RFC 9562 section 4).
pub(super) fn is_uuid(text: &str) -> bool {
    let is_hex = |group: &str| group.bytes().all(|byte| byte.is_ascii_hexdigit());
    text.split('-').map(str::len).eq([8, 4, 4, 4, 12]) && text.split('-').all(is_hex)
}

/// Error of an [`ApiCall`].
#[derive(Clone, Debug)]
pub(super) struct CallError {
    /// Status of the response. `None` without a response.
    pub(super) status: Option<StatusCode>,
    /// Description.
    pub(super) text: String,
    /// Remedy. May be empty.
    pub(super) help: String,
    /// Whether the time for the response has elapsed.
    pub(super) is_timeout: bool,
}

impl CallError {
    fn unreachable(text: impl fmt::Display) -> Self {
        Self { status: None, text: text.to_string(), help: String::new(), is_timeout: false }
    }

    /// Certificates that cannot be read.
    fn certificates(connection: &ServerConnection, text: &str) -> Self {
        Self::unreachable(text).help(connection.trust_help())
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
    fn from(error: CallError) -> Self {
        Self::failed(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn call_parameters_cannot_change_the_path() {
        assert_eq!(ApiCall::get(&["user", "a/b?c d"]).target, "/api/v2/user/a%2Fb%3Fc%20d");
        assert_eq!(ApiCall::delete(&["user", ".."]).target, "/api/v2/user/%2E%2E");
        let call = ApiCall::infisical(Method::GET, &["identities", "a/b"]);
        assert_eq!(call.target, "/api/v1/identities/a%2Fb");
        let call = ApiCall::delete(&["role"]).query(&[("name", "a&b=\u{e9}")]);
        assert_eq!(call.target, "/api/v2/role?name=a%26b%3D%C3%A9");
    }

    #[test]
    fn uuid_is_distinguished_from_a_name() {
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
