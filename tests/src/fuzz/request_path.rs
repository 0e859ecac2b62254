//! Request targets, as rules by route compare them.

use countersign_server::authorization::request_path::{EncodedSlash, canonical};

/// The longest path that is not refused.
const MAX_PATH_BYTES: usize = 8 * 1024;

/// Fuzz target: any text as a request target. A canonical path has one reading: the segments of a
/// naive decoder, without any that servers read differently.
pub fn request_path(data: &[u8]) {
    let Ok(target) = str::from_utf8(data) else { return };
    for slash in [EncodedSlash::Ambiguous, EncodedSlash::Kept] {
        let Ok(path) = canonical(target, slash) else { continue };
        assert!(path.starts_with('/'), "{target:?}: {path:?}");
        assert!(!path.contains(['\\', ';', '?', '#']), "{target:?}: {path:?}");
        assert!(!path.chars().any(char::is_control), "{target:?}: {path:?}");
        let mut segments = path.split('/').skip(1).peekable();
        while let Some(segment) = segments.next() {
            assert!(!matches!(segment, "." | ".."), "{target:?}: {path:?}");
            assert!(!segment.is_empty() || segments.peek().is_none(), "{target:?}: {path:?}");
        }
        assert_eq!(path, naive_path(target, slash), "{target:?}");
        // Encoding it again, whole, gives the same path.
        let encoded = encode(&path, slash);
        if encoded.len() <= MAX_PATH_BYTES {
            assert_eq!(canonical(&encoded, slash).as_deref(), Ok(&*path), "{encoded:?}");
        }
    }
}

/// Decodes the path of a target that is known to be unambiguous.
fn naive_path(target: &str, slash: EncodedSlash) -> String {
    let path = match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => {
            &rest[rest.find(['/', '?']).unwrap_or(rest.len())..]
        }
        _ => target,
    };
    let path = path.split('?').next().unwrap_or_default();
    if path.is_empty() {
        return "/".to_owned();
    }
    let mut pieces = path.split('%');
    let mut decoded = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        match u8::from_str_radix(&piece[..2], 16).unwrap() {
            b'/' if slash == EncodedSlash::Kept => decoded.extend_from_slice(b"%2F"),
            byte => decoded.push(byte),
        }
        decoded.extend_from_slice(&piece.as_bytes()[2..]);
    }
    String::from_utf8(decoded).unwrap()
}

/// Writes each byte of a path in hexadecimal, besides its slashes.
fn encode(path: &str, slash: EncodedSlash) -> String {
    let encode = |byte: u8| match byte {
        b'/' => "/".to_owned(),
        byte => format!("%{byte:02x}"),
    };
    let all = |text: &str| text.bytes().map(encode).collect::<String>();
    match slash {
        EncodedSlash::Ambiguous => all(path),
        // The text of an encoded slash is in a canonical path for a slash alone.
        EncodedSlash::Kept => path.split("%2F").map(all).collect::<Vec<_>>().join("%2f"),
    }
}
