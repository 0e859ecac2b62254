//! The routes, one file each, the same on every HTTP version.

mod ext_authz;
mod forward_auth;
mod grpc_health;
mod health;
mod inmanta;
mod keys;
mod metrics;
mod revoke;
mod verify;
mod wellknown;

use std::{pin::Pin, sync::Arc};

use bytes::Bytes;
use countersign_engine::limits;
pub use forward_auth::{Decision, auth_headers, decide};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};

use crate::{
    admission::{Caller, Peer},
    app::App,
    config::{Server, Serves},
    grpc,
    http::{Body, no_store, problem},
    metrics::Outcome,
    requests::AccessLogEntry,
};

/// The longest body read: the longest token, escaped and wrapped.
const MAX_BODY: usize = 4 * limits::MAX_TOKEN_BYTES;
/// The longest message of a call: the longest head that Envoy lets pass (60 KiB unless
/// told otherwise), a certificate, and what else it tells.
const MAX_GRPC_MESSAGE: usize = 128 * 1024;

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/auth`, `/auth/*`: the question of a proxy.
    Auth,
    /// `/envoy.service.auth.v3.Authorization/Check`: the same over gRPC.
    Check,
    /// `/grpc.health.v1.Health/Check`.
    GrpcHealth,
    /// `/v1/verify`.
    Verify,
    /// `/v1/revoke`.
    Revoke,
    /// `/api/v1/*`, `/api/v2/*`: users, roles and tokens.
    Inmanta,
    /// `/.well-known/jwks.json`.
    Jwks,
    /// `/healthz`, `/live`.
    Live,
    /// `/readyz`, `/ready`.
    Ready,
    /// `/metrics`.
    Metrics,
    /// `/keys`.
    Keys,
    /// Nothing that there is.
    None,
}

impl Route {
    /// Every route.
    pub const ALL: [Self; 12] = [
        Self::Auth,
        Self::Check,
        Self::GrpcHealth,
        Self::Verify,
        Self::Revoke,
        Self::Inmanta,
        Self::Jwks,
        Self::Live,
        Self::Ready,
        Self::Metrics,
        Self::Keys,
        Self::None,
    ];

    /// The route of a request target, on a listener that serves these.
    #[must_use]
    pub fn of(target: &str, serves: Serves) -> Self {
        let path = path_of(target);
        match (serves, path) {
            (Serves::Everything | Serves::Auth, "/auth") => Self::Auth,
            (Serves::Everything | Serves::Auth, path) if path.starts_with("/auth/") => Self::Auth,
            (Serves::Everything | Serves::Auth, ext_authz::PATH) => Self::Check,
            (Serves::Everything | Serves::Auth, grpc_health::PATH) => Self::GrpcHealth,
            (Serves::Everything | Serves::Auth, "/healthz") | (Serves::Operations, "/live") => {
                Self::Live
            }
            (Serves::Everything | Serves::Auth, "/readyz") | (Serves::Operations, "/ready") => {
                Self::Ready
            }
            (Serves::Everything, "/v1/verify") => Self::Verify,
            (Serves::Everything, "/v1/revoke") => Self::Revoke,
            (Serves::Everything, path)
                if path.starts_with("/api/v1/") || path.starts_with("/api/v2/") =>
            {
                Self::Inmanta
            }
            (Serves::Everything, "/.well-known/jwks.json") => Self::Jwks,
            (Serves::Operations, "/metrics") => Self::Metrics,
            (Serves::Operations, "/keys") => Self::Keys,
            _ => Self::None,
        }
    }

    /// Its place among [`ALL`](Self::ALL).
    #[must_use]
    pub fn index(self) -> usize {
        Self::ALL.iter().position(|route| *route == self).unwrap_or_default()
    }

    /// Its name, for metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Check => "check",
            Self::GrpcHealth => "grpc_health",
            Self::Verify => "verify",
            Self::Revoke => "revoke",
            Self::Inmanta => "inmanta",
            Self::Jwks => "jwks",
            Self::Live => "live",
            Self::Ready => "ready",
            Self::Metrics => "metrics",
            Self::Keys => "keys",
            Self::None => "none",
        }
    }

    /// Whether a request of this method has its body read.
    #[must_use]
    pub fn reads_body(self, method: &str) -> bool {
        match self {
            Self::Inmanta => matches!(method, "POST" | "PUT" | "PATCH"),
            _ => {
                (self.is_grpc() || matches!(self, Self::Verify | Self::Revoke)) && method == "POST"
            }
        }
    }

    /// Whether it is for calls of gRPC.
    #[must_use]
    pub const fn is_grpc(self) -> bool {
        matches!(self, Self::Check | Self::GrpcHealth)
    }

    /// The longest body read, in bytes.
    #[must_use]
    pub fn max_body(self, server: &Server) -> usize {
        server.max_body.min(if self.is_grpc() { MAX_GRPC_MESSAGE } else { MAX_BODY })
    }
}

/// The path of a request target, which may be a whole URI (RFC 9112 section 3.2.2).
fn path_of(target: &str) -> &str {
    let behind_scheme = target.strip_prefix("http://").or_else(|| target.strip_prefix("https://"));
    let target = behind_scheme
        .map_or(target, |rest| rest.find(['/', '?']).map_or("/", |start| &rest[start..]));
    target.split_once('?').map_or(target, |(path, _)| path)
}

/// An answer, and what became of the token that it is about.
pub struct Reply {
    /// The answer.
    pub response: Response<Body>,
    /// What became of the token, if there was one to be.
    pub outcome: Option<Outcome>,
    /// The status that it is counted as, which is its own, except that all answers of
    /// gRPC are 200.
    pub counted: StatusCode,
    /// Whether its body is a message of gRPC, which has trailers behind it.
    pub is_message: bool,
}

impl Reply {
    /// An answer about a token.
    #[must_use]
    pub fn with_outcome(outcome: Outcome, response: Response<Body>) -> Self {
        Self { outcome: Some(outcome), ..response.into() }
    }

    /// A message of gRPC, framed.
    #[must_use]
    pub fn message(message: Bytes) -> Self {
        Self { is_message: true, ..Response::new(message).into() }
    }

    /// Calls with each line of its head, in a version of HTTP that has trailers and frames
    /// bodies itself.
    pub fn for_each_header(&self, mut put: impl FnMut(&str, &[u8])) {
        for (name, value) in self.response.headers() {
            put(name.as_str(), value.as_bytes());
        }
        let length = self.response.body().len();
        if self.is_message {
            put(header::CONTENT_TYPE.as_str(), grpc::MEDIA_TYPE.as_bytes());
        } else if length > 0 {
            put(header::CONTENT_LENGTH.as_str(), length.to_string().as_bytes());
        }
    }

    /// The line behind its body.
    #[must_use]
    pub fn trailer(&self) -> Option<(&'static str, &'static [u8])> {
        self.is_message.then_some(grpc::TRAILER)
    }
}

impl From<Response<Body>> for Reply {
    fn from(response: Response<Body>) -> Self {
        Self { counted: response.status(), response, outcome: None, is_message: false }
    }
}

/// What is said to a call of gRPC.
pub enum Said<'a> {
    /// This.
    Now(Reply),
    /// Nothing yet: something is to be waited for.
    Later(Pin<Box<dyn Future<Output = Reply> + 'a>>),
}

/// Answers a call, given its body. Where a proxy that we trust asks about a request, the
/// line of the log becomes one about that.
pub fn call<'a>(
    app: &Arc<App>,
    peer: Peer<'a>,
    route: Route,
    body: &[u8],
    line: Option<&mut AccessLogEntry>,
) -> Said<'a> {
    match route {
        Route::Check => ext_authz::answer(app, peer, body, line),
        _ => Said::Now(grpc_health::answer(app, body)),
    }
}

/// Answers a request.
pub async fn answer(
    app: &Arc<App>,
    peer: Peer<'_>,
    route: Route,
    request: Request<Bytes>,
) -> Reply {
    let (method, headers) = (request.method(), request.headers());
    let server = app.server_arc();
    let listener = &server.listeners[peer.listener];
    let caller = Caller::new(peer, &listener.proxies, headers);
    match route {
        Route::Auth => match decide(app, &server, listener, &caller, headers) {
            Decision::Allowed(verified) => {
                Reply::with_outcome(Outcome::Verified, forward_auth::allow(&server, &verified))
            }
            Decision::Answered(reply) => reply,
            Decision::Later(reply) => reply.await,
        },
        Route::Verify | Route::Revoke if method != Method::POST => {
            method_not_allowed("POST").into()
        }
        Route::Verify => verify::answer(app, &server, &caller, headers, request.body()).await,
        Route::Revoke => {
            no_store(revoke::answer(app, &server, headers, request.body()).await).into()
        }
        Route::Inmanta => inmanta::answer(app, &server, &caller, &request).await,
        Route::Jwks => get_only(method, wellknown::jwks),
        Route::Live => get_only(method, health::live),
        Route::Ready => get_only(method, || health::ready(app)),
        Route::Metrics => get_only(method, || metrics::answer(app)),
        Route::Keys => get_only(method, || keys::answer(app)),
        // What is a call has its own way.
        Route::Check | Route::GrpcHealth => grpc::refuse(request.version(), method.as_str()).into(),
        Route::None => grpc::unknown_method(request.version(), headers).unwrap_or_else(|| {
            problem(StatusCode::NOT_FOUND, "not_found", listener.serves.not_found_detail()).into()
        }),
    }
}

impl Serves {
    /// What to tell whoever asks for something else.
    const fn not_found_detail(self) -> &'static str {
        match self {
            Self::Everything => "there is no such route",
            Self::Auth => "this listener has /auth, /healthz and /readyz",
            Self::Operations => "this listener has /metrics, /keys, /live and /ready",
        }
    }
}

/// Answers GET and HEAD only.
fn get_only(method: &Method, answer: impl FnOnce() -> Response<Body>) -> Reply {
    if method == Method::GET || method == Method::HEAD {
        answer().into()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e7_a_path_is_taken_as_it_is_written() {
        for (target, expected) in [
            ("/auth", Route::Auth),
            ("/auth?x=/v1/verify", Route::Auth),
            ("/auth/", Route::Auth),
            ("/auth/../v1/verify", Route::Auth),
            ("/auth//%2e%2e/v1", Route::Auth),
            ("/authx", Route::None),
            ("//auth", Route::None),
            ("/AUTH", Route::None),
            ("/v1/../auth", Route::None),
            ("/%61uth", Route::None),
            ("/v1/verify?x", Route::Verify),
            ("/envoy.service.auth.v3.Authorization/Check", Route::Check),
            ("/envoy.service.auth.v3.Authorization/check", Route::None),
            ("/envoy.service.auth.v3.Authorization/Check/", Route::None),
            ("/auth/envoy.service.auth.v3.Authorization/Check", Route::Auth),
            ("/grpc.health.v1.Health/Check", Route::GrpcHealth),
            ("/grpc.health.v1.Health/Watch", Route::None),
            ("/v1/verify/", Route::None),
            ("/metrics", Route::None),
            ("*", Route::None),
            ("http://other.example:80/auth/x?y", Route::Auth),
            ("https://other.example", Route::None),
            ("http://other.example?/auth", Route::None),
            ("ftp://other.example/auth", Route::None),
        ] {
            assert_eq!(Route::of(target, Serves::Everything), expected, "{target}");
        }
    }

    #[test]
    fn a_listener_has_its_own_routes_only() {
        let targets = [
            "/auth",
            ext_authz::PATH,
            grpc_health::PATH,
            "/v1/verify",
            "/v1/revoke",
            "/api/v2/health",
            "/.well-known/jwks.json",
            "/metrics",
            "/keys",
        ];
        let had = |serves| targets.map(|target| Route::of(target, serves) != Route::None);
        assert_eq!(
            had(Serves::Everything),
            [true, true, true, true, true, true, true, false, false]
        );
        assert_eq!(had(Serves::Auth), [true, true, true, false, false, false, false, false, false]);
        assert_eq!(
            had(Serves::Operations),
            [false, false, false, false, false, false, false, true, true]
        );
    }
}
