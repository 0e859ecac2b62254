//! [`shown_path`]: a path as operators see it. Links to reset a password, invitations and signed
//! downloads have tokens in their paths.

use super::access_log::path_only;

/// A text of at most `N` bytes, or the start of a longer one.
#[derive(Clone, Copy)]
pub(super) struct FixedText<const N: usize> {
    bytes: [u8; N],
    length: usize,
    is_cut_off: bool,
}

impl<const N: usize> PartialEq for FixedText<N> {
    fn eq(&self, other: &Self) -> bool {
        // Most texts are much shorter than the longest.
        (self.length, self.is_cut_off) == (other.length, other.is_cut_off)
            && self.bytes[..self.length] == other.bytes[..other.length]
    }
}

impl<const N: usize> FixedText<N> {
    /// The empty text.
    pub(super) const EMPTY: Self = Self { bytes: [0; N], length: 0, is_cut_off: false };

    /// Returns a text, or its start.
    pub(super) fn new(text: &str) -> Self {
        let mut start = Self::EMPTY;
        start.push(text);
        start
    }

    /// Returns the text, with an ellipsis if it is cut off.
    pub(super) fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.bytes[..self.length]);
        if self.is_cut_off { format!("{text}{ELLIPSIS}") } else { text.into_owned() }
    }

    fn push(&mut self, text: &str) {
        if self.is_cut_off {
            return;
        }
        let start = &text[..text.floor_char_boundary(N - self.length)];
        self.bytes[self.length..self.length + start.len()].copy_from_slice(start.as_bytes());
        self.length += start.len();
        self.is_cut_off = start.len() < text.len();
    }
}

/// In place of what is not shown.
const ELLIPSIS: &str = "…";
/// The starts of `{"` and of `{` before white space in Base64: those of the header of a JWT.
const JWT_STARTS: [(&[u8; 2], &[u8]); 2] = [(b"ey", b"ABCDIJKL"), (b"ew", b"klmnopqr0123")];
/// Shortest text with such a start that is a token, in bytes.
const MIN_TOKEN: usize = 10;

/// Returns the path of a target, with an ellipsis in place of the query, of what follows an encoded
/// question mark, and of whatever may be a token: what looks like a JWT, and the value of a
/// parameter whose name ends in `token`.
pub(super) fn shown_path<const N: usize>(target: &str) -> FixedText<N> {
    let (mut rest, mut shown) = (path_only(target), FixedText::EMPTY);
    while let Some((start, end)) = find_secret(rest.as_bytes(), N)
        && !shown.is_cut_off
    {
        shown.push(&rest[..start]);
        shown.push(ELLIPSIS);
        rest = &rest[end..];
    }
    shown.push(rest);
    shown
}

/// Returns where the first secret begins and ends, if it begins before a limit. Both are next to
/// ASCII characters.
fn find_secret(path: &[u8], limit: usize) -> Option<(usize, usize)> {
    let mut is_start = true;
    let mut at = 0;
    while at < path.len().min(limit) {
        let rest = &path[at..];
        if let Some(mark) = encoded_length(rest, b'f').filter(|mark| rest.len() > *mark) {
            return Some((at + mark, path.len()));
        }
        if is_start && is_jwt(rest) {
            return Some((at, at + value_length(rest)));
        }
        if let Some(name) = token_name_length(rest) {
            let length = value_length(&rest[name..]);
            if length > 0 {
                return Some((at + name, at + name + length));
            }
        }
        let is_encoded = matches!(
            rest,
            [b'%', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit()
        );
        is_start = is_encoded || !rest[0].is_ascii_alphanumeric();
        at += if is_encoded { 3 } else { 1 };
    }
    None
}

/// Whether a text starts as a JWT does.
fn is_jwt(text: &[u8]) -> bool {
    let [first, second, third, ..] = *text else { return false };
    let is_start =
        |(two, thirds): &(&[u8; 2], &[u8])| **two == [first, second] && thirds.contains(&third);
    let has_start = JWT_STARTS.iter().any(is_start);
    has_start && text.iter().take(MIN_TOKEN).filter(|byte| is_base64(**byte)).count() == MIN_TOKEN
}

/// Returns the length of `token=` at the start of a text, in any case, whose characters may be
/// encoded.
fn token_name_length(text: &[u8]) -> Option<usize> {
    let mut rest = text;
    for expected in b"token" {
        let (character, behind) = first_character(rest)?;
        if !character.eq_ignore_ascii_case(expected) {
            return None;
        }
        rest = behind;
    }
    let length = text.len() - rest.len();
    let delimiter = if rest.starts_with(b"=") { Some(1) } else { encoded_length(rest, b'd') };
    delimiter.map(|delimiter| length + delimiter)
}

/// Returns the first character of a text, decoded, and the rest.
fn first_character(text: &[u8]) -> Option<(u8, &[u8])> {
    let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|one| u8::try_from(one).ok());
    match text {
        [b'%', high, low, rest @ ..] => Some((digit(*high)? << 4 | digit(*low)?, rest)),
        [first, rest @ ..] => Some((*first, rest)),
        [] => None,
    }
}

/// Returns the length of an encoded character at the start of a text, `%3F` for `f`, which may be
/// encoded twice.
fn encoded_length(text: &[u8], digit: u8) -> Option<usize> {
    let start = ["%3", "%253"].into_iter().find(|start| text.starts_with(start.as_bytes()))?;
    let is_digit = text.get(start.len()).is_some_and(|byte| byte.eq_ignore_ascii_case(&digit));
    is_digit.then_some(start.len() + 1)
}

/// Returns the length of a value: it ends at a delimiter of segments or parameters.
fn value_length(text: &[u8]) -> usize {
    text.iter().position(|byte| b"/;,&".contains(byte)).unwrap_or(text.len())
}

const fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    const JWT: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl";

    fn shown(target: &str) -> String {
        shown_path::<160>(target).text()
    }

    #[test]
    fn token_in_a_path_is_not_shown() {
        for (target, expected) in [
            (format!("/reset/{JWT}"), "/reset/…"),
            (format!("/reset/{JWT}/now?x"), "/reset/…/now"),
            (format!("/a;jwt={JWT};v=1/b"), "/a;jwt=…;v=1/b"),
            (format!("/a/Bearer%20{JWT}"), "/a/Bearer%20…"),
            ("/a/eyAiYWxnIjogIm5vbmUifQ.e30.".into(), "/a/…"),
            ("/a/ewogImFsZyI6ICJub25lIn0.e30.".into(), "/a/…"),
            ("/x;token=abc".into(), "/x;token=…"),
            ("/x;Access_Token%3Dabc;y=1".into(), "/x;Access_Token%3D…;y=1"),
            ("/x/token=abc/y".into(), "/x/token=…/y"),
            ("/x%3Faccess_token=abc".into(), "/x%3F…"),
            ("/x%3fa/b/c".into(), "/x%3f…"),
            ("/x%253Faccess_token%253Da".into(), "/x%253F…"),
            ("/x;token%253Dabc".into(), "/x;token%253D…"),
            ("/x;t%6Fken=abc".into(), "/x;t%6Fken=…"),
            ("/x;%54%4fKEN%3dabc;b".into(), "/x;%54%4fKEN%3d…;b"),
            (format!("/reset-{JWT}"), "/reset-…"),
            (format!("/reset_{JWT}"), "/reset_…"),
            ("/%C3%A9/é/token=é".into(), "/%C3%A9/é/token=…"),
        ] {
            assert_eq!(shown(&target), expected, "{target}");
        }
    }

    #[test]
    fn other_paths_are_shown_as_they_are() {
        for path in [
            "",
            "/",
            "/orders/7",
            "/js/jquery.min.js",
            "/eyewear/eyJ",
            "/keyJhbGciOiJIUzI1NiJ9",
            "/tokens/7",
            "/api/token",
            "/token=",
            "/token=/x",
            "/a%3F",
            "/a%3",
            "/a%",
            "/a%zz/é",
        ] {
            assert_eq!(shown(path), path);
        }
    }

    #[test]
    fn token_behind_the_end_of_a_long_path_is_not_shown() {
        for length in 140..170 {
            let start = format!("/{}/", "a".repeat(length));
            let text = shown(&format!("{start}{JWT}"));
            assert!(!text.contains("ey") && text.ends_with(ELLIPSIS), "{text}");
        }
    }

    #[test]
    fn long_texts_are_cut_off_between_characters() {
        let text = FixedText::<4>::new("abcé");
        assert_eq!(text.text(), "abc…");
        assert_eq!(FixedText::<5>::new("abcé").text(), "abcé");
        assert_eq!(FixedText::<5>::new("").text(), "");
    }
}
