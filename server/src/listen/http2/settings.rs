//! Settings (RFC 9113 section 6.5).

use super::{
    fault::{Code, Fault},
    frame::{self, MOST_31_BITS, MOST_PAYLOAD, flag, kind},
};

const HEADER_TABLE_SIZE: u16 = 0x1;
const ENABLE_PUSH: u16 = 0x2;
const MAX_CONCURRENT_STREAMS: u16 = 0x3;
const INITIAL_WINDOW_SIZE: u16 = 0x4;
const MAX_FRAME_SIZE: u16 = 0x5;
const MAX_HEADER_LIST_SIZE: u16 = 0x6;

/// Appends ours.
pub(super) fn ours(out: &mut Vec<u8>, streams: u32, window: u32, section: u32) {
    let mut payload = Vec::new();
    for (name, value) in [
        (MAX_CONCURRENT_STREAMS, streams),
        (INITIAL_WINDOW_SIZE, window),
        (MAX_HEADER_LIST_SIZE, section),
    ] {
        payload.extend_from_slice(&name.to_be_bytes());
        payload.extend_from_slice(&value.to_be_bytes());
    }
    frame::frame(out, kind::SETTINGS, flag::NONE, 0, &payload);
}

/// What a client has said of that which matters to us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// `SETTINGS_INITIAL_WINDOW_SIZE`.
    pub(super) initial_window: Option<u32>,
    /// Whether it has made the table smaller that we do not use.
    pub(super) shrinks_table: bool,
}

/// Reads the settings of a client. What is not about our answers is checked and no more:
/// we push nothing, and send no frame that is longer than all clients take.
///
/// # Errors
/// One of them must not be.
pub(super) fn read(payload: &[u8]) -> Result<Said, Fault> {
    const DEFAULT_TABLE: u32 = 4096;
    let (settings, rest) = payload.as_chunks::<6>();
    if !rest.is_empty() {
        return Err(Fault::frame_size("settings end within one"));
    }
    let mut said = Said::default();
    for [a, b, value @ ..] in settings {
        let value = u32::from_be_bytes(*value);
        match (u16::from_be_bytes([*a, *b]), value) {
            (HEADER_TABLE_SIZE, ..DEFAULT_TABLE) => said.shrinks_table = true,
            (ENABLE_PUSH, 2..) => return Err(Fault::protocol("ENABLE_PUSH is neither 0 nor 1")),
            (INITIAL_WINDOW_SIZE, ..=MOST_31_BITS) => said.initial_window = Some(value),
            (INITIAL_WINDOW_SIZE, _) => {
                return Err(Fault::new(
                    Code::FlowControlError,
                    "INITIAL_WINDOW_SIZE is larger than a window",
                ));
            }
            (MAX_FRAME_SIZE, value) if !is_frame_size(value) => {
                return Err(Fault::protocol("MAX_FRAME_SIZE is out of its bounds"));
            }
            _ => {}
        }
    }
    Ok(said)
}

fn is_frame_size(value: u32) -> bool {
    const MOST: usize = (1 << 24) - 1;
    usize::try_from(value).is_ok_and(|value| (MOST_PAYLOAD..=MOST).contains(&value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(settings: &[(u16, u32)]) -> Vec<u8> {
        settings
            .iter()
            .flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect()
    }

    #[test]
    fn the_last_of_several_counts_and_unknown_ones_do_not() {
        let said = read(&of(&[(0x4, 1), (0xf0f0, 7), (0x4, 2), (0x3, 0), (0x6, 0), (0x8, 1)]));
        assert_eq!(said, Ok(Said { initial_window: Some(2), shrinks_table: false }));
        assert_eq!(read(&[]), Ok(Said::default()));
        assert_eq!(
            read(&of(&[(0x1, 4095), (0x1, 70_000)])).map(|said| said.shrinks_table),
            Ok(true)
        );
        assert_eq!(read(&of(&[(0x1, 4096)])).map(|said| said.shrinks_table), Ok(false));
    }

    #[test]
    fn values_out_of_bounds_are_refused_with_the_code_of_their_own() {
        for (name, value, expected) in [
            (0x2, 1, None),
            (0x2, 2, Some(Code::ProtocolError)),
            (0x4, 0x7fff_ffff, None),
            (0x4, 0x8000_0000, Some(Code::FlowControlError)),
            (0x5, 16_383, Some(Code::ProtocolError)),
            (0x5, 16_384, None),
            (0x5, 16_777_215, None),
            (0x5, 16_777_216, Some(Code::ProtocolError)),
        ] {
            assert_eq!(
                read(&of(&[(name, value)])).err().map(|fault| fault.code),
                expected,
                "{name} {value}"
            );
        }
        for length in 1..6 {
            assert_eq!(
                read(&of(&[(0x3, 1), (0x3, 1)])[..6 + length]).err().map(|fault| fault.code),
                Some(Code::FrameSizeError)
            );
        }
    }

    #[test]
    fn ours_would_do() {
        let mut out = Vec::new();
        ours(&mut out, 128, 65_536, 32_768);
        assert_eq!(out[..9], [0, 0, 18, 4, 0, 0, 0, 0, 0]);
        assert_eq!(
            read(&out[9..]),
            Ok(Said { initial_window: Some(65_536), shrinks_table: false })
        );
    }
}
