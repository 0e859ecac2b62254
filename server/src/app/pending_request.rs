//! [`PendingAppRequest`]: a request that cannot be answered at once, with the parts of its head
//! that are still needed.

use bytes::Bytes;
use countersign_front::{
    BadRequest, BodyExchange, IncomingRequest, KeptHead, Peer, PendingRequest, ReplyFuture,
    RequestHead, ResponseWriter, Step, StreamedReply, clock::Stopwatch,
};
use http::{HeaderValue, Request, StatusCode, header};

use super::{AppService, dispatch, service::judged_kind};
use crate::{
    api::inmanta::LOGIN_PATH,
    auth::{
        AuthDecision, PendingDecision, credential::Credential, ext_authz, forward_auth,
        grpc::GrpcError, verify,
    },
    base::{
        reply::{Reply, empty},
        route::{Route, path_of},
    },
    config::Settings,
    console::SIGN_IN_PATH,
    observe::{
        access_log::{self, AccessLogEntry, CompletedRequest, RequestLine},
        answer_judge::{AnswerJudge, TokenKind},
        metrics::RequestProtocol,
        request_series::{OpenRequest, RequestLabels},
    },
};

/// A request that waits for its body, for the keys of an issuer, or for a handler.
pub struct PendingAppRequest<'c> {
    work: PendingWork<'c>,
    /// What the handler and the access log read of the head; absent if neither needs it.
    head: Option<KeptHead>,
    /// The host of a request of the console. HTTP/2 and 3 have it in no header line.
    host: Option<Box<HeaderValue>>,
    service: &'c AppService,
    peer: Peer<'c>,
    protocol: RequestProtocol,
    route: Route,
    started: Stopwatch,
    open: Option<OpenRequest<'c>>,
}

/// The work left for a request whose head has been read.
pub(super) enum PendingWork<'c> {
    /// Answer a check of `/auth` when the keys have arrived.
    ForwardAuth(Box<PendingDecision<'c>>),
    /// Call the handler of a request, with its body.
    Handler,
    /// Answer a gRPC call, whose message is the body.
    GrpcCall,
}

/// The wait of a request whose body has arrived.
enum PendingResponse<'c> {
    /// Wait for the keys for a check of `/auth`.
    ForwardAuth(PendingDecision<'c>),
    /// Wait for the keys for a gRPC check with this body.
    Check(PendingDecision<'c>, Vec<u8>),
    /// Wait for the handler of this request.
    Handler(Request<Bytes>),
}

impl<'c> PendingAppRequest<'c> {
    /// Keeps a request that has to wait.
    ///
    /// # Errors
    /// Its head is not valid for a handler.
    pub(super) fn new<H: RequestHead>(
        request: &IncomingRequest<'_, 'c, AppService, H>,
        work: PendingWork<'c>,
    ) -> Result<Self, BadRequest> {
        let IncomingRequest { connection, settings, head, route, started, .. } = *request;
        let is_logged = settings.log.logs_requests();
        let is_handled = matches!(work, PendingWork::Handler);
        let client = &settings.listeners[connection.peer.listener].client;
        let keeps = |name: &[u8]| {
            client.reads_header(name)
                || is_handled && (route.reads_header(name) || settings.auth.credentials.reads(name))
                || is_handled
                    && route == Route::Infisical
                    && settings.tls_cert_auth.reads_header(name)
                || is_logged
                    && (access_log::reads_header(name) || client.dialect.reads_header(name))
        };
        let protocol = head.version().into();
        let target = if route.reads_query() { head.target() } else { path_of(head.target()) };
        let host = head.host();
        let head =
            (is_handled || is_logged).then(|| KeptHead::new(head, target, keeps)).transpose()?;
        if let Some(head) = head.as_ref().filter(|_| is_handled) {
            head.check_target()?;
        }
        let host = (route == Route::Console).then(|| HeaderValue::from_str(host).ok()).flatten();
        let host = host.map(Box::new);
        let (service, peer) = (request.service(), connection.peer);
        let labels = || RequestLabels::new(&peer, route, request.head.method());
        let series = service.app.authenticator.metrics.series();
        let open = series.map(|series| series.open(labels(), peer.tls));
        Ok(Self { work, head, host, service, peer, protocol, route, started, open })
    }

    /// Returns the head as a request without a body, and the recorder of the response.
    fn into_parts(self) -> (PendingWork<'c>, Request<()>, ResponseRecorder<'c>) {
        let Self { work, head, host, service, peer, protocol, route, started, open } = self;
        let settings = service.app.settings();
        let is_logged = head.is_some() && settings.log.logs_requests();
        let entry = head.as_ref().filter(|_| is_logged).map(|head| {
            let (version, method, target) = (head.version(), head.method(), head.target());
            let line = RequestLine { version, method, target };
            let listener = &settings.listeners[peer.listener];
            AccessLogEntry::new(&listener.name, &listener.client, peer, line, &head.headers())
        });
        // The head was checked when it was kept, if a handler needs it.
        let head = head.filter(|_| matches!(work, PendingWork::Handler));
        let mut request = head.and_then(|head| head.into_request(()).ok()).unwrap_or_default();
        if let Some(host) = host {
            request.headers_mut().insert(header::HOST, *host);
        }
        let kind = None;
        (work, request, ResponseRecorder { service, protocol, route, started, open, kind, entry })
    }
}

impl<'c> PendingRequest<'c> for PendingAppRequest<'c> {
    fn max_body_bytes(&self) -> usize {
        let settings = self.service.app.settings();
        self.route.max_body(settings.max_body, settings.request_limits.head_bytes)
    }

    fn held_bytes(&self) -> usize {
        let decision = match &self.work {
            PendingWork::ForwardAuth(decision) => decision.held_bytes(),
            PendingWork::Handler | PendingWork::GrpcCall => 0,
        };
        size_of::<Self>() + self.head.as_ref().map_or(0, KeptHead::held_bytes) + decision
    }

    /// A login may wait for its turn, which is of no use once the client has gone.
    fn ends_with_client(&self) -> bool {
        let path = match self.route {
            Route::Inmanta => LOGIN_PATH,
            Route::Console => SIGN_IN_PATH,
            _ => return false,
        };
        self.head.as_ref().is_some_and(|head| path_of(head.target()) == path)
    }

    fn refuse(self, reason: &BadRequest) -> countersign_front::Reply {
        let (work, _, recorder) = self.into_parts();
        let reply = match work {
            PendingWork::GrpcCall => GrpcError::from(reason).into(),
            PendingWork::ForwardAuth(_) | PendingWork::Handler => {
                dispatch::refuse(recorder.service, recorder.route, reason)
            }
        };
        recorder.record(reply)
    }

    fn is_streamed(&self) -> bool {
        self.route == Route::VerifyBatch
            && self.head.as_ref().is_some_and(|head| head.method() == "POST")
    }

    fn stream(self, exchange: BodyExchange) -> StreamedReply<'c> {
        let peer = self.peer;
        let (_, request, recorder) = self.into_parts();
        let service = recorder.service;
        let recorded = StreamRecorder(Some(recorder));
        let handler = Box::pin(async move {
            let _recorded = recorded;
            dispatch::verify_batch(service, peer, request, exchange).await;
        });
        StreamedReply { head: verify::batch::head(), handler }
    }

    fn respond(self, body: &[u8], writer: &mut impl ResponseWriter) -> Step<(), ReplyFuture<'c>> {
        let peer = self.peer;
        let (work, request, mut recorder) = self.into_parts();
        let ResponseRecorder { service, route, .. } = recorder;
        let pending = match work {
            PendingWork::ForwardAuth(decision) => {
                recorder.kind = service.kind_of(&decision);
                PendingResponse::ForwardAuth(*decision)
            }
            PendingWork::Handler => {
                PendingResponse::Handler(request.map(|()| Bytes::copy_from_slice(body)))
            }
            PendingWork::GrpcCall => {
                match service.call_grpc(peer, route, body, recorder.entry.as_mut()) {
                    Step::Done(reply) => {
                        writer.reply(&recorder.record_check(reply, body));
                        return Step::Done(());
                    }
                    Step::Wait(decision) => {
                        recorder.kind = service.kind_of(&decision);
                        PendingResponse::Check(decision, body.to_vec())
                    }
                }
            }
        };
        // The one place where a response becomes a boxed future, whose memory is counted.
        let has_identities = || service.app.settings().api.identities.is_some();
        Step::Wait(match pending {
            PendingResponse::Handler(request) if route == Route::Infisical && has_identities() => {
                Box::pin(async move {
                    recorder.record(dispatch::respond_infisical(service, peer, request).await)
                })
            }
            PendingResponse::Handler(request) if route == Route::Console => Box::pin(async move {
                recorder.record(dispatch::respond_console(service, peer, request).await)
            }),
            PendingResponse::Handler(request) if route == Route::Admin => Box::pin(async move {
                recorder.record(dispatch::respond_admin(service, peer, request).await)
            }),
            pending => {
                Box::pin(async move { recorder.record(pending.finish(service, peer, route).await) })
            }
        })
    }
}

impl<'c> PendingResponse<'c> {
    async fn finish(self, service: &'c AppService, peer: Peer<'c>, route: Route) -> Reply {
        let app = &service.app;
        let settings = || app.settings_arc();
        match self {
            Self::ForwardAuth(decision) => {
                decision.finish(&app.authenticator, settings, forward_auth::reply).await
            }
            Self::Check(decision, body) => {
                let render = |settings: &_, decision: AuthDecision<'_>| {
                    ext_authz::reply(settings, &body, decision)
                };
                decision.finish(&app.authenticator, settings, render).await
            }
            Self::Handler(request) => dispatch::respond(service, peer, route, request).await,
        }
    }
}

/// Records the response to a stream when it ends, or is cut off.
struct StreamRecorder<'c>(Option<ResponseRecorder<'c>>);

impl Drop for StreamRecorder<'_> {
    fn drop(&mut self) {
        if let Some(recorder) = self.0.take() {
            recorder.record(empty(StatusCode::OK).into());
        }
    }
}

/// Records the response of a pending request in metrics and access log.
pub(super) struct ResponseRecorder<'c> {
    pub(super) service: &'c AppService,
    pub(super) protocol: RequestProtocol,
    pub(super) route: Route,
    pub(super) started: Stopwatch,
    pub(super) open: Option<OpenRequest<'c>>,
    /// The kind of its token, if the answer is judged.
    pub(super) kind: Option<TokenKind>,
    pub(super) entry: Option<AccessLogEntry>,
}

impl ResponseRecorder<'_> {
    /// Records a response, and converts it to the front's [`Reply`](countersign_front::Reply).
    pub(super) fn record(self, reply: Reply) -> countersign_front::Reply {
        let kind = self.kind.unwrap_or(TokenKind::Other);
        self.record_by(reply, |_, _| kind)
    }

    /// Records the response to a check over gRPC with this message.
    fn record_check(self, reply: Reply, body: &[u8]) -> countersign_front::Reply {
        self.record_by(reply, |settings, judge| {
            let kind = |credential: Credential<'_>| judged_kind(judge, credential);
            ext_authz::with_credential(&settings.auth, body, kind).unwrap_or(TokenKind::Other)
        })
    }

    fn record_by(
        self,
        reply: Reply,
        kind: impl FnOnce(&Settings, &AnswerJudge) -> TokenKind,
    ) -> countersign_front::Reply {
        let Self { service, protocol, route, started, open, entry, .. } = self;
        let settings = service.app.settings();
        let Reply { counted: status, outcome, tenant, .. } = reply;
        let completed = CompletedRequest { protocol, route, status, outcome, started };
        let labels = || open.as_ref().map(|open| (open.labels, open.tls, tenant));
        let kind = |judge: &AnswerJudge| kind(&settings, judge);
        service.record(&settings, completed, (labels, kind), || entry);
        reply.into()
    }
}
