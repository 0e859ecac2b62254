//! Requests whose body and response are streams, over HTTP/1.

use std::{
    mem,
    rc::Rc,
    task::{Context, Poll, ready},
};

use super::{
    BodyReceiveError, Http1Connection, Http1Phase,
    body::IncomingBody,
    head::Persistence,
    pipeline::{Http1PendingRequest, NextAction},
};
use crate::{
    exchange::{ExchangePipe, MAX_UNREAD, StreamedReply},
    message::BadRequest,
    request_memory::{HeldMemory, MemoryPurpose},
    service::{PendingRequest as _, Service},
};

/// Most bytes that are decoded before the handler reads them, so that what it has not read and the
/// buffer of the decoder are together no longer than [`MAX_UNREAD`].
const MAX_TAKEN: usize = MAX_UNREAD / 2;

/// An exchange whose request is being received and answered.
struct Http1Exchange<'c> {
    pipe: ExchangePipe,
    handler: Handler<'c>,
    body: IncomingBody,
    held: HeldMemory<'c>,
    /// Whether the response has chunks. A client of HTTP/1.0 reads it until the connection closes.
    is_chunked: bool,
    /// Whether a part of the response is being sent.
    has_part: bool,
}

/// The future that reads the body and writes the response; `None` when it is complete.
type Handler<'c> = Option<std::pin::Pin<Box<dyn Future<Output = ()> + 'c>>>;

impl<'c, S: Service> Http1Connection<'c, S> {
    /// Answers a request whose body and response are streams. An error in the middle closes the
    /// connection without the last chunk, so that the client notices it.
    pub(super) async fn stream(&mut self, pending: Http1PendingRequest<'c, S>) {
        let Http1PendingRequest {
            request,
            framing,
            expects_continue,
            takes_chunks: is_chunked,
            mut options,
            ..
        } = pending;
        self.enter(Http1Phase::Busy);
        if !is_chunked {
            options.persistence = Persistence::Close;
        }
        let mut held = self.memory.hold_nothing(MemoryPurpose::IncompleteBody);
        let begun = held
            .resize(request.held_bytes() + ExchangePipe::HELD_BYTES)
            .map_err(|exceeded| exceeded.refuse_head())
            .and_then(|()| {
                IncomingBody::new(framing, usize::MAX, self.connection.worker.limits)
                    .map_err(|_| BadRequest::body_too_large(usize::MAX))
            });
        let mut body = match begun {
            Ok(body) => body,
            Err(reason) => {
                options.persistence = Persistence::Close;
                self.unsent.response(&request.refuse(&reason).response, options);
                self.next_action = Some(NextAction::Close { is_sending: true });
                return;
            }
        };
        if expects_continue && self.rest.is_empty() {
            self.unsent.0.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        body.bytes.reserve_exact(MAX_TAKEN);
        let (pipe, exchange) = ExchangePipe::new();
        let StreamedReply { head, handler } = request.stream(exchange);
        self.unsent.streamed_head(&head, options, is_chunked);
        let handler = Some(handler);
        let mut exchange = Http1Exchange { pipe, handler, body, held, is_chunked, has_part: false };
        let deadline = Rc::clone(&self.deadline);
        deadline.due_within(self.connection.worker.timeouts.body);
        let result = deadline.poll_fn(|cx| self.poll_exchange(cx, &mut exchange)).await;
        let is_complete = matches!(result, Ok(Ok(())));
        let is_sending = is_complete && !exchange.body.is_complete();
        self.next_action =
            (options.persistence == Persistence::Close || !is_complete || is_sending)
                .then_some(NextAction::Close { is_sending });
        if !is_complete {
            // The client may be the one that does not read.
            self.unsent.0.clear();
        }
        self.phase = Http1Phase::Busy;
    }

    /// Sends the response, runs the handler, and receives the body, in this order: nothing is
    /// received from a client that does not read the response.
    fn poll_exchange(
        &mut self,
        cx: &mut Context<'_>,
        exchange: &mut Http1Exchange<'c>,
    ) -> Poll<Result<(), BodyReceiveError>> {
        loop {
            ready!(self.poll_send(cx)).map_err(|_| BodyReceiveError::ConnectionLost)?;
            if mem::take(&mut exchange.has_part) {
                self.phase = Http1Phase::Busy;
                self.deadline.due_within(self.connection.worker.timeouts.body);
            }
            if let Some(part) = exchange.pipe.take_part() {
                self.connection.worker.buffers.lend_output(&mut self.unsent.0);
                self.unsent.part(&part, exchange.is_chunked);
                exchange.has_part = true;
                continue;
            }
            let Some(handler) = &mut exchange.handler else {
                return Poll::Ready(Ok(()));
            };
            if handler.as_mut().poll(cx).is_ready() {
                exchange.handler = None;
                if exchange.is_chunked {
                    self.unsent.0.extend_from_slice(b"0\r\n\r\n");
                }
                continue;
            }
            if exchange.pipe.has_part() {
                continue;
            }
            if exchange.pipe.is_ended() || exchange.pipe.unread() > 0 {
                return Poll::Pending;
            }
            if !self.take_body(exchange)? {
                ready!(self.poll_receive_more(cx)).map_err(|_| BodyReceiveError::ConnectionLost)?;
            }
        }
    }

    /// Passes received bytes of the body to the handler. Returns whether there were any, or the
    /// body has ended.
    fn take_body(&mut self, exchange: &mut Http1Exchange<'c>) -> Result<bool, BodyReceiveError> {
        let Http1Exchange { pipe, body, held, .. } = exchange;
        let first = &self.rest[..self.rest.len().min(MAX_TAKEN)];
        let taken = match body.take(first, held) {
            // Trailers, which are checked as a whole.
            Ok(0) => body.take(&self.rest, held),
            taken => taken,
        };
        let taken = taken.map_err(|error| BodyReceiveError::of(error, usize::MAX))?;
        self.rest.drain(..taken);
        // Bytes that are not taken yet, such as trailers.
        self.held
            .resize(self.rest.capacity())
            .map_err(|exceeded| BodyReceiveError::Refused(exceeded.refuse_body()))?;
        let has_data = !body.bytes.is_empty();
        if has_data {
            pipe.push(&body.bytes);
            body.bytes.clear();
        }
        if body.is_complete() {
            body.bytes = Vec::new();
            pipe.end();
        }
        Ok(has_data || body.is_complete())
    }
}
