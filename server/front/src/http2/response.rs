//! HTTP/2 responses as frames, and the parts of bodies that wait for flow-control window (RFC 9113
//! section 5.2).

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, Version, header};

use super::{
    frame::{self, MAX_31_BITS, MAX_PAYLOAD},
    hpack,
};
use crate::{
    clock,
    message::{Reply, with_date},
    service::ResponseWriter,
};

/// Size of the send buffer above which no more DATA is appended. The rest of a body waits in its
/// stream, where its memory is counted, until the buffer is sent.
const MAX_BUFFERED: usize = 64 * 1024;
/// Initial flow-control window (section 6.9.2).
const DEFAULT_WINDOW: u32 = 65_535;

/// The send buffer, and the flow-control windows that bound its DATA frames.
pub(super) struct FrameWriter<'c> {
    /// Serialized frames to send.
    pub(super) bytes: Vec<u8>,
    alt_svc: Option<&'c HeaderValue>,
    /// Flow-control window of the connection.
    window: SendWindow,
    /// Initial window of new streams, as the client set it.
    pub(super) initial: u32,
    /// Whether the next field block has to begin with a table size update, because the client
    /// lowered `SETTINGS_HEADER_TABLE_SIZE`.
    must_signal_table_size: bool,
    /// Whether a body waits for room in the send buffer.
    is_cut_off: bool,
    /// Whether a table size update was already sent. One is enough, as it sets the size to zero.
    has_signalled_table_size: bool,
}

/// A flow-control window: the number of DATA bytes that may be sent. It is negative when the client
/// lowers the initial window below the bytes already sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SendWindow(i64);

impl SendWindow {
    /// A window of an initial size.
    pub(super) fn new(size: u32) -> Self {
        Self(size.into())
    }

    /// Changes the window by `by` bytes. Returns `None` if it would exceed 2^31-1.
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

/// The part of a response after its head that is not sent yet.
pub(super) struct UnsentBody {
    body: Bytes,
    trailer: Option<(&'static str, &'static [u8])>,
    /// Whether more follows, other than the trailer.
    is_part: bool,
}

impl UnsentBody {
    /// A part of a body, which does not end the stream.
    pub(super) fn part(part: Vec<u8>) -> Self {
        Self { body: part.into(), trailer: None, is_part: true }
    }

    /// Returns the number of bytes that are not sent yet.
    pub(super) fn len(&self) -> usize {
        self.body.len()
    }
}

impl<'c> FrameWriter<'c> {
    pub(super) fn new(alt_svc: Option<&'c HeaderValue>) -> Self {
        let window = SendWindow::new(DEFAULT_WINDOW);
        Self {
            bytes: Vec::new(),
            alt_svc,
            window,
            initial: DEFAULT_WINDOW,
            must_signal_table_size: false,
            is_cut_off: false,
            has_signalled_table_size: false,
        }
    }

    /// Returns the [`ResponseWriter`] for a stream with this window.
    pub(super) fn writer(
        &mut self,
        stream: u32,
        window: SendWindow,
        is_head: bool,
    ) -> Http2ResponseWriter<'_, 'c> {
        Http2ResponseWriter { outgoing: self, stream, window, is_head, rest: None }
    }

    /// Schedules a table size update, after the client lowered the size below the default.
    pub(super) fn signal_table_size(&mut self) {
        self.must_signal_table_size = !self.has_signalled_table_size;
    }

    /// Grows the window of the connection.
    pub(super) fn widen(&mut self, by: u32) -> Option<()> {
        self.window.widen(by.into())
    }

    /// Returns whether a body was cut off by the size of the send buffer since the last call.
    pub(super) fn take_is_cut_off(&mut self) -> bool {
        std::mem::take(&mut self.is_cut_off)
    }

    /// Sends as much of a body as both windows and the send buffer allow. Returns whether it is
    /// complete.
    pub(super) fn resume(
        &mut self,
        stream: u32,
        window: &mut SendWindow,
        rest: &mut UnsentBody,
    ) -> bool {
        while !rest.body.is_empty() {
            if self.bytes.len() >= MAX_BUFFERED {
                self.is_cut_off = true;
                return false;
            }
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
                rest.body.is_empty() && rest.trailer.is_none() && !rest.is_part,
                &piece,
            );
        }
        if let Some((name, value)) = rest.trailer {
            self.headers(stream, true, |out| hpack::field(out, name, value));
        }
        true
    }

    /// Appends the head of a response whose body follows in parts.
    pub(super) fn streamed_head(&mut self, stream: u32, head: &Response<()>) {
        self.head(stream, false, head.status(), |put| {
            for (name, value) in head.headers() {
                put(name.as_str(), value.as_bytes());
            }
        });
    }

    /// Appends the end of a body that was sent in parts.
    pub(super) fn end(&mut self, stream: u32) {
        frame::data(&mut self.bytes, stream, true, &[]);
    }

    fn head(
        &mut self,
        stream: u32,
        is_whole: bool,
        status: StatusCode,
        lines: impl FnOnce(&mut dyn FnMut(&str, &[u8])),
    ) {
        let alternative = self.alt_svc;
        self.headers(stream, is_whole, |out| write_section(out, status, alternative, lines));
    }

    /// Appends a field block. The first one after the client lowered the table size, head or
    /// trailers, begins with a table size update (RFC 7541 section 4.2).
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
    with_date(clock::unix_seconds(), |date| {
        hpack::field(out, header::DATE.as_str(), date.as_bytes())
    });
}

/// The [`ResponseWriter`] of one HTTP/2 request.
pub(super) struct Http2ResponseWriter<'o, 'c> {
    outgoing: &'o mut FrameWriter<'c>,
    stream: u32,
    window: SendWindow,
    pub(super) is_head: bool,
    rest: Option<UnsentBody>,
}

impl ResponseWriter for Http2ResponseWriter<'_, '_> {
    fn version(&self) -> Version {
        Version::HTTP_2
    }

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
        let is_whole = self.is_head || body.is_empty() && reply.framing.is_none();
        self.outgoing.head(self.stream, is_whole, reply.response.status(), |put| reply.lines(put));
        if is_whole {
            return;
        }
        let mut rest = UnsentBody { body: body.clone(), trailer: reply.trailer(), is_part: false };
        if !self.outgoing.resume(self.stream, &mut self.window, &mut rest) {
            self.rest = Some(rest);
        }
    }
}

impl Http2ResponseWriter<'_, '_> {
    /// Returns what the client's window does not allow yet, with the window of the stream.
    pub(super) fn finish(self) -> Option<(UnsentBody, SendWindow)> {
        self.rest.map(|rest| (rest, self.window))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn body_does_not_exceed_the_send_buffer() {
        let mut writer = FrameWriter::new(None);
        writer.widen(1 << 24).unwrap();
        let mut rest =
            UnsentBody { body: Bytes::from(vec![0; 1 << 20]), trailer: None, is_part: false };
        let mut window = SendWindow::new(1 << 24);
        let mut turns = 0;
        while !writer.resume(1, &mut window, &mut rest) {
            turns += 1;
            assert!(writer.take_is_cut_off() && !writer.take_is_cut_off());
            assert!(writer.bytes.len() < MAX_BUFFERED + 2 * MAX_PAYLOAD, "{}", writer.bytes.len());
            writer.bytes.clear();
        }
        assert_eq!((turns, rest.len()), (15, 0));
    }
}
