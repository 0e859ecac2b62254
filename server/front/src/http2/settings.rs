//! SETTINGS frames (RFC 9113 section 6.5).

use super::{
    error::{Http2Error, Http2ErrorCode},
    frame::{self, MAX_31_BITS, MAX_PAYLOAD, flag, kind},
};

const SETTINGS_HEADER_TABLE_SIZE: u16 = 0x1;
const SETTINGS_ENABLE_PUSH: u16 = 0x2;
const SETTINGS_MAX_CONCURRENT_STREAMS: u16 = 0x3;
const SETTINGS_INITIAL_WINDOW_SIZE: u16 = 0x4;
const SETTINGS_MAX_FRAME_SIZE: u16 = 0x5;
const SETTINGS_MAX_HEADER_LIST_SIZE: u16 = 0x6;

/// Appends a SETTINGS frame with the server's settings.
pub(super) fn write(out: &mut Vec<u8>, streams: u32, window: u32, section: u32) {
    let mut payload = Vec::new();
    for (name, value) in [
        (SETTINGS_MAX_CONCURRENT_STREAMS, streams),
        (SETTINGS_INITIAL_WINDOW_SIZE, window),
        (SETTINGS_MAX_HEADER_LIST_SIZE, section),
    ] {
        payload.extend_from_slice(&name.to_be_bytes());
        payload.extend_from_slice(&value.to_be_bytes());
    }
    frame::frame(out, kind::SETTINGS, flag::NONE, 0, &payload);
}

/// The settings of a client that affect our responses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PeerSettings {
    /// `SETTINGS_INITIAL_WINDOW_SIZE`.
    pub(super) initial_window: Option<u32>,
    /// Whether `SETTINGS_HEADER_TABLE_SIZE` was below its default. The encoder uses no dynamic
    /// table, but it has to acknowledge the change.
    pub(super) lowers_table_size: bool,
}

/// Parses the settings of a client. Settings that do not affect responses are validated and
/// ignored: the server never pushes, and never sends a frame above the minimum
/// `SETTINGS_MAX_FRAME_SIZE`.
///
/// # Errors
/// A setting has an invalid value, or the payload is not a whole number of settings.
pub(super) fn read(payload: &[u8]) -> Result<PeerSettings, Http2Error> {
    const DEFAULT_TABLE: u32 = 4096;
    let (settings, rest) = payload.as_chunks::<6>();
    if !rest.is_empty() {
        return Err(Http2Error::frame_size(
            "the payload of SETTINGS is not a multiple of six bytes",
        ));
    }
    let mut parsed = PeerSettings::default();
    for [a, b, value @ ..] in settings {
        let value = u32::from_be_bytes(*value);
        match (u16::from_be_bytes([*a, *b]), value) {
            (SETTINGS_HEADER_TABLE_SIZE, ..DEFAULT_TABLE) => parsed.lowers_table_size = true,
            (SETTINGS_ENABLE_PUSH, 2..) => {
                return Err(Http2Error::protocol("SETTINGS_ENABLE_PUSH is neither 0 nor 1"));
            }
            (SETTINGS_INITIAL_WINDOW_SIZE, ..=MAX_31_BITS) => parsed.initial_window = Some(value),
            (SETTINGS_INITIAL_WINDOW_SIZE, _) => {
                return Err(Http2Error::new(
                    Http2ErrorCode::FlowControlError,
                    "SETTINGS_INITIAL_WINDOW_SIZE is above 2^31-1",
                ));
            }
            (SETTINGS_MAX_FRAME_SIZE, value) if !is_frame_size(value) => {
                return Err(Http2Error::protocol("SETTINGS_MAX_FRAME_SIZE is out of range"));
            }
            _ => {}
        }
    }
    Ok(parsed)
}

fn is_frame_size(value: u32) -> bool {
    const MAX_FRAME_SIZE_LIMIT: usize = (1 << 24) - 1;
    usize::try_from(value).is_ok_and(|value| (MAX_PAYLOAD..=MAX_FRAME_SIZE_LIMIT).contains(&value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload_of(settings: &[(u16, u32)]) -> Vec<u8> {
        settings
            .iter()
            .flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect()
    }

    #[test]
    fn last_duplicate_setting_wins_unknown_are_ignored() {
        let parsed =
            read(&payload_of(&[(0x4, 1), (0xf0f0, 7), (0x4, 2), (0x3, 0), (0x6, 0), (0x8, 1)]));
        assert_eq!(parsed, Ok(PeerSettings { initial_window: Some(2), lowers_table_size: false }));
        assert_eq!(read(&[]), Ok(PeerSettings::default()));
        assert_eq!(
            read(&payload_of(&[(0x1, 4095), (0x1, 70_000)])).map(|parsed| parsed.lowers_table_size),
            Ok(true)
        );
        assert_eq!(
            read(&payload_of(&[(0x1, 4096)])).map(|parsed| parsed.lowers_table_size),
            Ok(false)
        );
    }

    #[test]
    fn invalid_setting_values_have_specific_error_codes() {
        for (name, value, expected) in [
            (0x2, 1, None),
            (0x2, 2, Some(Http2ErrorCode::ProtocolError)),
            (0x4, 0x7fff_ffff, None),
            (0x4, 0x8000_0000, Some(Http2ErrorCode::FlowControlError)),
            (0x5, 16_383, Some(Http2ErrorCode::ProtocolError)),
            (0x5, 16_384, None),
            (0x5, 16_777_215, None),
            (0x5, 16_777_216, Some(Http2ErrorCode::ProtocolError)),
        ] {
            assert_eq!(
                read(&payload_of(&[(name, value)])).err().map(|error| error.code),
                expected,
                "{name} {value}"
            );
        }
        for length in 1..6 {
            assert_eq!(
                read(&payload_of(&[(0x3, 1), (0x3, 1)])[..6 + length])
                    .err()
                    .map(|error| error.code),
                Some(Http2ErrorCode::FrameSizeError)
            );
        }
    }

    #[test]
    fn own_settings_are_valid() {
        let mut out = Vec::new();
        write(&mut out, 128, 65_536, 32_768);
        assert_eq!(out[..9], [0, 0, 18, 4, 0, 0, 0, 0, 0]);
        assert_eq!(
            read(&out[9..]),
            Ok(PeerSettings { initial_window: Some(65_536), lowers_table_size: false })
        );
    }
}
