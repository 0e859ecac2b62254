//! Access log: one line per request, if `[log] requests` enables it.

use std::{cell::RefCell, net::IpAddr};

use aws_lc_rs::rand;
use countersign_front::{
    Fields, Peer,
    address::{UNIX_PEER, UNKNOWN_PEER},
    only_line,
};
use http::{HeaderName, StatusCode, Version};

use super::{
    metrics::RequestProtocol,
    settings::{LogSettings, LoggedRequests},
};
use crate::{
    base::{clock::Stopwatch, header_names::is_header, outcome::Outcome, route::Route},
    client::{ClientCertificate, ClientSettings},
};

/// A completed request, for the access log and metrics.
#[derive(Clone, Copy)]
pub struct CompletedRequest {
    /// Its protocol.
    pub protocol: RequestProtocol,
    /// Its route.
    pub route: Route,
    /// The status of the response.
    pub status: StatusCode,
    /// The outcome for its token, if it concerned one.
    pub outcome: Option<Outcome>,
    /// Time since the request was read.
    pub started: Stopwatch,
}

/// Entry of the access log: origin and target of a request. It never contains a token.
pub struct AccessLogEntry {
    id: String,
    listener: String,
    protocol: &'static str,
    client: IpAddr,
    certificate: Option<String>,
    method: String,
    uri: String,
}

/// Request line: method, target and HTTP version.
#[derive(Clone, Copy)]
pub struct RequestLine<'r> {
    /// The version.
    pub version: Version,
    /// The method.
    pub method: &'r str,
    /// The request target.
    pub target: &'r str,
}

/// Header with the request id of a proxy.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Limit of a logged id or target, in characters.
const MAX_FIELD_CHARS: usize = 1024;

/// A request that a trusted proxy describes in a check over gRPC or SPOP.
pub struct CheckedRequest<'r> {
    /// The proxy's id of the request; empty without one.
    pub id: &'r [u8],
    /// The address of the client.
    pub client: IpAddr,
    /// The fingerprint of the client's certificate.
    pub certificate: Option<String>,
    /// The method.
    pub method: &'r [u8],
    /// The request target.
    pub path: &'r [u8],
}

/// Whether an entry contains the header line with this name.
#[must_use]
pub fn reads_header(name: &[u8]) -> bool {
    is_header(name, &REQUEST_ID)
}

impl AccessLogEntry {
    /// Creates the entry of a request. If a trusted proxy names the original request, the entry
    /// describes that one.
    #[must_use]
    pub fn new(
        listener: &str,
        settings: &ClientSettings,
        peer: Peer<'_>,
        asked: RequestLine<'_>,
        fields: &dyn Fields,
    ) -> Self {
        let RequestLine { version, method, target } = asked;
        let is_trusted = settings.proxies.trusts(peer.address);
        let id = is_trusted.then(|| only_line(fields, &REQUEST_ID).ok().flatten()).flatten();
        let named = is_trusted.then(|| settings.dialect.named(method, target, fields)).flatten();
        let (method, uri) = match named {
            Some((method, uri)) => (String::from_utf8_lossy(method), String::from_utf8_lossy(uri)),
            None => (method.into(), target.into()),
        };
        Self {
            id: id.map_or_else(generate_id, |id| truncated(&String::from_utf8_lossy(id))),
            listener: listener.into(),
            protocol: protocol(version),
            client: settings.proxies.client(peer.address, fields),
            certificate: ClientCertificate::Deferred { peer: &peer, settings, fields }
                .fingerprint(),
            method: truncated(&method),
            uri: truncated(path_only(&uri)),
        }
    }

    /// Creates the entry of a check over SPOP. If a trusted proxy sent it, the entry describes the
    /// checked request.
    #[must_use]
    pub fn of_notification(
        listener: &str,
        peer: IpAddr,
        checked: Option<&CheckedRequest<'_>>,
    ) -> Self {
        let mut entry = Self {
            id: generate_id(),
            listener: listener.into(),
            protocol: "SPOP/2.0",
            client: peer,
            certificate: None,
            method: "NOTIFY".into(),
            uri: String::new(),
        };
        if let Some(checked) = checked {
            entry.describe_checked_request(checked);
        }
        entry
    }

    /// Makes the entry describe the request that a trusted proxy checks by a message.
    pub fn describe_checked_request(&mut self, check: &CheckedRequest<'_>) {
        let text = |bytes| String::from_utf8_lossy(bytes);
        if !check.id.is_empty() {
            self.id = truncated(&text(check.id));
        }
        self.client = check.client;
        self.certificate.clone_from(&check.certificate);
        self.method = truncated(&text(check.method));
        self.uri = truncated(path_only(&text(check.path)));
    }

    /// Writes the entry to the log.
    pub fn write(&self, request: &CompletedRequest) {
        let Self { id, listener, protocol, client, certificate, method, uri } = self;
        let client = client_text(*client);
        let micros = u64::try_from(request.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        tracing::info!(
            target: "request",
            request_id = id.as_str(),
            listener = listener.as_str(),
            protocol,
            client = client.as_str(),
            certificate,
            method = method.as_str(),
            uri = uri.as_str(),
            route = request.route.name(),
            status = request.status.as_u16(),
            outcome = request.outcome.map(Outcome::name),
            micros,
            "request"
        );
    }
}

/// Returns the address of a client as text.
#[must_use]
pub fn client_text(client: IpAddr) -> String {
    match client {
        UNIX_PEER => "unix".into(),
        UNKNOWN_PEER => "unknown".into(),
        client => client.to_string(),
    }
}

/// Returns the protocol name as in its RFC.
const fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_3 => "HTTP/3",
        _ => "HTTP/1.1",
    }
}

impl LogSettings {
    /// Returns whether any request is logged.
    #[must_use]
    pub fn logs_requests(&self) -> bool {
        self.requests != LoggedRequests::Off
    }

    /// Returns whether a request with this outcome and status is logged.
    #[must_use]
    pub fn should_log(&self, outcome: Option<Outcome>, status: StatusCode) -> bool {
        let is_refused =
            outcome.is_some_and(|outcome| !outcome.is_allowed()) || !status.is_success();
        match self.requests {
            LoggedRequests::Off => false,
            LoggedRequests::Refused => is_refused,
            LoggedRequests::All => true,
        }
    }
}

/// Returns the path of a target. The query is not logged, because some clients put tokens
/// into it; neither is the authority, which may contain a password.
pub(super) fn path_only(uri: &str) -> &str {
    let uri = uri.split(['?', '#']).next().unwrap_or_default();
    let behind_scheme = uri.split_once("://").filter(|(scheme, _)| !scheme.contains('/'));
    behind_scheme.map_or(uri, |(_, rest)| rest.find('/').map_or("", |start| &rest[start..]))
}

fn truncated(text: &str) -> String {
    text.chars().take(MAX_FIELD_CHARS).collect()
}

/// Returns a request id: a counter per thread, with a random start.
fn generate_id() -> String {
    thread_local! {
        static NEXT: RefCell<Option<u64>> = const { RefCell::new(None) };
    }
    NEXT.with_borrow_mut(|next| {
        let id = next.unwrap_or_else(|| {
            let mut bytes = [0; 8];
            // Without randomness all threads start at the same number, and ids repeat.
            let _ignored = rand::fill(&mut bytes);
            u64::from_ne_bytes(bytes)
        });
        *next = Some(id.wrapping_add(1));
        format!("{id:016x}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_ids_differ_between_threads() {
        let here = generate_id();
        assert_ne!(here, generate_id());
        assert_ne!(here, std::thread::spawn(generate_id).join().unwrap());
        assert_eq!(here.len(), 16);
    }

    #[test]
    fn access_log_has_only_the_path() {
        for (uri, path) in [
            ("/a/b?access_token=x", "/a/b"),
            ("/a/b#access_token=x", "/a/b"),
            ("/a/b", "/a/b"),
            ("/a://b/c", "/a://b/c"),
            ("http://bob:secret@host/a?b", "/a"),
            ("http://bob:secret@host", ""),
            ("", ""),
        ] {
            assert_eq!(path_only(uri), path);
        }
        assert_eq!(truncated(&"ä".repeat(5000)).chars().count(), MAX_FIELD_CHARS);
    }
}
