//! Encodings of a shared secret in the configuration: `key_encoding`.
//!
//! A secret that is a text is often a valid base64url text too, and then gives other bytes without
//! an error. So a secret in the default encoding that [looks like a text](looks_like_text) gets a
//! hint.

use base64::{
    Engine as _,
    alphabet::{Alphabet, STANDARD, URL_SAFE},
    engine::{
        DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::URL_SAFE_NO_PAD,
    },
};

/// Encoding of a shared secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecretEncoding {
    /// Base64 with the URL-safe alphabet (RFC 4648 section 5), as `countersign key generate`
    /// prints.
    #[default]
    Base64Url,
    /// Base64 (RFC 4648 section 4), also over several lines.
    Base64,
    /// Hexadecimal digits, in any case.
    Hex,
    /// The UTF-8 bytes of the text itself, without one line end after it.
    Text,
}

/// Lenient base64: padding is optional and trailing bits are ignored, as in the other programs that
/// read the same configuration. Tokens never use it.
const fn lenient(alphabet: &Alphabet) -> GeneralPurpose {
    let config = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    GeneralPurpose::new(alphabet, config)
}

const SECRET_BASE64URL: GeneralPurpose = lenient(&URL_SAFE);
const SECRET_BASE64: GeneralPurpose = lenient(&STANDARD);

impl SecretEncoding {
    /// All encodings.
    pub const ALL: [Self; 4] = [Self::Base64Url, Self::Base64, Self::Hex, Self::Text];

    /// Returns the value of `key_encoding`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Base64Url => "base64url",
            Self::Base64 => "base64",
            Self::Hex => "hex",
            Self::Text => "text",
        }
    }

    /// Decodes a secret. White space around it is ignored, except by [`Text`](Self::Text).
    #[must_use]
    pub fn decode(self, text: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Base64Url => SECRET_BASE64URL.decode(text.trim_ascii()).ok(),
            Self::Base64 => SECRET_BASE64.decode(without_white_space(text)).ok(),
            Self::Hex => decode_hex(&without_white_space(text)),
            Self::Text => {
                let text = text.strip_suffix(b"\n").unwrap_or(text);
                let text = text.strip_suffix(b"\r").unwrap_or(text);
                str::from_utf8(text).is_ok().then(|| text.to_vec())
            }
        }
    }

    /// Returns the other encodings in which a text is a secret of at least `bytes`, the likeliest
    /// first.
    pub fn alternatives(self, text: &[u8], bytes: usize) -> Vec<Self> {
        let others = [Self::Hex, Self::Base64Url, Self::Base64, Self::Text];
        let others = others.into_iter().filter(|other| *other != self);
        let is_secret = |other: &Self| other.decode(text).is_some_and(|one| one.len() >= bytes);
        others.filter(is_secret).collect()
    }
}

fn without_white_space(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect()
}

fn decode_hex(digits: &[u8]) -> Option<Vec<u8>> {
    let value =
        |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    pairs.iter().map(|[high, low]| Some(value(*high)? << 4 | value(*low)?)).collect()
}

/// Returns what a secret in urlsafe base64 looks like, if it is hardly the base64 of random bytes.
///
/// Of keys with 32 random bytes, fewer than one in ten million look like a text.
#[must_use]
pub fn looks_like_text(text: &str) -> Option<&'static str> {
    let text = text.trim();
    let count = |class: fn(&u8) -> bool| text.as_bytes().iter().filter(|byte| class(byte)).count();
    let (lower, upper) = (count(u8::is_ascii_lowercase), count(u8::is_ascii_uppercase));
    if text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        Some("hexadecimal digits")
    } else if is_uuid(text) {
        Some("a UUID")
    } else if has_words(text) || lower == 0 || upper == 0 || lower * 5 >= text.len() * 4 {
        Some("words")
    } else if !text.ends_with('=') && URL_SAFE_NO_PAD.decode(text).is_err() {
        Some("a text, since no encoder of base64 ends with its last character")
    } else {
        None
    }
}

/// Whether a text has the form of RFC 9562 section 4.
fn is_uuid(text: &str) -> bool {
    let lengths: Vec<_> = text.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

/// Whether a text is four words or more, in lower case but for their first letter.
fn has_words(text: &str) -> bool {
    let is_word = |word: &str| {
        let mut letters = word.bytes();
        letters.next().is_some_and(|first| first.is_ascii_alphabetic())
            && letters.all(|letter| letter.is_ascii_lowercase())
    };
    let has_separated_words = |separator| {
        let mut words = text.split(separator);
        words.clone().count() >= 4 && words.all(is_word)
    };
    has_separated_words('-') || has_separated_words('_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_decodes_in_each_encoding() {
        let bytes = b"\xfb\xff\xfe and more";
        for (encoding, text) in [
            (SecretEncoding::Base64Url, "-__-IGFuZCBtb3Jl"),
            (SecretEncoding::Base64Url, " -__-IGFuZCBtb3Jl\n"),
            (SecretEncoding::Base64, "+//+IGFuZCBtb3Jl"),
            (SecretEncoding::Base64, "+//+IGFu\r\nZCBtb3Jl\n"),
            (SecretEncoding::Hex, "fbfffe20616e64206d6f7265"),
            (SecretEncoding::Hex, "FBFFFE20616E6420\n6D6F7265\n"),
        ] {
            assert_eq!(encoding.decode(text.as_bytes()).unwrap(), bytes, "{text}");
        }
        for (text, expected) in [
            ("  a secret\u{e9} ", "  a secret\u{e9} "),
            ("a secret\n", "a secret"),
            ("a secret\r\n", "a secret"),
            ("a secret\n\n", "a secret\n"),
        ] {
            let decoded = SecretEncoding::Text.decode(text.as_bytes()).unwrap();
            assert_eq!(decoded, expected.as_bytes());
        }
        for (encoding, text) in [
            (SecretEncoding::Base64Url, "+//+"),
            (SecretEncoding::Base64Url, "a b"),
            (SecretEncoding::Base64, "-__-"),
            (SecretEncoding::Hex, "abc"),
            (SecretEncoding::Hex, "0x12"),
            (SecretEncoding::Hex, "+1"),
        ] {
            assert_eq!(encoding.decode(text.as_bytes()), None, "{text}");
        }
        assert_eq!(SecretEncoding::Text.decode(b"\xff"), None);
    }

    #[test]
    fn alternatives_are_those_that_decode() {
        let of = |text: &str| SecretEncoding::Base64Url.alternatives(text.as_bytes(), 16);
        assert_eq!(of("not base64 at all: a text"), [SecretEncoding::Text]);
        assert_eq!(of("+/aaaaaaaaaaaaaaaaaaaaaa"), [SecretEncoding::Base64, SecretEncoding::Text]);
        assert_eq!(of("short"), []);
    }

    #[test]
    fn texts_are_recognized_and_random_keys_are_not() {
        for text in [
            "super-secret-jwt-token-with-at-least-32-characters-long",
            "Passwords-Of-People-Have-Few-Digits-And-Many-Words",
            "correct_horse_battery_staple_and_many_more_words",
            "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
            "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "9F86D081884C7D659A2FEAA0C55AD015A3BF4F1B2B0B822CD15D6C15B0F00A08",
            "MY-PASSWORD-IN-CAPITAL-LETTERS-AND-DIGITS-0123456789",
            "SuperSecretJwtTokenWithAtLeast32Characters",
        ] {
            assert!(looks_like_text(text).is_some(), "{text}");
        }
        let mut bytes = [0; 64];
        for length in [32, 48, 64] {
            for _ in 0..2000 {
                aws_lc_rs::rand::fill(&mut bytes).unwrap();
                let text = URL_SAFE_NO_PAD.encode(&bytes[..length]);
                assert_eq!(looks_like_text(&text), None, "{text}");
                assert_eq!(looks_like_text(&lenient(&URL_SAFE).encode(&bytes[..length])), None);
            }
        }
    }
}
