//! Hexadecimal text of digests.

use std::fmt::Write as _;

/// Encodes bytes in lower-case hexadecimal.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ignored = write!(text, "{byte:02x}");
        text
    })
}

/// Decodes a 32-byte digest from hexadecimal.
///
/// # Errors
/// `text` is not 64 hexadecimal digits.
pub fn from_hex(text: &str) -> Result<[u8; 32], String> {
    let odd = || "a SHA-256 has 64 hexadecimal digits".to_owned();
    let digits = text.as_bytes();
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(odd());
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = str::from_utf8(pair)
            .ok()
            .and_then(|pair| u8::from_str_radix(pair, 16).ok())
            .ok_or_else(odd)?;
    }
    Ok(bytes)
}
