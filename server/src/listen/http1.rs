//! HTTP/1.1 by hyper.

use std::{
    convert::Infallible,
    error::Error,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http1::Builder, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::drain::Drain;
use crate::http::Body;

/// Room for one request's head, and for reading ahead.
const BUFFER: usize = 32 * 1024;

/// Serves one connection until it ends, or until draining starts and the request
/// in progress is answered.
pub async fn serve<S, F>(stream: S, drain: &Drain, answer: impl Fn(Request<Incoming>) -> F)
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = Response<Body>> + Unpin,
{
    let service = service_fn(|request| Certain(answer(request)));
    let connection = Builder::new().max_buf_size(BUFFER).writev(false).serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let mut told = false;
    let ended = drain.wake_for(|context| {
        if drain.has_started() && !std::mem::replace(&mut told, true) {
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(context)
    });
    if let Err(error) = ended.await {
        // The client's business: it hung up or did not speak HTTP.
        tracing::debug!("connection ended: {error}{}", error.source().map(|source| format!(": {source}")).unwrap_or_default());
    }
}

/// A future that cannot fail, as hyper wants it.
struct Certain<F>(F);

impl<F: Future + Unpin> Future for Certain<F> {
    type Output = Result<F::Output, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(Ok)
    }
}
