//! Control streams (RFC 9114 section 6.2.1): validation of the client's, and the start of the
//! server's.

use std::mem;

use super::{
    error::{Http3Error, Http3ErrorCode},
    frame::{
        self, CANCEL_PUSH, FORBIDDEN, FrameHeader, GOAWAY, MAX_PUSH_ID, SETTINGS, is_forbidden,
        take,
    },
    varint,
};

/// The stream type of control streams.
pub(super) const CONTROL: u64 = 0x0;

/// `SETTINGS_QPACK_MAX_TABLE_CAPACITY`.
const SETTINGS_QPACK_MAX_TABLE_CAPACITY: u64 = 0x1;
/// `SETTINGS_MAX_FIELD_SECTION_SIZE`.
const SETTINGS_MAX_FIELD_SECTION_SIZE: u64 = 0x6;
/// `SETTINGS_QPACK_BLOCKED_STREAMS`.
const SETTINGS_QPACK_BLOCKED_STREAMS: u64 = 0x7;

/// Appends the start of the server's control stream: its type, and SETTINGS that limit field
/// sections to `max_field_section` and disable the QPACK dynamic table.
pub fn open(out: &mut Vec<u8>, max_field_section: u64) {
    let mut settings = Vec::new();
    for (identifier, value) in [
        (SETTINGS_QPACK_MAX_TABLE_CAPACITY, 0),
        (SETTINGS_MAX_FIELD_SECTION_SIZE, max_field_section),
        (SETTINGS_QPACK_BLOCKED_STREAMS, 0),
    ] {
        varint::write(&mut settings, identifier);
        varint::write(&mut settings, value);
    }
    varint::write(out, CONTROL);
    frame::frame(out, SETTINGS, &settings);
}

/// The client's control stream, after its type, parsed incrementally.
///
/// Responses do not depend on the client's settings: they use no dynamic table, have small field
/// sections, and nothing is pushed. The stream is validated all the same, so that a faulty client
/// receives an error code.
#[derive(Debug)]
pub struct ControlStream {
    header: FrameHeader,
    position: ControlPosition,
    /// The part of the payload received so far.
    payload: Vec<u8>,
    has_settings: bool,
    /// The last GOAWAY identifier, which may only decrease.
    goaway: u64,
    /// The last MAX_PUSH_ID, which may only increase.
    max_push: u64,
}

/// Position within the frame that is being received, with the bytes left of it.
#[derive(Clone, Copy, Debug)]
enum ControlPosition {
    FrameHeader,
    Payload { kind: u64, left: u64 },
    Skipped(u64),
}

impl Default for ControlStream {
    fn default() -> Self {
        Self {
            header: FrameHeader::EMPTY,
            position: ControlPosition::FrameHeader,
            payload: Vec::new(),
            has_settings: false,
            goaway: varint::MAX,
            max_push: 0,
        }
    }
}

impl ControlStream {
    /// Validates received data.
    ///
    /// # Errors
    /// The stream is invalid, which closes the connection.
    pub fn read(&mut self, mut bytes: &[u8]) -> Result<(), Http3Error> {
        loop {
            match self.position {
                ControlPosition::FrameHeader => {
                    let Some((kind, length)) = self.header.complete(&mut bytes, frame::header)
                    else {
                        return Ok(());
                    };
                    self.position = self.start_frame(kind, length)?;
                }
                ControlPosition::Skipped(0) => self.position = ControlPosition::FrameHeader,
                ControlPosition::Skipped(_) if bytes.is_empty() => return Ok(()),
                ControlPosition::Skipped(left) => {
                    self.position =
                        ControlPosition::Skipped(left - take(&mut bytes, left).len() as u64)
                }
                ControlPosition::Payload { kind, left } => {
                    let piece = take(&mut bytes, left);
                    self.payload.extend_from_slice(piece);
                    let left = left - piece.len() as u64;
                    if left > 0 {
                        self.position = ControlPosition::Payload { kind, left };
                        return Ok(());
                    }
                    self.position = ControlPosition::FrameHeader;
                    let payload = mem::take(&mut self.payload);
                    self.check_payload(kind, &payload)?;
                }
            }
        }
    }

    /// Decides from the header how a frame is received.
    fn start_frame(&mut self, kind: u64, left: u64) -> Result<ControlPosition, Http3Error> {
        /// Limit on the length of SETTINGS, far above any client's.
        const MAX_SETTINGS_LENGTH: u64 = 4096;
        const MAX_VARINT_LENGTH: u64 = 8;
        const DATA: u64 = 0x0;
        const HEADERS: u64 = 0x1;
        let is_first = !mem::replace(&mut self.has_settings, true);
        match kind {
            SETTINGS if !is_first => {
                Err(Http3Error::new(Http3ErrorCode::FrameUnexpected, "a second SETTINGS frame"))
            }
            SETTINGS if left > MAX_SETTINGS_LENGTH => {
                Err(Http3Error::new(Http3ErrorCode::ExcessiveLoad, "SETTINGS exceeds 4096 bytes"))
            }
            SETTINGS => Ok(ControlPosition::Payload { kind, left }),
            _ if is_first => Err(Http3Error::new(
                Http3ErrorCode::MissingSettings,
                "the first frame of the control stream is not SETTINGS",
            )),
            GOAWAY | MAX_PUSH_ID | CANCEL_PUSH if left > MAX_VARINT_LENGTH => Err(LENGTH_MISMATCH),
            GOAWAY | MAX_PUSH_ID | CANCEL_PUSH => Ok(ControlPosition::Payload { kind, left }),
            DATA | HEADERS => Err(Http3Error::new(
                Http3ErrorCode::FrameUnexpected,
                "a request frame on the control stream",
            )),
            _ if is_forbidden(kind) => Err(FORBIDDEN),
            _ => Ok(ControlPosition::Skipped(left)),
        }
    }

    fn check_payload(&mut self, kind: u64, payload: &[u8]) -> Result<(), Http3Error> {
        match kind {
            SETTINGS => settings(payload),
            GOAWAY => {
                let before = mem::replace(&mut self.goaway, single_varint(payload)?);
                if self.goaway > before {
                    Err(Http3Error::new(
                        Http3ErrorCode::IdError,
                        "the identifier in GOAWAY increased",
                    ))
                } else {
                    Ok(())
                }
            }
            MAX_PUSH_ID => {
                let before = mem::replace(&mut self.max_push, single_varint(payload)?);
                if self.max_push < before {
                    Err(Http3Error::new(Http3ErrorCode::IdError, "MAX_PUSH_ID decreased"))
                } else {
                    Ok(())
                }
            }
            // The server never promises a push (section 7.2.3).
            _ => single_varint(payload).and(Err(Http3Error::new(
                Http3ErrorCode::IdError,
                "CANCEL_PUSH for a push that was never promised",
            ))),
        }
    }
}

const LENGTH_MISMATCH: Http3Error =
    Http3Error::new(Http3ErrorCode::FrameError, "the length of a frame differs from its contents");

/// Parses a payload that is a single varint.
fn single_varint(payload: &[u8]) -> Result<u64, Http3Error> {
    match varint::read(payload) {
        Some((integer, length)) if length == payload.len() => Ok(integer),
        _ => Err(LENGTH_MISMATCH),
    }
}

/// Validates the settings of a client (section 7.2.4).
fn settings(mut payload: &[u8]) -> Result<(), Http3Error> {
    let mut identifiers = Vec::new();
    while !payload.is_empty() {
        // A setting is a pair of varints, as a frame header is.
        let ((identifier, _), length) = frame::header(payload).ok_or(LENGTH_MISMATCH)?;
        payload = &payload[length..];
        if matches!(identifier, 0x2..=0x5) {
            return Err(Http3Error::new(
                Http3ErrorCode::SettingsError,
                "a setting reserved from HTTP/2",
            ));
        }
        identifiers.push(identifier);
    }
    // Sorting finds duplicates in O(n log n). 4096 bytes hold about 2,000 settings.
    identifiers.sort_unstable();
    if identifiers.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(Http3Error::new(Http3ErrorCode::SettingsError, "a duplicate setting"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
