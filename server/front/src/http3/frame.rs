//! HTTP/3 frames (RFC 9114 section 7): incremental parsing of request streams, and serialization.

use super::{
    error::{Http3Error, Http3ErrorCode},
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

/// The frames of a request stream, parsed incrementally.
pub struct RequestFrames {
    max_section: usize,
    header: FrameHeader,
    position: FramePosition,
    message: MessageState,
    /// The part of a field section received so far.
    section: Vec<u8>,
}

/// Event of a request stream.
#[derive(Debug, PartialEq, Eq)]
pub enum FrameEvent<'b> {
    /// The payload of the first HEADERS frame.
    Headers(&'b [u8]),
    /// A first HEADERS frame above the size limit.
    TooLarge,
    /// The payload of the HEADERS frame after the body: the trailers.
    Trailers(&'b [u8]),
    /// A part of the body; never empty.
    Data(&'b [u8]),
}

/// Position within the frame that is being received, with the bytes left of it.
#[derive(Clone, Copy)]
enum FramePosition {
    FrameHeader,
    Headers(usize),
    Data(u64),
    Skipped(u64),
}

/// Progress of the message, which determines the frames that may follow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum MessageState {
    /// HEADERS has to follow.
    Head,
    /// DATA or trailers may follow.
    Body,
    /// The message is complete: only unknown frames may follow.
    End,
}

impl RequestFrames {
    /// The frames of a new stream. A HEADERS payload may have up to `max_section` bytes.
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

    /// Parses up to the next event, and removes its bytes from `bytes`. Without an event,
    /// all of `bytes` was consumed. Only an incomplete field section is copied;
    /// [`FrameEvent::Headers`] borrows a complete one.
    ///
    /// # Errors
    /// A frame is invalid or out of order.
    pub fn next<'f, 'b: 'f>(
        &'f mut self,
        bytes: &mut &'b [u8],
    ) -> Result<Option<FrameEvent<'f>>, Http3Error> {
        if !matches!(self.position, FramePosition::Headers(_)) {
            // A section that was returned is not needed any more.
            self.section = Vec::new();
        }
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
                FramePosition::Headers(left) if self.message == MessageState::End => {
                    return Ok(self.section(bytes, left).map(FrameEvent::Trailers));
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

    /// Returns the memory held by an incomplete field section, in bytes.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.section.capacity()
    }

    /// Checks that the stream may end here.
    ///
    /// # Errors
    /// It ends within a frame, or before the request.
    pub const fn end(&self) -> Result<(), Http3Error> {
        match self.position {
            FramePosition::FrameHeader | FramePosition::Data(0) | FramePosition::Skipped(0)
                if self.header.is_empty() =>
            {
                match self.message {
                    MessageState::Head => Err(Http3Error::new(
                        Http3ErrorCode::RequestIncomplete,
                        "the stream ended before its request",
                    )),
                    MessageState::Body | MessageState::End => Ok(()),
                }
            }
            _ => Err(TRUNCATED),
        }
    }

    /// Decides from the header whether a frame is allowed, and how it is received.
    fn start_frame(&mut self, kind: u64, length: u64) -> Result<FramePosition, Http3Error> {
        match (kind, self.message) {
            (HEADERS, MessageState::Head) => {
                self.message = MessageState::Body;
                Ok(match usize::try_from(length) {
                    Ok(length) if length <= self.max_section => FramePosition::Headers(length),
                    _ => FramePosition::Skipped(length),
                })
            }
            (HEADERS, MessageState::Body) => {
                self.message = MessageState::End;
                self.section = Vec::new();
                match usize::try_from(length) {
                    Ok(length) if length <= self.max_section => Ok(FramePosition::Headers(length)),
                    _ => Err(TRAILERS_TOO_LARGE),
                }
            }
            (DATA, MessageState::Body) => Ok(FramePosition::Data(length)),
            (DATA | HEADERS, _) => Err(OUT_OF_ORDER),
            (CANCEL_PUSH | SETTINGS | GOAWAY | MAX_PUSH_ID, _) => Err(CONTROL_FRAME),
            _ if is_forbidden(kind) => Err(FORBIDDEN),
            _ => Ok(FramePosition::Skipped(length)),
        }
    }

    /// Receives a field section of which `left` bytes are missing, and returns it when complete.
    fn section<'f, 'b: 'f>(&'f mut self, bytes: &mut &'b [u8], left: usize) -> Option<&'f [u8]> {
        let piece = take(bytes, left as u64);
        if piece.len() < left {
            self.section.extend_from_slice(piece);
            self.position = FramePosition::Headers(left - piece.len());
            return None;
        }
        self.position = FramePosition::FrameHeader;
        if self.section.is_empty() {
            // Usually it arrives in one piece.
            return Some(piece);
        }
        self.section.extend_from_slice(piece);
        Some(&self.section)
    }
}

pub(super) const TRAILERS_TOO_LARGE: Http3Error =
    Http3Error::new(Http3ErrorCode::MessageError, "the trailers are too large");
const OUT_OF_ORDER: Http3Error =
    Http3Error::new(Http3ErrorCode::FrameUnexpected, "request frames are out of order");
const CONTROL_FRAME: Http3Error =
    Http3Error::new(Http3ErrorCode::FrameUnexpected, "a control frame on a request stream");
pub(super) const FORBIDDEN: Http3Error =
    Http3Error::new(Http3ErrorCode::FrameUnexpected, "a frame type that a client may not send");
pub(super) const TRUNCATED: Http3Error =
    Http3Error::new(Http3ErrorCode::FrameError, "the stream ended within a frame");

/// Returns whether a client may not send this frame type on any stream: PUSH_PROMISE, and the
/// HTTP/2 types reserved in section 7.2.8.
pub(super) const fn is_forbidden(kind: u64) -> bool {
    matches!(kind, PUSH_PROMISE | 0x2 | 0x6 | 0x8 | 0x9)
}

/// Removes up to `max` bytes from the front.
pub(super) fn take<'b>(bytes: &mut &'b [u8], max: u64) -> &'b [u8] {
    let length = usize::try_from(max).unwrap_or(usize::MAX).min(bytes.len());
    let (piece, rest) = bytes.split_at(length);
    *bytes = rest;
    piece
}

/// Parses a frame header: its type, its length, and the number of bytes it occupies.
pub(super) fn header(bytes: &[u8]) -> Option<((u64, u64), usize)> {
    let (kind, after_kind) = varint::read(bytes)?;
    let (length, end) = varint::read(&bytes[after_kind..])?;
    Some(((kind, length), after_kind + end))
}

/// An incomplete frame header: two varints of up to eight bytes.
pub(super) type FrameHeader = PartialBuffer<16>;

/// Appends a HEADERS frame with the field section that `write` writes.
pub fn headers(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    /// The type, and a two-byte length to fill in, which suits nearly all sections.
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

/// Appends the header of a DATA frame whose payload has `length` bytes.
pub fn data(out: &mut Vec<u8>, length: usize) {
    varint::write(out, DATA);
    varint::write(out, length as u64);
}

/// Appends a GOAWAY frame: requests from stream `stream` on are not processed.
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
