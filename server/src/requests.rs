//! The log of requests: one line each, if `[log] requests` wants it.

use std::{cell::RefCell, net::IpAddr};

use aws_lc_rs::rand;
use http::{HeaderName, StatusCode, Version};

use crate::{
    admission::Peer,
    clock::Stopwatch,
    config::{Listener, LogSettings, LoggedRequests},
    grpc::check_request::CheckRequest,
    http::{Fields, only_line},
    listen::{
        certificate,
        peer::{UNIX_PEER, UNKNOWN_PEER},
    },
    metrics::Outcome,
    routes::Route,
};

/// What became of a request.
#[derive(Clone, Copy)]
pub struct CompletedRequest {
    /// Its route.
    pub route: Route,
    /// The status of the answer.
    pub status: StatusCode,
    /// What became of its token, if it was about one.
    pub outcome: Option<Outcome>,
    /// When the request had been read.
    pub started: Stopwatch,
}

/// What is written down of a request: where it comes from and what it is about, never
/// a token.
pub struct AccessLogEntry {
    id: String,
    listener: String,
    protocol: &'static str,
    client: IpAddr,
    certificate: Option<String>,
    method: String,
    uri: String,
}

/// What was asked, and over which version of HTTP.
#[derive(Clone, Copy)]
pub struct RequestLine<'r> {
    /// The version.
    pub version: Version,
    /// The method.
    pub method: &'r str,
    /// The request target.
    pub target: &'r str,
}

/// By which a proxy tells its requests apart.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// More of an identifier or a target is not written down.
const MAX_FIELD_CHARS: usize = 1024;

impl AccessLogEntry {
    /// Of a request: the original one, where a proxy that we trust says which it was.
    #[must_use]
    pub fn new(
        listener: &Listener,
        peer: Peer<'_>,
        asked: RequestLine<'_>,
        fields: &dyn Fields,
    ) -> Self {
        let RequestLine { version, method, target } = asked;
        let is_trusted = listener.proxies.trusts(peer.address);
        let said = is_trusted.then(|| only_line(fields, &REQUEST_ID).ok().flatten()).flatten();
        let original =
            is_trusted.then(|| listener.dialect.original(method, target, fields)).flatten();
        let (method, uri) = match &original {
            Some(original) => (&*original.method, &*original.uri),
            None => (method, target),
        };
        Self {
            id: said.map_or_else(generate_id, |id| truncated(&String::from_utf8_lossy(id))),
            listener: listener.name.clone(),
            protocol: protocol(version),
            client: listener.proxies.client(peer.address, fields),
            certificate: certificate(listener, peer, fields),
            method: truncated(method),
            uri: truncated(path_only(uri)),
        }
    }

    /// Becomes one of a request that a proxy we trust asks about over gRPC: the question
    /// says itself which it is. Proxies have an identifier of their own for it, which
    /// stands in none of their logs, so that the usual one comes first.
    pub fn describe_checked_request(
        &mut self,
        listener: &Listener,
        peer: Peer<'_>,
        check: &CheckRequest<'_>,
    ) {
        let text = |bytes| String::from_utf8_lossy(bytes);
        let id = only_line(check, &REQUEST_ID).ok().flatten().unwrap_or(check.id);
        if !id.is_empty() {
            self.id = truncated(&text(id));
        }
        self.client = listener.proxies.original_client(peer.address, check.source, check);
        self.certificate =
            certificate::parse(check.certificate).as_ref().map(certificate::fingerprint);
        self.method = truncated(&text(check.method));
        self.uri = truncated(path_only(&text(check.path)));
    }

    /// Writes it down.
    pub fn write(&self, answered: &CompletedRequest) {
        let Self { id, listener, protocol, client, certificate, method, uri } = self;
        let client = match *client {
            UNIX_PEER => "unix".into(),
            UNKNOWN_PEER => "unknown".into(),
            client => client.to_string(),
        };
        let micros = u64::try_from(answered.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        tracing::info!(
            target: "request",
            request_id = id.as_str(),
            listener = listener.as_str(),
            protocol,
            client = client.as_str(),
            certificate,
            method = method.as_str(),
            uri = uri.as_str(),
            route = answered.route.name(),
            status = answered.status.as_u16(),
            outcome = answered.outcome.map(Outcome::name),
            micros,
            "request"
        );
    }
}

/// Its name, as its RFC has it.
const fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_3 => "HTTP/3",
        _ => "HTTP/1.1",
    }
}

/// Which certificate the client has: the one that a proxy has been shown, where one
/// says that.
fn certificate(listener: &Listener, peer: Peer<'_>, fields: &dyn Fields) -> Option<String> {
    let said = match &listener.certificate_header {
        Some(header) if listener.proxies.trusts(peer.address) => {
            certificate::from_header(fields, header)
        }
        _ => None,
    };
    said.as_ref().or(peer.certificate).map(certificate::fingerprint)
}

impl LogSettings {
    /// Whether any request is written down.
    #[must_use]
    pub fn logs_requests(&self) -> bool {
        self.requests != LoggedRequests::Off
    }

    /// Whether one that ended like this is.
    #[must_use]
    pub fn should_log(&self, outcome: Option<Outcome>, status: StatusCode) -> bool {
        let is_refused =
            outcome.is_some_and(|outcome| outcome != Outcome::Verified) || !status.is_success();
        match self.requests {
            LoggedRequests::Off => false,
            LoggedRequests::Refused => is_refused,
            LoggedRequests::All => true,
        }
    }
}

/// A target without its query, as there are clients that put tokens into it, and
/// without what stands before a path: it could be a password.
fn path_only(uri: &str) -> &str {
    let uri = uri.split(['?', '#']).next().unwrap_or_default();
    let behind_scheme = uri.split_once("://").filter(|(scheme, _)| !scheme.contains('/'));
    behind_scheme.map_or(uri, |(_, rest)| rest.find('/').map_or("", |start| &rest[start..]))
}

fn truncated(text: &str) -> String {
    text.chars().take(MAX_FIELD_CHARS).collect()
}

/// Random by thread and counted within it.
fn generate_id() -> String {
    thread_local! {
        static NEXT: RefCell<Option<u64>> = const { RefCell::new(None) };
    }
    NEXT.with_borrow_mut(|next| {
        let id = next.unwrap_or_else(|| {
            let mut bytes = [0; 8];
            // Without randomness the threads count from the same number, and ids repeat.
            let _same_number = rand::fill(&mut bytes);
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
    fn made_up_ids_differ_on_every_thread() {
        let here = generate_id();
        assert_ne!(here, generate_id());
        assert_ne!(here, std::thread::spawn(generate_id).join().unwrap());
        assert_eq!(here.len(), 16);
    }

    #[test]
    fn only_the_path_is_written_down() {
        for (uri, written) in [
            ("/a/b?access_token=x", "/a/b"),
            ("/a/b#access_token=x", "/a/b"),
            ("/a/b", "/a/b"),
            ("/a://b/c", "/a://b/c"),
            ("http://bob:secret@host/a?b", "/a"),
            ("http://bob:secret@host", ""),
            ("", ""),
        ] {
            assert_eq!(path_only(uri), written);
        }
        assert_eq!(truncated(&"ä".repeat(5000)).chars().count(), MAX_FIELD_CHARS);
    }
}
