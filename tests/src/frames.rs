//! HTTP/2 frames (RFC 9113), for tests of frames that no correct client sends.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use countersign_front::http2::error::Http2ErrorCode;

/// Connection preface of the client (RFC 9113 section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types (section 6).
pub mod kind {
    #![expect(missing_docs, reason = "they are explained in the RFC, by these names")]
    pub const DATA: u8 = 0x0;
    pub const HEADERS: u8 = 0x1;
    pub const RST_STREAM: u8 = 0x3;
    pub const SETTINGS: u8 = 0x4;
    pub const PUSH_PROMISE: u8 = 0x5;
    pub const PING: u8 = 0x6;
    pub const GOAWAY: u8 = 0x7;
    pub const WINDOW_UPDATE: u8 = 0x8;
    pub const CONTINUATION: u8 = 0x9;
}

/// Frame flags (section 6).
pub mod flag {
    #![expect(missing_docs, reason = "they are explained in the RFC, by these names")]
    pub const NONE: u8 = 0x0;
    pub const END_STREAM: u8 = 0x1;
    pub const ACK: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
}

/// Settings (section 6.5.2).
pub mod setting {
    #![expect(missing_docs, reason = "they are explained in the RFC, by these names")]
    pub const HEADER_TABLE_SIZE: u16 = 0x1;
    pub const MAX_CONCURRENT_STREAMS: u16 = 0x3;
    pub const INITIAL_WINDOW_SIZE: u16 = 0x4;
    pub const MAX_HEADER_LIST_SIZE: u16 = 0x6;
}

/// HTTP/2 frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Type, one of [`kind`].
    pub kind: u8,
    /// Flags, a union of [`flag`].
    pub flags: u8,
    /// Stream identifier, or 0 for the connection.
    pub stream: u32,
    /// Payload.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Creates a frame.
    pub fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self { kind, flags, stream, payload: payload.into() }
    }

    /// Creates a complete request without a body.
    pub fn request(stream: u32, fields: &[(&str, &str)]) -> Self {
        Self::new(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream, section(fields))
    }

    /// Creates the `HEADERS` of a request with a body.
    pub fn head(stream: u32, fields: &[(&str, &str)]) -> Self {
        Self::new(kind::HEADERS, flag::END_HEADERS, stream, section(fields))
    }

    /// Creates a stream reset with this error code.
    pub fn reset(stream: u32, code: Http2ErrorCode) -> Self {
        Self::new(kind::RST_STREAM, flag::NONE, stream, code.number().to_be_bytes())
    }

    /// Creates a `SETTINGS` frame of names of [`setting`] and values.
    pub fn settings(settings: &[(u16, u32)]) -> Self {
        let entry =
            |(name, value): &(u16, u32)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat();
        Self::new(
            kind::SETTINGS,
            flag::NONE,
            0,
            settings.iter().flat_map(entry).collect::<Vec<_>>(),
        )
    }

    /// Parses the frame at the start of `bytes`. Returns it with its length, or `None` if it
    /// is incomplete.
    pub fn read(bytes: &[u8]) -> Option<(Self, usize)> {
        let [a, b, c, kind, flags, stream @ ..] = *bytes.first_chunk::<9>()?;
        let end = 9 + u32::from_be_bytes([0, a, b, c]) as usize;
        let payload = bytes.get(9..end)?.to_vec();
        Some((Self { kind, flags, stream: u32::from_be_bytes(stream), payload }, end))
    }

    /// Returns the encoded frame.
    pub fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[self.kind, self.flags], &self.stream.to_be_bytes(), &self.payload].concat()
    }

    /// Returns the status of a response that begins with this frame.
    #[track_caller]
    pub fn status(&self) -> u16 {
        assert_eq!(self.kind, kind::HEADERS, "{self:?}");
        status(&self.payload).unwrap_or_else(|| panic!("no status in {self:?}"))
    }

    /// Returns the error code of `RST_STREAM` or `GOAWAY`.
    #[track_caller]
    pub fn code(&self) -> u32 {
        let at = match self.kind {
            kind::RST_STREAM => 0,
            kind::GOAWAY => 4,
            _ => panic!("not RST_STREAM or GOAWAY: {self:?}"),
        };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    /// Returns the value of a setting, if present.
    pub fn setting(&self, name: u16) -> Option<u32> {
        let entry = self.payload.chunks_exact(6).find(|entry| entry[..2] == name.to_be_bytes())?;
        Some(u32::from_be_bytes(entry[2..].try_into().unwrap()))
    }
}

/// Encodes a field section of literals without indexing (RFC 7541 section 6.2.2).
pub fn section(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut section = Vec::new();
    for (name, value) in fields {
        section.push(0);
        text(&mut section, name);
        text(&mut section, value);
    }
    section
}

/// Encodes a string without Huffman coding (RFC 7541 sections 5.1 and 5.2).
fn text(section: &mut Vec<u8>, text: &str) {
    match text.len() {
        length @ ..127 => section.push(u8::try_from(length).unwrap()),
        length => {
            section.push(127);
            let mut rest = length - 127;
            while rest >= 128 {
                section.push(u8::try_from(rest % 128).unwrap() | 128);
                rest /= 128;
            }
            section.push(u8::try_from(rest).unwrap());
        }
    }
    section.extend(text.as_bytes());
}

/// Returns the status at the start of a field section, indexed in the static table or
/// literal. The client disables the dynamic table ([`RawConnection::send_preface`]).
fn status(section: &[u8]) -> Option<u16> {
    // The first section repeats the table size update to 0.
    let section = &section[section.iter().take_while(|byte| **byte == 0x20).count()..];
    match *section {
        [indexed @ 0x88..=0x8e, ..] => {
            Some([200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)])
        }
        [0x08 | 0x48, length, ref rest @ ..] if length < 0x80 => {
            str::from_utf8(&rest[..usize::from(length)]).ok()?.parse().ok()
        }
        [0x08 | 0x48, length, ref rest @ ..] => digits(&rest[..usize::from(length & 0x7f)]),
        _ => None,
    }
}

/// Decodes three Huffman-coded digits (RFC 7541 appendix B).
fn digits(code: &[u8]) -> Option<u16> {
    let mut bits =
        code.iter().flat_map(|byte| (0..8).rev().map(move |at| u16::from(byte >> at & 1)));
    let mut take =
        |count: usize| (0..count).try_fold(0, |number, _| Some(number << 1 | bits.next()?));
    (0..3).try_fold(0, |number, _| match take(5)? {
        digit @ 0..3 => Some(10 * number + digit),
        start => Some(10 * number + (start << 1 | take(1)?) - 0b01_1001 + 3),
    })
}

/// Connection that sends any frames and bytes, valid or not.
pub struct RawConnection<S = TcpStream> {
    stream: S,
    /// Received bytes of an incomplete frame.
    unread: Vec<u8>,
}

impl RawConnection {
    /// Connects in cleartext with prior knowledge, and sends the preface with these settings.
    pub fn open(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut raw = Self::over(stream);
        raw.send_preface(settings);
        raw
    }
}

impl<S: Read + Write> RawConnection<S> {
    /// Wraps a stream, such as TLS. The caller sends the preface.
    pub fn over(stream: S) -> Self {
        Self { stream, unread: Vec::new() }
    }

    /// Returns the underlying stream.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// Sends the preface and the settings, with a header table of size 0.
    pub fn send_preface(&mut self, settings: &[(u16, u32)]) {
        let settings = [settings, &[(setting::HEADER_TABLE_SIZE, 0)]].concat();
        self.stream.write_all(&[PREFACE, &Frame::settings(&settings).bytes()].concat()).unwrap();
    }

    /// Sends frames in one write.
    #[track_caller]
    pub fn send(&mut self, frames: &[Frame]) {
        self.try_send(frames).unwrap();
    }

    /// Like [`send`](Self::send), for a server that may have closed the connection.
    ///
    /// # Errors
    /// The write failed.
    pub fn try_send(&mut self, frames: &[Frame]) -> io::Result<()> {
        self.stream.write_all(&frames.iter().flat_map(Frame::bytes).collect::<Vec<_>>())
    }

    /// Sends any bytes.
    #[track_caller]
    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Receives the next [`Frame`], or `None` at the end of the connection, also by a reset.
    #[track_caller]
    pub fn receive(&mut self) -> Option<Frame> {
        self.try_receive().expect("a frame or the end of the connection")
    }

    /// Like [`receive`](Self::receive), but returns a timeout as an error.
    fn try_receive(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.take_frame() {
                return Ok(Some(frame));
            }
            let mut piece = [0; 16 * 1024];
            match self.stream.read(&mut piece) {
                Ok(0) => return Ok(None),
                Ok(read) => self.unread.extend(&piece[..read]),
                Err(error)
                    if [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut]
                        .contains(&error.kind()) =>
                {
                    return Err(error);
                }
                Err(_) => return Ok(None),
            }
        }
    }

    fn take_frame(&mut self) -> Option<Frame> {
        let (frame, length) = Frame::read(&self.unread)?;
        self.unread.drain(..length);
        Some(frame)
    }

    /// Receives the next frame of this kind and stream, skipping others.
    #[track_caller]
    pub fn receive_frame(&mut self, kind: u8, stream: u32) -> Frame {
        let mut skipped = Vec::new();
        loop {
            match self.try_receive() {
                Ok(Some(frame)) if frame.kind == kind && frame.stream == stream => return frame,
                Ok(Some(frame)) => skipped.push(frame),
                end => panic!("no frame {kind} of stream {stream} but {end:?} after {skipped:?}"),
            }
        }
    }

    /// Receives the status of the response on a stream.
    #[track_caller]
    pub fn receive_status(&mut self, stream: u32) -> u16 {
        self.receive_frame(kind::HEADERS, stream).status()
    }

    /// Receives all frames until the end of the connection.
    #[track_caller]
    pub fn receive_all(&mut self) -> Vec<Frame> {
        std::iter::from_fn(|| self.receive()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_is_decoded_in_every_encoding() {
        for (section, expected) in [
            (&b"\x88"[..], 200),
            (b"\x20\x8d", 404),
            (b"\x08\x03401", 401),
            (b"\x48\x83\x68\x0f\x7f", 408),
            (b"\x08\x82\x68\x21", 411),
            (b"\x48\x03503\x00", 503),
        ] {
            assert_eq!(status(section), Some(expected), "{section:02x?}");
        }
        assert_eq!([status(b"\x82"), status(b"")], [None; 2]);
    }
}
