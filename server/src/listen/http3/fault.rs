//! What a client can do wrong, by the codes that it is told (RFC 9114 section 8.1,
//! RFC 9204 section 6).

/// Why a stream or a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http3Error {
    /// What the client is told.
    pub code: Http3ErrorCode,
    /// The same in words.
    pub reason: &'static str,
}

impl Http3Error {
    pub(super) const fn new(code: Http3ErrorCode, reason: &'static str) -> Self {
        Self { code, reason }
    }

    /// Whether the connection ends with it, or its stream alone.
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

/// A code, by its name in the RFCs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Http3ErrorCode {
    /// `H3_NO_ERROR`: there is nothing wrong.
    NoError = 0x100,
    /// `H3_GENERAL_PROTOCOL_ERROR`: wrong in a way that has no code.
    GeneralProtocolError = 0x101,
    /// `H3_INTERNAL_ERROR`: the mistake is ours.
    InternalError = 0x102,
    /// `H3_STREAM_CREATION_ERROR`: a stream that the client must not open.
    StreamCreationError = 0x103,
    /// `H3_CLOSED_CRITICAL_STREAM`: a stream ended that lasts as long as the connection.
    ClosedCriticalStream = 0x104,
    /// `H3_FRAME_UNEXPECTED`: a frame that may not come, or not now, or not there.
    FrameUnexpected = 0x105,
    /// `H3_FRAME_ERROR`: a frame whose length and contents disagree.
    FrameError = 0x106,
    /// `H3_EXCESSIVE_LOAD`: more than anybody needs.
    ExcessiveLoad = 0x107,
    /// `H3_ID_ERROR`: an identifier that was never given, or goes the wrong way.
    IdError = 0x108,
    /// `H3_SETTINGS_ERROR`: settings that must not be.
    SettingsError = 0x109,
    /// `H3_MISSING_SETTINGS`: the control stream begins with something else.
    MissingSettings = 0x10a,
    /// `H3_REQUEST_REJECTED`: a request that nobody has looked at.
    RequestRejected = 0x10b,
    /// `H3_REQUEST_CANCELLED`: a request whose answer is not wanted, or not given.
    RequestCancelled = 0x10c,
    /// `H3_REQUEST_INCOMPLETE`: a stream that ended before its request did.
    RequestIncomplete = 0x10d,
    /// `H3_MESSAGE_ERROR`: a malformed request.
    MessageError = 0x10e,
    /// `H3_CONNECT_ERROR`: the other side of a tunnel is gone.
    ConnectError = 0x10f,
    /// `H3_VERSION_FALLBACK`: to be asked over another version of HTTP.
    VersionFallback = 0x110,
    /// `QPACK_DECOMPRESSION_FAILED`: a field section that cannot be read.
    QpackDecompressionFailed = 0x200,
    /// `QPACK_ENCODER_STREAM_ERROR`: an instruction of the client's encoder.
    QpackEncoderStreamError = 0x201,
    /// `QPACK_DECODER_STREAM_ERROR`: an instruction of the client's decoder.
    QpackDecoderStreamError = 0x202,
}

impl Http3ErrorCode {
    /// The number that travels.
    #[must_use]
    pub const fn number(self) -> u64 {
        self as u64
    }
}
