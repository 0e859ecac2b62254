//! The routes, one file each, the same on every HTTP version.

mod forward_auth;
mod health;
mod keys;
mod metrics;
mod revoke;
mod verify;
mod wellknown;

use std::{
    error::Error,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use countersign_engine::limits;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Body as HttpBody;

use crate::{
    admission::Peer,
    app::App,
    http::{Body, no_store, problem},
};

/// The longest body read: the longest token, escaped and wrapped.
const MOST_BODY: usize = 4 * limits::TOKEN_BYTES;

/// Answers a request on the main listener.
pub fn main<'a, B>(app: &'a App, peer: Peer<'a>, request: Request<B>) -> Answer<'a>
where
    B: HttpBody<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + 'a,
{
    let path = request.uri().path();
    if path == "/auth" || path.starts_with("/auth/") {
        return forward_auth::answer(app, peer, request.headers());
    }
    Answer::later(others(app, peer, request))
}

/// An answer that is there or on its way. What decides on every request of a proxy
/// has nothing to wait for, and is not moved through a state machine.
pub enum Answer<'a> {
    /// There, until it is taken.
    Ready(Option<Response<Body>>),
    /// On its way.
    Later(Pin<Box<dyn Future<Output = Response<Body>> + 'a>>),
}

impl<'a> Answer<'a> {
    fn ready(response: Response<Body>) -> Self {
        Self::Ready(Some(response))
    }

    fn later(response: impl Future<Output = Response<Body>> + 'a) -> Self {
        Self::Later(Box::pin(response))
    }
}

impl Future for Answer<'_> {
    type Output = Response<Body>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Ready(answer) => answer.take().map_or(Poll::Pending, Poll::Ready),
            Self::Later(answer) => answer.as_mut().poll(context),
        }
    }
}

async fn others<B>(app: &App, peer: Peer<'_>, request: Request<B>) -> Response<Body>
where
    B: HttpBody<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>>,
{
    match request.uri().path() {
        "/v1/verify" | "/v1/revoke" if request.method() == Method::POST => no_store(posted(app, peer, request).await),
        "/v1/verify" | "/v1/revoke" => method_not_allowed("POST"),
        "/api/v2/health" => health::inmanta(app, peer, request.method(), request.headers()).await,
        "/healthz" => for_reading(request.method(), health::live),
        "/readyz" => for_reading(request.method(), || health::ready(app)),
        "/.well-known/jwks.json" => for_reading(request.method(), wellknown::jwks),
        _ => problem(StatusCode::NOT_FOUND, "not_found", "there is no such route"),
    }
}

/// Answers a request whose body holds a token.
async fn posted<B>(app: &App, peer: Peer<'_>, request: Request<B>) -> Response<Body>
where
    B: HttpBody<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>>,
{
    let (parts, body) = request.into_parts();
    match read(body, app.server.max_body.min(MOST_BODY)).await {
        Err(refusal) => refusal,
        Ok(body) if parts.uri.path() == "/v1/revoke" => revoke::answer(app, &parts.headers, &body).await,
        Ok(body) => verify::answer(app, peer, &parts.headers, &body).await,
    }
}

/// Answers a request on the listener for metrics and probes.
pub fn operations<B>(app: &Arc<App>, request: &Request<B>) -> Response<Body> {
    match request.uri().path() {
        "/metrics" => for_reading(request.method(), || metrics::answer(app)),
        "/keys" => for_reading(request.method(), || keys::answer(app)),
        "/live" => for_reading(request.method(), health::live),
        "/ready" => for_reading(request.method(), || health::ready(app)),
        _ => problem(StatusCode::NOT_FOUND, "not_found", "this listener has /metrics, /keys, /live and /ready"),
    }
}

/// Answers GET and HEAD only.
fn for_reading(method: &Method, answer: impl FnOnce() -> Response<Body>) -> Response<Body> {
    if method == Method::GET || method == Method::HEAD { answer() } else { method_not_allowed("GET, HEAD") }
}

fn method_not_allowed(allowed: &'static str) -> Response<Body> {
    let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &format!("this route answers {allowed}"));
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}

/// Reads a body of at most `most` bytes.
async fn read<B>(body: B, most: usize) -> Result<Bytes, Response<Body>>
where
    B: HttpBody<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>>,
{
    match Limited::new(body, most).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(problem(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", &format!("a body may have {most} bytes")))
        }
        Err(_) => Err(problem(StatusCode::BAD_REQUEST, "body", "the body ended before it was complete")),
    }
}
