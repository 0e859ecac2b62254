//! ControlStream streams (RFC 9114 section 6.2.1): that of the client, which is checked and
//! then of no use to us, and the beginning of our own.

use std::mem;

use super::{
    fault::{Http3Error, Http3ErrorCode},
    frame::{
        self, CANCEL_PUSH, FORBIDDEN, FrameHeader, GOAWAY, MAX_PUSH_ID, SETTINGS, is_forbidden,
        take,
    },
    varint,
};

/// The type of control streams.
pub(super) const CONTROL: u64 = 0x0;

/// `SETTINGS_QPACK_MAX_TABLE_CAPACITY`.
const SETTINGS_QPACK_MAX_TABLE_CAPACITY: u64 = 0x1;
/// `SETTINGS_MAX_FIELD_SECTION_SIZE`.
const SETTINGS_MAX_FIELD_SECTION_SIZE: u64 = 0x6;
/// `SETTINGS_QPACK_BLOCKED_STREAMS`.
const SETTINGS_QPACK_BLOCKED_STREAMS: u64 = 0x7;

/// Appends the beginning of our control stream: its type, and the settings that no field
/// section is larger than `max_field_section` and none needs a dynamic table.
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

/// The control stream of a client behind its type, in whatever pieces it comes.
///
/// We send the same answers whatever its settings are: no dynamic table is used, no
/// field section is large, and nothing is pushed. They are checked all the same, so that
/// a client that is mistaken learns it.
#[derive(Debug)]
pub struct ControlStream {
    header: FrameHeader,
    position: ControlPosition,
    /// The part of a payload that has come.
    payload: Vec<u8>,
    has_settings: bool,
    /// What the client does not want any more: it goes down only.
    goaway: u64,
    /// What it would take: it goes up only.
    max_push: u64,
}

/// Where in a frame the next byte belongs, and how many more do.
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
    /// Checks what has come.
    ///
    /// # Errors
    /// A client does not send that.
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

    /// What to do with a frame of this header.
    fn start_frame(&mut self, kind: u64, left: u64) -> Result<ControlPosition, Http3Error> {
        /// More settings than anybody has.
        const MAX_SETTINGS_LENGTH: u64 = 4096;
        const MAX_VARINT_LENGTH: u64 = 8;
        const DATA: u64 = 0x0;
        const HEADERS: u64 = 0x1;
        let is_first = !mem::replace(&mut self.has_settings, true);
        match kind {
            SETTINGS if !is_first => {
                Err(Http3Error::new(Http3ErrorCode::FrameUnexpected, "settings came twice"))
            }
            SETTINGS if left > MAX_SETTINGS_LENGTH => Err(Http3Error::new(
                Http3ErrorCode::ExcessiveLoad,
                "settings have more than 4096 bytes",
            )),
            SETTINGS => Ok(ControlPosition::Payload { kind, left }),
            _ if is_first => Err(Http3Error::new(
                Http3ErrorCode::MissingSettings,
                "a control stream begins with something else than settings",
            )),
            GOAWAY | MAX_PUSH_ID | CANCEL_PUSH if left > MAX_VARINT_LENGTH => Err(LENGTH),
            GOAWAY | MAX_PUSH_ID | CANCEL_PUSH => Ok(ControlPosition::Payload { kind, left }),
            DATA | HEADERS => Err(Http3Error::new(
                Http3ErrorCode::FrameUnexpected,
                "a frame of a request is on the control stream",
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
                        "a second GOAWAY takes the first back",
                    ))
                } else {
                    Ok(())
                }
            }
            MAX_PUSH_ID => {
                let before = mem::replace(&mut self.max_push, single_varint(payload)?);
                if self.max_push < before {
                    Err(Http3Error::new(Http3ErrorCode::IdError, "MAX_PUSH_ID went down"))
                } else {
                    Ok(())
                }
            }
            // Section 7.2.3.
            _ => single_varint(payload).and(Err(Http3Error::new(
                Http3ErrorCode::IdError,
                "CANCEL_PUSH is about a push that nobody promised",
            ))),
        }
    }
}

const LENGTH: Http3Error = Http3Error::new(
    Http3ErrorCode::FrameError,
    "the length of a frame is not that of its contents",
);

/// The only integer of a payload.
fn single_varint(payload: &[u8]) -> Result<u64, Http3Error> {
    match varint::read(payload) {
        Some((integer, length)) if length == payload.len() => Ok(integer),
        _ => Err(LENGTH),
    }
}

/// Checks the settings of a client (section 7.2.4).
fn settings(mut payload: &[u8]) -> Result<(), Http3Error> {
    let mut identifiers = Vec::new();
    while !payload.is_empty() {
        // They look like the header of a frame.
        let ((identifier, _), length) = frame::header(payload).ok_or(LENGTH)?;
        payload = &payload[length..];
        if matches!(identifier, 0x2..=0x5) {
            return Err(Http3Error::new(
                Http3ErrorCode::SettingsError,
                "a setting is one of HTTP/2",
            ));
        }
        identifiers.push(identifier);
    }
    // Sorted, as there may be two thousand.
    identifiers.sort_unstable();
    match identifiers.windows(2).any(|pair| pair[0] == pair[1]) {
        true => Err(Http3Error::new(Http3ErrorCode::SettingsError, "a setting came twice")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests;
