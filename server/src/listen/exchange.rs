//! From a request to its answer, whatever it travels by: what can be answered on the
//! spot is, and what cannot is remembered for as long as it takes.

use std::pin::Pin;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version};

use super::peer::{UNIX_PEER, UNKNOWN_PEER};
use crate::{
    admission::{Caller, Peer},
    clock::Stopwatch,
    config::{Listener, Server},
    grpc::{self, GrpcError},
    http::{BadRequest, Fields},
    metrics::{MetricEvent, Outcome},
    requests::{AccessLogEntry, CompletedRequest, RequestLine},
    routes::{self, Decision, Reply, Route, Said},
    worker::WorkerContext,
};

/// The connection that a request came over.
#[derive(Clone, Copy)]
pub struct ConnectionContext<'c> {
    /// What the connections of its thread share.
    pub worker: &'c WorkerContext,
    /// Its other end.
    pub peer: Peer<'c>,
}

impl<'c> ConnectionContext<'c> {
    /// The client has asked for so much in vain that its connection ends: whoever comes
    /// from its address may have to wait for the next. A proxy that we trust need not, as
    /// it may have been anybody behind it.
    pub fn record_abuse(&self) {
        let Peer { address, listener, admission, .. } = self.peer;
        self.worker.app.metrics.count_event(MetricEvent::AbuseClose);
        if ![UNIX_PEER, UNKNOWN_PEER].contains(&address)
            && !self.worker.app.server().listeners[listener].proxies.trusts(address)
        {
            admission.record_abuse(address);
        }
    }

    /// What answers say about the same server over HTTP/3, if it speaks that
    /// (RFC 7838 section 3).
    #[must_use]
    pub fn alt_svc(&self) -> Option<&'c HeaderValue> {
        self.worker.app.alt_svc_of(self.peer.listener)
    }
}

/// The head of a request, whoever has read it.
pub trait RequestHead: Fields {
    /// The version of HTTP that it came by.
    fn version(&self) -> Version;

    /// The method.
    fn method(&self) -> &str;

    /// The request target: path and query, most of the time.
    fn target(&self) -> &str;

    /// The same in the vocabulary of all protocols, with its version.
    ///
    /// # Errors
    /// There is no saying it so.
    fn to_request(&self) -> Result<Request<()>, BadRequest>;
}

/// A head in the vocabulary of all protocols, of which these are the lines.
///
/// # Errors
/// There is no saying it so.
pub(super) fn request<'l>(
    head: &impl RequestHead,
    count: usize,
    lines: impl Iterator<Item = (&'l [u8], &'l [u8])>,
) -> Result<Request<()>, BadRequest> {
    // An OPTIONS request about the server as a whole, and a CONNECT, are no paths.
    const TARGET: BadRequest = BadRequest::new("request_target", "the request target is no URI");
    const LINES: BadRequest = BadRequest::new("head", "a header line is none of HTTP");
    let mut request = Request::new(());
    *request.version_mut() = head.version();
    *request.uri_mut() = Uri::try_from(head.target()).map_err(|_| TARGET)?;
    *request.method_mut() = Method::from_bytes(head.method().as_bytes()).map_err(|_| TARGET)?;
    let headers = request.headers_mut();
    *headers = HeaderMap::with_capacity(count);
    for (name, value) in lines {
        let name = HeaderName::from_bytes(name).map_err(|_| LINES)?;
        headers.append(name, HeaderValue::from_bytes(value).map_err(|_| LINES)?);
    }
    Ok(request)
}

/// Where answers are put.
pub trait ResponseWriter {
    /// An answer with no body but these lines.
    fn headers_only<'l>(
        &mut self,
        status: StatusCode,
        lines: impl Iterator<Item = (&'l HeaderName, &'l [u8])>,
    );

    /// An answer.
    fn reply(&mut self, reply: &Reply);
}

/// A request with all that its answer depends on.
pub struct IncomingRequest<'r, 'c, H> {
    context: ConnectionContext<'c>,
    server: &'r Server,
    listener: &'r Listener,
    head: &'r H,
    /// Its route.
    pub route: Route,
    started: Stopwatch,
}

/// What became of a request at once.
pub enum RequestProgress<'c> {
    /// It is answered.
    Answered,
    /// It will be.
    Pending(PendingRequest<'c>),
    /// It is none.
    Invalid(BadRequest),
}

/// A request that is not answered yet.
pub struct PendingRequest<'c> {
    context: ConnectionContext<'c>,
    work: PendingWork<'c>,
    /// Its route.
    pub route: Route,
    /// Whether its body is to be received first.
    pub reads_body: bool,
    /// Since it came.
    pub started: Stopwatch,
    entry: Option<Box<AccessLogEntry>>,
}

/// An answer that takes a while.
pub type ReplyFuture<'c> = Pin<Box<dyn Future<Output = Reply> + 'c>>;

enum PendingWork<'c> {
    /// A question that waits for keys.
    AuthCheck(ReplyFuture<'c>),
    /// A request, without its body.
    Request(Box<Request<()>>),
    /// A call of gRPC: all there is to know of it is in its body.
    GrpcCall,
}

impl<'r, 'c, H: RequestHead> IncomingRequest<'r, 'c, H> {
    /// A request that came over `context` just now.
    #[must_use]
    pub fn new(context: ConnectionContext<'c>, server: &'r Server, head: &'r H) -> Self {
        let started = Stopwatch::start();
        let listener = &server.listeners[context.peer.listener];
        let route = Route::of(head.target(), listener.serves);
        Self { context, server, listener, head, route, started }
    }

    /// Answers it, if that takes no waiting.
    pub fn answer(&self, answers: &mut impl ResponseWriter) -> RequestProgress<'c> {
        if self.route.is_grpc() && grpc::is_call(self.head.version(), self.head.method(), self.head)
        {
            return RequestProgress::Pending(self.waiting(PendingWork::GrpcCall));
        }
        if self.route != Route::Auth {
            return match self.head.to_request() {
                Ok(request) => {
                    RequestProgress::Pending(self.waiting(PendingWork::Request(Box::new(request))))
                }
                Err(bad_request) => RequestProgress::Invalid(bad_request),
            };
        }
        let caller = Caller::new(self.context.peer, &self.listener.proxies, self.head);
        let (outcome, status) = match routes::decide(
            &self.context.worker.app,
            self.server,
            self.listener,
            &caller,
            self.head,
        ) {
            Decision::Allowed(verified) => {
                answers.headers_only(
                    StatusCode::OK,
                    routes::auth_headers(self.server, verified.identity()),
                );
                (Some(Outcome::Verified), StatusCode::OK)
            }
            Decision::Answered(reply) => {
                answers.reply(&reply);
                (reply.outcome, reply.counted)
            }
            Decision::Later(answer) => {
                return RequestProgress::Pending(self.waiting(PendingWork::AuthCheck(answer)));
            }
        };
        let answered =
            CompletedRequest { route: self.route, status, outcome, started: self.started };
        self.context.worker.record_answer(self.server, answered, || Some(self.log_entry()));
        RequestProgress::Answered
    }

    fn waiting(&self, work: PendingWork<'c>) -> PendingRequest<'c> {
        let entry = self.server.log.logs_requests().then(|| Box::new(self.log_entry()));
        let (context, route, started) = (self.context, self.route, self.started);
        PendingRequest {
            context,
            work,
            route,
            reads_body: route.reads_body(self.head.method()),
            started,
            entry,
        }
    }

    fn log_entry(&self) -> AccessLogEntry {
        let request_line = RequestLine {
            version: self.head.version(),
            method: self.head.method(),
            target: self.head.target(),
        };
        AccessLogEntry::new(self.listener, self.context.peer, request_line, self.head)
    }
}

impl PendingRequest<'_> {
    /// The longest body it may have, in bytes.
    #[must_use]
    pub fn max_body_bytes(&self) -> usize {
        self.route.max_body(&self.context.worker.app.server())
    }

    /// Answers it, whose body cannot be had.
    #[must_use]
    pub fn refuse(self, bad_request: &BadRequest) -> Reply {
        let reply = match self.work {
            PendingWork::GrpcCall => GrpcError::from(bad_request).into(),
            PendingWork::AuthCheck(_) | PendingWork::Request(_) => {
                Reply::from(bad_request.to_response())
            }
        };
        record(self.context, self.route, &reply, self.started, self.entry);
        reply
    }
}

impl<'c> PendingRequest<'c> {
    /// Answers it, given its body: now, if it is a call that takes no more waiting, as
    /// most do not, or as soon as it can be.
    pub fn answer(self, body: &[u8], answers: &mut impl ResponseWriter) -> Option<ReplyFuture<'c>> {
        let Self { context, work, route, started, mut entry, .. } = self;
        let answering = match work {
            PendingWork::AuthCheck(answer) => answer,
            PendingWork::Request(request) => {
                let request = request.map(|()| Bytes::copy_from_slice(body));
                Box::pin(routes::answer(&context.worker.app, context.peer, route, request))
            }
            PendingWork::GrpcCall => {
                match routes::call(
                    &context.worker.app,
                    context.peer,
                    route,
                    body,
                    entry.as_deref_mut(),
                ) {
                    Said::Later(answer) => answer,
                    Said::Now(reply) => {
                        answers.reply(&reply);
                        record(context, route, &reply, started, entry);
                        return None;
                    }
                }
            }
        };
        Some(Box::pin(async move {
            let reply = answering.await;
            record(context, route, &reply, started, entry);
            reply
        }))
    }
}

fn record(
    context: ConnectionContext<'_>,
    route: Route,
    reply: &Reply,
    started: Stopwatch,
    entry: Option<Box<AccessLogEntry>>,
) {
    let answered =
        CompletedRequest { route, status: reply.counted, outcome: reply.outcome, started };
    context
        .worker
        .record_answer(&context.worker.app.server(), answered, || entry.map(|entry| *entry));
}

/// Refuses what is no request.
pub fn refuse(
    context: ConnectionContext<'_>,
    bad_request: &BadRequest,
    answers: &mut impl ResponseWriter,
) {
    answers.reply(&Reply::from(bad_request.to_response()));
    context.worker.app.metrics.count_answer(Route::None, bad_request.status, None);
    tracing::debug!(client = %context.peer.address, code = bad_request.code, "malformed request");
}
