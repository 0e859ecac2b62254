//! Canonical request paths: the one spelling of a path that rules are compared with.
//!
//! Proxies and applications disagree about `//`, `..`, `%2F` and `;`. A rule that is compared with
//! one reading protects nothing if the application uses another, so a path with several readings is
//! not normalized but refused ([`AmbiguousPath`]). Other percent-encoding has one meaning, and is
//! decoded once (RFC 3986 section 6.2.2.2).

use std::{borrow::Cow, fmt, str};

use countersign_front::http1::head::split_absolute;

/// Longest path that is compared with rules, in bytes.
const MAX_PATH_BYTES: usize = 8 * 1024;
/// An encoded slash in a canonical path, where it is allowed.
pub(super) const ENCODED_SLASH: &str = "%2F";

/// How `%2F` in a path is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EncodedSlash {
    /// The path is ambiguous.
    #[default]
    Ambiguous,
    /// It stays `%2F`, a part of its segment. No literal of a rule is equal to such a segment.
    Kept,
}

/// The reason why a path is ambiguous.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AmbiguousPath {
    /// It does not start with a slash.
    NotAbsolute,
    /// It has an empty segment.
    EmptySegment,
    /// It has a segment `.` or `..`, which may be encoded.
    DotSegment,
    /// It has an encoded slash.
    EncodedSlash,
    /// It has a backslash, which may be encoded.
    Backslash,
    /// It has a semicolon, which may be encoded and starts parameters of a segment.
    Semicolon,
    /// It has a control character, which may be encoded.
    ControlCharacter,
    /// It has a percent sign without two hexadecimal digits.
    PercentSign,
    /// It is percent-encoded twice.
    EncodedTwice,
    /// It has an encoded `?` or `#`.
    EncodedDelimiter,
    /// It has a fragment.
    Fragment,
    /// It has a letter beyond ASCII that is equal to one of ASCII if letters' case is ignored.
    SimilarLetter,
    /// It is not UTF-8 once decoded.
    NotUtf8,
    /// It is longer than 8 KiB.
    TooLong,
}

impl AmbiguousPath {
    /// Returns the reason in words.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::NotAbsolute => "it does not start with /",
            Self::EmptySegment => "it has an empty segment (//)",
            Self::DotSegment => "it has a segment . or ..",
            Self::EncodedSlash => "it has an encoded slash (%2F)",
            Self::Backslash => "it has a backslash",
            Self::Semicolon => "it has a semicolon",
            Self::ControlCharacter => "it has a control character",
            Self::PercentSign => "it has a % without two hexadecimal digits",
            Self::EncodedTwice => "it is percent-encoded twice",
            Self::EncodedDelimiter => "it has an encoded ? or #",
            Self::Fragment => "it has a fragment (#)",
            Self::SimilarLetter => "it has a letter that can be taken for k or s",
            Self::NotUtf8 => "it is not UTF-8 once decoded",
            Self::TooLong => "it is longer than 8 KiB",
        }
    }
}

impl fmt::Display for AmbiguousPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// Returns the canonical path of a request target in origin or absolute form, without its query. It
/// is borrowed unless something is decoded.
///
/// # Errors
/// Why the path is ambiguous.
pub fn canonical(target: &str, slash: EncodedSlash) -> Result<Cow<'_, str>, AmbiguousPath> {
    let path = path_of(target)?;
    if path.len() > MAX_PATH_BYTES {
        return Err(AmbiguousPath::TooLong);
    }
    // Whether a segment is empty or of dots shows at its first two bytes.
    let (mut is_decoded, mut previous, mut has_dots) = (false, 0, false);
    for byte in path.bytes() {
        match byte {
            b'/' if previous == b'/' => return Err(AmbiguousPath::EmptySegment),
            b'.' => has_dots |= previous == b'/',
            b'%' => is_decoded = true,
            byte if BYTE_CLASSES[usize::from(byte)] != ByteClass::Plain => check_raw(byte)?,
            _ => {}
        }
        previous = byte;
    }
    let path = if is_decoded { Cow::Owned(decode(path, slash)?) } else { Cow::Borrowed(path) };
    if is_decoded || has_dots {
        check_segments(&path)?;
    }
    if !path.is_ascii() {
        check_unicode(&path)?;
    }
    Ok(path)
}

/// Cuts scheme, host and query from a target.
fn path_of(target: &str) -> Result<&str, AmbiguousPath> {
    let target = if target.starts_with('/') {
        target
    } else {
        match split_absolute(target) {
            Some((authority, rest)) if is_plain_authority(authority) => rest,
            _ => return Err(AmbiguousPath::NotAbsolute),
        }
    };
    match memchr::memchr(b'?', target.as_bytes()).map_or(target, |query| &target[..query]) {
        "" => Ok("/"),
        path => Ok(path),
    }
}

/// Whether an authority certainly ends where it seems to.
fn is_plain_authority(authority: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    !authority.is_empty() && authority.bytes().all(is_plain)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ByteClass {
    Plain,
    Special,
}

/// Which bytes need a look.
const BYTE_CLASSES: [ByteClass; 256] = {
    let mut classes = [ByteClass::Plain; 256];
    let mut byte = 0;
    while byte < 0x20 {
        classes[byte] = ByteClass::Special;
        byte += 1;
    }
    classes[0x7f] = ByteClass::Special;
    classes[b'\\' as usize] = ByteClass::Special;
    classes[b';' as usize] = ByteClass::Special;
    classes[b'#' as usize] = ByteClass::Special;
    classes
};

/// Checks a byte that is written as it is.
const fn check_raw(byte: u8) -> Result<(), AmbiguousPath> {
    match byte {
        b'\\' => Err(AmbiguousPath::Backslash),
        b';' => Err(AmbiguousPath::Semicolon),
        b'#' => Err(AmbiguousPath::Fragment),
        0..0x20 | 0x7f => Err(AmbiguousPath::ControlCharacter),
        _ => Ok(()),
    }
}

/// Decodes a path once.
fn decode(path: &str, slash: EncodedSlash) -> Result<String, AmbiguousPath> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut bytes = path.bytes();
    // Hexadecimal digits that would make another encoded byte of a decoded percent sign.
    let mut digits_missing = 0;
    while let Some(byte) = bytes.next() {
        let byte = if byte == b'%' {
            let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
            let (high, low) = (digit(bytes.next()), digit(bytes.next()));
            let (Some(high), Some(low)) = (high, low) else {
                return Err(AmbiguousPath::PercentSign);
            };
            match u8::try_from(high << 4 | low).unwrap_or_default() {
                b'/' if slash == EncodedSlash::Kept => {
                    decoded.extend_from_slice(ENCODED_SLASH.as_bytes());
                    digits_missing = 0;
                    continue;
                }
                b'/' => return Err(AmbiguousPath::EncodedSlash),
                b'?' | b'#' => return Err(AmbiguousPath::EncodedDelimiter),
                byte => byte,
            }
        } else {
            byte
        };
        check_raw(byte)?;
        digits_missing = match (byte, digits_missing) {
            // Only a decoded percent sign gets here.
            (b'%', _) => 2,
            (byte, 1) if byte.is_ascii_hexdigit() => return Err(AmbiguousPath::EncodedTwice),
            (byte, 2) if byte.is_ascii_hexdigit() => 1,
            _ => 0,
        };
        decoded.push(byte);
    }
    String::from_utf8(decoded).map_err(|_| AmbiguousPath::NotUtf8)
}

/// Checks that no segment is empty, except the last, and none consists of dots. An encoded slash
/// also separates segments here.
fn check_segments(path: &str) -> Result<(), AmbiguousPath> {
    let parts = || path.split('/').flat_map(|segment| segment.split(ENCODED_SLASH));
    if parts().any(|part| part == "." || part == "..") {
        return Err(AmbiguousPath::DotSegment);
    }
    let inner = parts().count().saturating_sub(2);
    if parts().skip(1).take(inner).any(str::is_empty) {
        return Err(AmbiguousPath::EmptySegment);
    }
    Ok(())
}

/// Checks the characters beyond ASCII.
fn check_unicode(path: &str) -> Result<(), AmbiguousPath> {
    /// The long s and the Kelvin sign (CaseFolding.txt of Unicode).
    const FOLDED_TO_ASCII: [char; 2] = ['\u{17f}', '\u{212a}'];
    if path.contains(char::is_control) {
        return Err(AmbiguousPath::ControlCharacter);
    }
    if path.contains(FOLDED_TO_ASCII) {
        return Err(AmbiguousPath::SimilarLetter);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e7_ambiguous_paths_are_refused() {
        use AmbiguousPath as A;
        for (target, reason) in [
            ("", A::NotAbsolute),
            ("*", A::NotAbsolute),
            ("a/b", A::NotAbsolute),
            ("idp.example:443", A::NotAbsolute),
            ("ftp://host/a", A::NotAbsolute),
            ("http:///a", A::NotAbsolute),
            ("http://host#/a", A::NotAbsolute),
            (r"http://host\@other/a", A::NotAbsolute),
            ("//a", A::EmptySegment),
            ("/a//b", A::EmptySegment),
            ("/a//", A::EmptySegment),
            ("/%61//b", A::EmptySegment),
            ("http://host//a", A::EmptySegment),
            ("/.", A::DotSegment),
            ("/..", A::DotSegment),
            ("/a/../b", A::DotSegment),
            ("/a/./b", A::DotSegment),
            ("/a/.%2e/b", A::DotSegment),
            ("/a/%2E%2e", A::DotSegment),
            ("/a/%2e", A::DotSegment),
            ("/a%2Fb", A::EncodedSlash),
            ("/a%2fb", A::EncodedSlash),
            ("/%2e%2e%2fb", A::EncodedSlash),
            (r"/a\b", A::Backslash),
            ("/a%5Cb", A::Backslash),
            ("/a%5cb", A::Backslash),
            ("/a;b=c/d", A::Semicolon),
            ("/a%3Bb", A::Semicolon),
            ("/..;/b", A::Semicolon),
            ("/a%00", A::ControlCharacter),
            ("/a%0a", A::ControlCharacter),
            ("/a\tb", A::ControlCharacter),
            ("/a\u{7f}", A::ControlCharacter),
            ("/a%7F", A::ControlCharacter),
            ("/a%C2%85", A::ControlCharacter),
            ("/a%", A::PercentSign),
            ("/a%4", A::PercentSign),
            ("/a%4/", A::PercentSign),
            ("/a%zz", A::PercentSign),
            ("/a%u0041", A::PercentSign),
            ("/a%+1", A::PercentSign),
            ("/a%252Fb", A::EncodedTwice),
            ("/a%2561", A::EncodedTwice),
            ("/a%25%36%31", A::EncodedTwice),
            ("/a%25%2561", A::EncodedTwice),
            ("/a%3Fb", A::EncodedDelimiter),
            ("/a%23b", A::EncodedDelimiter),
            ("/a#b", A::Fragment),
            ("/%E2%84%AAafka", A::SimilarLetter),
            ("/u\u{17f}er", A::SimilarLetter),
            ("/a%ff", A::NotUtf8),
            ("/a%c0%ae%c0%ae/b", A::NotUtf8),
            ("/a%C3", A::NotUtf8),
        ] {
            assert_eq!(canonical(target, EncodedSlash::Ambiguous), Err(reason), "{target}");
            if reason != A::EncodedSlash {
                assert_eq!(canonical(target, EncodedSlash::Kept), Err(reason), "{target}");
            }
        }
        assert_eq!(
            canonical(&format!("/{}", "a".repeat(MAX_PATH_BYTES)), EncodedSlash::Kept),
            Err(A::TooLong)
        );
    }

    #[test]
    fn e7_path_has_one_canonical_spelling() {
        for (target, path) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b/"),
            ("/a?b=//../%2F;#", "/a"),
            ("/?x", "/"),
            ("http://host", "/"),
            ("http://host?x", "/"),
            ("HTTPS://host:8443/a?x", "/a"),
            ("/%61%64min", "/admin"),
            ("/%41", "/A"),
            ("/a%20b", "/a b"),
            ("/caf%C3%A9", "/café"),
            ("/café", "/café"),
            ("/%2a", "/*"),
            ("/100%25", "/100%"),
            ("/%25zz", "/%zz"),
            ("/%254", "/%4"),
            ("/%254z", "/%4z"),
            ("/...", "/..."),
            ("/.well-known/x", "/.well-known/x"),
            ("/a..b/.c", "/a..b/.c"),
            ("/a:b@c,d=e&f+g'(h)*!$", "/a:b@c,d=e&f+g'(h)*!$"),
        ] {
            let found = canonical(target, EncodedSlash::Ambiguous);
            assert_eq!(found.as_deref(), Ok(path), "{target}");
            let is_borrowed = matches!(found, Ok(Cow::Borrowed(_)));
            assert_eq!(is_borrowed, !target.split('?').next().unwrap().contains('%'), "{target}");
        }
        let longest = format!("/{}", "a".repeat(MAX_PATH_BYTES - 1));
        assert_eq!(canonical(&longest, EncodedSlash::Ambiguous).as_deref(), Ok(&*longest));
    }

    #[test]
    fn e7_encoded_slash_can_be_kept_in_its_segment() {
        let kept = |target| canonical(target, EncodedSlash::Kept);
        assert_eq!(kept("/r/a%2fb%2F%63/d").as_deref(), Ok("/r/a%2Fb%2Fc/d"));
        for target in ["/r/..%2Fa", "/r/a%2F..", "/r/%2E%2e%2Fa", "/r/a%2f.%2Fb"] {
            assert_eq!(kept(target), Err(AmbiguousPath::DotSegment), "{target}");
        }
        for target in ["/r/x%2F%2Fadmin", "/%2Fadmin", "/r/%2F", "/r%2F/a", "/r/a%2F/"] {
            assert_eq!(kept(target), Err(AmbiguousPath::EmptySegment), "{target}");
        }
        assert_eq!(kept("/r/a%2F").as_deref(), Ok("/r/a%2F"));
        // No other spelling becomes the same canonical path.
        assert_eq!(kept("/r/a%252Fb"), Err(AmbiguousPath::EncodedTwice));
    }
}
