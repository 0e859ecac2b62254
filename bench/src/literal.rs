//! String literals of HTTP/2 and HTTP/3 field sections (RFC 7541 section 5.2, RFC 9204 section
//! 4.1.2), with the Huffman code for the characters that requests and statuses use (RFC 7541
//! appendix B). The code is canonical: codes of one length are consecutive, in the order of their
//! characters. The lengths alone define it.

/// Appends a string, Huffman-coded as clients do it, or plain if it has a character with a long
/// code.
pub fn push(section: &mut Vec<u8>, text: &str) {
    const CODED: u8 = 0x80;
    match encode(text.as_bytes()) {
        Some(code) => push_string(section, CODED, &code),
        None => push_plain(section, text),
    }
}

/// Appends a string without Huffman coding.
pub fn push_plain(section: &mut Vec<u8>, text: &str) {
    push_string(section, 0, text.as_bytes());
}

/// Appends the length as an integer with a 7-bit prefix, then the bytes.
fn push_string(section: &mut Vec<u8>, flag: u8, bytes: &[u8]) {
    const FULL: usize = 0x7f;
    if bytes.len() < FULL {
        section.push(flag | low_byte(bytes.len()));
    } else {
        section.push(flag | 0x7f);
        let mut rest = bytes.len() - FULL;
        while rest >= 0x80 {
            section.push(0x80 | low_byte(rest));
            rest >>= 7;
        }
        section.push(low_byte(rest));
    }
    section.extend_from_slice(bytes);
}

/// Decodes a Huffman-coded string; `None` if it has a code of more than 8 bits.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    let (mut code, mut length) = (0, 0);
    for bit in bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| usize::from(byte >> at & 1)))
    {
        (code, length) = (code << 1 | bit, length + 1);
        if let Some((character, ..)) =
            codes().find(|(_, known, bits)| (*known, *bits) == (code, length))
        {
            text.push(character);
            (code, length) = (0, 0);
        }
    }
    let is_padding = length < 8 && code == (1 << length) - 1;
    is_padding.then_some(text)
}

/// Huffman-codes a string; `None` if it has a character with a long code.
fn encode(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let (mut bits, mut filled) = (0, 0);
    for wanted in text {
        let (_, code, length) = codes().find(|(character, ..)| character == wanted)?;
        (bits, filled) = (bits << length | code, filled + length);
        while filled >= 8 {
            filled -= 8;
            bytes.push(low_byte(bits >> filled));
        }
    }
    if filled > 0 {
        // Padding is all ones.
        bytes.push(low_byte(bits << (8 - filled) | 0xff >> filled));
    }
    Some(bytes)
}

/// The characters with short codes, by code length in bits.
const LENGTHS: [(u32, &[u8]); 4] = [
    (5, b"012aceiost"),
    (6, b" %-./3456789=A_bdfghlmnpru"),
    (7, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, b"&*,;XZ"),
];

/// Iterates over (character, code, length in bits).
fn codes() -> impl Iterator<Item = (u8, usize, u32)> {
    let mut next = 0;
    let mut before = LENGTHS[0].0;
    LENGTHS
        .iter()
        .flat_map(|(length, characters)| {
            characters.iter().map(move |character| (*character, *length))
        })
        .map(move |(character, length)| {
            next <<= length - before;
            before = length;
            next += 1;
            (character, next - 1, length)
        })
}

fn low_byte(value: usize) -> u8 {
    value.to_le_bytes()[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huffman_encodes_rfc7541_appendix_c_examples() {
        assert_eq!(
            encode(b"www.example.com").unwrap(),
            b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"
        );
        assert_eq!(encode(b"no-cache").unwrap(), b"\xa8\xeb\x10\x64\x9c\xbf");
        assert_eq!(encode(b"302").unwrap(), b"\x64\x02");
        assert_eq!(
            encode(b"Mon, 21 Oct 2013 20:13:21 GMT").unwrap()[..6],
            *b"\xd0\x7a\xbe\x94\x10\x54"
        );
    }

    #[test]
    fn string_literal_starts_with_its_length() {
        let encoded = |text: &str| {
            let mut section = Vec::new();
            push_plain(&mut section, text);
            section
        };
        assert_eq!(encoded("abc"), b"\x03abc");
        assert_eq!(encoded(&"a".repeat(127))[..2], [0x7f, 0]);
        assert_eq!(encoded(&"a".repeat(127 + 1306))[..3], [0x7f, 0x9a, 0x0a]);
        let mut coded = Vec::new();
        push(&mut coded, "no-cache");
        assert_eq!(coded, b"\x86\xa8\xeb\x10\x64\x9c\xbf");
    }

    #[test]
    fn huffman_round_trips_every_token_character() {
        let text = b"Bearer ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.";
        assert_eq!(decode(&encode(text).unwrap()).unwrap(), text);
        assert_eq!(encode(b"{"), None);
        // Eight ones are too long for padding: they start a long code.
        assert_eq!(decode(b"\xff"), None);
    }
}
