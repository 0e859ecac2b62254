//! Percent-encoding of claims for HTTP headers.

/// Encodes a text for use in an HTTP header: visible ASCII, with everything else percent-encoded.
/// The encoding is reversible, so two different texts never look alike.
#[must_use]
pub fn header_safe(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    escape(text, false, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// Appends a text, percent-encoding the space, `%` and everything outside visible ASCII (RFC 3986
/// section 2.1).
///
/// The encoding is reversible, so two different texts never look alike. Commas are encoded too,
/// because they separate list items, unless `list` is set.
pub(crate) fn escape(text: &str, list: bool, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |half: u8| DIGITS.get(usize::from(half)).copied().unwrap_or_default();
    for byte in text.bytes() {
        if is_unescaped(byte, list) {
            out.push(byte);
        } else {
            out.extend([b'%', digit(byte >> 4), digit(byte & 0xf)]);
        }
    }
}

/// Whether [`escape`] would change nothing, which is the usual case.
pub(crate) fn is_plain(text: &[u8], list: bool) -> bool {
    // No branch per byte, so that the compiler can vectorize the loop.
    text.iter().fold(true, |all, byte| all & is_unescaped(*byte, list))
}

fn is_unescaped(byte: u8, list: bool) -> bool {
    byte.is_ascii_graphic() & (byte != b'%') & (list | (byte != b','))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e3_escaped_texts_stay_distinct() {
        for (text, safe) in [
            ("bob", "bob"),
            ("", ""),
            ("a b", "a%20b"),
            ("a%20b", "a%2520b"),
            ("évé", "%C3%A9v%C3%A9"),
            ("x\r\nX-Auth-User: root", "x%0D%0AX-Auth-User:%20root"),
            ("a,b", "a%2Cb"),
            ("\u{7f}\0", "%7F%00"),
            ("https://idp/\"q\"", "https://idp/\"q\""),
        ] {
            assert_eq!(header_safe(text), safe, "{text:?}");
            assert_eq!(is_plain(text.as_bytes(), false), text == safe, "{text:?}");
        }
        let mut list = Vec::new();
        escape("api,a b", true, &mut list);
        assert_eq!(list, b"api,a%20b");
        assert!(is_plain(b"api,agent", true));
    }
}
