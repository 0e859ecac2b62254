//! Bearer credentials, some with characters that are fresh in every request.

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

/// Writes a serial number as [`FRESH_LENGTH`] base64url characters: 36 bits of it.
pub fn write_fresh(characters: &mut [u8], mut serial: u64) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for character in characters {
        *character = DIGITS[usize::try_from(serial % 64).unwrap_or(0)];
        serial /= 64;
    }
}
