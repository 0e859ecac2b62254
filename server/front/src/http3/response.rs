//! HTTP/3 responses as stream data.

use http::{HeaderName, Response, StatusCode, Version, header};

use super::{frame, qpack};
use crate::{
    clock,
    message::{Reply, with_date},
    service::ResponseWriter,
};

/// The [`ResponseWriter`] of one HTTP/3 request.
pub(super) struct Http3ResponseWriter<'o> {
    out: &'o mut Vec<u8>,
    is_head: bool,
}

impl ResponseWriter for Http3ResponseWriter<'_> {
    fn version(&self) -> Version {
        Version::HTTP_3
    }

    fn headers_only<'l>(
        &mut self,
        status: StatusCode,
        lines: impl Iterator<Item = (&'l HeaderName, &'l [u8])>,
    ) {
        self.section(status, |put| lines.for_each(|(name, value)| put(name.as_str(), value)));
    }

    fn reply(&mut self, reply: &Reply) {
        self.write(reply);
    }
}

impl<'o> Http3ResponseWriter<'o> {
    pub(super) fn new(out: &'o mut Vec<u8>, is_head: bool) -> Self {
        Self { out, is_head }
    }

    /// Writes a [`Reply`].
    pub(super) fn write(&mut self, reply: &Reply) {
        let body = reply.response.body();
        self.section(reply.response.status(), |put| reply.lines(put));
        if self.is_head {
            return;
        }
        if !body.is_empty() {
            frame::data(self.out, body.len());
            self.out.extend_from_slice(body);
        }
        if let Some((name, value)) = reply.trailer() {
            frame::headers(self.out, |out| {
                qpack::prefix(out);
                qpack::field(out, name, value);
            });
        }
    }

    /// Writes the head of a response whose body follows in parts.
    pub(super) fn write_head(&mut self, head: &Response<()>) {
        let lines = head.headers().iter();
        self.section(head.status(), |put| {
            lines.for_each(|(name, value)| put(name.as_str(), value.as_bytes()));
        });
    }

    fn section(&mut self, status: StatusCode, lines: impl FnOnce(&mut dyn FnMut(&str, &[u8]))) {
        frame::headers(self.out, |out| {
            qpack::status(out, status);
            lines(&mut |name, value| qpack::field(out, name, value));
            with_date(clock::unix_seconds(), |date| {
                qpack::field(out, header::DATE.as_str(), date.as_bytes())
            });
        });
    }
}
