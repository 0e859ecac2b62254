//! Answers of HTTP/2.

use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};

use bytes::Bytes;
use h2::{Reason, SendStream, server::SendResponse};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use tokio::time::timeout;

use crate::{
    clock,
    http::with_date,
    listen::exchange::{Answers, Link},
    routes::Reply,
};

/// The place for the answer to one request.
pub(super) struct Responder<'c> {
    respond: SendResponse<Bytes>,
    is_head: bool,
    alternative: Option<&'c HeaderValue>,
}

impl Answers for Responder<'_> {
    fn bare<'l>(&mut self, status: StatusCode, lines: impl Iterator<Item = (&'l HeaderName, &'l [u8])>) {
        let mut response = Response::new(());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.reserve(8);
        for (name, value) in lines {
            // They are visible ASCII, as the engine has written them.
            headers.append(name, HeaderValue::from_bytes(value).unwrap_or(HeaderValue::from_static("")));
        }
        self.send_head(response, true);
    }

    fn reply(&mut self, reply: &Reply) {
        if let Some(sending) = self.begin(reply) {
            sending.at_once();
        }
    }
}

impl<'c> Responder<'c> {
    pub(super) fn new(link: Link<'c>, respond: SendResponse<Bytes>, is_head: bool) -> Self {
        Self { respond, is_head, alternative: link.alternative() }
    }

    /// Waits for something for as long as the client does.
    pub(super) async fn unless_reset<R>(&mut self, future: impl Future<Output = R>) -> Option<R> {
        let mut future = pin!(future);
        poll_fn(|context| match self.respond.poll_reset(context) {
            Poll::Ready(_) => Poll::Ready(None),
            Poll::Pending => future.as_mut().poll(context).map(Some),
        })
        .await
    }

    /// Sends an answer as the client takes it, for so long.
    pub(super) async fn finish(&mut self, reply: &Reply, limit: Duration) {
        if let Some(mut sending) = self.begin(reply)
            && !timeout(limit, sending.send()).await.unwrap_or(false)
        {
            sending.stream.send_reset(Reason::CANCEL);
        }
    }

    /// Sends the head of an answer, and returns what is left.
    fn begin(&mut self, reply: &Reply) -> Option<Sending> {
        let (body, trailers) = (reply.response.body(), reply.trailers());
        let is_whole = self.is_head || body.is_empty() && trailers.is_none();
        let stream = self.send_head(reply.head(), is_whole)?;
        (!is_whole).then(|| Sending { stream, body: body.clone(), trailers })
    }

    /// `None` if the client has taken its request back.
    fn send_head(&mut self, mut head: Response<()>, is_whole: bool) -> Option<SendStream<Bytes>> {
        let headers = head.headers_mut();
        if let Some(alternative) = self.alternative {
            headers.insert(header::ALT_SVC, alternative.clone());
        }
        with_date(clock::now(), |date| drop(headers.insert(header::DATE, date.clone())));
        self.respond.send_response(head, is_whole).ok()
    }
}

/// What stands behind the head of an answer.
struct Sending {
    stream: SendStream<Bytes>,
    body: Bytes,
    trailers: Option<HeaderMap>,
}

impl Sending {
    /// Leaves all of it to h2. For what is small.
    fn at_once(mut self) {
        if self.stream.send_data(self.body, self.trailers.is_none()).is_ok()
            && let Some(trailers) = self.trailers
        {
            let _gone = self.stream.send_trailers(trailers);
        }
    }

    /// Sends it as the client takes it. Says whether it did.
    async fn send(&mut self) -> bool {
        while !self.body.is_empty() {
            self.stream.reserve_capacity(self.body.len());
            let capacity = match self.stream.capacity() {
                0 => poll_fn(|context| self.stream.poll_capacity(context)).await,
                capacity => Some(Ok(capacity)),
            };
            let Some(Ok(capacity)) = capacity else { return false };
            let piece = self.body.split_to(capacity.min(self.body.len()));
            if self.stream.send_data(piece, self.body.is_empty() && self.trailers.is_none()).is_err() {
                return false;
            }
        }
        self.trailers.take().is_none_or(|trailers| self.stream.send_trailers(trailers).is_ok())
    }
}
