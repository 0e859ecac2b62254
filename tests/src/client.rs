//! A client of every version of HTTP: what a test asks is written once, as HTTP/1 has
//! it, and travels by the version that the test is told.
//!
//! A client keeps its connection, as clients do: what one request leaves behind there
//! (compressed headers, windows, streams) meets the next one.

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
    crypto::aws_lc_rs::default_provider, pki_types::ServerName,
};
use tokio::{
    runtime::{Builder, Handle},
    time::timeout,
};

use crate::{
    certificates::Authority,
    http::{Connection, Response},
};

/// A version of HTTP.
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
    /// Every version there is.
    pub const ALL: [Self; 3] = [Self::Http1, Self::Http2, Self::Http3];

    /// Its name in ALPN.
    #[must_use]
    pub fn alpn(self) -> &'static str {
        match self {
            Self::Http1 => "http/1.1",
            Self::Http2 => "h2",
            Self::Http3 => "h3",
        }
    }
}

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(20);
/// The host that every request is for.
const HOST: &str = "test";

/// A client of one server, which keeps its connection for as long as the server does.
pub struct Client {
    protocol: Protocol,
    address: SocketAddr,
    /// `None` for one that speaks without TLS, by prior knowledge.
    tls: Option<Arc<ClientConfig>>,
    open: Option<Open>,
}

/// A connection.
enum Open {
    Http1(Connection<Box<dyn Stream>>),
    Http2(http2::Connection),
    Http3(http3::Connection),
}

trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

impl Client {
    /// One that trusts an authority.
    pub fn new(protocol: Protocol, address: SocketAddr, authority: &Authority) -> Self {
        Self { protocol, address, tls: Some(Arc::new(tls(authority, protocol))), open: None }
    }

    /// One that speaks without TLS: HTTP/1.1, or HTTP/2 by prior knowledge.
    pub fn plain(protocol: Protocol, address: SocketAddr) -> Self {
        assert_ne!(protocol, Protocol::Http3, "there is no HTTP/3 without TLS");
        Self { protocol, address, tls: None, open: None }
    }

    /// Sends a request and waits for its answer. `head` is the request line and the
    /// header lines of HTTP/1.1, each ended by CRLF; who is asked and how long the body
    /// is are added.
    #[track_caller]
    pub fn request(&mut self, head: &str, body: &[u8]) -> Response {
        self.try_request(head, body).unwrap_or_else(|error| panic!("{:?}: {error}", self.protocol))
    }

    /// The same, or why there is no answer.
    ///
    /// # Errors
    /// Whatever has ended the request, in words.
    pub fn try_request(&mut self, head: &str, body: &[u8]) -> Result<Response, String> {
        self.try_all(&[(head, body)]).pop().expect("as many answers as requests")
    }

    /// Sends requests without waiting for the answer to any, and returns the answers in
    /// their order.
    #[track_caller]
    pub fn request_all(&mut self, requests: &[(&str, &[u8])]) -> Vec<Response> {
        let answers = self.try_all(requests);
        answers
            .into_iter()
            .map(|answer| answer.unwrap_or_else(|error| panic!("{:?}: {error}", self.protocol)))
            .collect()
    }

    fn try_all(&mut self, requests: &[(&str, &[u8])]) -> Vec<Result<Response, String>> {
        let open = match self.open.take().filter(Open::goes_on).map_or_else(|| self.connect(), Ok) {
            Ok(open) => open,
            Err(error) => return requests.iter().map(|_| Err(error.clone())).collect(),
        };
        let mut is_over = false;
        let answers = match &mut *self.open.insert(open) {
            Open::Http1(connection) => {
                for (head, body) in requests {
                    connection.send(head, body);
                }
                let answers =
                    requests.iter().map(|(head, _)| connection.receive(head.starts_with("HEAD ")));
                let answers: Vec<_> = answers.collect();
                is_over = answers.iter().any(|answer| answer.header("connection") == Some("close"));
                answers.into_iter().map(Ok).collect()
            }
            Open::Http2(connection) => {
                wait_for_all(requests.iter().map(|one| connection.exchange(Question::of(one))))
            }
            Open::Http3(connection) => {
                wait_for_all(requests.iter().map(|one| connection.exchange(Question::of(one))))
            }
        };
        if is_over {
            self.open = None;
        }
        answers
    }

    fn connect(&self) -> Result<Open, String> {
        Ok(match (self.protocol, &self.tls) {
            (Protocol::Http1, tls) => {
                Open::Http1(Connection::over(http1(self.address, tls.as_ref())))
            }
            (Protocol::Http2, tls) => {
                Open::Http2(wait_for(http2::Connection::open(self.address, tls.clone()))?)
            }
            (Protocol::Http3, Some(tls)) => {
                Open::Http3(wait_for(http3::Connection::open(self.address, tls))?)
            }
            (Protocol::Http3, None) => unreachable!("no constructor allows it"),
        })
    }
}

impl Open {
    fn goes_on(&self) -> bool {
        match self {
            Self::Http1(_) => true,
            Self::Http2(connection) => connection.goes_on(),
            Self::Http3(connection) => connection.goes_on(),
        }
    }
}

fn http1(address: SocketAddr, tls: Option<&Arc<ClientConfig>>) -> Box<dyn Stream> {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    match tls {
        None => Box::new(stream),
        Some(tls) => Box::new(StreamOwned::new(
            ClientConnection::new(Arc::clone(tls), server_name()).unwrap(),
            stream,
        )),
    }
}

/// The name that the certificates of [`Authority::server`] are for.
fn server_name() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

fn tls(authority: &Authority, protocol: Protocol) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let mut config = builder
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.alpn().into()];
    config
}

/// A request, as versions after HTTP/1 have it.
struct Question {
    request: Request<()>,
    body: Bytes,
}

impl Question {
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
                line.split_once(':').unwrap_or_else(|| panic!("no header line: {line:?}"));
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

/// An answer of a version after HTTP/1.
fn answer(head: &::http::Response<()>, body: Vec<u8>) -> Response {
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

/// Where the connections of all clients go on while no test waits for them.
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

/// Waits for futures that all go on at once.
fn wait_for_all<R: Send + 'static>(
    futures: impl IntoIterator<Item = impl Future<Output = Result<R, String>> + Send + 'static>,
) -> Vec<Result<R, String>> {
    let in_time = |future| async {
        timeout(PATIENCE, future).await.unwrap_or_else(|_| Err("no answer in time".into()))
    };
    let begun: Vec<_> =
        futures.into_iter().map(|future| runtime().spawn(in_time(future))).collect();
    begun.into_iter().map(|one| runtime().block_on(one).unwrap()).collect()
}

/// Makes of functions, which take a [`Protocol`], a test over each: `name::http1`,
/// `name::http2` and `name::http3`.
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
