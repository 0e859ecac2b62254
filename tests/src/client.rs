//! An HTTP client for every version of HTTP. A test writes a request once, in the syntax of
//! HTTP/1, and [`Client`] sends it by the [`Protocol`] under test.
//!
//! A client reuses its connection. Connection state of one request (header compression,
//! flow-control windows, streams) therefore affects the next one, as in production.

mod http2;
mod http3;
#[cfg(test)]
mod tests;

use std::{
    future::pending,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{Arc, OnceLock},
    time::Duration,
};

use ::http::{Method, Request, Uri, header, uri::Authority as Host};
use bytes::Bytes;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, ServerName},
};
use tokio::{
    runtime::{Builder, Handle},
    time::timeout,
};

use crate::{
    certificates::Authority,
    http::{Connection, Response},
    tls::TlsClient,
};

/// HTTP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// HTTP/3.
    Http3,
}

impl Protocol {
    /// All versions.
    pub const ALL: [Self; 3] = [Self::Http1, Self::Http2, Self::Http3];

    /// Returns its ALPN identifier.
    #[must_use]
    pub fn alpn(self) -> &'static str {
        match self {
            Self::Http1 => "http/1.1",
            Self::Http2 => "h2",
            Self::Http3 => "h3",
        }
    }
}

/// Time limit of a request.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);
/// Authority of every request.
const HOST: &str = "test";

/// HTTP client of one server. It reuses its connection until the server closes it.
pub struct Client {
    protocol: Protocol,
    address: SocketAddr,
    /// `None` for cleartext connections (HTTP/2 with prior knowledge).
    tls: Option<Arc<ClientConfig>>,
    open: Option<OpenConnection>,
}

/// OpenConnection connection of one version.
enum OpenConnection {
    Http1(Connection<Box<dyn Stream>>),
    Http2(http2::Connection),
    Http3(http3::Connection),
}

trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

impl Client {
    /// Creates a client that trusts an [`Authority`].
    pub fn new(protocol: Protocol, address: SocketAddr, authority: &Authority) -> Self {
        Self::trusting(protocol, address, authority.der())
    }

    /// Creates a client that trusts a root certificate.
    pub fn trusting(
        protocol: Protocol,
        address: SocketAddr,
        root: &CertificateDer<'static>,
    ) -> Self {
        Self { protocol, address, tls: Some(Arc::new(tls(root, protocol))), open: None }
    }

    /// Creates a client with the roots and the certificate of a [`TlsClient`], which offers this
    /// protocol.
    pub fn under_tls(protocol: Protocol, address: SocketAddr, client: &TlsClient) -> Self {
        Self { protocol, address, tls: Some(client.config()), open: None }
    }

    /// Creates a cleartext client: HTTP/1.1, or HTTP/2 with prior knowledge.
    pub fn plain(protocol: Protocol, address: SocketAddr) -> Self {
        assert_ne!(protocol, Protocol::Http3, "HTTP/3 requires TLS");
        Self { protocol, address, tls: None, open: None }
    }

    /// Sends a request and waits for its response. `head` is the request line and the
    /// header lines of HTTP/1.1, each ended by CRLF. The authority and the content length
    /// are added.
    #[track_caller]
    pub fn request(&mut self, head: &str, body: &[u8]) -> Response {
        self.try_request(head, body).unwrap_or_else(|error| panic!("{:?}: {error}", self.protocol))
    }

    /// Like [`request`](Self::request), but returns a failure.
    ///
    /// # Errors
    /// A description of the connection or stream error.
    pub fn try_request(&mut self, head: &str, body: &[u8]) -> Result<Response, String> {
        self.try_all(&[(head, body)]).pop().expect("one response per request")
    }

    /// Sends requests concurrently (pipelined in HTTP/1) and returns the responses in
    /// request order.
    #[track_caller]
    pub fn request_all(&mut self, requests: &[(&str, &[u8])]) -> Vec<Response> {
        let responses = self.try_all(requests);
        responses
            .into_iter()
            .map(|response| response.unwrap_or_else(|error| panic!("{:?}: {error}", self.protocol)))
            .collect()
    }

    fn try_all(&mut self, requests: &[(&str, &[u8])]) -> Vec<Result<Response, String>> {
        let open = match self
            .open
            .take()
            .filter(OpenConnection::is_open)
            .map_or_else(|| self.connect(), Ok)
        {
            Ok(open) => open,
            Err(error) => return requests.iter().map(|_| Err(error.clone())).collect(),
        };
        let mut is_closed = false;
        let responses = match &mut *self.open.insert(open) {
            OpenConnection::Http1(connection) => {
                for (head, body) in requests {
                    connection.send(head, body);
                }
                let responses =
                    requests.iter().map(|(head, _)| connection.receive(head.starts_with("HEAD ")));
                let responses: Vec<_> = responses.collect();
                is_closed =
                    responses.iter().any(|response| response.header("connection") == Some("close"));
                responses.into_iter().map(Ok).collect()
            }
            OpenConnection::Http2(connection) => wait_for_all(
                requests.iter().map(|one| connection.exchange(OutgoingRequest::of(one))),
            ),
            OpenConnection::Http3(connection) => wait_for_all(
                requests.iter().map(|one| connection.exchange(OutgoingRequest::of(one))),
            ),
        };
        if is_closed {
            self.open = None;
        }
        responses
    }

    fn connect(&self) -> Result<OpenConnection, String> {
        Ok(match (self.protocol, &self.tls) {
            (Protocol::Http1, tls) => {
                OpenConnection::Http1(Connection::over(http1(self.address, tls.as_ref())))
            }
            (Protocol::Http2, tls) => {
                OpenConnection::Http2(wait_for(http2::Connection::open(self.address, tls.clone()))?)
            }
            (Protocol::Http3, Some(tls)) => {
                OpenConnection::Http3(wait_for(http3::Connection::open(self.address, tls))?)
            }
            (Protocol::Http3, None) => unreachable!("no constructor builds HTTP/3 without TLS"),
        })
    }
}

impl OpenConnection {
    fn is_open(&self) -> bool {
        match self {
            Self::Http1(_) => true,
            Self::Http2(connection) => connection.is_open(),
            Self::Http3(connection) => connection.is_open(),
        }
    }
}

fn http1(address: SocketAddr, tls: Option<&Arc<ClientConfig>>) -> Box<dyn Stream> {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(RESPONSE_TIMEOUT)).unwrap();
    match tls {
        None => Box::new(stream),
        Some(tls) => Box::new(StreamOwned::new(
            ClientConnection::new(Arc::clone(tls), server_name()).unwrap(),
            stream,
        )),
    }
}

/// Server name of the certificates of [`Authority::server`].
fn server_name() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

fn tls(root: &CertificateDer<'static>, protocol: Protocol) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let mut config = builder
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.alpn().into()];
    config
}

/// Request in the form of HTTP/2 and HTTP/3, parsed from the syntax of HTTP/1.
struct OutgoingRequest {
    request: Request<()>,
    body: Bytes,
}

impl OutgoingRequest {
    #[track_caller]
    fn of((head, body): &(&str, &[u8])) -> Self {
        let mut lines = head.split_terminator("\r\n");
        let mut words = lines.next().expect("a request line").split(' ');
        let (method, target) = (words.next().unwrap(), words.next().expect("a target"));
        let uri = match target.parse::<Uri>() {
            Ok(uri) if uri.authority().is_some() => uri,
            _ => Uri::builder()
                .scheme("https")
                .authority(Host::from_static(HOST))
                .path_and_query(target)
                .build()
                .unwrap(),
        };
        let mut request = Request::new(());
        (*request.method_mut(), *request.uri_mut()) =
            (Method::from_bytes(method.as_bytes()).unwrap(), uri);
        for line in lines {
            let (name, value) =
                line.split_once(':').unwrap_or_else(|| panic!("not a header line: {line:?}"));
            let name = name
                .parse::<header::HeaderName>()
                .unwrap_or_else(|error| panic!("{name:?}: {error}"));
            request.headers_mut().append(
                name,
                header::HeaderValue::from_bytes(value.trim_matches([' ', '\t']).as_bytes())
                    .unwrap(),
            );
        }
        if !body.is_empty() {
            request.headers_mut().insert(header::CONTENT_LENGTH, body.len().into());
        }
        Self { request, body: Bytes::copy_from_slice(body) }
    }
}

/// Converts a response of HTTP/2 or HTTP/3.
fn into_response(head: &::http::Response<()>, body: Vec<u8>) -> Response {
    let text = |value: &header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    Response {
        status: head.status().as_u16(),
        headers: head
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), text(value)))
            .collect(),
        body: String::from_utf8(body).unwrap(),
    }
}

/// Shared runtime that drives the connections of all clients, also while no test waits
/// for a response.
pub(crate) fn runtime() -> &'static Handle {
    static RUNTIME: OnceLock<Handle> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let handle = runtime.handle().clone();
        std::thread::spawn(move || runtime.block_on(pending::<()>()));
        handle
    })
}

fn wait_for<R: Send + 'static>(
    future: impl Future<Output = Result<R, String>> + Send + 'static,
) -> Result<R, String> {
    wait_for_all([future]).pop().expect("one")
}

/// Runs futures concurrently and waits for all of them.
fn wait_for_all<R: Send + 'static>(
    futures: impl IntoIterator<Item = impl Future<Output = Result<R, String>> + Send + 'static>,
) -> Vec<Result<R, String>> {
    let limited = |future| async {
        timeout(RESPONSE_TIMEOUT, future)
            .await
            .unwrap_or_else(|_| Err("no response in time".into()))
    };
    let tasks: Vec<_> =
        futures.into_iter().map(|future| runtime().spawn(limited(future))).collect();
    tasks.into_iter().map(|task| runtime().block_on(task).unwrap()).collect()
}

/// Generates three tests from each function that takes a [`Protocol`](crate::client::Protocol):
/// `name::http1`, `name::http2` and `name::http3`.
#[macro_export]
macro_rules! over_every_protocol {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            use $crate::client::Protocol;

            #[test]
            fn http1() {
                super::$name(Protocol::Http1);
            }

            #[test]
            fn http2() {
                super::$name(Protocol::Http2);
            }

            #[test]
            fn http3() {
                super::$name(Protocol::Http3);
            }
        }
    )+};
}
