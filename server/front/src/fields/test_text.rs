//! Field sections and bytes as text, for the tests of HPACK and QPACK.

use super::section::FieldSection;

/// Formats a section, one line each.
pub(crate) fn to_text(section: FieldSection<'_>) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    section.lines().map(|(name, value)| format!("{}={}\n", text(name), text(value))).collect()
}

/// Parses hexadecimal digits, as the RFCs print them.
///
/// # Panics
/// They are not pairs of digits.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}
