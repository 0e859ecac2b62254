//! HTTP/2 frame by frame (RFC 9113), for what no well-meaning client says.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// What every client says first (RFC 9113 section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a frame is (section 6).
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

/// What is said of a frame.
pub mod flag {
    #![expect(missing_docs, reason = "they are explained in the RFC, by these names")]
    pub const NONE: u8 = 0x0;
    pub const END_STREAM: u8 = 0x1;
    pub const ACK: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
}

/// What a client may be told when something ends (section 7).
pub mod code {
    #![expect(missing_docs, reason = "they are explained in the RFC, by these names")]
    pub const NO_ERROR: u32 = 0x0;
    pub const PROTOCOL_ERROR: u32 = 0x1;
    pub const FLOW_CONTROL_ERROR: u32 = 0x3;
    pub const STREAM_CLOSED: u32 = 0x5;
    pub const FRAME_SIZE_ERROR: u32 = 0x6;
    pub const REFUSED_STREAM: u32 = 0x7;
    pub const CANCEL: u32 = 0x8;
    pub const ENHANCE_YOUR_CALM: u32 = 0xb;
}

/// What a client may want to be otherwise (section 6.5.2).
pub mod setting {
    #![expect(missing_docs, reason = "they are explained in the RFC, by these names")]
    pub const HEADER_TABLE_SIZE: u16 = 0x1;
    pub const MAX_CONCURRENT_STREAMS: u16 = 0x3;
    pub const INITIAL_WINDOW_SIZE: u16 = 0x4;
    pub const MAX_HEADER_LIST_SIZE: u16 = 0x6;
}

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// One of [`kind`].
    pub kind: u8,
    /// Some of [`flag`].
    pub flags: u8,
    /// The stream that it is about; 0 for the connection.
    pub stream: u32,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl Frame {
    /// One with these contents.
    pub fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self { kind, flags, stream, payload: payload.into() }
    }

    /// A request that is all there.
    pub fn request(stream: u32, fields: &[(&str, &str)]) -> Self {
        Self::new(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream, section(fields))
    }

    /// A request whose body follows.
    pub fn head(stream: u32, fields: &[(&str, &str)]) -> Self {
        Self::new(kind::HEADERS, flag::END_HEADERS, stream, section(fields))
    }

    /// The end of a stream, for a reason.
    pub fn reset(stream: u32, code: u32) -> Self {
        Self::new(kind::RST_STREAM, flag::NONE, stream, code.to_be_bytes())
    }

    /// Settings.
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

    /// The frame at the start of some bytes, and how many those are, if it is all there.
    pub fn read(bytes: &[u8]) -> Option<(Self, usize)> {
        let [a, b, c, kind, flags, stream @ ..] = *bytes.first_chunk::<9>()?;
        let end = 9 + u32::from_be_bytes([0, a, b, c]) as usize;
        let payload = bytes.get(9..end)?.to_vec();
        Some((Self { kind, flags, stream: u32::from_be_bytes(stream), payload }, end))
    }

    /// Its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[self.kind, self.flags], &self.stream.to_be_bytes(), &self.payload].concat()
    }

    /// The status of an answer that begins with it.
    #[track_caller]
    pub fn status(&self) -> u16 {
        assert_eq!(self.kind, kind::HEADERS, "{self:?}");
        status(&self.payload).unwrap_or_else(|| panic!("no status: {self:?}"))
    }

    /// The code that ends a stream or a connection.
    #[track_caller]
    pub fn code(&self) -> u32 {
        let at = match self.kind {
            kind::RST_STREAM => 0,
            kind::GOAWAY => 4,
            _ => panic!("no end: {self:?}"),
        };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    /// The value of a setting that it has.
    pub fn setting(&self, name: u16) -> Option<u32> {
        let entry = self.payload.chunks_exact(6).find(|entry| entry[..2] == name.to_be_bytes())?;
        Some(u32::from_be_bytes(entry[2..].try_into().unwrap()))
    }
}

/// A field section of literals (RFC 7541 section 6.2.2), which no table remembers.
pub fn section(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut section = Vec::new();
    for (name, value) in fields {
        section.push(0);
        text(&mut section, name);
        text(&mut section, value);
    }
    section
}

/// A string without Huffman's code (sections 5.1 and 5.2).
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

/// The status that a field section begins with, from the static table or in digits. The
/// client has said that there is no other table.
fn status(section: &[u8]) -> Option<u16> {
    // That the table has no room is repeated in the first section.
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

/// A number of three digits in Huffman's code (RFC 7541 appendix B).
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

/// A connection on which everything may be said.
pub struct Raw<S = TcpStream> {
    stream: S,
    /// What was read and is no whole frame.
    unread: Vec<u8>,
}

impl Raw {
    /// Connects by prior knowledge, with these settings.
    pub fn open(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut raw = Self::over(stream);
        raw.begin(settings);
        raw
    }
}

impl<S: Read + Write> Raw<S> {
    /// One over something else, on which nothing was said yet.
    pub fn over(stream: S) -> Self {
        Self { stream, unread: Vec::new() }
    }

    /// What it is over.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// Says what comes first.
    pub fn begin(&mut self, settings: &[(u16, u32)]) {
        let settings = [settings, &[(setting::HEADER_TABLE_SIZE, 0)]].concat();
        self.stream.write_all(&[PREFACE, &Frame::settings(&settings).bytes()].concat()).unwrap();
    }

    /// Sends frames in one go.
    #[track_caller]
    pub fn send(&mut self, frames: &[Frame]) {
        self.try_send(frames).unwrap();
    }

    /// The same to somebody who may have hung up.
    ///
    /// # Errors
    /// That of the system.
    pub fn try_send(&mut self, frames: &[Frame]) -> io::Result<()> {
        self.stream.write_all(&frames.iter().flat_map(Frame::bytes).collect::<Vec<_>>())
    }

    /// Sends bytes, which need not be frames.
    #[track_caller]
    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next frame; `None` at the end of the connection, in order or not.
    #[track_caller]
    pub fn receive(&mut self) -> Option<Frame> {
        self.try_receive().expect("a frame, or the end")
    }

    /// The same, or that nothing is said for a long time.
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

    /// The next frame of this kind and of this stream; what comes before it is skipped.
    #[track_caller]
    pub fn receive_of(&mut self, kind: u8, stream: u32) -> Frame {
        let mut skipped = Vec::new();
        loop {
            match self.try_receive() {
                Ok(Some(frame)) if frame.kind == kind && frame.stream == stream => return frame,
                Ok(Some(frame)) => skipped.push(frame),
                end => panic!("no frame {kind} of stream {stream} but {end:?} after {skipped:?}"),
            }
        }
    }

    /// The status that a request is answered with.
    #[track_caller]
    pub fn answer(&mut self, stream: u32) -> u16 {
        self.receive_of(kind::HEADERS, stream).status()
    }

    /// Asks for the end of everything, and returns all that comes before it.
    #[track_caller]
    pub fn receive_all(&mut self) -> Vec<Frame> {
        std::iter::from_fn(|| self.receive()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_however_it_is_written() {
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
