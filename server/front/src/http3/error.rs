//! HTTP/3 and QPACK errors, by their error codes (RFC 9114 section 8.1, RFC 9204 section 6).

use crate::abuse_budget::BudgetExhausted;

/// Error that resets a stream or closes the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http3Error {
    /// The error code sent to the client.
    pub code: Http3ErrorCode,
    /// The reason, for the log and the CONNECTION_CLOSE frame.
    pub reason: &'static str,
}

impl Http3Error {
    pub(super) const fn new(code: Http3ErrorCode, reason: &'static str) -> Self {
        Self { code, reason }
    }

    /// Returns whether the error closes the connection, rather than only its stream.
    #[must_use]
    pub const fn ends_connection(self) -> bool {
        !matches!(
            self.code,
            Http3ErrorCode::RequestRejected
                | Http3ErrorCode::RequestCancelled
                | Http3ErrorCode::RequestIncomplete
                | Http3ErrorCode::MessageError
                | Http3ErrorCode::ConnectError
        )
    }
}

impl From<BudgetExhausted> for Http3Error {
    fn from(BudgetExhausted(reason): BudgetExhausted) -> Self {
        Self::new(Http3ErrorCode::ExcessiveLoad, reason)
    }
}

/// An HTTP/3 or QPACK error code, by its RFC name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Http3ErrorCode {
    /// `H3_NO_ERROR`: graceful shutdown, or a response that is complete without the rest of the
    /// request.
    NoError = 0x100,
    /// `H3_GENERAL_PROTOCOL_ERROR`: a protocol violation without a more specific code.
    GeneralProtocolError = 0x101,
    /// `H3_INTERNAL_ERROR`: an error in the server.
    InternalError = 0x102,
    /// `H3_STREAM_CREATION_ERROR`: a stream that the client may not open.
    StreamCreationError = 0x103,
    /// `H3_CLOSED_CRITICAL_STREAM`: a stream that the connection requires was closed.
    ClosedCriticalStream = 0x104,
    /// `H3_FRAME_UNEXPECTED`: a frame that is not allowed in this state or on this stream.
    FrameUnexpected = 0x105,
    /// `H3_FRAME_ERROR`: a frame whose length differs from its contents.
    FrameError = 0x106,
    /// `H3_EXCESSIVE_LOAD`: an abuse budget or a hard limit was exceeded.
    ExcessiveLoad = 0x107,
    /// `H3_ID_ERROR`: an identifier that was never issued, or that moved in the wrong direction.
    IdError = 0x108,
    /// `H3_SETTINGS_ERROR`: invalid settings.
    SettingsError = 0x109,
    /// `H3_MISSING_SETTINGS`: the control stream does not begin with SETTINGS.
    MissingSettings = 0x10a,
    /// `H3_REQUEST_REJECTED`: a request that was not processed and can safely be retried.
    RequestRejected = 0x10b,
    /// `H3_REQUEST_CANCELLED`: the request or its response was abandoned.
    RequestCancelled = 0x10c,
    /// `H3_REQUEST_INCOMPLETE`: the stream ended before the request was complete.
    RequestIncomplete = 0x10d,
    /// `H3_MESSAGE_ERROR`: a malformed request.
    MessageError = 0x10e,
    /// `H3_CONNECT_ERROR`: the connection opened for a CONNECT request was reset.
    ConnectError = 0x10f,
    /// `H3_VERSION_FALLBACK`: the request cannot be served over HTTP/3.
    VersionFallback = 0x110,
    /// `QPACK_DECOMPRESSION_FAILED`: a field section that QPACK cannot decode.
    QpackDecompressionFailed = 0x200,
    /// `QPACK_ENCODER_STREAM_ERROR`: an invalid instruction on the client's encoder stream.
    QpackEncoderStreamError = 0x201,
    /// `QPACK_DECODER_STREAM_ERROR`: an invalid instruction on the client's decoder stream.
    QpackDecoderStreamError = 0x202,
}

impl Http3ErrorCode {
    /// Returns the code as sent on the wire.
    #[must_use]
    pub const fn number(self) -> u64 {
        self as u64
    }
}
