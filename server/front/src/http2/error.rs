//! HTTP/2 errors, by their error codes (RFC 9113 section 7).

use crate::abuse_budget::BudgetExhausted;

/// Error that resets a stream or closes the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2Error {
    /// The error code sent to the client, in RST_STREAM or GOAWAY.
    pub code: Http2ErrorCode,
    /// The reason, for the log and the debug data of GOAWAY.
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

impl From<BudgetExhausted> for Http2Error {
    fn from(BudgetExhausted(reason): BudgetExhausted) -> Self {
        Self::new(Http2ErrorCode::EnhanceYourCalm, reason)
    }
}

/// An HTTP/2 error code, by its RFC name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Http2ErrorCode {
    /// `NO_ERROR`: graceful shutdown, or a response that is complete without the rest of the
    /// request.
    NoError = 0x0,
    /// `PROTOCOL_ERROR`: a protocol violation without a more specific code.
    ProtocolError = 0x1,
    /// `FLOW_CONTROL_ERROR`: data beyond a flow-control window, or a window beyond 2^31-1.
    FlowControlError = 0x3,
    /// `STREAM_CLOSED`: a frame on a stream that has already ended.
    StreamClosed = 0x5,
    /// `FRAME_SIZE_ERROR`: a frame of invalid length.
    FrameSizeError = 0x6,
    /// `REFUSED_STREAM`: a request that was not processed and can safely be retried.
    RefusedStream = 0x7,
    /// `CANCEL`: the response was abandoned.
    Cancel = 0x8,
    /// `COMPRESSION_ERROR`: a field block that HPACK cannot decode.
    CompressionError = 0x9,
    /// `ENHANCE_YOUR_CALM`: an abuse budget or a hard limit was exceeded.
    EnhanceYourCalm = 0xb,
}

impl Http2ErrorCode {
    /// Returns the code as sent on the wire.
    #[must_use]
    pub const fn number(self) -> u32 {
        self as u32
    }
}
