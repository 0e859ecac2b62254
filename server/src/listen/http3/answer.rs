//! Answers of HTTP/3, as the bytes of a stream.

use http::{HeaderName, HeaderValue, StatusCode, header};

use super::{frame, qpack};
use crate::{clock, http::with_date, listen::exchange::Answers, routes::Reply};

/// Writes the answer to one request.
pub(super) struct Writer<'o> {
    out: &'o mut Vec<u8>,
    is_head: bool,
}

impl Answers for Writer<'_> {
    fn bare<'l>(&mut self, status: StatusCode, lines: impl Iterator<Item = (&'l HeaderName, &'l [u8])>) {
        self.section(status, lines, 0);
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
        let (response, body) = (&reply.response, reply.response.body());
        let lines = response.headers().iter().map(|(name, value)| (name, HeaderValue::as_bytes(value)));
        self.section(response.status(), lines, body.len());
        if !body.is_empty() && !self.is_head {
            frame::data(self.out, body.len());
            self.out.extend_from_slice(body);
        }
    }

    fn section<'l>(&mut self, status: StatusCode, lines: impl Iterator<Item = (&'l HeaderName, &'l [u8])>, length: usize) {
        frame::headers(self.out, |out| {
            qpack::status(out, status);
            for (name, value) in lines {
                qpack::field(out, name.as_str(), value);
            }
            if length > 0 {
                qpack::field(out, header::CONTENT_LENGTH.as_str(), length.to_string().as_bytes());
            }
            with_date(clock::now(), |date| qpack::field(out, header::DATE.as_str(), date.as_bytes()));
        });
    }
}
