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
    http::{Fields, Malformed},
    listen::exchange,
};

/// The longest head, in bytes: the longest token, twice that of everything else.
pub const MOST_BYTES: usize = 32 * 1024;
/// The most header lines.
pub const MOST_LINES: usize = 100;

/// Room for the header lines of one request.
pub type Room<'b> = [MaybeUninit<Header<'b>>; MOST_LINES];

/// What the bytes at the start of a buffer are.
pub enum Parsed<'r, 'b> {
    /// The beginning of a head.
    Partial,
    /// A whole head.
    Whole(Head<'r, 'b>),
    /// Neither.
    Malformed(Malformed),
}

/// The head of a request.
pub struct Head<'r, 'b> {
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
    KeepAloud,
}

impl Fields for Head<'_, '_> {
    fn line(&self, name: &HeaderName, nth: usize) -> Option<&[u8]> {
        let name = name.as_str();
        let lines = self.lines.iter().rev().filter(|line| line.name.len() == name.len());
        lines.filter(|line| line.name.eq_ignore_ascii_case(name)).nth(nth).map(|line| line.value)
    }
}

impl exchange::Head for Head<'_, '_> {
    fn version(&self) -> Version {
        Version::HTTP_11
    }

    fn method(&self) -> &str {
        self.method
    }

    fn target(&self) -> &str {
        self.target
    }

    fn to_request(&self) -> Result<Request<()>, Malformed> {
        exchange::request(
            self,
            self.lines.len(),
            self.lines.iter().map(|line| (line.name.as_bytes(), line.value)),
        )
    }
}

const TARGET: Malformed = Malformed::bad("request_target", "the request target is no URI");
const LINES: Malformed = Malformed::bad("head", "the bytes are no HTTP/1.1 request");

/// Reads the head at the start of `bytes`. Of a partial one it looks at what comes
/// after the first `seen` bytes only, so that sending a head byte by byte does not
/// have it read again and again.
pub fn parse<'r, 'b>(bytes: &'b [u8], seen: usize, room: &'r mut Room<'b>) -> Parsed<'r, 'b> {
    // Usually one request has come and nothing else: its end need not be looked for.
    let is_whole = bytes.len() <= MOST_BYTES && bytes.ends_with(END) && !bytes.starts_with(b"\r");
    let end = if is_whole { Some(bytes.len()) } else { end_of_head(bytes, seen) };
    let Some(end) = end else { return partial(bytes, seen) };
    match read(&bytes[..end], room) {
        Ok(head) => match fault(&bytes[..head.length], 0, MOST_BYTES) {
            None => Parsed::Whole(head),
            Some(fault) => Parsed::Malformed(fault),
        },
        Err(malformed) => {
            let head = &bytes[..end_of_head(bytes, 0).unwrap_or(end)];
            Parsed::Malformed(fault(head, 0, MOST_BYTES).unwrap_or(malformed))
        }
    }
}

/// The end of the head that `bytes` begin with, if it is not within the first `seen`.
fn end_of_head(bytes: &[u8], seen: usize) -> Option<usize> {
    let from = seen.saturating_sub(END.len() - 1);
    Some(from + memmem::find(bytes.get(from..)?, END)? + END.len())
}

const END: &[u8] = b"\r\n\r\n";
const BARE: Malformed =
    Malformed::bad("line_ending", "a line ends in LF alone; HTTP/1.1 wants CRLF");

fn partial<'r, 'b>(bytes: &'b [u8], seen: usize) -> Parsed<'r, 'b> {
    // Its end is still to come, so that it is longer than this.
    match fault(bytes, seen, MOST_BYTES - 1) {
        Some(fault) => Parsed::Malformed(fault),
        None => Parsed::Partial,
    }
}

/// What is wrong with a head without a look at its parts. Whatever a part of it shows
/// the whole shows too, and by the same fault: how a head arrives changes no answer.
fn fault(bytes: &[u8], seen: usize, most: usize) -> Option<Malformed> {
    let within = &bytes[..bytes.len().min(MOST_BYTES)];
    if !may_begin(within) {
        return Some(LINES);
    }
    if has_bare_line_feed(within, seen.min(within.len())) {
        return Some(BARE);
    }
    (bytes.len() > most).then(|| too_large(within))
}

/// What is certainly no HTTP is not waited for to become it.
fn may_begin(bytes: &[u8]) -> bool {
    let request = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
    request.first().is_none_or(|first| first.is_ascii_graphic() || matches!(first, b'\r' | b'\n'))
}

/// The line that is too long is named: a path, or the header lines.
fn too_large(head: &[u8]) -> Malformed {
    match memmem::find(head, b"\r\n") {
        Some(_) => Malformed::head_too_large("the head of a request may have 32768 bytes"),
        None => Malformed::new(
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

fn read<'r, 'b>(bytes: &'b [u8], room: &'r mut Room<'b>) -> Result<Head<'r, 'b>, Malformed> {
    let mut request = httparse::Request::new(&mut []);
    let parsed = request.parse_with_uninit_headers(bytes, room);
    let length = match parsed {
        Ok(Status::Complete(length)) => length,
        // The empty line is there, so nothing that is still to come would help.
        Ok(Status::Partial) => return Err(LINES),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Malformed::head_too_large("a request may have 100 header lines"));
        }
        Err(httparse::Error::Version) => {
            let detail = "this port speaks HTTP/1.1 and HTTP/1.0";
            return Err(Malformed::new(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "version", detail));
        }
        Err(_) => return Err(LINES),
    };
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version)
    else {
        return Err(LINES);
    };
    let lines: &'r [Header<'b>] = request.headers;
    let known = Known::read(lines, minor)?;
    if target.contains('#') {
        return Err(TARGET);
    }
    let persistence = match (minor, known.close, known.keep_alive) {
        (_, true, _) | (0, _, false) => Persistence::Close,
        (0, false, true) => Persistence::KeepAloud,
        _ => Persistence::Keep,
    };
    let expects_continue = known.expects_continue && minor == 1;
    Ok(Head {
        method,
        target,
        length,
        framing: known.framing()?,
        persistence,
        expects_continue,
        lines,
    })
}

/// What the front itself wants to know of the header lines.
#[derive(Default)]
struct Known {
    has_host: bool,
    length: Option<u64>,
    is_chunked: bool,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
}

impl Known {
    fn read(lines: &[Header<'_>], minor: u8) -> Result<Self, Malformed> {
        let mut known = Self::default();
        for line in lines {
            // The lengths of names tell most lines apart at once.
            match line.name.len() {
                4 if is(line, &header::HOST) => known.host(line.value)?,
                6 if is(line, &header::EXPECT) => {
                    known.expects_continue |= line.value.eq_ignore_ascii_case(b"100-continue")
                }
                10 if is(line, &header::CONNECTION) => known.connection(line.value),
                14 if is(line, &header::CONTENT_LENGTH) => known.length(line.value)?,
                17 if is(line, &header::TRANSFER_ENCODING) => known.coding(line.value, minor)?,
                _ => {}
            }
        }
        if known.has_host || minor == 0 { Ok(known) } else { Err(HOST) }
    }

    fn framing(&self) -> Result<Framing, Malformed> {
        match (self.length, self.is_chunked) {
            (Some(_), true) => Err(LENGTH),
            (None, true) => Ok(Framing::Chunked),
            (None | Some(0), false) => Ok(Framing::Empty),
            (Some(length), false) => Ok(Framing::Length(length)),
        }
    }

    fn host(&mut self, value: &[u8]) -> Result<(), Malformed> {
        let is_second = std::mem::replace(&mut self.has_host, true);
        if is_second || !is_host(value) { Err(HOST) } else { Ok(()) }
    }

    fn length(&mut self, value: &[u8]) -> Result<(), Malformed> {
        let before = self.length.replace(digits(value).ok_or(LENGTH)?);
        if before.is_some() { Err(LENGTH) } else { Ok(()) }
    }

    fn coding(&mut self, value: &[u8], minor: u8) -> Result<(), Malformed> {
        if std::mem::replace(&mut self.is_chunked, true) || minor == 0 {
            return Err(CODING);
        }
        let is_known = value.eq_ignore_ascii_case(b"chunked");
        if is_known {
            Ok(())
        } else {
            Err(Malformed { status: StatusCode::NOT_IMPLEMENTED, ..CODING })
        }
    }

    fn connection(&mut self, value: &[u8]) {
        for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }
}

const HOST: Malformed =
    Malformed::bad("host", "an HTTP/1.1 request has one Host line that names a host");
const LENGTH: Malformed =
    Malformed::bad("content_length", "a request has one length, in digits, or is chunked");
const CODING: Malformed =
    Malformed::bad("transfer_encoding", "the only transfer coding is chunked, in HTTP/1.1, once");

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
