//! Answers as bytes (RFC 9112 section 4).

use std::cell::RefCell;

use bytes::Bytes;
use countersign_engine::UnixTime;
use http::{HeaderName, Response, StatusCode, header};

use super::head::Persistence;

/// Answers to be sent, one behind the other.
#[derive(Default)]
pub struct Outgoing(pub Vec<u8>);

/// What an answer says about itself and the connection.
#[derive(Clone, Copy)]
pub struct Manner {
    /// Whether the connection is kept.
    pub persistence: Persistence,
    /// The answer to HEAD has no body, whatever it says.
    pub is_head: bool,
    /// When it is given.
    pub now: UnixTime,
}

impl Outgoing {
    /// An answer with no body but these lines.
    pub fn bare<'l>(&mut self, status: StatusCode, manner: Manner, lines: impl Iterator<Item = (&'l HeaderName, &'l [u8])>) {
        self.status_line(status);
        for (name, value) in lines {
            self.line(name, value);
        }
        self.end_of_head(0, manner);
    }

    /// An answer.
    pub fn response(&mut self, response: &Response<Bytes>, manner: Manner) {
        self.status_line(response.status());
        for (name, value) in response.headers() {
            self.line(name, value.as_bytes());
        }
        self.end_of_head(response.body().len(), manner);
        if !manner.is_head {
            self.0.extend_from_slice(response.body());
        }
    }

    fn status_line(&mut self, status: StatusCode) {
        if status == StatusCode::OK {
            // Most of them.
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

    fn end_of_head(&mut self, length: usize, manner: Manner) {
        if length == 0 {
            self.0.extend_from_slice(b"content-length: 0\r\n");
        } else {
            self.line(&header::CONTENT_LENGTH, length.to_string().as_bytes());
        }
        self.0.extend_from_slice(match manner.persistence {
            Persistence::Keep => b"",
            Persistence::Close => &b"connection: close\r\n"[..],
            Persistence::KeepAloud => b"connection: keep-alive\r\n",
        });
        with_date_line(manner.now, |line| self.0.extend_from_slice(line));
        self.0.extend_from_slice(b"\r\n");
    }
}

/// The `Date` line of a moment: written once a second by each thread.
fn with_date_line(now: UnixTime, take: impl FnOnce(&[u8])) {
    thread_local! {
        static LINE: RefCell<(UnixTime, Vec<u8>)> = const { RefCell::new((UnixTime(u64::MAX), Vec::new())) };
    }
    LINE.with_borrow_mut(|(of, line)| {
        if *of != now {
            // A clock that shows no date gives no line (RFC 9110 section 6.6.1).
            *line = crate::clock::http_date(now).map_or_else(Vec::new, |date| format!("date: {date}\r\n").into_bytes());
            *of = now;
        }
        take(line);
    });
}
