//! [`AppService`]: answers checks of `/auth` at once, passes other requests to their handlers, and
//! records every response in metrics and access log.

use std::{net::IpAddr, sync::Arc, time::Duration};

use arc_swap::Guard;
use countersign_front::{
    BadRequest, BufferPool, IncomingRequest, Peer, PendingActions, Protocols, RequestHead,
    ResponseWriter, Service, SpopNotification, Step, TlsParameters, WorkerContext,
    spop::{action::ActionList, error::SpopError},
};
use http::{HeaderValue, StatusCode, Version};
use rustls::ServerConfig;

use super::{
    App, dispatch, notification,
    pending_request::{PendingAppRequest, PendingWork},
};
use crate::{
    admission::{Admission, Source},
    auth::{
        AuthDecision, Caller, PendingDecision, credential::Credential, decide, forward_auth, grpc,
        verify::batch::BatchTurns,
    },
    base::{
        reply::Reply,
        route::{Route, Serves},
        tenant_label::TenantLabel,
    },
    client::{
        ClientAddress, ClientCertificate, RequestDescription, request_description::HttpCheck,
    },
    config::{Listener, Settings},
    observe::{
        access_log::{AccessLogEntry, CompletedRequest, RequestLine},
        answer_judge::{AnswerJudge, TokenKind},
        metrics::{MetricEvent, Metrics},
        request_series::RequestLabels,
    },
};

/// The [`Service`] of one worker thread.
pub struct AppService {
    /// The state shared by all workers.
    pub app: Arc<App>,
    /// The admission budgets of this worker.
    pub admission: Admission,
    /// Lets batches of tokens be verified one slice after the other.
    pub batch_turns: BatchTurns,
}

impl AppService {
    /// Creates the service of worker `index`, which runs on the calling thread.
    #[must_use]
    pub fn new(app: Arc<App>, index: usize) -> Self {
        Metrics::use_shard(index);
        let admission = Admission::new(app.settings().limits);
        Self { app, admission, batch_turns: BatchTurns::default() }
    }

    /// Creates the [`WorkerContext`] of worker `index`, which runs on the calling thread.
    #[must_use]
    pub fn worker(app: Arc<App>, index: usize) -> WorkerContext<Self> {
        let settings = app.settings_arc();
        let (timeouts, limits) = (settings.timeouts, settings.request_limits);
        let memory = Arc::clone(&app.request_memory);
        let buffers = BufferPool::with_known_strings(app.known_string_bytes);
        let worker = WorkerContext::new(Self::new(app, index), index, timeouts, limits);
        WorkerContext { memory, buffers, ..worker }
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
            is_call: false,
        }
    }

    /// Returns the kind of the token of a pending decision, if answers are judged.
    pub(super) fn kind_of(&self, decision: &PendingDecision<'_>) -> Option<TokenKind> {
        let judge = self.app.authenticator.metrics.judge()?;
        Some(judge.kind_of(decision.token()))
    }

    /// Counts a response, and writes the access log entry if the settings ask for one. `labels` is
    /// called only if requests are also counted by listener, method and tenant, and `kind` only if
    /// the answers to checks are judged.
    pub(super) fn record(
        &self,
        settings: &Settings,
        completed: CompletedRequest,
        (labels, kind): (
            impl FnOnce() -> Option<(RequestLabels, Option<TlsParameters>, TenantLabel)>,
            impl FnOnce(&AnswerJudge) -> TokenKind,
        ),
        entry: impl FnOnce() -> Option<AccessLogEntry>,
    ) {
        let CompletedRequest { protocol, route, status, outcome, started } = completed;
        let took = started.elapsed();
        let metrics = &self.app.authenticator.metrics;
        metrics.count_response(protocol, route, status, Some(took));
        if let Some(observers) = &metrics.observers {
            if let Some(series) = &observers.series
                && let Some((labels, tls, tenant)) = labels()
            {
                series.count((labels, tls), tenant, status, took);
            }
            if let Some(judge) = &observers.judge {
                judge.count(&completed, took, || kind(judge));
            }
        }
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
        match Route::of(target, settings.listeners[listener].serves) {
            Route::None => operator_route(&self.app, settings, listener, target),
            route => route,
        }
    }

    fn reads_body<H: RequestHead>(request: &IncomingRequest<'_, '_, Self, H>) -> bool {
        // A check of `/auth` has no body, which the first comparison finds.
        request.route != Route::Auth
            && request.route.reads_body(request.head.method())
            && dispatch::may_use_body(request)
    }

    fn respond<'c, H: RequestHead>(
        request: &IncomingRequest<'_, 'c, Self, H>,
        writer: &mut impl ResponseWriter,
    ) -> Result<Step<(), PendingAppRequest<'c>>, BadRequest> {
        let (service, head, route) = (request.service(), request.head, request.route);
        if route.is_grpc() && grpc::is_call(head.version(), head.method(), head) {
            return Ok(Step::Wait(PendingAppRequest::new(request, PendingWork::GrpcCall)?));
        }
        if route != Route::Auth {
            return Ok(Step::Wait(PendingAppRequest::new(request, PendingWork::Handler)?));
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
        let original = || {
            let request = (head.method(), head.target());
            listener.client.original_request(peer.address, request, head)
        };
        let described = (describe, original);
        let index = peer.listener;
        let decision = decide(authenticator, &***settings, index, &caller, head, described);
        let metrics = &authenticator.metrics;
        let (outcome, status, tenant) = match decision {
            Step::Wait(decision) => {
                let work = PendingWork::ForwardAuth(Box::new(decision));
                return Ok(Step::Wait(PendingAppRequest::new(request, work)?));
            }
            Step::Done(AuthDecision::Refused(reply)) => {
                let recorded = (reply.outcome, reply.counted, TenantLabel::default());
                writer.reply(&reply.into());
                recorded
            }
            Step::Done(allowed) => {
                let headers = forward_auth::headers(&settings.auth, &allowed);
                writer.headers_only(StatusCode::OK, headers);
                (Some(allowed.outcome()), StatusCode::OK, allowed.tenant_label(metrics))
            }
        };
        let (protocol, started) = (writer.version().into(), request.started);
        let completed = CompletedRequest { protocol, route, status, outcome, started };
        let labels = || Some((RequestLabels::new(&peer, route, head.method()), peer.tls, tenant));
        let kind = |judge: &AnswerJudge| {
            judged_kind(judge, settings.auth.credentials.of_check(head, describe))
        };
        service.record(settings, completed, (labels, kind), || Some(access_log_entry(request)));
        Ok(Step::Done(()))
    }

    fn notify<'c>(
        notification: &SpopNotification<'_, 'c, Self>,
        actions: &mut ActionList<'_>,
    ) -> Result<Step<(), PendingActions<'c>>, SpopError> {
        notification::answer(notification, actions)
    }

    fn record_dropped_notification(&self) {
        notification::record_dropped(self);
    }

    fn reject(
        &self,
        peer: Peer<'_>,
        version: Version,
        reason: &BadRequest,
    ) -> countersign_front::Reply {
        let metrics = &self.app.authenticator.metrics;
        metrics.count_response(version.into(), Route::None, reason.status, None);
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

    /// A trusted proxy carries the requests of many clients, so it has no share of its own. Nor
    /// have the clients of an operations listener, which have to be answered during a flood.
    fn memory_source(&self, peer: Peer<'_>) -> Option<IpAddr> {
        use countersign_front::address::UNIX_PEER;
        let settings = self.app.settings();
        let listener = &settings.listeners[peer.listener];
        let is_exempt = listener.serves == Serves::Operations
            || peer.address == UNIX_PEER
            || listener.client.proxies.trusts(peer.address);
        (!is_exempt).then(|| Source::of(peer.address).address())
    }

    fn connection_opened(&self, listener: usize) {
        if let Some(series) = self.app.authenticator.metrics.series() {
            series.connection_opened(listener);
        }
    }

    fn connection_closed(&self, listener: usize, open_for: Duration) {
        if let Some(series) = self.app.authenticator.metrics.series() {
            series.connection_closed(listener, open_for);
        }
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

fn access_log_entry<H: RequestHead>(
    request: &IncomingRequest<'_, '_, AppService, H>,
) -> AccessLogEntry {
    let (head, peer) = (request.head, request.connection.peer);
    let line =
        RequestLine { version: head.version(), method: head.method(), target: head.target() };
    let listener = &request.settings.listeners[peer.listener];
    AccessLogEntry::new(&listener.name, &listener.client, peer, line, head)
}

/// Returns the kind of the credential of a check, for the judge of its answer.
#[cold]
pub(super) fn judged_kind(judge: &AnswerJudge, credential: Credential<'_>) -> TokenKind {
    match credential {
        Credential::Token(token) => judge.kind_of(token),
        Credential::None => TokenKind::Missing,
        Credential::Conflict | Credential::CrossSite => TokenKind::Other,
    }
}

/// Finds the handler of a request target that is not one of [`Route::of`]: the console, the Admin
/// API, or the figures of a load test, if the listener serves it.
#[cold]
#[inline(never)]
fn operator_route(app: &App, settings: &Settings, listener: usize, target: &str) -> Route {
    let is_load_test = app.load_test.is_some()
        && settings.listeners[listener].serves == Serves::Everything
        && Route::of_load_test(target) == Route::LoadTest;
    if is_load_test {
        Route::LoadTest
    } else if settings.serves_admin_api(listener) && Route::of_admin_api(target) == Route::Admin {
        Route::Admin
    } else if settings.serves_console(listener) {
        Route::of_console(target)
    } else if settings.serves_config_js(listener, target) {
        Route::Console
    } else {
        Route::None
    }
}
