//! QPACK field sections of requests and answers (RFC 9204), without the dynamic table: the client
//! announces a capacity of zero, and does not use the server's table.

use crate::{e2e::credential::Credential, literal};

/// Prefix of a field section that does not refer to the dynamic table.
const PREFIX: [u8; 2] = [0, 0];

/// Encodes the field section of a request for `/auth`. Returns it with the offset of the
/// credential's fresh characters.
pub(super) fn request(credential: Option<&Credential>) -> (Vec<u8>, Option<usize>) {
    /// Indexes of the static table (RFC 9204 appendix A).
    const GET: u8 = 0xc0 | 17;
    const HTTPS: u8 = 0xc0 | 23;
    const AUTHORITY: u8 = 0x50;
    const PATH: u8 = 0x50 | 1;
    /// Index 84, of which the first byte holds 15.
    const AUTHORIZATION: [u8; 2] = [0x50 | 15, 84 - 15];
    let mut section = [&PREFIX[..], &[GET, HTTPS]].concat();
    section.push(AUTHORITY);
    literal::push(&mut section, "bench");
    section.push(PATH);
    literal::push(&mut section, "/auth");
    let Some(Credential { text, fresh }) = credential else { return (section, None) };
    section.extend(AUTHORIZATION);
    let bearer = format!("Bearer {text}");
    match fresh {
        None => literal::push(&mut section, &bearer),
        // Not Huffman-coded: the length of the code would change with the characters.
        Some(_) => literal::push_plain(&mut section, &bearer),
    }
    let fresh = fresh.map(|at| section.len() - text.len() + at);
    (section, fresh)
}

/// Returns the status of an answer, which is the first field line of its section.
pub(super) fn status(section: &[u8]) -> Option<u16> {
    const INDEXED: u8 = 0xc0;
    const NAMED: u8 = 0x50;
    const CODED: u8 = 0x80;
    /// A 4-bit prefix with all bits set: the next byte adds to it.
    const FULL: u8 = 0x0f;
    let (first, rest) = section.strip_prefix(&PREFIX)?.split_first()?;
    if first & INDEXED == INDEXED {
        return match first & 0x3f {
            0x3f => known(rest.first()?.checked_add(0x3f)?),
            index => known(index),
        };
    }
    // The name is that of a known status. The never-index bit is ignored.
    let (index, rest) = match first & FULL {
        FULL => (rest.first()?.checked_add(FULL)?, rest.get(1..)?),
        index => (index, rest),
    };
    known(index).filter(|_| first & !0x20 & !FULL == NAMED)?;
    let (length, rest) = rest.split_first()?;
    let value = rest.get(..usize::from(length & !CODED))?;
    let value = if length & CODED == 0 { value.to_vec() } else { literal::decode(value)? };
    std::str::from_utf8(&value).ok()?.parse().ok()
}

/// Returns a status of the static table.
fn known(index: u8) -> Option<u16> {
    const FIRST: [u16; 5] = [103, 200, 304, 404, 503];
    const SECOND: [u16; 9] = [100, 204, 206, 302, 400, 403, 421, 425, 500];
    match index {
        24..=28 => FIRST.get(usize::from(index) - 24).copied(),
        63..=71 => SECOND.get(usize::from(index) - 63).copied(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_is_read_in_each_encoding() {
        assert_eq!(status(b"\0\0\xd9"), Some(200));
        assert_eq!(status(b"\0\0\xff\x05and more"), Some(403));
        // As h3 and quic-go encode 401: the name of another status, and a Huffman-coded value.
        let mut coded = b"\0\0\x5f\x09".to_vec();
        literal::push(&mut coded, "401");
        assert_eq!(status(&coded), Some(401));
        assert_eq!(status(b"\0\0\x7f\x09\x03429"), Some(429));
        // Content-Length first.
        assert_eq!(status(b"\0\0\xc4\xd9"), None);
        assert_eq!(status(b"\0\0"), None);
    }

    #[test]
    fn request_contains_the_credential_at_its_offset() {
        let (text, fresh) = ("a.b.0123456789".repeat(20), Some(5));
        let (section, at) = request(Some(&Credential { text: text.clone(), fresh }));
        assert!(section[at.unwrap()..].starts_with(b"123456"));
        assert!(section.ends_with(text.as_bytes()));
        let (coded, at) = request(Some(&Credential { text, fresh: None }));
        assert!(coded.len() < section.len() && at.is_none());
        assert!(coded.starts_with(&request(None).0));
    }
}
