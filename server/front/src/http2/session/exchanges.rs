//! Requests whose bodies and responses are streams.

use futures_util::future;

use super::{Http2Session, STREAM_WINDOW, count};
use crate::{
    exchange::{ExchangePipe, StreamedReply},
    http2::{
        frame,
        response::UnsentBody,
        stream::{Http2Stream, Http2StreamState, ResponseStream, StreamedExchange},
    },
    request_memory::MemoryPurpose,
    service::{PendingRequest as _, Service},
};

impl<'c, S: Service> Http2Session<'c, S> {
    /// Sends the head of the response, and runs the handler with the connection.
    pub(super) fn begin_exchange(&mut self, pending: S::Pending<'c>, response: ResponseStream) {
        let bytes = pending.held_bytes() + ExchangePipe::HELD_BYTES;
        let held = match self.memory.hold(MemoryPurpose::IncompleteBody, bytes) {
            Ok(held) => held,
            Err(exceeded) => {
                return self.send(&pending.refuse(&exceeded.refuse_head()), response);
            }
        };
        let (pipe, exchange) = ExchangePipe::new();
        if !response.is_open {
            pipe.end();
        }
        let StreamedReply { head, handler } = pending.stream(exchange);
        let id = response.id;
        self.outgoing.streamed_head(id, &head);
        let exchange = StreamedExchange { pipe, part: None, is_answered: false, _held: held };
        let state = Http2StreamState::Streaming(Box::new(exchange));
        self.streams.insert(id, Http2Stream::new(response, state));
        self.exchanges.push(id);
        // A handler notices by itself that its stream was reset.
        let (handler, _) = future::abortable(Box::pin(async move {
            handler.await;
            (id, None)
        }) as super::PendingReply<'c>);
        self.pending_replies.push(handler);
    }

    /// Records that the handler of a stream has written all parts of the response.
    pub(super) fn finish_handler(&mut self, id: u32) {
        if let Some(exchange) = self.exchange(id) {
            exchange.is_answered = true;
        }
    }

    /// Sends the parts that handlers have written, and grants window for the data that they have
    /// read.
    pub(super) fn advance_exchanges(&mut self) {
        let mut index = 0;
        while let Some(id) = self.exchanges.get(index).copied() {
            self.advance_exchange(id);
            if self.exchange(id).is_some() {
                index += 1;
            } else {
                self.exchanges.swap_remove(index);
            }
        }
    }

    /// Advances one exchange as far as the windows and the send buffer allow. Each part counts as a
    /// response for the abuse budget: the client has sent something to be answered, and needs
    /// control frames to receive it.
    pub(super) fn advance_exchange(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let Http2StreamState::Streaming(exchange) = &mut stream.state else { return };
        loop {
            if let Some(part) = &mut exchange.part {
                self.connection.worker.buffers.lend_output(&mut self.outgoing.bytes);
                if !self.outgoing.resume(id, &mut stream.window, part) {
                    break;
                }
                exchange.part = None;
                exchange.pipe.record_progress();
                self.abuse_budget.credit_response();
            }
            exchange.part = exchange.pipe.take_part().map(UnsentBody::part);
            if exchange.part.is_some() {
                continue;
            }
            if exchange.is_answered {
                return self.end_exchange(id);
            }
            break;
        }
        let (credit, unread) = (stream.credit, exchange.pipe.unread());
        // Data that the handler has not read stays within the first window.
        let granted = STREAM_WINDOW.saturating_sub(credit + unread);
        if stream.is_open && granted >= STREAM_WINDOW / 2 {
            stream.credit += granted;
            frame::window_update(&mut self.outgoing.bytes, id, count(granted));
        }
    }

    fn end_exchange(&mut self, id: u32) {
        let Some(stream) = self.streams.remove(&id) else { return };
        self.outgoing.end(id);
        self.abuse_budget.credit_response();
        if stream.is_open {
            self.drain(stream.response(id));
        }
    }

    fn exchange(&mut self, id: u32) -> Option<&mut StreamedExchange<'c>> {
        match &mut self.streams.get_mut(&id)?.state {
            Http2StreamState::Streaming(exchange) => Some(exchange),
            _ => None,
        }
    }
}
