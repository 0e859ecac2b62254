//! Claims as text.

use countersign_engine::header_safe;
use serde_json::Value;

/// Returns a claim of a JSON object, for use in a header: a string with all but visible ASCII
/// percent-encoded, as in identity headers, and any other value as JSON in visible ASCII. `None` if
/// the claim is missing.
///
/// A user may choose a string, such as a display name. As it is, it could end the header.
pub(crate) fn claim(claims: &[u8], name: &str) -> Option<String> {
    match serde_json::from_slice(claims).ok()? {
        Value::Object(mut claims) => match claims.remove(name)? {
            Value::String(text) => Some(header_safe(&text)),
            value => Some(ascii(&value.to_string())),
        },
        _ => None,
    }
}

/// Escapes what is not visible ASCII in a JSON text (RFC 8259 section 7).
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_ascii_graphic() || character == ' ' {
            text.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                text.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    text
}
