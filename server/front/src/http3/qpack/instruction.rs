//! Validation of a client's QPACK streams, where the dynamic table has capacity zero (RFC 9204
//! sections 4.3 and 4.4).

use crate::http3::error::{Http3Error, Http3ErrorCode};

/// Validates data on the client's encoder stream. The only instruction that is possible sets the
/// capacity to zero, in one byte.
///
/// # Errors
/// The data has another instruction.
pub fn check_encoder_stream(bytes: &[u8]) -> Result<(), Http3Error> {
    const SET_CAPACITY_ZERO: u8 = 0x20;
    if bytes.iter().all(|byte| *byte == SET_CAPACITY_ZERO) {
        Ok(())
    } else {
        Err(Http3Error::new(
            Http3ErrorCode::QpackEncoderStreamError,
            "the dynamic table has capacity zero",
        ))
    }
}

/// The client's decoder stream, parsed incrementally.
#[derive(Debug, Default)]
pub struct DecoderStream {
    /// Bytes received of an incomplete integer.
    partial_length: u8,
}

impl DecoderStream {
    /// Validates received data. Only Stream Cancellation is possible, as no field section of the
    /// server needs acknowledgement.
    ///
    /// # Errors
    /// The data has another instruction.
    pub fn check(&mut self, bytes: &[u8]) -> Result<(), Http3Error> {
        for byte in bytes {
            self.partial_length = match (self.partial_length, byte) {
                (0, 0x40..=0x7e) => 0,
                (0, 0x7f) => 1,
                (0, _) => return Err(ACKNOWLEDGED),
                (_, 0..=0x7f) => 0,
                // Above the 62 bits of an integer.
                (9.., _) => return Err(TOO_LONG),
                (length, _) => length + 1,
            };
        }
        Ok(())
    }
}

const ACKNOWLEDGED: Http3Error =
    Http3Error::new(Http3ErrorCode::QpackDecoderStreamError, "nothing needs acknowledgement");
const TOO_LONG: Http3Error =
    Http3Error::new(Http3ErrorCode::QpackDecoderStreamError, "an integer exceeds 62 bits");
