//! What a client can do wrong, by the codes that it is told (RFC 9113 section 7).

/// Why a stream or a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2Error {
    /// What the client is told.
    pub code: Http2ErrorCode,
    /// The same in words.
    pub reason: &'static str,
}

impl Http2Error {
    pub(super) const fn new(code: Http2ErrorCode, reason: &'static str) -> Self {
        Self { code, reason }
    }

    pub(super) const fn protocol(reason: &'static str) -> Self {
        Self::new(Http2ErrorCode::ProtocolError, reason)
    }

    pub(super) const fn frame_size(reason: &'static str) -> Self {
        Self::new(Http2ErrorCode::FrameSizeError, reason)
    }
}

/// A code, by its name in the RFC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Http2ErrorCode {
    /// `NO_ERROR`: there is nothing wrong.
    NoError = 0x0,
    /// `PROTOCOL_ERROR`: wrong in a way that has no other code.
    ProtocolError = 0x1,
    /// `FLOW_CONTROL_ERROR`: more than a window has room for, or a window beyond all
    /// bounds.
    FlowControlError = 0x3,
    /// `STREAM_CLOSED`: something more of a stream that has ended.
    StreamClosed = 0x5,
    /// `FRAME_SIZE_ERROR`: a frame of the wrong length.
    FrameSizeError = 0x6,
    /// `REFUSED_STREAM`: a request that nobody has looked at.
    RefusedStream = 0x7,
    /// `CANCEL`: an answer that is not given any more.
    Cancel = 0x8,
    /// `COMPRESSION_ERROR`: a field section that cannot be read.
    CompressionError = 0x9,
    /// `ENHANCE_YOUR_CALM`: more than anybody needs.
    EnhanceYourCalm = 0xb,
}

impl Http2ErrorCode {
    /// The number that travels.
    #[must_use]
    pub const fn number(self) -> u32 {
        self as u32
    }
}
