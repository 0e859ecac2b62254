//! Texts as they may stand in a header.

/// A text as it may stand in a header: visible ASCII, percent-encoded so that it can
/// be read back and no two texts look alike.
#[must_use]
pub fn header_safe(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    escape(text, false, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// Appends a text, percent-encoded so that it can be read back: what is not visible
/// ASCII, the space, and `%` itself, so that two different texts never look alike
/// (RFC 3986 section 2.1). `list` leaves commas as they are, which else would separate.
pub(crate) fn escape(text: &str, list: bool, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |half: u8| DIGITS.get(usize::from(half)).copied().unwrap_or_default();
    for byte in text.bytes() {
        if stands_as_it_is(byte, list) {
            out.push(byte);
        } else {
            out.extend([b'%', digit(byte >> 4), digit(byte & 0xf)]);
        }
    }
}

/// Whether escaping would change nothing, as is nearly always so.
pub(crate) fn is_plain(text: &[u8], list: bool) -> bool {
    // Without a branch for each byte, so that many are looked at together.
    text.iter().fold(true, |all, byte| all & stands_as_it_is(*byte, list))
}

fn stands_as_it_is(byte: u8, list: bool) -> bool {
    byte.is_ascii_graphic() & (byte != b'%') & (list | (byte != b','))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e3_texts_are_escaped_so_that_no_two_look_alike() {
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
