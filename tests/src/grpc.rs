//! Clients of gRPC: tonic's, which asks what Envoy asks, in Envoy's own description of
//! it; and a bare one, which sends whatever it is given. Both in the test's own thread.

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
            attribute_context::{HttpRequest, Peer, Request as Asked},
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

use crate::{http::Request as Overheard, tls};

/// The method that Envoy calls.
pub const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";
/// The method by which health is asked for.
pub const HEALTH: &str = "/grpc.health.v1.Health/Check";
/// No answer takes so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A client that asks as Envoy does, on one connection.
pub struct Envoy {
    runtime: Runtime,
    client: AuthorizationClient<Channel>,
}

impl Envoy {
    /// One that speaks HTTP/2 by prior knowledge.
    pub fn plain(address: SocketAddr) -> Self {
        Self::over(Way { address, tls: None })
    }

    /// One that speaks it under TLS.
    pub fn under_tls(address: SocketAddr, client: &tls::Client) -> Self {
        Self::over(Way { address, tls: Some(TlsConnector::from(client.config())) })
    }

    fn over(way: Way) -> Self {
        let runtime = runtime();
        let endpoint = Endpoint::from_static("http://localhost").timeout(PATIENCE);
        let channel = runtime.block_on(async { endpoint.connect_with_connector_lazy(way) });
        Self { runtime, client: AuthorizationClient::new(channel) }
    }

    /// Asks.
    ///
    /// # Errors
    /// There is no answer.
    pub fn ask(&self, question: CheckRequest) -> Result<CheckResponse, Status> {
        self.ask_together([question]).remove(0)
    }

    /// Asks many questions at the same time, and returns the answers in their order.
    pub fn ask_together(
        &self,
        questions: impl IntoIterator<Item = CheckRequest>,
    ) -> Vec<Result<CheckResponse, Status>> {
        self.runtime.block_on(async {
            let asked = questions.into_iter().map(|question| {
                let mut client = self.client.clone();
                self.runtime.spawn(async move {
                    client.check(question).await.map(tonic::Response::into_inner)
                })
            });
            let mut answers = Vec::new();
            for answer in asked.collect::<Vec<_>>() {
                answers.push(answer.await.unwrap());
            }
            answers
        })
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// How a client connects.
#[derive(Clone)]
struct Way {
    address: SocketAddr,
    tls: Option<TlsConnector>,
}

/// What HTTP/2 is spoken over.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Way {
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

impl Service<Uri> for Way {
    type Response = TokioIo<Box<dyn Stream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let way = self.clone();
        Box::pin(async { way.connect().await.map(TokioIo::new) })
    }
}

// Questions

/// A question about `GET /page?x=1` with these header lines, as they came.
pub fn question(lines: &[(&str, &str)]) -> CheckRequest {
    let line = |(name, value): &(&str, &str)| HeaderValue {
        key: (*name).into(),
        raw_value: value.as_bytes().to_vec(),
        ..HeaderValue::default()
    };
    let header_map = Some(ListedHeaders { headers: lines.iter().map(line).collect() });
    about(HttpRequest { header_map, ..HttpRequest::default() })
}

/// The same, with the lines in a map.
pub fn question_with_map(lines: &[(&str, &str)]) -> CheckRequest {
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
    let request = Some(Asked { http: Some(http), ..Asked::default() });
    CheckRequest { attributes: Some(AttributeContext { request, ..AttributeContext::default() }) }
}

/// The question, of a request from this address whose client has shown this certificate,
/// percent-encoded.
#[must_use]
pub fn from(question: CheckRequest, source: &str, certificate: &str) -> CheckRequest {
    let socket = SocketAddress { address: source.into(), ..SocketAddress::default() };
    let address = Some(Address { address: Some(address::Address::SocketAddress(socket)) });
    let source = Some(Peer { address, certificate: certificate.into(), ..Peer::default() });
    CheckRequest { attributes: Some(AttributeContext { source, ..question.attributes.unwrap() }) }
}

// Answers

/// What Envoy is told to do with a request.
#[derive(Debug)]
pub struct Told {
    /// The status in gRPC's numbers.
    pub code: i32,
    /// The status for the client; 200 if the request may pass.
    pub status: i32,
    /// The header lines that are set: of the request, or of the answer to it.
    pub set: Vec<(String, String)>,
    /// The headers that are taken away.
    pub removed: Vec<String>,
    /// What comes behind is told.
    pub metadata: Option<Struct>,
}

impl Told {
    /// Reads an answer, of which only what is said here may be set.
    ///
    /// # Panics
    /// It says something else too, or two things.
    pub fn of(answer: CheckResponse) -> Self {
        let code = answer.status.expect("there is a status").code;
        let metadata = answer.dynamic_metadata;
        match answer.http_response.expect("it says what to do") {
            HttpResponse::OkResponse(mut ok) => {
                let (set, removed) = (
                    set(std::mem::take(&mut ok.headers)),
                    std::mem::take(&mut ok.headers_to_remove),
                );
                assert_eq!(ok, Default::default());
                assert_eq!(code, 0);
                Self { code, status: 200, set, removed, metadata }
            }
            HttpResponse::DeniedResponse(denied) => {
                assert_ne!(code, 0);
                assert_eq!(denied.body, "");
                let status = denied.status.expect("there is a status").code;
                Self { code, status, set: set(denied.headers), removed: Vec::new(), metadata }
            }
            HttpResponse::ErrorResponse(error) => panic!("{error:?}"),
        }
    }

    /// The value that a header is set to.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.set.iter().filter(|(header, _)| header == name);
        let line = lines.next()?;
        assert!(lines.next().is_none(), "{name} is set twice: {self:?}");
        Some(&line.1)
    }
}

/// Each is to replace what is there.
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

// Bare calls

/// What came back to a bare call.
#[derive(Debug)]
pub struct Answer {
    /// The status in HTTP.
    pub status: u16,
    /// The head.
    pub headers: HeaderMap,
    /// All pieces of the body.
    pub body: Vec<u8>,
    /// What stands behind it.
    pub trailers: Option<HeaderMap>,
}

impl Answer {
    /// The status in gRPC's numbers: behind the body, or in the head if there is none.
    pub fn code(&self) -> Option<&str> {
        let trailers = self.trailers.as_ref().unwrap_or(&self.headers);
        trailers.get("grpc-status").map(|code| code.to_str().unwrap())
    }

    /// The message, without what stands before it.
    #[track_caller]
    pub fn message(&self) -> &[u8] {
        assert_eq!(self.code(), Some("0"), "{self:?}");
        let length = u32::try_from(self.body.len() - 5).unwrap().to_be_bytes();
        assert_eq!((self.body[0], &self.body[1..5]), (0, &length[..]));
        &self.body[5..]
    }
}

/// A message with what stands before it.
pub fn framed(message: &[u8]) -> Vec<u8> {
    [&[0], &u32::try_from(message.len()).unwrap().to_be_bytes()[..], message].concat()
}

/// A call over plain HTTP/2, with these bytes as its body.
pub fn call(address: SocketAddr, path: &str, body: &[u8]) -> Answer {
    let request =
        Request::post(format!("http://{address}{path}")).header("content-type", "application/grpc");
    ask(address, request.header("te", "trailers").body(()).unwrap(), body)
}

/// Any request over plain HTTP/2, on a connection of its own.
pub fn ask(address: SocketAddr, request: Request<()>, body: &[u8]) -> Answer {
    let body = Bytes::copy_from_slice(body);
    let asked = async {
        let stream = TcpStream::connect(address).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(async { drop(connection.await) });
        let (answer, mut sending) =
            client.ready().await.unwrap().send_request(request, false).unwrap();
        // It may have been answered, and the rest of it refused.
        let _refused = sending.send_data(body, true);
        receive(answer).await
    };
    runtime().block_on(async { timeout(PATIENCE, asked).await.expect("an answer in 20 s") })
}

async fn receive(answer: ResponseFuture) -> Answer {
    let (head, mut stream) = answer.await.unwrap().into_parts();
    let (mut body, mut trailers) = (Vec::new(), None);
    while let Some(Ok(piece)) = stream.data().await {
        drop(stream.flow_control().release_capacity(piece.len()));
        body.extend_from_slice(&piece);
    }
    if let Ok(behind) = stream.trailers().await {
        trailers = behind;
    }
    Answer { status: head.status.as_u16(), headers: head.headers, body, trailers }
}

// Overheard

/// The questions that bytes are which somebody has sent over a connection: each as if the
/// request that it is about had been the question. Those that are not complete are not
/// there.
pub fn overheard(bytes: &[u8]) -> Vec<Overheard> {
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
    let questions = requests.iter_mut().filter_map(|(request, _)| {
        assert_eq!((request.method().as_str(), request.uri().path()), ("POST", CHECK));
        let body = whole(request.body_mut(), &mut context)?;
        Some(as_request(CheckRequest::decode(&body[5..]).unwrap()))
    });
    questions.collect()
}

/// The first of them is longer than what a connection begins with, and all are short
/// enough that h2 has opened its window before it is full.
const PIECE: usize = 4096;

/// Bytes that were recorded, the last piece first. Between two there is a break.
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

fn whole(stream: &mut RecvStream, context: &mut Context<'_>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        match stream.poll_data(context) {
            Poll::Ready(Some(piece)) => body.extend_from_slice(&piece.ok()?),
            Poll::Ready(None) => return Some(body),
            Poll::Pending => return None,
        }
    }
}

/// What a question says of the request that it is about. What its header lines say about
/// a body is about one that Countersign does not get.
fn as_request(question: CheckRequest) -> Overheard {
    const OF_THE_BODY: [&str; 3] = ["content-length", "transfer-encoding", "expect"];
    let asked = question.attributes.unwrap().request.unwrap().http.unwrap();
    let lines = asked.header_map.unwrap().headers.into_iter();
    let lines = lines.map(|line| (line.key, String::from_utf8_lossy(&line.raw_value).into_owned()));
    let headers = lines.filter(|(name, _)| !OF_THE_BODY.contains(&name.as_str())).collect();
    Overheard { method: asked.method, target: asked.path, headers, body: asked.body }
}
