//! Answers of HTTP/2, as frames; and those parts of them that have to wait, as clients
//! take no more of a body than they have said (RFC 9113 section 5.2).

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};

use super::{
    frame::{self, MOST_31_BITS, MOST_PAYLOAD},
    hpack,
};
use crate::{
    clock, grpc,
    http::with_date,
    listen::exchange::{Answers, Link},
    routes::Reply,
};

/// What a client takes without a word, if it has said nothing of it.
const DEFAULT_WINDOW: u32 = 65_535;

/// What is to be sent, and how much more a client takes.
pub(super) struct Outgoing<'c> {
    /// Frames that are to be sent.
    pub(super) bytes: Vec<u8>,
    link: Link<'c>,
    /// Of all bodies together.
    window: Window,
    /// Of each new stream.
    pub(super) initial: u32,
    /// Whether the client has not heard that we use no table, and wants to.
    owes_table_size: bool,
    /// Whether it has.
    has_said_table_size: bool,
}

/// How many bytes of bodies a client takes. It can be less than nothing, when the client
/// has changed its mind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window(i64);

impl Window {
    /// One of a size that a client has said.
    pub(super) fn new(size: u32) -> Self {
        Self(size.into())
    }

    /// Widens it, or makes it narrower. `None` if it would be larger than any may be.
    #[must_use]
    pub(super) fn widen(&mut self, by: i64) -> Option<()> {
        self.0 = self.0.saturating_add(by);
        (self.0 <= MOST_31_BITS.into()).then_some(())
    }

    fn room(self) -> usize {
        usize::try_from(self.0).unwrap_or(0)
    }

    fn take(&mut self, length: usize) {
        self.0 -= i64::try_from(length).unwrap_or(i64::MAX);
    }
}

/// What stands behind the head of an answer and is not sent.
pub(super) struct Rest {
    body: Bytes,
    has_trailers: bool,
}

impl<'c> Outgoing<'c> {
    pub(super) fn new(link: Link<'c>) -> Self {
        let window = Window::new(DEFAULT_WINDOW);
        Self {
            bytes: Vec::new(),
            link,
            window,
            initial: DEFAULT_WINDOW,
            owes_table_size: false,
            has_said_table_size: false,
        }
    }

    /// The place for the answer to the request of a stream with this window.
    pub(super) fn answer(&mut self, stream: u32, window: Window, is_head: bool) -> Writer<'_, 'c> {
        Writer { outgoing: self, stream, window, is_head, rest: None }
    }

    /// The client has made its table smaller than the one that it thinks we use.
    pub(super) fn shrink_table(&mut self) {
        self.owes_table_size = !self.has_said_table_size;
    }

    /// The client takes more, or less, of all bodies together.
    pub(super) fn widen(&mut self, by: u32) -> Option<()> {
        self.window.widen(by.into())
    }

    /// Sends as much of an answer as the client takes. Says whether that was all.
    pub(super) fn go_on(&mut self, stream: u32, window: &mut Window, rest: &mut Rest) -> bool {
        while !rest.body.is_empty() {
            let length =
                rest.body.len().min(window.room()).min(self.window.room()).min(MOST_PAYLOAD);
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
        let alternative = self.link.alternative();
        self.headers(stream, is_whole, |out| section(out, status, alternative, lines));
    }

    /// Appends a field section; the next one after the client has made its table smaller,
    /// be it a head or not, says that we know (RFC 7541 section 4.2).
    fn headers(&mut self, stream: u32, ends_stream: bool, write: impl FnOnce(&mut Vec<u8>)) {
        let owes_table_size = std::mem::take(&mut self.owes_table_size);
        self.has_said_table_size |= owes_table_size;
        frame::headers(&mut self.bytes, stream, ends_stream, |out| {
            if owes_table_size {
                hpack::no_table(out);
            }
            write(out);
        });
    }
}

fn section(
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
pub(super) struct Writer<'o, 'c> {
    outgoing: &'o mut Outgoing<'c>,
    stream: u32,
    window: Window,
    pub(super) is_head: bool,
    rest: Option<Rest>,
}

impl Answers for Writer<'_, '_> {
    fn bare<'l>(
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
        self.outgoing.head(self.stream, is_whole, reply.response.status(), |put| reply.lines(put));
        if is_whole {
            return;
        }
        let mut rest = Rest { body: body.clone(), has_trailers: reply.is_message };
        if !self.outgoing.go_on(self.stream, &mut self.window, &mut rest) {
            self.rest = Some(rest);
        }
    }
}

impl Writer<'_, '_> {
    /// What the client does not take yet, and the window of the stream.
    pub(super) fn finish(self) -> Option<(Rest, Window)> {
        self.rest.map(|rest| (rest, self.window))
    }
}
