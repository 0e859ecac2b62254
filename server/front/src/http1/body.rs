//! Incremental decoder of request bodies (RFC 9112 sections 6 and 7).
//!
//! [`IncomingBody`] is fed with whatever bytes have arrived. It decodes the chunked coding and
//! enforces the size limit before it stores anything.

use memchr::memmem;

use super::head::{Framing, are_trailers, end_of_head, has_bare_line_feed};
use crate::{
    request_limits::RequestLimits,
    request_memory::{HeldMemory, MemoryExceeded, append},
};

/// A request body that is being received.
pub struct IncomingBody {
    /// The decoded bytes received so far.
    pub bytes: Vec<u8>,
    state: BodyState,
    max_bytes: usize,
    /// Limits of the trailer section.
    limits: RequestLimits,
}

/// The part of the body that is expected next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyState {
    /// This many more bytes of a body with a length.
    Body(u64),
    /// The line with the size of a chunk.
    Size,
    /// This many more bytes of a chunk.
    Chunk(u64),
    /// The line end after a chunk.
    ChunkEnd,
    /// The trailer section and its empty line, after the last chunk. This many bytes of it are
    /// known not to contain its end.
    Trailers(usize),
    /// Nothing: the body is complete.
    Done,
}

/// A body that is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// The body is longer than the service allows.
    TooLarge,
    /// The body cannot be kept.
    Memory(MemoryExceeded),
    /// The chunked coding is malformed, for this reason.
    Malformed(&'static str),
}

/// Maximum length of a chunk-size line. Chunk extensions are accepted and ignored.
const MAX_SIZE_LINE: usize = 256;

impl IncomingBody {
    /// Creates the decoder for a body of at most `max_bytes` bytes.
    ///
    /// # Errors
    /// [`BodyError::TooLarge`], if the Content-Length exceeds the limit.
    pub fn new(
        framing: Framing,
        max_bytes: usize,
        limits: RequestLimits,
    ) -> Result<Self, BodyError> {
        let state = match framing {
            Framing::Empty => BodyState::Done,
            Framing::Chunked => BodyState::Size,
            Framing::Length(length) if length <= u64::try_from(max_bytes).unwrap_or(u64::MAX) => {
                BodyState::Body(length)
            }
            Framing::Length(_) => return Err(BodyError::TooLarge),
        };
        Ok(Self { bytes: Vec::new(), state, max_bytes, limits })
    }

    /// Whether the body is complete.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.state == BodyState::Done
    }

    /// Consumes the bytes at the start of `input` that belong to the body and returns their
    /// number. The caller offers the rest again when more has arrived.
    ///
    /// # Errors
    /// The body is too large or malformed.
    pub(crate) fn take(
        &mut self,
        input: &[u8],
        held: &mut HeldMemory<'_>,
    ) -> Result<usize, BodyError> {
        let mut taken = 0;
        loop {
            let rest = &input[taken..];
            let step = match self.state {
                BodyState::Body(left) => {
                    self.data(rest, held, left, BodyState::Body, BodyState::Done)?
                }
                BodyState::Chunk(left) => {
                    self.data(rest, held, left, BodyState::Chunk, BodyState::ChunkEnd)?
                }
                BodyState::Size => self.size(rest)?,
                BodyState::ChunkEnd => self.chunk_end(rest)?,
                BodyState::Trailers(scanned) => self.trailers(rest, scanned)?,
                BodyState::Done => None,
            };
            match step {
                Some(step) => taken += step,
                None => return Ok(taken),
            }
        }
    }

    /// Consumes data of which `left` bytes are missing, then continues with `next`.
    fn data(
        &mut self,
        rest: &[u8],
        held: &mut HeldMemory<'_>,
        left: u64,
        more: fn(u64) -> BodyState,
        next: BodyState,
    ) -> Result<Option<usize>, BodyError> {
        if left == 0 {
            self.state = next;
            return Ok(Some(0));
        }
        let take = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if take == 0 {
            return Ok(None);
        }
        if self.bytes.len() + take > self.max_bytes {
            return Err(BodyError::TooLarge);
        }
        append(&mut self.bytes, &rest[..take], self.max_bytes, held).map_err(BodyError::Memory)?;
        self.state = more(left - u64::try_from(take).unwrap_or(left));
        Ok(Some(take))
    }

    fn size(&mut self, rest: &[u8]) -> Result<Option<usize>, BodyError> {
        const INVALID_SIZE: BodyError =
            BodyError::Malformed("a chunk begins with its size in hexadecimal digits");
        let Some(end) = memmem::find(rest, b"\r\n") else {
            let is_possible = rest.len() < MAX_SIZE_LINE && !rest.contains(&b'\n');
            return if is_possible { Ok(None) } else { Err(INVALID_SIZE) };
        };
        let line = &rest[..end];
        let digits = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(end);
        let (size, extension) = line.split_at(digits);
        // Some servers treat a control character in an extension as a line end.
        let is_extension =
            matches!(extension, [] | [b';', ..]) && !extension.iter().any(u8::is_ascii_control);
        if !(1..=8).contains(&digits) || end >= MAX_SIZE_LINE || !is_extension {
            return Err(INVALID_SIZE);
        }
        let size = std::str::from_utf8(size)
            .ok()
            .and_then(|size| u64::from_str_radix(size, 16).ok())
            .ok_or(INVALID_SIZE)?;
        if size > u64::try_from(self.max_bytes - self.bytes.len()).unwrap_or(u64::MAX) {
            return Err(BodyError::TooLarge);
        }
        self.state = if size == 0 { BodyState::Trailers(0) } else { BodyState::Chunk(size) };
        Ok(Some(end + 2))
    }

    fn chunk_end(&mut self, rest: &[u8]) -> Result<Option<usize>, BodyError> {
        match rest {
            [b'\r', b'\n', ..] => {
                self.state = BodyState::Size;
                Ok(Some(2))
            }
            [] | [b'\r'] => Ok(None),
            _ => Err(BodyError::Malformed("a chunk is longer than its size line")),
        }
    }

    /// Checks the trailer section (RFC 9112 section 7.1.2), which is not used, once all of it has
    /// arrived. It has the limits of a head.
    fn trailers(&mut self, rest: &[u8], scanned: usize) -> Result<Option<usize>, BodyError> {
        const INVALID_TRAILERS: BodyError = BodyError::Malformed(
            "the trailers are too long, are not header lines, or frame the request",
        );
        let end = if rest.starts_with(b"\r\n") { Some(2) } else { end_of_head(rest, scanned) };
        let section = &rest[..end.unwrap_or(rest.len())];
        if section.len() > self.limits.head_bytes || has_bare_line_feed(section, scanned) {
            return Err(INVALID_TRAILERS);
        }
        self.state = match end {
            None => BodyState::Trailers(rest.len()),
            Some(_) if are_trailers(section, &self.limits) => BodyState::Done,
            Some(_) => return Err(INVALID_TRAILERS),
        };
        Ok(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request_memory::{ConnectionMemory, MemoryPurpose, RequestMemory};

    const LIMITS: RequestLimits = RequestLimits { head_bytes: 200, header_lines: 10 };

    /// Returns the body, the bytes after it, and whether it is complete, for input that arrives
    /// in pieces of `piece` bytes.
    fn receive(
        framing: Framing,
        max_bytes: usize,
        input: &[u8],
        piece: usize,
    ) -> Result<(Vec<u8>, Vec<u8>, bool), BodyError> {
        let memory = RequestMemory::default();
        let mut held =
            ConnectionMemory::exempt(&memory).hold_nothing(MemoryPurpose::IncompleteBody);
        let mut body_reader = IncomingBody::new(framing, max_bytes, LIMITS)?;
        let mut unread = Vec::new();
        for piece in input.chunks(piece) {
            unread.extend_from_slice(piece);
            let taken = body_reader.take(&unread, &mut held)?;
            unread.drain(..taken);
        }
        let is_complete = body_reader.is_complete();
        Ok((body_reader.bytes, unread, is_complete))
    }

    #[test]
    fn body_is_the_same_in_any_pieces() {
        let chunked = b"4\r\nWiki\r\n6;name=value\r\npedia \r\n0000000E\r\nin \r\n\r\nchunks.\r\n0\r\n\r\nGET /";
        for piece in 1..=chunked.len() {
            let (body, rest, is_complete) = receive(Framing::Chunked, 100, chunked, piece).unwrap();
            assert_eq!(
                (&*body, &*rest, is_complete),
                (&b"Wikipedia in \r\n\r\nchunks."[..], &b"GET /"[..], true),
                "{piece}"
            );
            let (body, rest, is_complete) =
                receive(Framing::Length(3), 3, b"abcGET /", piece).unwrap();
            assert_eq!(
                (&*body, &*rest, is_complete),
                (&b"abc"[..], &b"GET /"[..], true),
                "{piece}"
            );
        }
        assert_eq!(
            receive(Framing::Empty, 0, b"GET /", 5).unwrap(),
            (Vec::new(), b"GET /".to_vec(), true)
        );
        assert!(!receive(Framing::Length(4), 4, b"abc", 1).unwrap().2);
    }

    #[test]
    fn smuggling_by_chunks_is_rejected() {
        for input in [
            &b"\r\n"[..],
            b"g\r\n",
            b"0x1\r\na\r\n",
            b"+1\r\na\r\n",
            b" 1\r\na\r\n",
            b"1 \r\na\r\n",
            b"1\na\r\n",
            b"1;\n\r\na\r\n",
            b"1;a\rb\r\na\r\n",
            b"000000001\r\na\r\n",
            b"ffffffffffffffff1\r\na",
            b"1\r\nab\r\n",
            b"1\r\na\n",
            b"1\r\na\r\r\n",
            b"0\r\nGET / HTTP/1.1\r\n\r\n",
            b"0\r\nX: y\n\r\n",
            b"0\r\nX: y\r\n folded\r\n\r\n",
            b"0\r\nX : y\r\n\r\n",
            b"0\r\n: y\r\n\r\n",
            b"0\r\nX: \x01\r\n\r\n",
            b"0\r\nX: y\rz\r\n\r\n",
            b"0\r\nX: y\r\nno colon\r\n\r\n",
            b"0\r\nContent-Length: 5\r\n\r\n",
            b"0\r\nX: y\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"0\r\nHOST: a\r\n\r\n",
            &[b"1;", &[b'x'; 300][..]].concat(),
        ] {
            for piece in [1, 3, input.len()] {
                let refused = receive(Framing::Chunked, 100, input, piece);
                assert!(
                    matches!(refused, Err(BodyError::Malformed(_))),
                    "{input:?} gave {refused:?}"
                );
            }
        }
    }

    #[test]
    fn trailers_are_read_and_dropped() {
        let end_after = |trailers: &str| {
            let input = format!("1\r\na\r\n0\r\n{trailers}\r\nGET /");
            let mut results = [1, 3, input.len()]
                .map(|piece| receive(Framing::Chunked, 100, input.as_bytes(), piece));
            results.sort_by_key(Result::is_ok);
            assert_eq!(results[0], results[2], "in any pieces");
            results[0].clone().map(|(body, rest, is_complete)| (body, rest.len(), is_complete))
        };
        let whole = Ok((b"a".to_vec(), "GET /".len(), true));
        assert_eq!(end_after(""), whole);
        assert_eq!(end_after("X-Checksum: abc\r\n"), whole);
        assert_eq!(end_after("a:\r\nB:\tc, d \r\nGrpc-Status: 0\r\n"), whole);
        let longest = "x".repeat(LIMITS.head_bytes - "X: \r\n\r\n".len());
        assert_eq!(end_after(&format!("X: {longest}\r\n")), whole);
        assert!(end_after(&format!("X: x{longest}\r\n")).is_err());
        assert_eq!(end_after(&"a: b\r\n".repeat(LIMITS.header_lines)), whole);
        assert!(end_after(&"a: b\r\n".repeat(LIMITS.header_lines + 1)).is_err());
        assert!(!receive(Framing::Chunked, 9, b"0\r\nX: y\r\n", 1).unwrap().2, "incomplete");
    }

    #[test]
    fn body_limit_is_checked_before_storing() {
        assert_eq!(receive(Framing::Length(4), 3, b"", 1).unwrap_err(), BodyError::TooLarge);
        assert_eq!(receive(Framing::Length(u64::MAX), 3, b"", 1).unwrap_err(), BodyError::TooLarge);
        assert_eq!(receive(Framing::Chunked, 3, b"4\r\n", 3).unwrap_err(), BodyError::TooLarge);
        assert_eq!(
            receive(Framing::Chunked, 3, b"2\r\nab\r\n2\r\n", 1).unwrap_err(),
            BodyError::TooLarge
        );
        assert_eq!(
            receive(Framing::Chunked, 3, b"FFFFFFFF\r\n", 1).unwrap_err(),
            BodyError::TooLarge
        );
        assert_eq!(
            receive(Framing::Chunked, 4, b"2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n", 1).unwrap().0,
            b"abcd"
        );
    }
}
