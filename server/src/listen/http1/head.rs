//! The head of a request (RFC 9112), read once and strictly.
//!
//! httparse finds the lines. What two readers could understand differently is
//! refused: lines that end in LF alone, two lengths, a length beside chunks, codings
//! that are not just `chunked`, and a Host that is missing or there twice.

use std::mem::MaybeUninit;

use http::{HeaderName, Request, StatusCode, Version, header};
use httparse::{Header, Status};
use memchr::{memchr_iter, memmem};

use crate::{
    http::{BadRequest, Fields},
    listen::exchange,
};

/// The longest head, in bytes: the longest token, twice that of everything else.
pub const MAX_HEAD_BYTES: usize = 32 * 1024;
/// The most header lines.
pub const MAX_HEADER_LINES: usize = 100;

/// HeaderSlots for the header lines of one request.
pub type HeaderSlots<'b> = [MaybeUninit<Header<'b>>; MAX_HEADER_LINES];

/// What the bytes at the start of a buffer are.
pub enum ParseStatus<'r, 'b> {
    /// The beginning of a head.
    Partial,
    /// A whole head.
    Complete(Http1Head<'r, 'b>),
    /// Neither.
    Invalid(BadRequest),
}

/// The head of a request.
pub struct Http1Head<'r, 'b> {
    /// The method, any token.
    pub method: &'b str,
    /// The request target, as it was written.
    pub target: &'b str,
    /// Its length with the empty line at its end, in bytes.
    pub length: usize,
    /// What follows it.
    pub framing: Framing,
    /// Whether another request may follow on the connection.
    pub persistence: Persistence,
    /// Whether the client waits for a word before it sends the body.
    pub expects_continue: bool,
    lines: &'r [Header<'b>],
}

/// What follows a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Nothing.
    Empty,
    /// So many bytes, more than none.
    Length(u64),
    /// Chunks.
    Chunked,
}

/// Whether a connection is kept after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// It is closed.
    Close,
    /// It is kept.
    Keep,
    /// It is kept, and the client has to be told: HTTP/1.0.
    KeepExplicit,
}

impl Fields for Http1Head<'_, '_> {
    fn line(&self, name: &HeaderName, nth: usize) -> Option<&[u8]> {
        let name = name.as_str();
        let lines = self.lines.iter().rev().filter(|line| line.name.len() == name.len());
        lines.filter(|line| line.name.eq_ignore_ascii_case(name)).nth(nth).map(|line| line.value)
    }
}

impl exchange::RequestHead for Http1Head<'_, '_> {
    fn version(&self) -> Version {
        Version::HTTP_11
    }

    fn method(&self) -> &str {
        self.method
    }

    fn target(&self) -> &str {
        self.target
    }

    fn to_request(&self) -> Result<Request<()>, BadRequest> {
        exchange::request(
            self,
            self.lines.len(),
            self.lines.iter().map(|line| (line.name.as_bytes(), line.value)),
        )
    }
}

const TARGET: BadRequest = BadRequest::new("request_target", "the request target is no URI");
const LINES: BadRequest = BadRequest::new("head", "the bytes are no HTTP/1.1 request");

/// Reads the head at the start of `bytes`. Of a partial one it looks at what comes
/// after the first `scanned` bytes only, so that sending a head byte by byte does not
/// have it read again and again.
pub fn parse<'r, 'b>(
    bytes: &'b [u8],
    scanned: usize,
    slots: &'r mut HeaderSlots<'b>,
) -> ParseStatus<'r, 'b> {
    // Usually one request has come and nothing else: its end need not be looked for.
    let is_whole =
        bytes.len() <= MAX_HEAD_BYTES && bytes.ends_with(HEAD_END) && !bytes.starts_with(b"\r");
    let end = if is_whole { Some(bytes.len()) } else { end_of_head(bytes, scanned) };
    let Some(end) = end else { return partial(bytes, scanned) };
    match read(&bytes[..end], slots) {
        Ok(head) => match structural_error(&bytes[..head.length], 0, MAX_HEAD_BYTES) {
            None => ParseStatus::Complete(head),
            Some(fault) => ParseStatus::Invalid(fault),
        },
        Err(malformed) => {
            let head = &bytes[..end_of_head(bytes, 0).unwrap_or(end)];
            ParseStatus::Invalid(structural_error(head, 0, MAX_HEAD_BYTES).unwrap_or(malformed))
        }
    }
}

/// The end of the head that `bytes` begin with, if it is not within the first `scanned`.
fn end_of_head(bytes: &[u8], scanned: usize) -> Option<usize> {
    let from = scanned.saturating_sub(HEAD_END.len() - 1);
    Some(from + memmem::find(bytes.get(from..)?, HEAD_END)? + HEAD_END.len())
}

const HEAD_END: &[u8] = b"\r\n\r\n";
const BARE_LF: BadRequest =
    BadRequest::new("line_ending", "a line ends in LF alone; HTTP/1.1 wants CRLF");

fn partial<'r, 'b>(bytes: &'b [u8], scanned: usize) -> ParseStatus<'r, 'b> {
    // Its end is still to come, so that it is longer than this.
    match structural_error(bytes, scanned, MAX_HEAD_BYTES - 1) {
        Some(fault) => ParseStatus::Invalid(fault),
        None => ParseStatus::Partial,
    }
}

/// What is wrong with a head without a look at its parts. Whatever a part of it shows
/// the whole shows too, and by the same fault: how a head arrives changes no answer.
fn structural_error(bytes: &[u8], scanned: usize, limit: usize) -> Option<BadRequest> {
    let within = &bytes[..bytes.len().min(MAX_HEAD_BYTES)];
    if !may_begin(within) {
        return Some(LINES);
    }
    if has_bare_line_feed(within, scanned.min(within.len())) {
        return Some(BARE_LF);
    }
    (bytes.len() > limit).then(|| too_large(within))
}

/// What is certainly no HTTP is not waited for to become it.
fn may_begin(bytes: &[u8]) -> bool {
    let request = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
    request.first().is_none_or(|first| first.is_ascii_graphic() || matches!(first, b'\r' | b'\n'))
}

/// The line that is too long is named: a path, or the header lines.
fn too_large(head: &[u8]) -> BadRequest {
    match memmem::find(head, b"\r\n") {
        Some(_) => BadRequest::head_too_large("the head of a request may have 32768 bytes"),
        None => BadRequest::with_status(
            StatusCode::URI_TOO_LONG,
            "uri_too_long",
            "the head of a request may have 32768 bytes",
        ),
    }
}

fn has_bare_line_feed(bytes: &[u8], from: usize) -> bool {
    let is_bare = |place: usize| place.checked_sub(1).is_none_or(|before| bytes[before] != b'\r');
    memchr_iter(b'\n', &bytes[from..]).any(|place| is_bare(from + place))
}

fn read<'r, 'b>(
    bytes: &'b [u8],
    slots: &'r mut HeaderSlots<'b>,
) -> Result<Http1Head<'r, 'b>, BadRequest> {
    let mut request = httparse::Request::new(&mut []);
    let parsed = request.parse_with_uninit_headers(bytes, slots);
    let length = match parsed {
        Ok(Status::Complete(length)) => length,
        // The empty line is there, so nothing that is still to come would help.
        Ok(Status::Partial) => return Err(LINES),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(BadRequest::head_too_large("a request may have 100 header lines"));
        }
        Err(httparse::Error::Version) => {
            let detail = "this port speaks HTTP/1.1 and HTTP/1.0";
            return Err(BadRequest::with_status(
                StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                "version",
                detail,
            ));
        }
        Err(_) => return Err(LINES),
    };
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version)
    else {
        return Err(LINES);
    };
    let lines: &'r [Header<'b>] = request.headers;
    let headers = KnownHeaders::read(lines, minor)?;
    if target.contains('#') {
        return Err(TARGET);
    }
    let persistence = match (minor, headers.close, headers.keep_alive) {
        (_, true, _) | (0, _, false) => Persistence::Close,
        (0, false, true) => Persistence::KeepExplicit,
        _ => Persistence::Keep,
    };
    let expects_continue = headers.expects_continue && minor == 1;
    Ok(Http1Head {
        method,
        target,
        length,
        framing: headers.framing()?,
        persistence,
        expects_continue,
        lines,
    })
}

/// What the front itself wants to know of the header lines.
#[derive(Default)]
struct KnownHeaders {
    has_host: bool,
    length: Option<u64>,
    is_chunked: bool,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
}

impl KnownHeaders {
    fn read(lines: &[Header<'_>], minor: u8) -> Result<Self, BadRequest> {
        let mut headers = Self::default();
        for line in lines {
            // The lengths of names tell most lines apart at once.
            match line.name.len() {
                4 if is(line, &header::HOST) => headers.host(line.value)?,
                6 if is(line, &header::EXPECT) => {
                    headers.expects_continue |= line.value.eq_ignore_ascii_case(b"100-continue")
                }
                10 if is(line, &header::CONNECTION) => headers.connection(line.value),
                14 if is(line, &header::CONTENT_LENGTH) => headers.length(line.value)?,
                17 if is(line, &header::TRANSFER_ENCODING) => headers.coding(line.value, minor)?,
                _ => {}
            }
        }
        if headers.has_host || minor == 0 { Ok(headers) } else { Err(HOST) }
    }

    fn framing(&self) -> Result<Framing, BadRequest> {
        match (self.length, self.is_chunked) {
            (Some(_), true) => Err(LENGTH),
            (None, true) => Ok(Framing::Chunked),
            (None | Some(0), false) => Ok(Framing::Empty),
            (Some(length), false) => Ok(Framing::Length(length)),
        }
    }

    fn host(&mut self, value: &[u8]) -> Result<(), BadRequest> {
        let is_second = std::mem::replace(&mut self.has_host, true);
        if is_second || !is_host(value) { Err(HOST) } else { Ok(()) }
    }

    fn length(&mut self, value: &[u8]) -> Result<(), BadRequest> {
        let before = self.length.replace(digits(value).ok_or(LENGTH)?);
        if before.is_some() { Err(LENGTH) } else { Ok(()) }
    }

    fn coding(&mut self, value: &[u8], minor: u8) -> Result<(), BadRequest> {
        if std::mem::replace(&mut self.is_chunked, true) || minor == 0 {
            return Err(CODING);
        }
        let is_known = value.eq_ignore_ascii_case(b"chunked");
        if is_known {
            Ok(())
        } else {
            Err(BadRequest { status: StatusCode::NOT_IMPLEMENTED, ..CODING })
        }
    }

    fn connection(&mut self, value: &[u8]) {
        for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }
}

const HOST: BadRequest =
    BadRequest::new("host", "an HTTP/1.1 request has one Host line that names a host");
const LENGTH: BadRequest =
    BadRequest::new("content_length", "a request has one length, in digits, or is chunked");
const CODING: BadRequest =
    BadRequest::new("transfer_encoding", "the only transfer coding is chunked, in HTTP/1.1, once");

fn is(line: &Header<'_>, name: &HeaderName) -> bool {
    line.name.eq_ignore_ascii_case(name.as_str())
}

/// Digits and nothing else: no sign, no list, no blank.
pub(in crate::listen) fn digits(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// Nothing in it but what a host and its port are made of (RFC 3986 section 3.2.2), and
/// no comma, which could part two of them.
pub(in crate::listen) fn is_host(value: &[u8]) -> bool {
    let is_part = |byte: &u8| {
        byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'.' | b'_' | b'~' | b':' | b'[' | b']' | b'%')
            || matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=')
    };
    value.iter().all(is_part)
}

#[cfg(test)]
mod tests;
