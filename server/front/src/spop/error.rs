//! Errors of SPOP, by their status codes.

/// Error that closes a connection. HAProxy receives it in an AGENT-DISCONNECT frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpopError {
    /// The status code.
    pub status: SpopStatus,
    /// The reason, for HAProxy and the log. It contains no part of the input.
    pub reason: &'static str,
}

/// A status code of a DISCONNECT frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum SpopStatus {
    /// The connection closes without an error.
    Normal = 0,
    /// A frame did not arrive in time.
    Timeout = 2,
    /// A frame is longer than the maximum.
    FrameTooBig = 3,
    /// A frame is malformed, or unexpected.
    InvalidFrame = 4,
    /// HAPROXY-HELLO lacks the versions.
    NoVersion = 5,
    /// HAPROXY-HELLO lacks the maximum length of frames.
    NoMaxFrameSize = 6,
    /// HAPROXY-HELLO lacks the capabilities.
    NoCapabilities = 7,
    /// No version of HAPROXY-HELLO is supported.
    UnsupportedVersion = 8,
    /// The maximum length of frames is too small.
    BadMaxFrameSize = 9,
    /// A payload is fragmented, which is not supported.
    Fragmented = 10,
    /// The input cannot be kept.
    Resources = 13,
}

impl SpopError {
    /// Creates an error.
    #[must_use]
    pub const fn new(status: SpopStatus, reason: &'static str) -> Self {
        Self { status, reason }
    }

    /// Creates the error of a frame that is malformed, or unexpected.
    #[must_use]
    pub const fn invalid(reason: &'static str) -> Self {
        Self::new(SpopStatus::InvalidFrame, reason)
    }
}

impl SpopStatus {
    /// Returns the code as sent on the wire.
    #[must_use]
    pub const fn number(self) -> u32 {
        self as u32
    }
}
