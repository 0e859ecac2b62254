//! The routes, one file each, the same on every HTTP version.

mod forward_auth;
mod health;
mod metrics;
mod verify;
mod wellknown;

use std::{error::Error, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Body as HttpBody;

use crate::{
    app::App,
    http::{Body, no_store, problem},
};

/// Answers a request on the main listener.
pub async fn main<B>(app: &App, request: Request<B>) -> Response<Body>
where
    B: HttpBody<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>>,
{
    let path = request.uri().path();
    if path == "/auth" || path.starts_with("/auth/") {
        return forward_auth::answer(app, request.headers());
    }
    match path {
        "/v1/verify" if request.method() == Method::POST => {
            let (parts, body) = request.into_parts();
            let response = match read(body, app.server.max_body.min(verify::MOST_BODY)).await {
                Ok(body) => verify::answer(app, &parts.headers, &body),
                Err(refusal) => refusal,
            };
            no_store(response)
        }
        "/v1/verify" => method_not_allowed("POST"),
        "/api/v2/health" => health::inmanta(app, request.method(), request.headers()),
        "/healthz" => for_reading(request.method(), health::live),
        "/readyz" => for_reading(request.method(), || health::ready(app)),
        "/.well-known/jwks.json" => for_reading(request.method(), wellknown::jwks),
        _ => problem(StatusCode::NOT_FOUND, "not_found", "there is no such route"),
    }
}

/// Answers a request on the listener for metrics and probes.
pub fn operations<B>(app: &Arc<App>, request: &Request<B>) -> Response<Body> {
    match request.uri().path() {
        "/metrics" => for_reading(request.method(), || metrics::answer(app)),
        "/live" => for_reading(request.method(), health::live),
        "/ready" => for_reading(request.method(), || health::ready(app)),
        _ => problem(StatusCode::NOT_FOUND, "not_found", "this listener has /metrics, /live and /ready"),
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
