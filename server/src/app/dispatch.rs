//! Dispatch of a request to the handler of its route, the same for every HTTP version.

use bytes::Bytes;
use countersign_front::{BadRequest, BodyExchange, IncomingRequest, Peer, RequestHead, Step};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};

use super::{AppService, metrics};
use crate::{
    api::{
        admin,
        health::{self, ProbeForm},
        infisical, inmanta, refresh_keys, revoke, well_known,
    },
    auth::{
        Caller, DecisionSettings as _, PendingDecision, ext_authz, grpc, proxy_check::CheckContext,
        verify,
    },
    base::{
        reply::{Body, Reply, no_store, problem},
        route::{Route, Serves},
    },
    client::transport_security::{add_transport_security, is_secure},
    config::{Listener, Settings},
    console::{self, ConsoleContext},
    identities::certificate::CertificateSource,
    keys,
    observe::access_log::AccessLogEntry,
};

impl AppService {
    /// Answers a gRPC call with this body. If a trusted proxy sent it, `entry` then describes the
    /// checked request.
    pub fn call_grpc<'a>(
        &'a self,
        peer: Peer<'_>,
        route: Route,
        body: &[u8],
        entry: Option<&mut AccessLogEntry>,
    ) -> Step<Reply, PendingDecision<'a>> {
        let Self { app, admission, .. } = self;
        if route != Route::Check {
            return Step::Done(grpc::health::respond(app.is_ready(), body));
        }
        let settings = app.settings();
        let listener = &settings.listeners[peer.listener];
        let context = CheckContext {
            authenticator: &app.authenticator,
            admission,
            settings: &**settings,
            client: &listener.client,
            peer,
        };
        ext_authz::respond(&context, body, entry)
    }
}

/// Whether the body of a request can matter: a call that needs a credential is refused without it,
/// whatever the body is. The handler then answers as for an empty body.
pub(super) fn may_use_body<H: RequestHead>(
    request: &IncomingRequest<'_, '_, AppService, H>,
) -> bool {
    let (service, head, settings) = (request.service(), request.head, request.settings);
    match request.route {
        Route::Check | Route::GrpcHealth => grpc::is_call(head.version(), head.method(), head),
        Route::Revoke | Route::RefreshKeys => {
            revoke::may_authenticate(&settings.auth.api_clients, head)
        }
        Route::Infisical if settings.api.identities.is_some() => true,
        Route::Inmanta | Route::Infisical => {
            let peer = request.connection.peer;
            let caller = service.caller(&peer, &settings.listeners[peer.listener], head);
            let caller = caller.of_api();
            inmanta::may_use_body(&service.app.api(settings), &caller, head)
        }
        Route::Admin => may_use_admin_body(request),
        _ => true,
    }
}

/// [`may_use_body`] for a call of the Admin API. Apart from it, because it is on the way of every
/// request.
#[cold]
#[inline(never)]
fn may_use_admin_body<H: RequestHead>(request: &IncomingRequest<'_, '_, AppService, H>) -> bool {
    let (service, head, settings) = (request.service(), request.head, request.settings);
    let peer = request.connection.peer;
    let caller = service.caller(&peer, &settings.listeners[peer.listener], head);
    let caller = caller.of_api();
    admin::may_use_body(&service.app.api(settings), &caller, head)
}

/// Answers a request whose body is not accepted, in the form of the other errors of its API.
pub(super) fn refuse(service: &AppService, route: Route, reason: &BadRequest) -> Reply {
    let reply = Reply::from(reason);
    match route {
        Route::Admin => Reply { response: no_store(reply.response), ..reply },
        Route::Infisical if service.app.settings().api.identities.is_some() => {
            infisical::refuse(reason)
        }
        _ => reply,
    }
}

/// Answers a call about machine identities. Apart from [`respond`], so that the memory of its work
/// is not counted for every other call.
pub(super) async fn respond_infisical(
    service: &AppService,
    peer: Peer<'_>,
    request: Request<Bytes>,
) -> Reply {
    let app = &service.app;
    let settings = app.settings_arc();
    let Some(identities) = &settings.api.identities else {
        // A reload has just disabled them.
        return Box::pin(respond(service, peer, Route::Infisical, request)).await;
    };
    let listener = &settings.listeners[peer.listener];
    let caller = service.caller(&peer, listener, request.headers());
    let caller = Caller { is_call: true, ..caller };
    let certificate = certificate_source(peer, listener, &settings);
    let api = app.api(&settings);
    infisical::respond(&api, identities, (&caller, certificate), &request).await
}

/// Returns where calls about machine identities find the certificate of a client.
fn certificate_source<'r>(
    peer: Peer<'r>,
    listener: &'r Listener,
    settings: &'r Settings,
) -> CertificateSource<'r> {
    CertificateSource {
        peer,
        client: &listener.client,
        requested: listener.client_certificates(),
        settings: &settings.tls_cert_auth,
    }
}

/// Answers a request to the console. Apart from [`respond`] for the same reason.
pub(super) async fn respond_console(
    service: &AppService,
    peer: Peer<'_>,
    request: Request<Bytes>,
) -> Reply {
    let app = &service.app;
    let settings = app.settings_arc();
    let listener = &settings.listeners[peer.listener];
    let provider = app.console_provider.load_full();
    let context = ConsoleContext {
        api: app.api(&settings),
        settings: &settings.console,
        provider: provider.as_deref(),
        config_js: settings.config_js.as_ref(),
        updates: &app.page_updates,
        peer,
        client: &listener.client,
        is_tls: listener.tls.is_some(),
        certificate: certificate_source(peer, listener, &settings),
    };
    let caller = service.caller(&peer, listener, request.headers());
    let caller = caller.of_api();
    console::respond(&context, &caller, &request).await
}

/// Answers a call of the Admin API. Apart from [`respond`] for the same reason.
pub(super) async fn respond_admin(
    service: &AppService,
    peer: Peer<'_>,
    request: Request<Bytes>,
) -> Reply {
    let settings = service.app.settings_arc();
    let listener = &settings.listeners[peer.listener];
    if !settings.api.issues_tokens() {
        return not_found(listener.serves).into();
    }
    let caller = service.caller(&peer, listener, request.headers());
    let caller = caller.of_api();
    let mut reply = admin::respond(&service.app.api(&settings), &caller, &request).await;
    let is_tls = listener.tls.is_some();
    if is_secure(&listener.client, peer.address, is_tls, request.headers()) {
        add_transport_security(reply.response.headers_mut());
    }
    reply
}

/// Verifies the tokens of a stream, one a line.
pub(super) async fn verify_batch(
    service: &AppService,
    peer: Peer<'_>,
    request: Request<()>,
    exchange: BodyExchange,
) {
    let settings = service.app.settings_arc();
    let listener = &settings.listeners[peer.listener];
    let caller = service.caller(&peer, listener, request.headers()).resolved();
    drop((settings, request));
    let call = verify::batch::BatchCall {
        authenticator: &service.app.authenticator,
        settings: || service.app.settings_arc(),
        listener: peer.listener,
        caller,
        turns: &service.batch_turns,
    };
    call.respond(exchange).await;
}

/// Calls the handler of a request that is neither a gRPC call nor a check of `/auth`.
pub(super) async fn respond(
    service: &AppService,
    peer: Peer<'_>,
    route: Route,
    request: Request<Bytes>,
) -> Reply {
    let app = &service.app;
    let (method, headers) = (request.method(), request.headers());
    let settings = app.settings_arc();
    let listener = &settings.listeners[peer.listener];
    let caller = service.caller(&peer, listener, headers);
    let api = app.api(&settings);
    let probe = ProbeForm::of(listener.serves, settings.auth.tenancy.is_some());
    match route {
        Route::Verify | Route::Revoke | Route::RefreshKeys if method != Method::POST => {
            method_not_allowed("POST").into()
        }
        // A POST is a stream, and never reaches this function.
        Route::VerifyBatch => method_not_allowed("POST").into(),
        Route::Verify => {
            let body = request.body();
            let caller = (&caller, settings.rules(peer.listener));
            verify::respond(&app.authenticator, &settings.auth, caller, headers, body).await
        }
        Route::Revoke => {
            no_store(revoke::respond(&api, &caller, headers, request.body()).await).into()
        }
        Route::RefreshKeys => {
            no_store(refresh_keys::respond(&api, &caller, headers, request.body()).await).into()
        }
        Route::Inmanta | Route::Infisical => {
            let caller = caller.of_api();
            inmanta::respond(&api, &caller, &request).await
        }
        Route::Jwks => get_only(method, well_known::jwks),
        Route::ResourceMetadata => {
            let path = request.uri().path();
            let resource = settings.auth.resource.as_ref();
            match resource.filter(|resource| resource.is_described_by(path)) {
                Some(resource) => get_only(method, || {
                    well_known::resource_metadata(resource, &app.authenticator.keys)
                }),
                None => not_found(listener.serves).into(),
            }
        }
        Route::Live => get_only(method, || health::live(probe)),
        Route::Ready if probe == ProbeForm::Orchestrate => match *method {
            Method::GET => {
                let query = request.uri().query().unwrap_or_default();
                health::ready_checks(&api, app.is_stopping(), query).into()
            }
            _ => method_not_allowed("GET").into(),
        },
        Route::Ready => get_only(method, || health::ready(&api, app.is_ready(), probe)),
        Route::Metrics => get_only(method, || metrics::respond(app)),
        Route::Keys => get_only(method, || keys::status::respond(&app.authenticator.keys_in_use())),
        Route::LoadTest => match &app.load_test {
            Some(load_test) => load_test.respond(method, request.uri().path()).into(),
            None => not_found(listener.serves).into(),
        },
        // gRPC calls are dispatched in `call_grpc`.
        Route::Check | Route::GrpcHealth => grpc::refuse(request.version(), method.as_str()).into(),
        // Checks of `/auth`, and requests to the console and the Admin API, never reach this
        // function.
        Route::Auth | Route::Console | Route::Admin | Route::None => {
            grpc::unknown_method(request.version(), headers)
                .unwrap_or_else(|| not_found(listener.serves).into())
        }
    }
}

/// Returns the 404 response of a listener with these routes.
fn not_found(serves: Serves) -> Response<Body> {
    let detail = match serves {
        Serves::Everything => "there is no such route",
        Serves::Auth => "this listener has /auth, /healthz and /readyz",
        Serves::Operations => "this listener has /metrics, /keys, /live and /ready",
    };
    problem(StatusCode::NOT_FOUND, "not_found", detail)
}

/// Calls a handler for GET and HEAD only; other methods get a 405 response.
fn get_only(method: &Method, handler: impl FnOnce() -> Response<Body>) -> Reply {
    if method == Method::GET || method == Method::HEAD {
        handler().into()
    } else {
        method_not_allowed("GET, HEAD").into()
    }
}

fn method_not_allowed(allowed: &'static str) -> Response<Body> {
    let mut response = problem(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        &format!("this route answers {allowed}"),
    );
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}
