//! Requests whose bodies and responses are streams.

use quinn_proto::{StreamId, WriteError};

use super::Http3Connection;
use crate::{http3::frame, service::Service};

impl<S: Service> Http3Connection<'_, S> {
    /// Records that the handler of a stream has written all parts of the response.
    pub(super) fn finish_handler(&mut self, id: StreamId) {
        if let Some(exchange) = self.streams.get_mut(&id).and_then(|stream| stream.exchange()) {
            exchange.is_answered = true;
        }
    }

    /// Sends the parts that handlers have written, and receives as much as they have read. Returns
    /// whether a handler may go on.
    pub(super) fn advance_exchanges(&mut self) -> bool {
        let (mut index, mut made_progress) = (0, false);
        while let Some(id) = self.exchanges.get(index).copied() {
            made_progress |= self.advance_exchange(id) | self.receive_more(id);
            if self.streams.get_mut(&id).is_some_and(|stream| stream.exchange().is_some()) {
                index += 1;
            } else {
                self.exchanges.swap_remove(index);
            }
        }
        made_progress
    }

    /// Receives what was left in the window of a stream, once the handler has read half of what it
    /// had. Returns whether anything was received.
    fn receive_more(&mut self, id: StreamId) -> bool {
        const LEAST: usize = crate::exchange::MAX_UNREAD / 2;
        let Some(stream) = self.streams.get_mut(&id) else { return false };
        if stream.is_ended() || stream.room() < LEAST {
            return false;
        }
        let unread = |stream: &mut super::Http3Stream<'_, S>| {
            stream.exchange().map(|exchange| (exchange.pipe.unread(), exchange.pipe.is_ended()))
        };
        let before = unread(stream);
        self.receive(id);
        self.streams.get_mut(&id).is_some_and(|stream| unread(stream) != before)
    }

    /// Sends parts of the response as far as the windows allow. Returns whether a part was taken
    /// from the handler.
    pub(super) fn advance_exchange(&mut self, id: StreamId) -> bool {
        let mut made_progress = false;
        loop {
            let Some(stream) = self.streams.get_mut(&id) else { return made_progress };
            let Some(exchange) = stream.exchange() else { return made_progress };
            let mut out = self.driver.connection.send_stream(id);
            while exchange.sent < exchange.unsent.len() {
                match out.write(&exchange.unsent[exchange.sent..]) {
                    Ok(length) => exchange.sent += length,
                    Err(WriteError::Blocked) => return made_progress,
                    // A separate event reports that the client stopped the stream.
                    Err(WriteError::Stopped(_) | WriteError::ClosedStream) => {
                        return made_progress;
                    }
                }
            }
            if exchange.sent > 0 {
                exchange.sent = 0;
                exchange.unsent = Vec::new();
                exchange.pipe.record_progress();
            }
            if let Some(part) = exchange.pipe.take_part() {
                frame::data(&mut exchange.unsent, part.len());
                exchange.unsent.extend_from_slice(&part);
                made_progress = true;
            } else if exchange.is_answered {
                let _ignored = out.finish();
                self.end_exchange(id);
                return true;
            } else {
                return made_progress;
            }
        }
    }

    /// Drains the rest of a request whose response is complete.
    fn end_exchange(&mut self, id: StreamId) {
        let Some(mut stream) = self.streams.remove(&id) else { return };
        if !stream.is_ended() {
            stream.drain();
            self.streams.insert(id, stream);
            // Its deadline may be the next one.
            self.phase = super::Http3Phase::Busy;
        }
    }
}
