//! Answers of HTTP/3, as the bytes of a stream.

use http::{HeaderMap, HeaderName, StatusCode, header};

use super::{frame, qpack};
use crate::{clock, http::with_date, listen::exchange::Answers, routes::Reply};

/// Writes the answer to one request.
pub(super) struct Writer<'o> {
    out: &'o mut Vec<u8>,
    is_head: bool,
}

impl Answers for Writer<'_> {
    fn bare<'l>(&mut self, status: StatusCode, lines: impl Iterator<Item = (&'l HeaderName, &'l [u8])>) {
        self.section(status, lines);
    }

    fn reply(&mut self, reply: &Reply) {
        self.write(reply);
    }
}

impl<'o> Writer<'o> {
    pub(super) fn new(out: &'o mut Vec<u8>, is_head: bool) -> Self {
        Self { out, is_head }
    }

    /// Writes an answer.
    pub(super) fn write(&mut self, reply: &Reply) {
        let (head, body) = (reply.head(), reply.response.body());
        self.section(head.status(), lines(head.headers()));
        if self.is_head {
            return;
        }
        if !body.is_empty() {
            frame::data(self.out, body.len());
            self.out.extend_from_slice(body);
        }
        if let Some(trailers) = reply.trailers() {
            frame::headers(self.out, |out| {
                qpack::prefix(out);
                lines(&trailers).for_each(|(name, value)| qpack::field(out, name.as_str(), value));
            });
        }
    }

    fn section<'l>(&mut self, status: StatusCode, lines: impl Iterator<Item = (&'l HeaderName, &'l [u8])>) {
        frame::headers(self.out, |out| {
            qpack::status(out, status);
            for (name, value) in lines {
                qpack::field(out, name.as_str(), value);
            }
            with_date(clock::now(), |date| qpack::field(out, header::DATE.as_str(), date.as_bytes()));
        });
    }
}

fn lines(headers: &HeaderMap) -> impl Iterator<Item = (&HeaderName, &[u8])> {
    headers.iter().map(|(name, value)| (name, value.as_bytes()))
}
