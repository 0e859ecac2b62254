//! Strict, single-pass parser of request heads (RFC 9112).
//!
//! httparse splits the lines. Everything that two implementations could read differently is
//! rejected, because such differences enable request smuggling: a line that ends in LF alone, two
//! Content-Length values, a Content-Length next to chunked coding, any transfer coding other than
//! exactly `chunked`, and a Host that is missing or duplicate.

use std::{mem::MaybeUninit, net::Ipv6Addr};

use http::{HeaderName, StatusCode, Version, header};
use httparse::{Header, Status};
use memchr::{memchr, memchr_iter, memmem};

use crate::{
    message::{BadRequest, Fields, RequestHead},
    request_limits::RequestLimits,
};

/// Number of header lines for which a parser has slots on its stack. Few requests have more.
pub const COMMON_HEADER_LINES: usize = 100;

/// Uninitialized memory for the header lines of one request.
pub type HeaderSlots<'b> = [MaybeUninit<Header<'b>>];

/// The result of parsing the bytes at the start of a buffer.
pub enum ParseStatus<'r, 'b> {
    /// The head is incomplete.
    Partial,
    /// The head has more header lines than the slots, but perhaps no more than the limit.
    TooFewSlots,
    /// A complete head.
    Complete(Http1Head<'r, 'b>),
    /// A malformed head.
    Invalid(BadRequest),
}

/// The head of an HTTP/1 request, borrowed from the read buffer.
pub struct Http1Head<'r, 'b> {
    /// The method, any token.
    pub method: &'b str,
    /// The request target, as sent by the client.
    pub target: &'b str,
    /// The length of the head in bytes, including the final empty line.
    pub length: usize,
    /// The framing of the body.
    pub framing: Framing,
    /// Whether another request may follow on the connection.
    pub persistence: Persistence,
    /// Whether the client waits for 100 (Continue) before it sends the body.
    pub expects_continue: bool,
    /// Whether the client understands a response in chunks: not with HTTP/1.0.
    pub takes_chunks: bool,
    /// The authority of a target in absolute form, which replaces Host.
    authority: Option<&'b str>,
    lines: &'r [Header<'b>],
}

/// The framing of the body after a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// No body, or an empty one.
    Empty,
    /// A body of this many bytes, at least one.
    Length(u64),
    /// A body in chunked coding.
    Chunked,
}

/// Whether the connection stays open after a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// The connection closes.
    Close,
    /// The connection stays open.
    Keep,
    /// The connection stays open, and the response has to announce it: HTTP/1.0.
    KeepExplicit,
}

impl Fields for Http1Head<'_, '_> {
    fn line(&self, name: &HeaderName, nth: usize) -> Option<&[u8]> {
        let name = name.as_str();
        let lines = self.lines.iter().rev().filter(|line| line.name.len() == name.len());
        lines.filter(|line| line.name.eq_ignore_ascii_case(name)).nth(nth).map(|line| line.value)
    }

    fn each_line<'f>(&'f self, name: &HeaderName, take: &mut dyn FnMut(&'f [u8])) {
        self.lines.iter().filter(|line| is(line, name)).for_each(|line| take(line.value));
    }

    fn any_name(&self, test: &dyn Fn(&[u8]) -> bool) -> bool {
        self.lines.iter().any(|line| test(line.name.as_bytes()))
    }
}

impl RequestHead for Http1Head<'_, '_> {
    fn version(&self) -> Version {
        Version::HTTP_11
    }

    fn method(&self) -> &str {
        self.method
    }

    fn target(&self) -> &str {
        self.target
    }

    /// The authority of a target in absolute form goes before Host (RFC 9112 section 3.2.2), so
    /// that the host is that of the target that is routed.
    fn host(&self) -> &str {
        if let Some(authority) = self.authority {
            return authority;
        }
        let host = self.line(&header::HOST, 0).and_then(|host| std::str::from_utf8(host).ok());
        host.unwrap_or_default()
    }

    fn for_each_line(&self, call: &mut dyn FnMut(&[u8], &[u8])) {
        self.lines.iter().for_each(|line| call(line.name.as_bytes(), line.value));
    }
}

const INVALID_TARGET: BadRequest =
    BadRequest::new("request_target", "the request target is not a URI");
const INVALID_HEAD: BadRequest = BadRequest::new("head", "this is not an HTTP/1.1 request");

/// Parses the head at the start of `bytes`. Of an incomplete head, only the bytes after the first
/// `scanned` are examined. So a client that sends a head byte by byte does not cause quadratic
/// work.
#[inline]
pub fn parse<'r, 'b>(
    bytes: &'b [u8],
    scanned: usize,
    limits: &RequestLimits,
    slots: &'r mut HeaderSlots<'b>,
) -> ParseStatus<'r, 'b> {
    // Usually the buffer contains exactly one request, whose end need not be searched.
    let is_whole =
        bytes.len() <= limits.head_bytes && bytes.ends_with(HEAD_END) && !bytes.starts_with(b"\r");
    let end = if is_whole { Some(bytes.len()) } else { end_of_head(bytes, scanned) };
    let Some(end) = end else { return partial(bytes, scanned, limits) };
    match read(&bytes[..end], limits, slots) {
        Ok(Some(head)) => {
            match structural_error(&bytes[..head.length], 0, limits.head_bytes, limits) {
                None => ParseStatus::Complete(head),
                Some(error) => ParseStatus::Invalid(error),
            }
        }
        Ok(None) => ParseStatus::TooFewSlots,
        Err(error) => {
            let head = &bytes[..end_of_head(bytes, 0).unwrap_or(end)];
            ParseStatus::Invalid(
                structural_error(head, 0, limits.head_bytes, limits).unwrap_or(error),
            )
        }
    }
}

/// Parses a head again, for which [`parse`] had [too few slots](ParseStatus::TooFewSlots). A
/// function of its own, so that the common call is inlined.
#[cold]
#[inline(never)]
pub(super) fn parse_many_lines<'r, 'b>(
    bytes: &'b [u8],
    scanned: usize,
    limits: &RequestLimits,
    slots: &'r mut Vec<MaybeUninit<Header<'b>>>,
) -> ParseStatus<'r, 'b> {
    slots.resize_with(limits.header_lines, MaybeUninit::uninit);
    parse(bytes, scanned, limits, slots)
}

/// Whether a trailer section, up to and including its empty line, has the grammar of header lines,
/// and no field that frames or routes the request (RFC 9110 section 6.5.1).
pub(super) fn are_trailers(section: &[u8], limits: &RequestLimits) -> bool {
    let mut slots = vec![httparse::EMPTY_HEADER; limits.header_lines];
    let is_forbidden = |line: &Header<'_>| {
        is(line, &header::HOST)
            || is(line, &header::CONTENT_LENGTH)
            || is(line, &header::TRANSFER_ENCODING)
    };
    match httparse::parse_headers(section, &mut slots) {
        Ok(Status::Complete((length, lines))) => {
            length == section.len() && !lines.iter().any(is_forbidden)
        }
        _ => false,
    }
}

/// Returns the end of the head at the start of `bytes`, unless it is within the first `scanned`.
pub(super) fn end_of_head(bytes: &[u8], scanned: usize) -> Option<usize> {
    let from = scanned.saturating_sub(HEAD_END.len() - 1);
    Some(from + memmem::find(bytes.get(from..)?, HEAD_END)? + HEAD_END.len())
}

const HEAD_END: &[u8] = b"\r\n\r\n";
const BARE_LF: BadRequest =
    BadRequest::new("line_ending", "a line ends in LF alone; HTTP/1.1 requires CRLF");

fn partial<'r, 'b>(bytes: &'b [u8], scanned: usize, limits: &RequestLimits) -> ParseStatus<'r, 'b> {
    // The end of the head is missing, so the head has at least one more byte.
    match structural_error(bytes, scanned, limits.head_bytes - 1, limits) {
        Some(error) => ParseStatus::Invalid(error),
        None => ParseStatus::Partial,
    }
}

/// Returns the error of a head that is visible without parsing it. An error in a prefix is also
/// found in the complete head, with the same code. So the response does not depend on the pieces
/// in which a head arrives.
fn structural_error(
    bytes: &[u8],
    scanned: usize,
    max_length: usize,
    limits: &RequestLimits,
) -> Option<BadRequest> {
    let within = &bytes[..bytes.len().min(limits.head_bytes)];
    if !may_begin(within) {
        return Some(INVALID_HEAD);
    }
    if has_bare_line_feed(within, scanned.min(within.len())) {
        return Some(BARE_LF);
    }
    (bytes.len() > max_length).then(|| too_large(within, limits))
}

/// Whether a request can begin with these bytes. Other protocols are rejected at their first byte
/// instead of at the timeout.
fn may_begin(bytes: &[u8]) -> bool {
    let request = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
    request.first().is_none_or(|first| first.is_ascii_graphic() || matches!(first, b'\r' | b'\n'))
}

/// Returns 414 (URI Too Long) if the request line alone fills the limit, otherwise 431.
fn too_large(head: &[u8], limits: &RequestLimits) -> BadRequest {
    match memmem::find(head, b"\r\n") {
        Some(_) => limits.head_too_large(),
        None => limits.uri_too_long(),
    }
}

pub(super) fn has_bare_line_feed(bytes: &[u8], from: usize) -> bool {
    let is_bare =
        |position: usize| position.checked_sub(1).is_none_or(|before| bytes[before] != b'\r');
    memchr_iter(b'\n', &bytes[from..]).any(|position| is_bare(from + position))
}

/// Parses a head whose end has arrived, or returns `None` if it has more lines than `slots`.
fn read<'r, 'b>(
    bytes: &'b [u8],
    limits: &RequestLimits,
    slots: &'r mut HeaderSlots<'b>,
) -> Result<Option<Http1Head<'r, 'b>>, BadRequest> {
    let count = slots.len().min(limits.header_lines);
    let mut request = httparse::Request::new(&mut []);
    let parsed = request.parse_with_uninit_headers(bytes, &mut slots[..count]);
    let length = match parsed {
        Ok(Status::Complete(length)) => length,
        // The final empty line is present, so more bytes cannot complete the head.
        Ok(Status::Partial) => return Err(INVALID_HEAD),
        Err(httparse::Error::TooManyHeaders) if count < limits.header_lines => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(limits.too_many_lines()),
        Err(httparse::Error::Version) => {
            let detail = "this port accepts HTTP/1.1 and HTTP/1.0";
            return Err(BadRequest::with_status(
                StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                "version",
                detail,
            ));
        }
        Err(_) => return Err(INVALID_HEAD),
    };
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version)
    else {
        return Err(INVALID_HEAD);
    };
    let authority = if target.starts_with('/') { None } else { authority(target)? };
    let lines: &'r [Header<'b>] = request.headers;
    let headers = KnownHeaders::read(lines, minor)?;
    if target.contains('#') {
        return Err(INVALID_TARGET);
    }
    let persistence = match (minor, headers.close, headers.keep_alive) {
        (_, true, _) | (0, _, false) => Persistence::Close,
        (0, false, true) => Persistence::KeepExplicit,
        _ => Persistence::Keep,
    };
    let expects_continue = headers.expects_continue && minor == 1;
    Ok(Some(Http1Head {
        method,
        target,
        length,
        framing: headers.framing()?,
        persistence,
        expects_continue,
        takes_chunks: minor == 1,
        authority,
        lines,
    }))
}

/// Returns the authority of a target in absolute form, or `None` for another form or scheme.
fn authority(target: &str) -> Result<Option<&str>, BadRequest> {
    match split_absolute(target) {
        Some((authority, _)) if authority.is_empty() || !is_host(authority.as_bytes()) => {
            Err(INVALID_AUTHORITY)
        }
        absolute => Ok(absolute.map(|(authority, _)| authority)),
    }
}

/// Splits a target in absolute form with the scheme http or https (RFC 9112 section 3.2.2) into
/// its authority and the rest, which begins with `/` or `?` or is empty.
#[must_use]
pub fn split_absolute(target: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = target.split_once("://")?;
    let is_http = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    is_http.then(|| rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len())))
}

const INVALID_AUTHORITY: BadRequest = BadRequest::new(
    "request_target",
    "the authority of the request target is not a host, or a host and a port",
);

/// The header fields that the connection itself interprets.
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
            // The length of the name excludes most lines without comparing it.
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
    BadRequest::new("host", "an HTTP/1.1 request must have exactly one valid Host line");
const LENGTH: BadRequest = BadRequest::new(
    "content_length",
    "a request must have one Content-Length in digits, or be chunked, but not both",
);
const CODING: BadRequest = BadRequest::new(
    "transfer_encoding",
    "the only accepted transfer coding is chunked, once, in HTTP/1.1",
);

fn is(line: &Header<'_>, name: &HeaderName) -> bool {
    line.name.eq_ignore_ascii_case(name.as_str())
}

/// Parses a number of digits only: no sign, no list, no blank.
pub(crate) fn digits(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// Whether a value is a host, or a host and a port (RFC 3986 section 3.2), or empty. A comma is
/// excluded, because it could separate two hosts.
pub(crate) fn is_host(value: &[u8]) -> bool {
    let kinds = value.iter().fold(0, |kinds, byte| kinds | HOST_BYTES[usize::from(*byte)]);
    kinds == NAME_BYTE || kinds == DELIMITER && has_host_syntax(value)
}

/// Kinds of bytes in a host and port, as bits: one that stands for itself in a name, one that has
/// its place in the syntax, and one that cannot occur.
const NAME_BYTE: u8 = 0;
const DELIMITER: u8 = 1;
const INVALID_BYTE: u8 = 2;

static HOST_BYTES: [u8; 256] = {
    let (mut kinds, mut byte) = ([INVALID_BYTE; 256], 0);
    while byte < kinds.len() {
        kinds[byte] = match byte as u8 {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' | b'~' => NAME_BYTE,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=' => NAME_BYTE,
            b':' | b'[' | b']' | b'%' => DELIMITER,
            _ => INVALID_BYTE,
        };
        byte += 1;
    }
    kinds
};

/// Checks a host with a port, a percent-encoded byte or an IPv6 address.
fn has_host_syntax(value: &[u8]) -> bool {
    let is_ipv6 =
        |host: &[u8]| std::str::from_utf8(host).is_ok_and(|host| host.parse::<Ipv6Addr>().is_ok());
    let (is_valid, rest) = match value.strip_prefix(b"[") {
        Some(literal) => match memchr(b']', literal) {
            Some(end) => (is_ipv6(&literal[..end]), &literal[end + 1..]),
            None => return false,
        },
        None => {
            let (name, rest) = value.split_at(memchr(b':', value).unwrap_or(value.len()));
            (!name.is_empty() && is_name(name), rest)
        }
    };
    is_valid && rest.strip_prefix(b":").map_or(rest.is_empty(), is_port)
}

/// Whether a name has no brackets, and two hexadecimal digits after each percent sign.
fn is_name(name: &[u8]) -> bool {
    let is_encoded = |part: &[u8]| {
        part.first_chunk::<2>().is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    let has_brackets = name.iter().any(|byte| matches!(byte, b'[' | b']'));
    !has_brackets && name.split(|byte| *byte == b'%').skip(1).all(is_encoded)
}

/// Whether a port is empty, which stands for the default, or a number of 16 bits.
fn is_port(port: &[u8]) -> bool {
    digits(port).map_or(port.is_empty(), |port| port <= u64::from(u16::MAX))
}

#[cfg(test)]
mod tests;
