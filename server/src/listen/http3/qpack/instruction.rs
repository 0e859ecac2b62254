//! What a client's QPACK streams may say to one that has no dynamic table (RFC 9204
//! sections 4.3 and 4.4).

use crate::listen::http3::fault::{Http3Error, Http3ErrorCode};

/// Checks a part of the client's encoder stream: the only thing left to say is that the
/// table has the capacity zero, and that is one byte.
///
/// # Errors
/// It says something else.
pub fn check_encoder_stream(bytes: &[u8]) -> Result<(), Http3Error> {
    const SET_CAPACITY_ZERO: u8 = 0x20;
    match bytes.iter().all(|byte| *byte == SET_CAPACITY_ZERO) {
        true => Ok(()),
        false => Err(Http3Error::new(
            Http3ErrorCode::QpackEncoderStreamError,
            "the dynamic table has no room",
        )),
    }
}

/// The client's decoder stream, in whatever pieces it comes.
#[derive(Debug, Default)]
pub struct DecoderStream {
    /// How many bytes of an integer have come whose end has not.
    within: u8,
}

impl DecoderStream {
    /// Checks what has come: streams that it will not read on, and nothing else, as no
    /// field section of ours is to be acknowledged.
    ///
    /// # Errors
    /// It says something else.
    pub fn check(&mut self, bytes: &[u8]) -> Result<(), Http3Error> {
        for byte in bytes {
            self.within = match (self.within, byte) {
                (0, 0x40..=0x7e) => 0,
                (0, 0x7f) => 1,
                (0, _) => return Err(ACKNOWLEDGED),
                (_, 0..=0x7f) => 0,
                // More than the 62 bits that an integer may have.
                (9.., _) => return Err(ENDLESS),
                (length, _) => length + 1,
            };
        }
        Ok(())
    }
}

const ACKNOWLEDGED: Http3Error = Http3Error::new(
    Http3ErrorCode::QpackDecoderStreamError,
    "what needs no acknowledgement is acknowledged",
);
const ENDLESS: Http3Error =
    Http3Error::new(Http3ErrorCode::QpackDecoderStreamError, "an integer has no end");
