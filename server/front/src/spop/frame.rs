//! Frames of SPOP: parsing in place, and serialization.

use super::{
    error::{SpopError, SpopStatus},
    value::{PayloadReader, put_integer},
};

/// Frame types. HAProxy sends those up to [`NOTIFY`](kind::NOTIFY).
pub mod kind {
    /// A fragment other than the first.
    pub const UNSET: u8 = 0;
    /// The first frame of a connection.
    pub const HAPROXY_HELLO: u8 = 1;
    /// HAProxy closes the connection.
    pub const HAPROXY_DISCONNECT: u8 = 2;
    /// Messages about a request.
    pub const NOTIFY: u8 = 3;
    /// The response to HAPROXY-HELLO.
    pub const AGENT_HELLO: u8 = 101;
    /// The server closes the connection.
    pub const AGENT_DISCONNECT: u8 = 102;
    /// The response to NOTIFY.
    pub const ACK: u8 = 103;
}

/// Length of the length of a frame.
pub const LENGTH_BYTES: usize = 4;
/// Largest frame. With its length, it fits into an input buffer.
pub const MAX_FRAME_BYTES: usize = 64 * 1024 - LENGTH_BYTES;
/// The smallest maximum that a peer may ask for.
pub const MIN_MAX_FRAME_BYTES: usize = 256;
/// The flag of a payload that is complete.
const FIN: u32 = 1;

/// The identifiers of a request: the stream, and the frame in it. The ACK repeats those of its
/// NOTIFY. They are 0 in frames about the connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameIds {
    /// The stream.
    pub stream: u64,
    /// The frame.
    pub frame: u64,
}

/// A frame received from HAProxy, with a complete payload. Not `Debug`, as it may hold a
/// credential.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SpopFrame<'b> {
    /// The frame type: one in [`kind`], or an unknown one.
    pub kind: u8,
    /// The identifiers of the request.
    pub ids: FrameIds,
    /// The payload.
    pub payload: &'b [u8],
}

impl<'b> SpopFrame<'b> {
    /// Removes the first frame from `bytes` and returns it, or `None` if it is incomplete.
    ///
    /// # Errors
    /// The frame is longer than `max`, which is detected from its first four bytes; it is
    /// malformed; or its payload is fragmented.
    pub fn take(bytes: &mut &'b [u8], max: usize) -> Result<Option<Self>, SpopError> {
        const TOO_BIG: SpopError =
            SpopError::new(SpopStatus::FrameTooBig, "a frame is longer than max-frame-size");
        let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if length > max {
            return Err(TOO_BIG);
        }
        let Some((frame, rest)) = rest.split_at_checked(length) else { return Ok(None) };
        *bytes = rest;
        Self::read(frame).map(Some)
    }

    fn read(frame: &'b [u8]) -> Result<Self, SpopError> {
        const FRAGMENTED: SpopError =
            SpopError::new(SpopStatus::Fragmented, "fragmented payloads are not supported");
        let mut reader = PayloadReader::new(frame);
        let kind = reader.byte()?;
        let flags = u32::from_be_bytes(reader.array()?);
        let ids = FrameIds { stream: reader.integer()?, frame: reader.integer()? };
        match flags {
            FIN if kind != kind::UNSET => Ok(Self { kind, ids, payload: reader.rest() }),
            flags if flags & !FIN != 0 => Err(SpopError::invalid("a frame has unknown flags")),
            _ => Err(FRAGMENTED),
        }
    }
}

/// Appends a frame whose payload `write` writes.
pub fn put_frame(out: &mut Vec<u8>, kind: u8, ids: FrameIds, write: impl FnOnce(&mut Vec<u8>)) {
    let start = begin_frame(out, kind, ids);
    write(out);
    end_frame(out, start);
}

/// Appends the start of a frame, and returns where it begins.
pub(super) fn begin_frame(out: &mut Vec<u8>, kind: u8, ids: FrameIds) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    out.push(kind);
    out.extend_from_slice(&FIN.to_be_bytes());
    put_integer(out, ids.stream);
    put_integer(out, ids.frame);
    start
}

/// Ends the frame that begins at `start`, and returns its length without that of the length.
pub(super) fn end_frame(out: &mut [u8], start: usize) -> usize {
    let length = out.len() - start - LENGTH_BYTES;
    let field = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    out[start..start + LENGTH_BYTES].copy_from_slice(&field);
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDS: FrameIds = FrameIds { stream: 300, frame: 1 };

    fn notify(payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put_frame(&mut out, kind::NOTIFY, IDS, |out| out.extend_from_slice(payload));
        out
    }

    #[test]
    fn frame_is_taken_once_it_is_complete() {
        let frame = notify(b"payload");
        for length in 0..frame.len() {
            let mut bytes = &frame[..length];
            assert!(SpopFrame::take(&mut bytes, 256) == Ok(None), "{length} bytes");
            assert_eq!(bytes.len(), length);
        }
        let two = [frame, notify(b"")].concat();
        let mut bytes = &two[..];
        for payload in [&b"payload"[..], b""] {
            let expected = SpopFrame { kind: kind::NOTIFY, ids: IDS, payload };
            assert!(SpopFrame::take(&mut bytes, 256) == Ok(Some(expected)));
        }
        assert!(bytes.is_empty());
    }

    #[test]
    fn frame_above_the_maximum_is_refused_by_its_length() {
        let status = |length: u32, max| {
            let frame = length.to_be_bytes();
            SpopFrame::take(&mut &frame[..], max).err().map(|error| error.status)
        };
        assert_eq!(status(256, 256), None);
        for length in [257, 1 << 16, u32::MAX, u32::from_be_bytes(*b"GET ")] {
            assert_eq!(status(length, 256), Some(SpopStatus::FrameTooBig), "{length}");
        }
    }

    #[test]
    fn fragments_and_unknown_flags_are_refused() {
        let status = |kind: u8, flags: u32| {
            let mut frame = notify(b"");
            frame[LENGTH_BYTES] = kind;
            frame[LENGTH_BYTES + 1..LENGTH_BYTES + 5].copy_from_slice(&flags.to_be_bytes());
            SpopFrame::take(&mut &frame[..], 256).err().map(|error| error.status)
        };
        assert_eq!(status(kind::NOTIFY, FIN), None);
        assert_eq!(status(kind::NOTIFY, 0), Some(SpopStatus::Fragmented));
        assert_eq!(status(kind::UNSET, 0), Some(SpopStatus::Fragmented));
        assert_eq!(status(kind::UNSET, FIN), Some(SpopStatus::Fragmented));
        for flags in [2, 3, 4, 1 << 31] {
            assert_eq!(status(kind::NOTIFY, flags), Some(SpopStatus::InvalidFrame), "{flags}");
        }
    }

    #[test]
    fn frames_too_short_for_their_head_are_refused() {
        let whole = notify(b"");
        for length in 0..8 {
            let frame = [&[0, 0, 0, length][..], &whole[LENGTH_BYTES..][..usize::from(length)]];
            let refused = SpopFrame::take(&mut &frame.concat()[..], 256).err();
            assert_eq!(refused.map(|error| error.status), Some(SpopStatus::InvalidFrame));
        }
    }
}
