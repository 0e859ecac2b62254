//! Checks of HAProxy over SPOP: from the frame to the decision, and its record in metrics and
//! access log.

use countersign_front::{
    PendingActions, SpopNotification, Step,
    spop::{action::ActionList, error::SpopError},
};
use http::StatusCode;

use super::{AppService, pending_request::ResponseRecorder, service::judged_kind};
use crate::{
    auth::{
        DecisionSettings as _, PendingDecision,
        message_headers::MessageHeaders,
        proxy_check::{CheckContext, ProxyCheck},
        spop::{self, SpopRequest},
    },
    base::route::Route,
    config::Settings,
    observe::{
        access_log::{AccessLogEntry, CompletedRequest},
        answer_judge::{AnswerJudge, TokenKind},
        metrics::RequestProtocol,
        request_series::RequestLabels,
    },
};

const PROTOCOL: RequestProtocol = RequestProtocol::Spop;
const ROUTE: Route = Route::Check;
/// The method in metrics: the method of the request is not always known.
const METHOD: &str = "NOTIFY";

/// Answers a NOTIFY frame.
///
/// # Errors
/// Its message is not a check.
pub(super) fn answer<'c>(
    notification: &SpopNotification<'_, 'c, AppService>,
    actions: &mut ActionList<'_>,
) -> Result<Step<(), PendingActions<'c>>, SpopError> {
    let SpopNotification { connection, settings, payload, .. } = *notification;
    let (service, peer) = (&connection.worker.service, connection.peer);
    let authenticator = &service.app.authenticator;
    let client = &settings.listeners[peer.listener].client;
    let context = CheckContext {
        authenticator,
        admission: &service.admission,
        settings: &***settings,
        client,
        peer,
    };
    let request = SpopRequest::read(payload).inspect_err(|error| {
        if context.is_trusted() {
            tracing::warn!("a trusted proxy sent a malformed check over SPOP: {}", error.reason);
        }
    })?;
    let check = request.as_ref().map(|request| request.check(&context));
    let decision = match &check {
        None => spop::too_large(),
        Some(check) => match context.decide(check) {
            Step::Done(decision) => decision,
            Step::Wait(decision) => {
                let entry = || log_entry(settings, &context, Some(check));
                return Ok(Step::Wait(wait(notification, decision, entry)));
            }
        },
    };
    let (status, outcome) = spop::put_decision(actions, context.settings.auth(), &decision);
    let started = notification.started;
    let completed = CompletedRequest { protocol: PROTOCOL, route: ROUTE, status, outcome, started };
    let tenant = decision.tenant_label(&authenticator.metrics);
    let labels = || Some((RequestLabels::new(&peer, ROUTE, METHOD), peer.tls, tenant));
    let kind = |judge: &AnswerJudge| {
        let credentials = &settings.auth.credentials;
        check.as_ref().map_or(TokenKind::Other, |check| {
            judged_kind(judge, credentials.in_headers(check.fields))
        })
    };
    let entry = || Some(log_entry(settings, &context, check.as_ref()));
    service.record(settings, completed, (labels, kind), entry);
    Ok(Step::Done(()))
}

/// Counts a check that was answered without a decision. HAProxy then refuses the request with 503.
pub(super) fn record_dropped(service: &AppService) {
    let metrics = &service.app.authenticator.metrics;
    metrics.count_response(PROTOCOL, ROUTE, StatusCode::SERVICE_UNAVAILABLE, None);
}

/// Waits for a decision. `entry` is called only if requests are logged.
fn wait<'c>(
    notification: &SpopNotification<'_, 'c, AppService>,
    decision: PendingDecision<'c>,
    entry: impl FnOnce() -> AccessLogEntry,
) -> PendingActions<'c> {
    let SpopNotification { connection, settings, started, .. } = *notification;
    let (service, peer) = (&connection.worker.service, connection.peer);
    let app = &service.app;
    let series = app.authenticator.metrics.series();
    let labels = RequestLabels::new(&peer, ROUTE, METHOD);
    let open = series.map(|series| series.open(labels, peer.tls));
    let entry = settings.log.logs_requests().then(entry);
    let kind = service.kind_of(&decision);
    let recorder =
        ResponseRecorder { service, protocol: PROTOCOL, route: ROUTE, started, open, kind, entry };
    let decision_bytes = decision.held_bytes();
    let future = async move {
        let settings = || app.settings_arc();
        let reply = decision.finish(&app.authenticator, settings, spop::reply).await;
        recorder.record(reply).response.into_body()
    };
    let held_bytes = decision_bytes + size_of_val(&future);
    PendingActions { held_bytes, actions: Box::pin(future) }
}

fn log_entry(
    settings: &Settings,
    context: &CheckContext<'_, '_, Settings>,
    check: Option<&ProxyCheck<'_, MessageHeaders<'_>>>,
) -> AccessLogEntry {
    let listener = &settings.listeners[context.peer.listener];
    let checked = check.and_then(|check| context.checked(check));
    AccessLogEntry::of_notification(&listener.name, context.peer.address, checked.as_ref())
}
