//! Bearer credentials, some with characters that are fresh in every request.

use bytes::Bytes;

/// A credential to send after `Bearer`.
#[derive(Clone, Debug)]
pub struct Credential {
    /// The token.
    pub text: String,
    /// Offset of [`FRESH_LENGTH`] characters that change in every request, if there are any.
    pub fresh: Option<usize>,
}

/// Number of characters that change in every request.
pub const FRESH_LENGTH: usize = 6;

/// An encoded request, or the part of one that contains the credential.
pub struct RequestBytes {
    bytes: Bytes,
    /// Offset of the characters that change in every request, if there are any.
    fresh: Option<usize>,
}

impl RequestBytes {
    /// Creates a request of these bytes, with [`FRESH_LENGTH`] characters at `fresh` that change.
    #[must_use]
    pub fn new(bytes: impl Into<Bytes>, fresh: Option<usize>) -> Self {
        Self { bytes: bytes.into(), fresh }
    }

    /// Returns the bytes to send with this serial number.
    #[must_use]
    pub fn with_serial(&self, serial: u64) -> Bytes {
        let Some(at) = self.fresh else { return self.bytes.clone() };
        let mut bytes = self.bytes.to_vec();
        write_fresh(&mut bytes[at..at + FRESH_LENGTH], serial);
        bytes.into()
    }
}

/// Writes a serial number as [`FRESH_LENGTH`] base64url characters: 36 bits of it.
fn write_fresh(characters: &mut [u8], mut serial: u64) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for character in characters {
        *character = DIGITS[usize::try_from(serial % 64).unwrap_or(0)];
        serial /= 64;
    }
}
