//! gRPC clients. [`Envoy`] sends Envoy's `CheckRequest` by `tonic`, with Envoy's own protobuf
//! definitions. [`call`] and [`ask`] send any bytes over HTTP/2. Both run on the test's thread.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use envoy_types::pb::{
    envoy::{
        config::core::v3::{
            Address, HeaderMap as ListedHeaders, HeaderValue, HeaderValueOption, SocketAddress,
            address, header_value_option::HeaderAppendAction,
        },
        service::auth::v3::{
            AttributeContext, CheckRequest, CheckResponse,
            attribute_context::{HttpRequest, Peer, Request as RequestAttributes},
            authorization_client::AuthorizationClient,
            check_response::HttpResponse,
        },
    },
    google::protobuf::Struct,
};
use h2::{RecvStream, client::ResponseFuture};
use http::{HeaderMap, Request, Uri};
use hyper_util::rt::TokioIo;
use prost::Message as _;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    runtime::{Builder, Runtime},
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tonic::{
    Status,
    codegen::Service,
    transport::{Channel, Endpoint},
};

use crate::{http::Request as RecordedRequest, tls};

/// Method of Envoy's external authorization.
pub const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";
/// Method of the gRPC health check.
pub const HEALTH: &str = "/grpc.health.v1.Health/Check";
/// Time limit of a call.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(20);

/// Client that checks requests as Envoy does, on one connection.
pub struct Envoy {
    runtime: Runtime,
    client: AuthorizationClient<Channel>,
}

impl Envoy {
    /// Creates a client of cleartext HTTP/2 with prior knowledge.
    pub fn plain(address: SocketAddr) -> Self {
        Self::over(GrpcConnector { address, tls: None })
    }

    /// Creates a client of HTTP/2 over TLS.
    pub fn under_tls(address: SocketAddr, client: &tls::TlsClient) -> Self {
        Self::over(GrpcConnector { address, tls: Some(TlsConnector::from(client.config())) })
    }

    fn over(connector: GrpcConnector) -> Self {
        let runtime = runtime();
        let endpoint = Endpoint::from_static("http://localhost").timeout(RESPONSE_TIMEOUT);
        let channel = runtime.block_on(async { endpoint.connect_with_connector_lazy(connector) });
        Self { runtime, client: AuthorizationClient::new(channel) }
    }

    /// Sends a check.
    ///
    /// # Errors
    /// The call failed with this gRPC status.
    pub fn check(&self, check_request: CheckRequest) -> Result<CheckResponse, Status> {
        self.check_all([check_request]).remove(0)
    }

    /// Sends checks concurrently and returns the responses in request order.
    pub fn check_all(
        &self,
        requests: impl IntoIterator<Item = CheckRequest>,
    ) -> Vec<Result<CheckResponse, Status>> {
        self.runtime.block_on(async {
            let calls = requests.into_iter().map(|check_request| {
                let mut client = self.client.clone();
                self.runtime.spawn(async move {
                    client.check(check_request).await.map(tonic::Response::into_inner)
                })
            });
            let mut responses = Vec::new();
            for response in calls.collect::<Vec<_>>() {
                responses.push(response.await.unwrap());
            }
            responses
        })
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Connector for `tonic`: TCP, or TLS with a [`TlsConnector`].
#[derive(Clone)]
struct GrpcConnector {
    address: SocketAddr,
    tls: Option<TlsConnector>,
}

/// Transport of HTTP/2.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl GrpcConnector {
    async fn connect(self) -> io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect(self.address).await?;
        match self.tls {
            None => Ok(Box::new(stream)),
            Some(tls) => {
                Ok(Box::new(tls.connect(ServerName::try_from("localhost").unwrap(), stream).await?))
            }
        }
    }
}

impl Service<Uri> for GrpcConnector {
    type Response = TokioIo<Box<dyn Stream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async { connector.connect().await.map(TokioIo::new) })
    }
}

// Check requests

/// Creates a check of `GET /page?x=1` with these header lines as a list, in order.
pub fn check_request(lines: &[(&str, &str)]) -> CheckRequest {
    let line = |(name, value): &(&str, &str)| HeaderValue {
        key: (*name).into(),
        raw_value: value.as_bytes().to_vec(),
        ..HeaderValue::default()
    };
    let header_map = Some(ListedHeaders { headers: lines.iter().map(line).collect() });
    about(HttpRequest { header_map, ..HttpRequest::default() })
}

/// Like [`check_request`], with the header lines as a map.
pub fn check_with_header_map(lines: &[(&str, &str)]) -> CheckRequest {
    let headers = lines.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    about(HttpRequest { headers, ..HttpRequest::default() })
}

fn about(http: HttpRequest) -> CheckRequest {
    let http = HttpRequest {
        id: "17".into(),
        method: "GET".into(),
        path: "/page?x=1".into(),
        host: "shop.example".into(),
        scheme: "https".into(),
        ..http
    };
    let request = Some(RequestAttributes { http: Some(http), ..RequestAttributes::default() });
    CheckRequest { attributes: Some(AttributeContext { request, ..AttributeContext::default() }) }
}

/// Sets the method of a checked request.
#[must_use]
pub fn with_method(mut check_request: CheckRequest, method: &str) -> CheckRequest {
    described_request(&mut check_request).method = method.into();
    check_request
}

/// Sets method and target of a checked request.
#[must_use]
pub fn with_target(check_request: CheckRequest, method: &str, target: &str) -> CheckRequest {
    let mut check_request = with_method(check_request, method);
    described_request(&mut check_request).path = target.into();
    check_request
}

fn described_request(check_request: &mut CheckRequest) -> &mut HttpRequest {
    let attributes = check_request.attributes.as_mut();
    let http = attributes.and_then(|all| all.request.as_mut()?.http.as_mut());
    http.expect("the request is described")
}

/// Adds a client address and a percent-encoded client certificate to a check.
#[must_use]
pub fn with_source(check_request: CheckRequest, source: &str, certificate: &str) -> CheckRequest {
    let socket = SocketAddress { address: source.into(), ..SocketAddress::default() };
    let address = Some(Address { address: Some(address::Address::SocketAddress(socket)) });
    let source = Some(Peer { address, certificate: certificate.into(), ..Peer::default() });
    CheckRequest {
        attributes: Some(AttributeContext { source, ..check_request.attributes.unwrap() }),
    }
}

// Check responses

/// Decision of a `CheckResponse`: what Envoy has to do with the request.
#[derive(Debug)]
pub struct CheckOutcome {
    /// gRPC status code.
    pub code: i32,
    /// HTTP status for the client, or 200 if the request is allowed.
    pub status: i32,
    /// Header lines to set, on an allowed request or on the denying response.
    pub set: Vec<(String, String)>,
    /// Names of headers to remove from the request.
    pub removed: Vec<String>,
    /// Dynamic metadata for later filters of Envoy.
    pub metadata: Option<Struct>,
    /// Body of a denying response.
    pub body: String,
}

impl CheckOutcome {
    /// Reads a response.
    ///
    /// # Panics
    /// A field without a counterpart in [`CheckOutcome`] is set, or the status codes disagree.
    pub fn of(response: CheckResponse) -> Self {
        let code = response.status.expect("there is a status").code;
        let metadata = response.dynamic_metadata;
        match response.http_response.expect("there is an HTTP response") {
            HttpResponse::OkResponse(mut ok) => {
                let (set, removed) = (
                    set(std::mem::take(&mut ok.headers)),
                    std::mem::take(&mut ok.headers_to_remove),
                );
                assert_eq!(ok, Default::default());
                assert_eq!(code, 0);
                Self { code, status: 200, set, removed, metadata, body: String::new() }
            }
            HttpResponse::DeniedResponse(denied) => {
                assert_ne!(code, 0);
                let status = denied.status.expect("there is a status").code;
                let (set, removed, body) = (set(denied.headers), Vec::new(), denied.body);
                Self { code, status, set, removed, metadata, body }
            }
            HttpResponse::ErrorResponse(error) => panic!("{error:?}"),
        }
    }

    /// Returns the value that a header is set to.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.set.iter().filter(|(header, _)| header == name);
        let line = lines.next()?;
        assert!(lines.next().is_none(), "{name} is set twice: {self:?}");
        Some(&line.1)
    }
}

/// Returns the header lines, after checking that each replaces existing lines.
fn set(options: Vec<HeaderValueOption>) -> Vec<(String, String)> {
    let lines = options.into_iter().map(|mut option| {
        let header = option.header.take().expect("a header");
        let replaces = HeaderAppendAction::OverwriteIfExistsOrAdd.into();
        assert_eq!(
            option,
            HeaderValueOption { append_action: replaces, ..HeaderValueOption::default() }
        );
        assert!(header.raw_value.is_empty());
        (header.key, header.value)
    });
    lines.collect()
}

// Raw calls

/// Response to a raw call.
#[derive(Debug)]
pub struct GrpcResponse {
    /// HTTP status.
    pub status: u16,
    /// Response headers.
    pub headers: HeaderMap,
    /// Whole body.
    pub body: Vec<u8>,
    /// Trailers.
    pub trailers: Option<HeaderMap>,
}

impl GrpcResponse {
    /// Returns the `grpc-status`: from the trailers, or from the headers of a response without
    /// a body.
    pub fn code(&self) -> Option<&str> {
        let trailers = self.trailers.as_ref().unwrap_or(&self.headers);
        trailers.get("grpc-status").map(|code| code.to_str().unwrap())
    }

    /// Returns the message without its length prefix.
    #[track_caller]
    pub fn message(&self) -> &[u8] {
        assert_eq!(self.code(), Some("0"), "{self:?}");
        let length = u32::try_from(self.body.len() - 5).unwrap().to_be_bytes();
        assert_eq!((self.body[0], &self.body[1..5]), (0, &length[..]));
        &self.body[5..]
    }
}

/// Adds the length prefix to a message.
pub fn framed(message: &[u8]) -> Vec<u8> {
    [&[0], &u32::try_from(message.len()).unwrap().to_be_bytes()[..], message].concat()
}

/// Calls a method over cleartext HTTP/2, with these bytes as the body.
pub fn call(address: SocketAddr, path: &str, body: &[u8]) -> GrpcResponse {
    let request =
        Request::post(format!("http://{address}{path}")).header("content-type", "application/grpc");
    ask(address, request.header("te", "trailers").body(()).unwrap(), body)
}

/// Sends any request over cleartext HTTP/2, on a new connection.
pub fn ask(address: SocketAddr, request: Request<()>, body: &[u8]) -> GrpcResponse {
    let body = Bytes::copy_from_slice(body);
    let exchange = async {
        let stream = TcpStream::connect(address).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(async { drop(connection.await) });
        let (response, mut sending) =
            client.ready().await.unwrap().send_request(request, false).unwrap();
        // The server may already have responded and reset the stream.
        let _ignored = sending.send_data(body, true);
        receive(response).await
    };
    runtime().block_on(async {
        timeout(RESPONSE_TIMEOUT, exchange).await.expect("a response within 20 s")
    })
}

async fn receive(response: ResponseFuture) -> GrpcResponse {
    let (head, mut stream) = response.await.unwrap().into_parts();
    let (mut body, mut trailers) = (Vec::new(), None);
    while let Some(Ok(piece)) = stream.data().await {
        drop(stream.flow_control().release_capacity(piece.len()));
        body.extend_from_slice(&piece);
    }
    if let Ok(received) = stream.trailers().await {
        trailers = received;
    }
    GrpcResponse { status: head.status.as_u16(), headers: head.headers, body, trailers }
}

// RecordedRequest

/// Decodes the checks in the recorded bytes of a connection. Each is returned as the HTTP
/// request it checks, so that tests read gRPC and HTTP subrequests alike. Incomplete checks are
/// left out.
pub fn recorded_checks(bytes: &[u8]) -> Vec<RecordedRequest> {
    const ANY: u32 = (1 << 31) - 1;
    let mut context = Context::from_waker(Waker::noop());
    let mut builder = h2::server::Builder::new();
    builder.initial_window_size(ANY).initial_connection_window_size(ANY);
    let mut pieces = bytes.chunks(PIECE).map(Bytes::copy_from_slice).collect::<Vec<_>>();
    pieces.reverse();
    let count = pieces.len();
    let recording = Recording { pieces, is_over: false };
    let mut handshake = std::pin::pin!(builder.handshake::<_, Bytes>(recording));
    let Poll::Ready(Ok(mut connection)) = handshake.as_mut().poll(&mut context) else {
        return Vec::new();
    };
    let mut requests = Vec::new();
    for _ in 0..=count {
        while let Poll::Ready(Some(Ok(request))) = connection.poll_accept(&mut context) {
            requests.push(request);
        }
    }
    let requests = requests.iter_mut().filter_map(|(request, _)| {
        assert_eq!((request.method().as_str(), request.uri().path()), ("POST", CHECK));
        let body = read_body(request.body_mut(), &mut context)?;
        Some(checked_request(CheckRequest::decode(&body[5..]).unwrap()))
    });
    requests.collect()
}

/// Size of the recorded pieces. The first one contains the whole preface. All are small enough
/// that `h2` extends its flow-control window in time.
const PIECE: usize = 4096;

/// Recorded bytes as a stream, last piece first. Reading pends once between two pieces.
struct Recording {
    pieces: Vec<Bytes>,
    is_over: bool,
}

impl AsyncRead for Recording {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.is_over) {
            return Poll::Pending;
        }
        let Some(mut piece) = self.pieces.pop() else { return Poll::Pending };
        let length = piece.len().min(buffer.remaining());
        buffer.put_slice(&piece.split_to(length));
        self.is_over = piece.is_empty();
        if !self.is_over {
            self.pieces.push(piece);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Recording {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn read_body(stream: &mut RecvStream, context: &mut Context<'_>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        match stream.poll_data(context) {
            Poll::Ready(Some(piece)) => body.extend_from_slice(&piece.ok()?),
            Poll::Ready(None) => return Some(body),
            Poll::Pending => return None,
        }
    }
}

/// Returns the HTTP request that a check describes. Header lines about the body are left out,
/// because Envoy does not send the body along.
fn checked_request(check_request: CheckRequest) -> RecordedRequest {
    const OF_THE_BODY: [&str; 3] = ["content-length", "transfer-encoding", "expect"];
    let http = check_request.attributes.unwrap().request.unwrap().http.unwrap();
    let lines = http.header_map.unwrap().headers.into_iter();
    let lines = lines.map(|line| (line.key, String::from_utf8_lossy(&line.raw_value).into_owned()));
    let headers = lines.filter(|(name, _)| !OF_THE_BODY.contains(&name.as_str())).collect();
    RecordedRequest { method: http.method, target: http.path, headers, body: http.body }
}
