//! RequestFrames (RFC 9114 section 7): those of request streams, read as they come, and those
//! that we send.

use super::{
    fault::{Http3Error, Http3ErrorCode},
    varint::{self, PartialBuffer},
};

/// `DATA`.
const DATA: u64 = 0x0;
/// `HEADERS`.
const HEADERS: u64 = 0x1;
/// `CANCEL_PUSH`.
pub(super) const CANCEL_PUSH: u64 = 0x3;
/// `SETTINGS`.
pub(super) const SETTINGS: u64 = 0x4;
/// `PUSH_PROMISE`.
const PUSH_PROMISE: u64 = 0x5;
/// `GOAWAY`.
pub(super) const GOAWAY: u64 = 0x7;
/// `MAX_PUSH_ID`.
pub(super) const MAX_PUSH_ID: u64 = 0xd;

/// The frames of a request stream, in whatever pieces they come.
pub struct RequestFrames {
    max_section: usize,
    header: FrameHeader,
    position: FramePosition,
    message: MessageState,
    /// The part of a field section that has come.
    section: Vec<u8>,
}

/// What a client has sent.
#[derive(Debug, PartialEq, Eq)]
pub enum FrameEvent<'b> {
    /// The payload of the `HEADERS` frame that a request begins with.
    Headers(&'b [u8]),
    /// A `HEADERS` frame that is larger than we read.
    TooLarge,
    /// A part of the body, not empty.
    Data(&'b [u8]),
}

/// Where in a frame the next byte belongs, and how many more do.
#[derive(Clone, Copy)]
enum FramePosition {
    FrameHeader,
    Headers(usize),
    Data(u64),
    Skipped(u64),
}

/// Which frames may come next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum MessageState {
    /// The field section of a request.
    Head,
    /// Its body, or the field section behind it.
    Body,
    /// None that is known.
    End,
}

impl RequestFrames {
    /// The frames of a new stream. No payload of `HEADERS` is longer than `max_section`.
    #[must_use]
    pub const fn new(max_section: usize) -> Self {
        Self {
            max_section,
            header: FrameHeader::EMPTY,
            position: FramePosition::FrameHeader,
            message: MessageState::Head,
            section: Vec::new(),
        }
    }

    /// What comes next in `bytes`, which are taken away as far as they have been read:
    /// all of them, when there is nothing. Only a field section that is not all there is
    /// kept; `Headers` borrows one that is.
    ///
    /// # Errors
    /// There is a frame that may not be there.
    pub fn next<'f, 'b: 'f>(
        &'f mut self,
        bytes: &mut &'b [u8],
    ) -> Result<Option<FrameEvent<'f>>, Http3Error> {
        loop {
            match self.position {
                FramePosition::FrameHeader => {
                    let Some((kind, length)) = self.header.complete(bytes, header) else {
                        return Ok(None);
                    };
                    self.position = self.start_frame(kind, length)?;
                    if kind == HEADERS && length > self.max_section as u64 {
                        return Ok(Some(FrameEvent::TooLarge));
                    }
                }
                FramePosition::Headers(left) => {
                    return Ok(self.section(bytes, left).map(FrameEvent::Headers));
                }
                FramePosition::Data(0) | FramePosition::Skipped(0) => {
                    self.position = FramePosition::FrameHeader
                }
                FramePosition::Data(_) | FramePosition::Skipped(_) if bytes.is_empty() => {
                    return Ok(None);
                }
                FramePosition::Data(left) => {
                    let piece = take(bytes, left);
                    self.position = FramePosition::Data(left - piece.len() as u64);
                    return Ok(Some(FrameEvent::Data(piece)));
                }
                FramePosition::Skipped(left) => {
                    self.position = FramePosition::Skipped(left - take(bytes, left).len() as u64)
                }
            }
        }
    }

    /// Whether the stream may end here.
    ///
    /// # Errors
    /// It ends within a frame, or before there is a request.
    pub const fn end(&self) -> Result<(), Http3Error> {
        match self.position {
            FramePosition::FrameHeader | FramePosition::Data(0) | FramePosition::Skipped(0)
                if self.header.is_empty() =>
            {
                match self.message {
                    MessageState::Head => Err(Http3Error::new(
                        Http3ErrorCode::RequestIncomplete,
                        "a stream ended before its request began",
                    )),
                    MessageState::Body | MessageState::End => Ok(()),
                }
            }
            _ => Err(TRUNCATED),
        }
    }

    /// What to do with a frame, whose place is judged by its header alone.
    fn start_frame(&mut self, kind: u64, length: u64) -> Result<FramePosition, Http3Error> {
        match (kind, self.message) {
            (HEADERS, MessageState::Head) => {
                self.message = MessageState::Body;
                Ok(match usize::try_from(length) {
                    Ok(length) if length <= self.max_section => FramePosition::Headers(length),
                    _ => FramePosition::Skipped(length),
                })
            }
            // Nobody asks for what stands behind a body.
            (HEADERS, MessageState::Body) => {
                self.message = MessageState::End;
                Ok(FramePosition::Skipped(length))
            }
            (DATA, MessageState::Body) => Ok(FramePosition::Data(length)),
            (DATA | HEADERS, _) => Err(UNORDERED),
            (CANCEL_PUSH | SETTINGS | GOAWAY | MAX_PUSH_ID, _) => Err(OF_CONTROL),
            _ if is_forbidden(kind) => Err(FORBIDDEN),
            _ => Ok(FramePosition::Skipped(length)),
        }
    }

    /// The whole of a field section of which so many bytes are to come.
    fn section<'f, 'b: 'f>(&'f mut self, bytes: &mut &'b [u8], left: usize) -> Option<&'f [u8]> {
        let piece = take(bytes, left as u64);
        if piece.len() < left {
            self.section.extend_from_slice(piece);
            self.position = FramePosition::Headers(left - piece.len());
            return None;
        }
        self.position = FramePosition::FrameHeader;
        if self.section.is_empty() {
            // Usually it has come as a whole.
            return Some(piece);
        }
        self.section.extend_from_slice(piece);
        Some(&self.section)
    }
}

const UNORDERED: Http3Error = Http3Error::new(
    Http3ErrorCode::FrameUnexpected,
    "a request is HEADERS, DATA, and HEADERS once more at most",
);
const OF_CONTROL: Http3Error = Http3Error::new(
    Http3ErrorCode::FrameUnexpected,
    "a frame of the control stream is on a request stream",
);
pub(super) const FORBIDDEN: Http3Error =
    Http3Error::new(Http3ErrorCode::FrameUnexpected, "a frame is one that a client does not send");
pub(super) const TRUNCATED: Http3Error =
    Http3Error::new(Http3ErrorCode::FrameError, "a stream ended within a frame");

/// Whether no client may send such a frame on any stream: the promises of servers, and
/// what HTTP/2 had and HTTP/3 has not (section 7.2.8).
pub(super) const fn is_forbidden(kind: u64) -> bool {
    matches!(kind, PUSH_PROMISE | 0x2 | 0x6 | 0x8 | 0x9)
}

/// Takes at most so many bytes away.
pub(super) fn take<'b>(bytes: &mut &'b [u8], max: u64) -> &'b [u8] {
    let length = usize::try_from(max).unwrap_or(usize::MAX).min(bytes.len());
    let (piece, rest) = bytes.split_at(length);
    *bytes = rest;
    piece
}

/// The type and the length at the start of some bytes, and how many bytes those are.
pub(super) fn header(bytes: &[u8]) -> Option<((u64, u64), usize)> {
    let (kind, behind) = varint::read(bytes)?;
    let (length, end) = varint::read(&bytes[behind..])?;
    Some(((kind, length), behind + end))
}

/// As much of it as has come: both are at most eight bytes long.
pub(super) type FrameHeader = PartialBuffer<16>;

/// Appends a `HEADERS` frame around what `write` appends: a field section.
pub fn headers(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    /// SectionBuffer for a length of two bytes, as nearly all have.
    const HEADER: [u8; 3] = [HEADERS as u8, 0x40, 0];
    out.extend_from_slice(&HEADER);
    let start = out.len();
    write(out);
    let length = out.len() - start;
    match u16::try_from(length) {
        Ok(short @ ..=0x3fff) => {
            out[start - 2..start].copy_from_slice(&(0x4000 | short).to_be_bytes())
        }
        _ => {
            let mut long = Vec::new();
            varint::write(&mut long, length as u64);
            out.splice(start - 2..start, long);
        }
    }
}

/// Appends the header of a `DATA` frame, behind which so many bytes belong.
pub fn data(out: &mut Vec<u8>, length: usize) {
    varint::write(out, DATA);
    varint::write(out, length as u64);
}

/// Appends a `GOAWAY` frame: no request from this stream on is answered.
pub fn goaway(out: &mut Vec<u8>, stream: u64) {
    let mut payload = Vec::new();
    varint::write(&mut payload, stream);
    frame(out, GOAWAY, &payload);
}

/// Appends a frame.
pub(super) fn frame(out: &mut Vec<u8>, kind: u64, payload: &[u8]) {
    varint::write(out, kind);
    varint::write(out, payload.len() as u64);
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests;
