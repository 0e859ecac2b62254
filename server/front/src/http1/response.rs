//! Serialization of HTTP/1 responses (RFC 9112 section 4).

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, Version, header};

use super::head::Persistence;
use crate::{
    clock,
    connection::ConnectionContext,
    message::{Reply, with_date},
    service::{ResponseWriter, Service},
};

/// Serialized responses to be sent, in order.
#[derive(Default)]
pub struct ResponseBuffer(pub Vec<u8>);

/// Options for writing one response.
#[derive(Clone, Copy)]
pub struct ResponseOptions<'c> {
    /// Whether the connection stays open.
    pub persistence: Persistence,
    /// Whether the method is HEAD, whose response has a Content-Length and no body.
    pub is_head: bool,
    /// The time for the `Date` header.
    pub now: u64,
    /// The `Alt-Svc` value, if the server speaks HTTP/3.
    pub alt_svc: Option<&'c HeaderValue>,
}

impl<'c> ResponseOptions<'c> {
    /// Returns the options for a response that is written now.
    pub fn new<S: Service>(
        connection: ConnectionContext<'c, S>,
        persistence: Persistence,
        is_head: bool,
    ) -> Self {
        Self { persistence, is_head, now: clock::unix_seconds(), alt_svc: connection.alt_svc() }
    }
}

/// Writes responses with the same [`ResponseOptions`] into a [`ResponseBuffer`].
pub struct Http1ResponseWriter<'o, 'c>(&'o mut ResponseBuffer, ResponseOptions<'c>);

impl ResponseWriter for Http1ResponseWriter<'_, '_> {
    fn version(&self) -> Version {
        Version::HTTP_11
    }

    fn headers_only<'l>(
        &mut self,
        status: StatusCode,
        lines: impl Iterator<Item = (&'l HeaderName, &'l [u8])>,
    ) {
        self.0.headers_only(status, self.1, lines);
    }

    fn reply(&mut self, reply: &Reply) {
        self.0.response(&reply.response, self.1);
    }
}

impl ResponseBuffer {
    /// Returns a writer with these options.
    pub fn writer<'c>(&mut self, options: ResponseOptions<'c>) -> Http1ResponseWriter<'_, 'c> {
        Http1ResponseWriter(self, options)
    }

    /// Writes a response with these header lines and no body.
    pub fn headers_only<'l>(
        &mut self,
        status: StatusCode,
        options: ResponseOptions<'_>,
        lines: impl Iterator<Item = (&'l HeaderName, &'l [u8])>,
    ) {
        self.status_line(status);
        // Internal iteration: the lines are a chain of two lists.
        lines.for_each(|(name, value)| self.line(name, value));
        self.end_of_head(0, options);
    }

    /// Writes the head of a response whose body follows in parts: chunks (RFC 9112 section 7.1), or
    /// everything until the connection closes, for a client of HTTP/1.0.
    pub fn streamed_head(
        &mut self,
        head: &Response<()>,
        options: ResponseOptions<'_>,
        is_chunked: bool,
    ) {
        self.status_line(head.status());
        for (name, value) in head.headers() {
            self.line(name, value.as_bytes());
        }
        if is_chunked {
            self.0.extend_from_slice(b"transfer-encoding: chunked\r\n");
        }
        self.common_lines(options);
    }

    /// Writes a part of a body, which is not empty.
    pub fn part(&mut self, part: &[u8], is_chunked: bool) {
        if !is_chunked {
            return self.0.extend_from_slice(part);
        }
        self.0.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
        self.0.extend_from_slice(part);
        self.0.extend_from_slice(b"\r\n");
    }

    /// Writes a response.
    pub fn response(&mut self, response: &Response<Bytes>, options: ResponseOptions<'_>) {
        self.status_line(response.status());
        for (name, value) in response.headers() {
            self.line(name, value.as_bytes());
        }
        self.end_of_head(response.body().len(), options);
        if !options.is_head {
            self.0.extend_from_slice(response.body());
        }
    }

    fn status_line(&mut self, status: StatusCode) {
        if status == StatusCode::OK {
            // The common case, written without formatting.
            return self.0.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        }
        self.0.extend_from_slice(b"HTTP/1.1 ");
        self.0.extend_from_slice(status.as_str().as_bytes());
        self.0.push(b' ');
        self.0.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
        self.0.extend_from_slice(b"\r\n");
    }

    fn line(&mut self, name: &HeaderName, value: &[u8]) {
        self.0.extend_from_slice(name.as_str().as_bytes());
        self.0.extend_from_slice(b": ");
        self.0.extend_from_slice(value);
        self.0.extend_from_slice(b"\r\n");
    }

    fn end_of_head(&mut self, length: usize, options: ResponseOptions<'_>) {
        if length == 0 {
            self.0.extend_from_slice(b"content-length: 0\r\n");
        } else {
            self.line(&header::CONTENT_LENGTH, length.to_string().as_bytes());
        }
        self.common_lines(options);
    }

    /// Writes the lines that every response has, and the end of the head.
    fn common_lines(&mut self, options: ResponseOptions<'_>) {
        self.0.extend_from_slice(match options.persistence {
            Persistence::Keep => b"",
            Persistence::Close => &b"connection: close\r\n"[..],
            Persistence::KeepExplicit => b"connection: keep-alive\r\n",
        });
        if let Some(alt_svc) = options.alt_svc {
            self.line(&header::ALT_SVC, alt_svc.as_bytes());
        }
        with_date(options.now, |date| self.line(&header::DATE, date.as_bytes()));
        self.0.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty(status: StatusCode) -> Response<Bytes> {
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = status;
        response
    }

    const KEEP_ALIVE: ResponseOptions<'_> = ResponseOptions {
        persistence: Persistence::Keep,
        is_head: false,
        now: 784_111_777,
        alt_svc: None,
    };

    fn written(write: impl FnOnce(&mut ResponseBuffer)) -> String {
        let mut out = ResponseBuffer::default();
        write(&mut out);
        String::from_utf8(out.0).unwrap()
    }

    #[test]
    fn response_has_length_date_and_connection_lines() {
        for (persistence, line) in [
            (Persistence::Keep, ""),
            (Persistence::Close, "connection: close\r\n"),
            (Persistence::KeepExplicit, "connection: keep-alive\r\n"),
        ] {
            let options = ResponseOptions { persistence, ..KEEP_ALIVE };
            let date = "date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
            let lines = [(&header::CACHE_CONTROL, &b"no-store"[..])];
            let bare = format!(
                "HTTP/1.1 200 OK\r\ncache-control: no-store\r\ncontent-length: 0\r\n{line}{date}\r\n"
            );
            assert_eq!(
                written(|out| out.headers_only(StatusCode::OK, options, lines.into_iter())),
                bare
            );
            let mut response = Response::new(Bytes::from_static(b"body"));
            response.headers_mut().insert("x-one", HeaderValue::from_static("1"));
            response.headers_mut().append("x-one", HeaderValue::from_static("2"));
            let whole = format!(
                "HTTP/1.1 200 OK\r\nx-one: 1\r\nx-one: 2\r\ncontent-length: 4\r\n{line}{date}\r\nbody"
            );
            assert_eq!(written(|out| out.response(&response, options)), whole);
        }
    }

    #[test]
    fn head_response_has_the_length_without_the_body() {
        let mut response = empty(StatusCode::NOT_FOUND);
        *response.body_mut() = Bytes::from_static(b"detail");
        let [whole, head] = [false, true].map(|is_head| {
            written(|out| out.response(&response, ResponseOptions { is_head, ..KEEP_ALIVE }))
        });
        assert!(
            whole.starts_with("HTTP/1.1 404 Not Found\r\n")
                && whole.starts_with(&head)
                && head.ends_with("\r\n\r\n")
        );
        assert_eq!(&whole.as_bytes()[head.len()..], response.body());
    }

    #[test]
    fn responses_are_appended_in_order() {
        let [one, other] = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].map(empty);
        let both = written(|out| {
            out.response(&one, KEEP_ALIVE);
            out.response(&other, KEEP_ALIVE);
        });
        assert_eq!(
            both,
            written(|out| out.response(&one, KEEP_ALIVE))
                + &written(|out| out.response(&other, KEEP_ALIVE))
        );
        let unknown = empty(StatusCode::from_u16(299).unwrap());
        assert!(
            written(|out| out.response(&unknown, KEEP_ALIVE)).starts_with("HTTP/1.1 299 \r\n"),
            "the blank is required even without a reason phrase"
        );
    }

    #[test]
    fn a_clock_beyond_all_dates_gives_no_date() {
        let options = ResponseOptions { now: u64::MAX, ..KEEP_ALIVE };
        let response = written(|out| out.response(&empty(StatusCode::OK), options));
        assert_eq!(response, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        assert!(
            written(|out| out.response(&empty(StatusCode::OK), KEEP_ALIVE))
                .contains("\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n")
        );
    }
}
