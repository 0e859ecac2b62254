//! The body of a request (RFC 9112 sections 6 and 7), as far as it has come.

use memchr::memmem;

use super::head::Framing;

/// A body that is being received.
pub struct IncomingBody {
    /// What has come of it.
    pub bytes: Vec<u8>,
    state: BodyState,
    max_bytes: usize,
}

/// What has to come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyState {
    /// So much of a body, or of the rest of it.
    Body(u64),
    /// The line with the size of a chunk.
    Size,
    /// So much of a chunk.
    Chunk(u64),
    /// The end of the line behind a chunk.
    ChunkEnd,
    /// The empty line behind the last chunk.
    End,
    /// Nothing.
    Done,
}

/// Why a body is not received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// It is longer than whoever reads it wants.
    TooLarge,
    /// Its chunks are none.
    Malformed(&'static str),
}

/// The longest line with the size of a chunk. Extensions are allowed, and ignored.
const MAX_SIZE_LINE: usize = 256;

impl IncomingBody {
    /// A body of which nothing has come yet, and which may have `max_bytes` bytes.
    ///
    /// # Errors
    /// It says itself that it is larger.
    pub fn new(framing: Framing, max_bytes: usize) -> Result<Self, BodyError> {
        let state = match framing {
            Framing::Empty => BodyState::Done,
            Framing::Chunked => BodyState::Size,
            Framing::Length(length) if length <= u64::try_from(max_bytes).unwrap_or(u64::MAX) => {
                BodyState::Body(length)
            }
            Framing::Length(_) => return Err(BodyError::TooLarge),
        };
        Ok(Self { bytes: Vec::new(), state, max_bytes })
    }

    /// Whether all of it has come.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.state == BodyState::Done
    }

    /// Takes what belongs to the body from the start of `input`, and returns how many
    /// bytes that were. The rest is to be offered again when there is more.
    ///
    /// # Errors
    /// The body is too large, or no body.
    pub fn take(&mut self, input: &[u8]) -> Result<usize, BodyError> {
        let mut taken = 0;
        loop {
            let rest = &input[taken..];
            let step = match self.state {
                BodyState::Body(left) => self.data(rest, left, BodyState::Body, BodyState::Done)?,
                BodyState::Chunk(left) => {
                    self.data(rest, left, BodyState::Chunk, BodyState::ChunkEnd)?
                }
                BodyState::Size => self.size(rest)?,
                BodyState::ChunkEnd => {
                    self.line_end(rest, BodyState::Size, "a chunk is longer than its size says")?
                }
                BodyState::End => {
                    self.line_end(rest, BodyState::Done, "trailers are not accepted")?
                }
                BodyState::Done => None,
            };
            match step {
                Some(step) => taken += step,
                None => return Ok(taken),
            }
        }
    }

    /// Data of which `left` bytes are to come; then `next`.
    fn data(
        &mut self,
        rest: &[u8],
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
        self.bytes.extend_from_slice(&rest[..take]);
        self.state = more(left - u64::try_from(take).unwrap_or(left));
        Ok(Some(take))
    }

    fn size(&mut self, rest: &[u8]) -> Result<Option<usize>, BodyError> {
        const FAULT: BodyError =
            BodyError::Malformed("a chunk begins with its size in hexadecimal digits");
        let Some(end) = memmem::find(rest, b"\r\n") else {
            let is_possible = rest.len() < MAX_SIZE_LINE && !rest.contains(&b'\n');
            return if is_possible { Ok(None) } else { Err(FAULT) };
        };
        let line = &rest[..end];
        let digits = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(end);
        let (size, extension) = line.split_at(digits);
        // A control character in an extension ends a line for some readers.
        let is_extension =
            matches!(extension, [] | [b';', ..]) && !extension.iter().any(u8::is_ascii_control);
        if !(1..=8).contains(&digits) || end >= MAX_SIZE_LINE || !is_extension {
            return Err(FAULT);
        }
        let size = std::str::from_utf8(size)
            .ok()
            .and_then(|size| u64::from_str_radix(size, 16).ok())
            .ok_or(FAULT)?;
        if size > u64::try_from(self.max_bytes - self.bytes.len()).unwrap_or(u64::MAX) {
            return Err(BodyError::TooLarge);
        }
        self.state = if size == 0 { BodyState::End } else { BodyState::Chunk(size) };
        Ok(Some(end + 2))
    }

    fn line_end(
        &mut self,
        rest: &[u8],
        next: BodyState,
        otherwise: &'static str,
    ) -> Result<Option<usize>, BodyError> {
        match rest {
            [b'\r', b'\n', ..] => {
                self.state = next;
                Ok(Some(2))
            }
            [] | [b'\r'] => Ok(None),
            _ => Err(BodyError::Malformed(otherwise)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The body and what follows it, with the input arriving in pieces of `piece`.
    fn receive(
        framing: Framing,
        max_bytes: usize,
        input: &[u8],
        piece: usize,
    ) -> Result<(Vec<u8>, Vec<u8>, bool), BodyError> {
        let mut body_reader = IncomingBody::new(framing, max_bytes)?;
        let mut waiting = Vec::new();
        for piece in input.chunks(piece) {
            waiting.extend_from_slice(piece);
            let taken = body_reader.take(&waiting)?;
            waiting.drain(..taken);
        }
        let is_complete = body_reader.is_complete();
        Ok((body_reader.bytes, waiting, is_complete))
    }

    #[test]
    fn a_body_is_the_same_however_it_arrives() {
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
    fn smuggling_by_chunks_is_refused() {
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
            b"0\r\nTrailer: x\r\n\r\n",
            b"0\r\nGET / HTTP/1.1\r\n\r\n",
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
    fn the_limit_holds_before_anything_is_kept() {
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
