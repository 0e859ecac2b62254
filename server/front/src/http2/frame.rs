//! HTTP/2 frames (RFC 9113 sections 4 and 6): parsing in place, and serialization.

use super::error::{Http2Error, Http2ErrorCode};

/// Frame types.
pub(super) mod kind {
    pub(in super::super) const DATA: u8 = 0x0;
    pub(in super::super) const HEADERS: u8 = 0x1;
    pub(in super::super) const PRIORITY: u8 = 0x2;
    pub(in super::super) const RST_STREAM: u8 = 0x3;
    pub(in super::super) const SETTINGS: u8 = 0x4;
    pub(in super::super) const PUSH_PROMISE: u8 = 0x5;
    pub(in super::super) const PING: u8 = 0x6;
    pub(in super::super) const GOAWAY: u8 = 0x7;
    pub(in super::super) const WINDOW_UPDATE: u8 = 0x8;
    pub(in super::super) const CONTINUATION: u8 = 0x9;
}

/// Frame flags.
pub(super) mod flag {
    pub(in super::super) const NONE: u8 = 0x0;
    pub(in super::super) const END_STREAM: u8 = 0x1;
    pub(in super::super) const ACK: u8 = 0x1;
    pub(in super::super) const END_HEADERS: u8 = 0x4;
    pub(in super::super) const PADDED: u8 = 0x8;
    pub(in super::super) const PRIORITY: u8 = 0x20;
}

/// Length of a frame header.
pub(super) const FRAME_HEADER_LENGTH: usize = 9;
/// Largest frame payload, both ways: the initial `SETTINGS_MAX_FRAME_SIZE`, which the server does
/// not raise and every client has to accept.
pub(super) const MAX_PAYLOAD: usize = 16 * 1024;
/// Largest stream identifier, and largest flow-control window. The bit above is reserved.
pub(super) const MAX_31_BITS: u32 = u32::MAX >> 1;

/// A frame received from a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame<'b> {
    /// The frame type: one in [`kind`], or an unknown one.
    pub(super) kind: u8,
    /// Bits from [`flag`].
    pub(super) flags: u8,
    /// The stream identifier; 0 for the connection.
    pub(super) stream: u32,
    pub(super) payload: &'b [u8],
}

impl<'b> Frame<'b> {
    /// Removes the first frame from `bytes` and returns it, or `None` if it is incomplete.
    ///
    /// # Errors
    /// The frame is above [`MAX_PAYLOAD`]. This is detected from the header, before the payload
    /// arrives.
    pub(super) fn take(bytes: &mut &'b [u8]) -> Result<Option<Self>, Http2Error> {
        let Some(([high, middle, low, kind, flags, stream @ ..], rest)) =
            bytes.split_first_chunk::<FRAME_HEADER_LENGTH>()
        else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
        if length > MAX_PAYLOAD {
            return Err(Http2Error::frame_size("a frame payload exceeds 16384 bytes"));
        }
        let Some((payload, rest)) = rest.split_at_checked(length) else { return Ok(None) };
        *bytes = rest;
        Ok(Some(Self {
            kind: *kind,
            flags: *flags,
            stream: u32::from_be_bytes(*stream) & MAX_31_BITS,
            payload,
        }))
    }

    /// Returns whether a flag is set.
    pub(super) const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Returns the payload without its padding.
    ///
    /// # Errors
    /// The padding is longer than the payload (section 6.1).
    pub(super) fn unpadded(&self) -> Result<&'b [u8], Http2Error> {
        if !self.has(flag::PADDED) {
            return Ok(self.payload);
        }
        let Some((padding, rest)) = self.payload.split_first() else {
            return Err(Http2Error::frame_size("a padded frame has no pad length"));
        };
        let length = rest.len().checked_sub(usize::from(*padding));
        let length =
            length.ok_or(Http2Error::protocol("the padding of a frame exceeds its payload"))?;
        Ok(&rest[..length])
    }

    /// Returns the payload as one 32-bit integer.
    ///
    /// # Errors
    /// The payload is not four bytes long.
    pub(super) fn integer(&self) -> Result<u32, Http2Error> {
        let bytes = self.payload.try_into();
        bytes.map(u32::from_be_bytes).map_err(|_| {
            Http2Error::frame_size("the payload of a four-byte frame is not four bytes long")
        })
    }
}

/// Appends a frame.
pub(super) fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    header(out, kind, flags, stream, payload.len());
    out.extend_from_slice(payload);
}

fn header(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, length: usize) {
    let [_, high, middle, low] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    let [a, b, c, d] = stream.to_be_bytes();
    out.extend_from_slice(&[high, middle, low, kind, flags, a, b, c, d]);
}

/// Appends the field block that `write` writes, as HEADERS and as many CONTINUATION frames as it
/// takes.
pub(super) fn headers(
    out: &mut Vec<u8>,
    stream: u32,
    ends_stream: bool,
    write: impl FnOnce(&mut Vec<u8>),
) {
    let at = out.len();
    let ends = if ends_stream { flag::END_STREAM } else { flag::NONE };
    header(out, kind::HEADERS, ends | flag::END_HEADERS, stream, 0);
    let start = out.len();
    write(out);
    let length = out.len() - start;
    if length <= MAX_PAYLOAD {
        let [.., high, middle, low] = length.to_be_bytes();
        return out[at..at + 3].copy_from_slice(&[high, middle, low]);
    }
    let section = out.split_off(start);
    out.truncate(at);
    let mut pieces = section.chunks(MAX_PAYLOAD).peekable();
    let (mut kind, mut flags) = (kind::HEADERS, ends);
    while let Some(piece) = pieces.next() {
        if pieces.peek().is_none() {
            flags |= flag::END_HEADERS;
        }
        frame(out, kind, flags, stream, piece);
        (kind, flags) = (kind::CONTINUATION, flag::NONE);
    }
}

/// Appends a DATA frame.
pub(super) fn data(out: &mut Vec<u8>, stream: u32, ends_stream: bool, data: &[u8]) {
    frame(out, kind::DATA, if ends_stream { flag::END_STREAM } else { flag::NONE }, stream, data);
}

/// Appends a RST_STREAM frame.
pub(super) fn reset(out: &mut Vec<u8>, stream: u32, code: Http2ErrorCode) {
    frame(out, kind::RST_STREAM, flag::NONE, stream, &code.number().to_be_bytes());
}

/// Appends a GOAWAY frame: requests above stream `last` are not processed.
pub(super) fn goaway(out: &mut Vec<u8>, last: u32, error: Http2Error) {
    let payload =
        [&last.to_be_bytes()[..], &error.code.number().to_be_bytes(), error.reason.as_bytes()]
            .concat();
    frame(out, kind::GOAWAY, flag::NONE, 0, &payload);
}

/// Appends a WINDOW_UPDATE frame that grants `more` bytes.
pub(super) fn window_update(out: &mut Vec<u8>, stream: u32, more: u32) {
    frame(out, kind::WINDOW_UPDATE, flag::NONE, stream, &more.to_be_bytes());
}

#[cfg(test)]
mod tests;
