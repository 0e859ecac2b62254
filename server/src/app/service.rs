//! [`AppService`]: answers checks of `/auth` at once, passes other requests to their handlers, and
//! records every response in metrics and access log.

use std::{net::IpAddr, sync::Arc, time::Duration};

use arc_swap::Guard;
use bytes::Bytes;
use countersign_front::{
    BadRequest, IncomingRequest, Peer, PendingRequest, Protocols, ReplyFuture, RequestHead,
    ResponseWriter, Service, Step, WorkerContext, clock::Stopwatch,
};
use http::{HeaderValue, Request, StatusCode};
use rustls::ServerConfig;

use super::{App, dispatch};
use crate::{
    admission::Admission,
    api::inmanta::LOGIN_PATH,
    auth::{
        AuthDecision, Caller, PendingDecision, decide, ext_authz, forward_auth,
        grpc::{self, GrpcError},
    },
    base::{
        reply::Reply,
        route::{Route, Serves},
    },
    client::{
        ClientAddress, ClientCertificate, RequestDescription, request_description::HttpCheck,
    },
    config::{Listener, Settings},
    observe::{
        access_log::{AccessLogEntry, CompletedRequest, RequestLine},
        metrics::{MetricEvent, Metrics},
    },
};

/// The [`Service`] of one worker thread.
pub struct AppService {
    /// The state shared by all workers.
    pub app: Arc<App>,
    /// The admission budgets of this worker.
    pub admission: Admission,
}

impl AppService {
    /// Creates the service of worker `index`, which runs on the calling thread.
    #[must_use]
    pub fn new(app: Arc<App>, index: usize) -> Self {
        Metrics::use_shard(index);
        let admission = Admission::new(app.settings().limits);
        Self { app, admission }
    }

    /// Creates the [`WorkerContext`] of worker `index`, which runs on the calling thread.
    #[must_use]
    pub fn worker(app: Arc<App>, index: usize) -> WorkerContext<Self> {
        let settings = app.settings_arc();
        let (timeouts, limits) = (settings.timeouts, settings.request_limits);
        WorkerContext::new(Self::new(app, index), index, timeouts, limits)
    }

    pub(super) fn caller<'a, 'r>(
        &'a self,
        peer: &'r Peer<'r>,
        listener: &'r Listener,
        fields: &'r dyn countersign_front::Fields,
    ) -> Caller<'a, 'r> {
        let settings = &listener.client;
        Caller {
            admission: &self.admission,
            client: ClientAddress::Deferred {
                peer: peer.address,
                proxies: &settings.proxies,
                fields,
            },
            certificate: ClientCertificate::Deferred { peer, settings, fields },
            username_optional: false,
        }
    }

    /// Counts a response, and writes the access log entry if the settings ask for one.
    fn record(
        &self,
        settings: &Settings,
        completed: CompletedRequest,
        entry: impl FnOnce() -> Option<AccessLogEntry>,
    ) {
        let CompletedRequest { route, status, outcome, started } = completed;
        self.app.authenticator.metrics.count_response(route, status, Some(started.elapsed()));
        if settings.log.should_log(outcome, status)
            && let Some(entry) = entry()
        {
            entry.write(&completed);
        }
    }
}

impl Service for AppService {
    type Settings = Guard<Arc<Settings>>;
    type Route = Route;
    type Pending<'c> = PendingAppRequest<'c>;

    fn settings(&self) -> Self::Settings {
        self.app.settings()
    }

    fn route(&self, settings: &Self::Settings, listener: usize, target: &str) -> Route {
        Route::of(target, settings.listeners[listener].serves)
    }

    fn reads_body(&self, route: Route, method: &str) -> bool {
        route.reads_body(method)
    }

    fn respond<'c, H: RequestHead>(
        request: &IncomingRequest<'_, 'c, Self, H>,
        writer: &mut impl ResponseWriter,
    ) -> Result<Step<(), PendingAppRequest<'c>>, BadRequest> {
        let (service, head, route) = (request.service(), request.head, request.route);
        if route.is_grpc() && grpc::is_call(head.version(), head.method(), head) {
            return Ok(Step::Wait(pending(request, Work::GrpcCall)));
        }
        if route != Route::Auth {
            let work = Work::Request(Box::new(head.to_request()?));
            return Ok(Step::Wait(pending(request, work)));
        }
        let (settings, peer) = (request.settings, request.connection.peer);
        let listener = &settings.listeners[peer.listener];
        let caller = service.caller(&peer, listener, head);
        let authenticator = &service.app.authenticator;
        let describe = || {
            let check = HttpCheck {
                method: head.method(),
                target: head.target(),
                host: head.host(),
                is_tls: listener.tls.is_some(),
                fields: head,
            };
            RequestDescription::of_http(&listener.client, peer.address, check)
        };
        let described = (listener.client.allows_preflights, describe);
        let profile = listener.profile;
        let decision = decide(authenticator, &settings.auth, profile, &caller, head, described);
        let (outcome, status) = match decision {
            Step::Wait(decision) => {
                return Ok(Step::Wait(pending(request, Work::ForwardAuth(decision))));
            }
            Step::Done(AuthDecision::Refused(reply)) => {
                let recorded = (reply.outcome, reply.counted);
                writer.reply(&reply.into());
                recorded
            }
            Step::Done(allowed) => {
                let headers = forward_auth::headers(&settings.auth, allowed.caller());
                writer.headers_only(StatusCode::OK, headers);
                (Some(allowed.outcome()), StatusCode::OK)
            }
        };
        let completed = CompletedRequest { route, status, outcome, started: request.started };
        service.record(settings, completed, || Some(access_log_entry(request)));
        Ok(Step::Done(()))
    }

    fn reject(&self, peer: Peer<'_>, reason: &BadRequest) -> countersign_front::Reply {
        self.app.authenticator.metrics.count_response(Route::None, reason.status, None);
        tracing::debug!(client = %peer.address, code = reason.code, "malformed request");
        Reply::from(reason).into()
    }

    fn protocols(&self, listener: usize) -> Protocols {
        self.app.settings().listeners[listener].protocols
    }

    fn tls(&self, listener: usize) -> Option<Arc<ServerConfig>> {
        self.app.settings().listeners[listener].tls.as_ref().map(|tls| tls.config())
    }

    fn quic_tls(&self, listener: usize) -> Option<Arc<ServerConfig>> {
        self.app.settings().listeners[listener].tls.as_ref().map(|tls| tls.quic_config())
    }

    fn alt_svc(&self, listener: usize) -> Option<&HeaderValue> {
        self.app.alt_svc(listener)
    }

    fn expects_proxy_header(&self, listener: usize, address: IpAddr) -> bool {
        let listener = &self.app.settings().listeners[listener];
        listener.proxy_protocol && listener.client.proxies.trusts(address)
    }

    /// Connections to an operations listener are never delayed.
    fn reconnect_delay(&self, listener: usize, address: IpAddr) -> Duration {
        if self.app.settings().listeners[listener].serves == Serves::Operations {
            return Duration::ZERO;
        }
        let delay = self.admission.reconnect_delay(address);
        if !delay.is_zero() {
            self.app.authenticator.metrics.count_event(MetricEvent::ReconnectDelayed);
        }
        delay
    }

    /// A trusted proxy is not charged, because any client behind it may have caused the abuse.
    fn record_abuse(&self, peer: Peer<'_>) {
        use countersign_front::address::{UNIX_PEER, UNKNOWN_PEER};
        self.app.authenticator.metrics.count_event(MetricEvent::AbuseClose);
        let proxies = &self.app.settings().listeners[peer.listener].client.proxies;
        if ![UNIX_PEER, UNKNOWN_PEER].contains(&peer.address) && !proxies.trusts(peer.address) {
            self.admission.record_abuse(peer.address);
        }
    }

    fn overloaded(&self) -> &'static [u8] {
        b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nx-auth-error: connections\r\n\
          cache-control: no-store\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    }
}

/// A request that waits for its body, for the keys of an issuer, or for a handler.
pub struct PendingAppRequest<'c> {
    work: Work<'c>,
    peer: Peer<'c>,
    recorder: Recorder<'c>,
}

/// The work left for a request whose head has been read.
enum Work<'c> {
    /// Answer a check of `/auth` when the keys have arrived.
    ForwardAuth(PendingDecision<'c>),
    /// Call the handler of a request, with its body.
    Request(Box<Request<()>>),
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

fn pending<'c, H: RequestHead>(
    request: &IncomingRequest<'_, 'c, AppService, H>,
    work: Work<'c>,
) -> PendingAppRequest<'c> {
    let is_logged = request.settings.log.logs_requests();
    let recorder = Recorder {
        service: request.service(),
        route: request.route,
        started: request.started,
        entry: is_logged.then(|| Box::new(access_log_entry(request))),
    };
    PendingAppRequest { work, peer: request.connection.peer, recorder }
}

fn access_log_entry<H: RequestHead>(
    request: &IncomingRequest<'_, '_, AppService, H>,
) -> AccessLogEntry {
    let (head, peer) = (request.head, request.connection.peer);
    let line =
        RequestLine { version: head.version(), method: head.method(), target: head.target() };
    let listener = &request.settings.listeners[peer.listener];
    AccessLogEntry::new(&listener.name, &listener.client, peer, line, head)
}

impl<'c> PendingRequest<'c> for PendingAppRequest<'c> {
    fn max_body_bytes(&self) -> usize {
        let Recorder { service, route, .. } = &self.recorder;
        let settings = service.app.settings();
        route.max_body(settings.max_body, settings.request_limits.head_bytes)
    }

    /// A login may wait for its turn, which is of no use once the client has gone.
    fn ends_with_client(&self) -> bool {
        matches!(&self.work, Work::Request(request) if request.uri().path() == LOGIN_PATH)
    }

    fn refuse(self, reason: &BadRequest) -> countersign_front::Reply {
        let reply = match self.work {
            Work::GrpcCall => GrpcError::from(reason).into(),
            Work::ForwardAuth(_) | Work::Request(_) => Reply::from(reason),
        };
        self.recorder.record(reply)
    }

    fn respond(self, body: &[u8], writer: &mut impl ResponseWriter) -> Step<(), ReplyFuture<'c>> {
        let Self { work, peer, mut recorder } = self;
        let Recorder { service, route, .. } = recorder;
        let pending = match work {
            Work::ForwardAuth(decision) => PendingResponse::ForwardAuth(decision),
            Work::Request(request) => {
                PendingResponse::Handler(request.map(|()| Bytes::copy_from_slice(body)))
            }
            Work::GrpcCall => {
                let entry = recorder.entry.as_deref_mut();
                match service.call_grpc(peer, route, body, entry) {
                    Step::Done(reply) => {
                        writer.reply(&recorder.record(reply));
                        return Step::Done(());
                    }
                    Step::Wait(decision) => PendingResponse::Check(decision, body.to_vec()),
                }
            }
        };
        // The one place where a response becomes a boxed future.
        Step::Wait(Box::pin(
            async move { recorder.record(pending.finish(service, peer, route).await) },
        ))
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

/// Records the response of a pending request in metrics and access log.
struct Recorder<'c> {
    service: &'c AppService,
    route: Route,
    started: Stopwatch,
    entry: Option<Box<AccessLogEntry>>,
}

impl Recorder<'_> {
    /// Records a response, and converts it to the front's [`Reply`](countersign_front::Reply).
    fn record(self, reply: Reply) -> countersign_front::Reply {
        let Self { service, route, started, entry } = self;
        let (status, outcome) = (reply.counted, reply.outcome);
        let completed = CompletedRequest { route, status, outcome, started };
        service.record(&service.app.settings(), completed, || entry.map(|entry| *entry));
        reply.into()
    }
}
