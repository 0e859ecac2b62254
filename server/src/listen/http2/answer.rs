//! Answers of HTTP/2, as frames; and those parts of them that have to wait, as clients
//! take no more of a body than they have said (RFC 9113 section 5.2).

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};

use super::{
    frame::{self, MAX_31_BITS, MAX_PAYLOAD},
    hpack,
};
use crate::{
    clock, grpc,
    http::with_date,
    listen::exchange::{ConnectionContext, ResponseWriter},
    routes::Reply,
};

/// What a client takes without a word, if it has said nothing of it.
const DEFAULT_WINDOW: u32 = 65_535;

/// What is to be sent, and how much more a client takes.
pub(super) struct FrameWriter<'c> {
    /// Frames that are to be sent.
    pub(super) bytes: Vec<u8>,
    context: ConnectionContext<'c>,
    /// Of all bodies together.
    window: SendWindow,
    /// Of each new stream.
    pub(super) initial: u32,
    /// Whether the client has not heard that we use no table, and wants to.
    must_signal_table_size: bool,
    /// Whether it has.
    has_signalled_table_size: bool,
}

/// How many bytes of bodies a client takes. It can be less than nothing, when the client
/// has changed its mind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SendWindow(i64);

impl SendWindow {
    /// One of a size that a client has said.
    pub(super) fn new(size: u32) -> Self {
        Self(size.into())
    }

    /// Widens it, or makes it narrower. `None` if it would be larger than any may be.
    #[must_use]
    pub(super) fn widen(&mut self, by: i64) -> Option<()> {
        self.0 = self.0.saturating_add(by);
        (self.0 <= MAX_31_BITS.into()).then_some(())
    }

    fn available(self) -> usize {
        usize::try_from(self.0).unwrap_or(0)
    }

    fn take(&mut self, length: usize) {
        self.0 -= i64::try_from(length).unwrap_or(i64::MAX);
    }
}

/// What stands behind the head of an answer and is not sent.
pub(super) struct UnsentBody {
    body: Bytes,
    has_trailers: bool,
}

impl<'c> FrameWriter<'c> {
    pub(super) fn new(context: ConnectionContext<'c>) -> Self {
        let window = SendWindow::new(DEFAULT_WINDOW);
        Self {
            bytes: Vec::new(),
            context,
            window,
            initial: DEFAULT_WINDOW,
            must_signal_table_size: false,
            has_signalled_table_size: false,
        }
    }

    /// The place for the answer to the request of a stream with this window.
    pub(super) fn answer(
        &mut self,
        stream: u32,
        window: SendWindow,
        is_head: bool,
    ) -> Http2ResponseWriter<'_, 'c> {
        Http2ResponseWriter { outgoing: self, stream, window, is_head, rest: None }
    }

    /// The client has made its table smaller than the one that it thinks we use.
    pub(super) fn signal_table_size(&mut self) {
        self.must_signal_table_size = !self.has_signalled_table_size;
    }

    /// The client takes more, or less, of all bodies together.
    pub(super) fn widen(&mut self, by: u32) -> Option<()> {
        self.window.widen(by.into())
    }

    /// Sends as much of an answer as the client takes. Says whether that was all.
    pub(super) fn resume(
        &mut self,
        stream: u32,
        window: &mut SendWindow,
        rest: &mut UnsentBody,
    ) -> bool {
        while !rest.body.is_empty() {
            let length = rest
                .body
                .len()
                .min(window.available())
                .min(self.window.available())
                .min(MAX_PAYLOAD);
            if length == 0 {
                return false;
            }
            window.take(length);
            self.window.take(length);
            let piece = rest.body.split_to(length);
            frame::data(
                &mut self.bytes,
                stream,
                rest.body.is_empty() && !rest.has_trailers,
                &piece,
            );
        }
        if rest.has_trailers {
            let (name, value) = grpc::TRAILER;
            self.headers(stream, true, |out| hpack::field(out, name, value));
        }
        true
    }

    fn head(
        &mut self,
        stream: u32,
        is_whole: bool,
        status: StatusCode,
        lines: impl FnOnce(&mut dyn FnMut(&str, &[u8])),
    ) {
        let alternative = self.context.alt_svc();
        self.headers(stream, is_whole, |out| write_section(out, status, alternative, lines));
    }

    /// Appends a field section; the next one after the client has made its table smaller,
    /// be it a head or not, says that we know (RFC 7541 section 4.2).
    fn headers(&mut self, stream: u32, ends_stream: bool, write: impl FnOnce(&mut Vec<u8>)) {
        let must_signal_table_size = std::mem::take(&mut self.must_signal_table_size);
        self.has_signalled_table_size |= must_signal_table_size;
        frame::headers(&mut self.bytes, stream, ends_stream, |out| {
            if must_signal_table_size {
                hpack::table_size_zero(out);
            }
            write(out);
        });
    }
}

fn write_section(
    out: &mut Vec<u8>,
    status: StatusCode,
    alternative: Option<&HeaderValue>,
    lines: impl FnOnce(&mut dyn FnMut(&str, &[u8])),
) {
    hpack::status(out, status);
    lines(&mut |name, value| hpack::field(out, name, value));
    if let Some(alternative) = alternative {
        hpack::field(out, header::ALT_SVC.as_str(), alternative.as_bytes());
    }
    with_date(clock::now(), |date| hpack::field(out, header::DATE.as_str(), date.as_bytes()));
}

/// Writes the answer to one request.
pub(super) struct Http2ResponseWriter<'o, 'c> {
    outgoing: &'o mut FrameWriter<'c>,
    stream: u32,
    window: SendWindow,
    pub(super) is_head: bool,
    rest: Option<UnsentBody>,
}

impl ResponseWriter for Http2ResponseWriter<'_, '_> {
    fn headers_only<'l>(
        &mut self,
        status: StatusCode,
        lines: impl Iterator<Item = (&'l HeaderName, &'l [u8])>,
    ) {
        self.outgoing.head(self.stream, true, status, |put| {
            for (name, value) in lines {
                put(name.as_str(), value);
            }
        });
    }

    fn reply(&mut self, reply: &Reply) {
        let body = reply.response.body();
        let is_whole = self.is_head || body.is_empty() && !reply.is_message;
        self.outgoing
            .head(self.stream, is_whole, reply.response.status(), |put| reply.for_each_header(put));
        if is_whole {
            return;
        }
        let mut rest = UnsentBody { body: body.clone(), has_trailers: reply.is_message };
        if !self.outgoing.resume(self.stream, &mut self.window, &mut rest) {
            self.rest = Some(rest);
        }
    }
}

impl Http2ResponseWriter<'_, '_> {
    /// What the client does not take yet, and the window of the stream.
    pub(super) fn finish(self) -> Option<(UnsentBody, SendWindow)> {
        self.rest.map(|rest| (rest, self.window))
    }
}
