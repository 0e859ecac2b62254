//! Test service: one route that is answered at once, and others that are answered after a wait.

use std::cell::Cell;

use bytes::Bytes;
use http::{Response, StatusCode, Version, header};

use crate::{
    BadRequest, ConnectionContext, IncomingRequest, KeptHead, Peer, PendingActions, PendingRequest,
    ReplyFuture, RequestHead, RequestLimits, ResponseWriter, Service, SpopNotification, Step,
    Timeouts, WorkerContext,
    message::Reply,
    only_line,
    spop::{action::ActionList, error::SpopError, value::SpopValue},
};

/// The handlers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// `/auth` and below: answered at once.
    Auth,
    /// `/v1/verify`: reads the body of a POST request.
    Verify,
    /// `/healthz`.
    Live,
    /// Everything else.
    None,
}

/// Answers 200 to `/auth` with the header line `Authorization: Bearer good`, and 401 without.
/// The other routes answer 404, after waiting. A NOTIFY frame of SPOP contains the case to test.
#[derive(Default)]
pub(crate) struct TestService {
    /// Responses to `/auth`.
    pub(crate) answered_at_once: Cell<usize>,
    /// Responses of the other routes.
    pub(crate) answered_later: Cell<usize>,
    /// NOTIFY frames that were answered without actions instead of waiting.
    pub(crate) dropped_notifications: Cell<usize>,
}

/// Timeouts of the unit tests, in which only that of the body elapses.
pub(crate) const TIMEOUTS: Timeouts = Timeouts {
    connections: 16,
    head: std::time::Duration::from_secs(10),
    body: std::time::Duration::from_secs(1),
    idle: std::time::Duration::from_secs(3600),
    drain: std::time::Duration::from_secs(10),
};

/// A worker that lives as long as the test process.
pub(crate) fn worker() -> &'static WorkerContext<TestService> {
    Box::leak(Box::new(worker_context()))
}

/// A worker without connections.
pub(crate) fn worker_context() -> WorkerContext<TestService> {
    WorkerContext::new(TestService::default(), 0, TIMEOUTS, RequestLimits::default())
}

/// A connection of the worker, accepted by the first listener.
pub(crate) fn connection<S>(worker: &WorkerContext<S>) -> ConnectionContext<'_, S> {
    let peer = Peer { address: [192, 0, 2, 1].into(), listener: 0, certificates: &[], tls: None };
    ConnectionContext { worker, peer }
}

impl Service for TestService {
    type Settings = ();
    type Route = Route;
    type Pending<'c> = TestPending<'c>;

    fn settings(&self) {}

    fn route(&self, (): &(), listener: usize, target: &str) -> Route {
        match target {
            _ if listener > 0 => Route::None,
            "/v1/verify" => Route::Verify,
            "/healthz" => Route::Live,
            target if target == "/auth" || target.starts_with("/auth/") => Route::Auth,
            _ => Route::None,
        }
    }

    fn reads_body<H: RequestHead>(request: &IncomingRequest<'_, '_, Self, H>) -> bool {
        request.route == Route::Verify && request.head.method() == "POST"
    }

    fn respond<'c, H: RequestHead>(
        request: &IncomingRequest<'_, 'c, Self, H>,
        writer: &mut impl ResponseWriter,
    ) -> Result<Step<(), TestPending<'c>>, BadRequest> {
        let (service, route) = (request.service(), request.route);
        if route != Route::Auth {
            KeptHead::new(request.head, request.head.target(), |_| true)?.check_target()?;
            return Ok(Step::Wait(TestPending { service, route }));
        }
        let authorization = only_line(request.head, &header::AUTHORIZATION);
        let is_good = authorization == Ok(Some(&b"Bearer good"[..]));
        let status = if is_good { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
        service.answered_at_once.update(|count| count + 1);
        writer.headers_only(status, std::iter::empty());
        Ok(Step::Done(()))
    }

    fn notify<'c>(
        notification: &SpopNotification<'_, 'c, Self>,
        actions: &mut ActionList<'_>,
    ) -> Result<Step<(), PendingActions<'c>>, SpopError> {
        actions.set("now", SpopValue::Flag(true));
        match notification.payload {
            b"long" => actions.set("long", SpopValue::Text(&[b'x'; 16 * 1024])),
            b"wait" => {
                let actions = Box::pin(async { Bytes::from_static(LATER) });
                return Ok(Step::Wait(PendingActions { held_bytes: 1, actions }));
            }
            b"huge" => {
                let actions = Box::pin(async { Bytes::new() });
                return Ok(Step::Wait(PendingActions { held_bytes: 64 << 20, actions }));
            }
            b"never" => {
                let actions = Box::pin(std::future::pending::<Bytes>());
                return Ok(Step::Wait(PendingActions { held_bytes: 1, actions }));
            }
            b"bad" => return Err(SpopError::invalid("bad messages")),
            _ => {}
        }
        Ok(Step::Done(()))
    }

    fn record_dropped_notification(&self) {
        self.dropped_notifications.update(|count| count + 1);
    }

    fn reject(&self, _peer: Peer<'_>, _version: Version, reason: &BadRequest) -> Reply {
        reply(reason.status, reason.code)
    }
}

/// The actions of [`TestService::notify`] for a frame that waits.
pub(crate) const LATER: &[u8] = b"\x01\x03\x02\x05later\x11";
/// Those for a frame that does not.
pub(crate) const NOW: &[u8] = b"\x01\x03\x02\x03now\x11";

/// A request that is answered after a wait.
pub(crate) struct TestPending<'c> {
    service: &'c TestService,
    /// Its handler.
    pub(crate) route: Route,
}

impl<'c> PendingRequest<'c> for TestPending<'c> {
    fn max_body_bytes(&self) -> usize {
        1024
    }

    fn held_bytes(&self) -> usize {
        size_of::<Self>()
    }

    fn refuse(self, reason: &BadRequest) -> Reply {
        reply(reason.status, reason.code)
    }

    fn respond(self, _body: &[u8], _writer: &mut impl ResponseWriter) -> Step<(), ReplyFuture<'c>> {
        let service = self.service;
        Step::Wait(Box::pin(async move {
            service.answered_later.update(|count| count + 1);
            reply(StatusCode::NOT_FOUND, "waited")
        }))
    }
}

fn reply(status: StatusCode, body: &'static str) -> Reply {
    let mut response = Response::new(Bytes::from_static(body.as_bytes()));
    *response.status_mut() = status;
    response.into()
}
