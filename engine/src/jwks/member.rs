//! Members of a JWK, in every spelling that has one meaning.
//!
//! Publishers write absent members as `null` or as an empty string, and byte strings in base64 with
//! padding or in its standard alphabet. A token never is spelled like that: only keys are.

use crate::{
    error::KeyError,
    token::{Members, Value, decode_base64},
};

/// Returns a member; `null` and an empty string count as absent.
pub(super) fn optional<'d, 'b>(jwk: &Members<'d, 'b>, name: &str) -> Option<Value<'d, 'b>> {
    let value = jwk.clone().get(name);
    value.filter(|value| !value.is_null() && value.as_str() != Some(""))
}

/// Returns a member that is a string.
pub(super) fn optional_text<'b>(
    jwk: &Members<'_, 'b>,
    name: &'static str,
) -> Result<Option<&'b str>, KeyError> {
    match optional(jwk, name) {
        Some(value) => value.as_str().map(Some).ok_or(KeyError::MemberType(name)),
        None => Ok(None),
    }
}

/// Returns a member that has to be there and a string.
pub(super) fn text<'b>(jwk: &Members<'_, 'b>, name: &'static str) -> Result<&'b str, KeyError> {
    optional_text(jwk, name)?.ok_or(KeyError::MissingMember(name))
}

/// Returns a member that has to be there and a byte string.
pub(super) fn bytes(jwk: &Members<'_, '_>, name: &'static str) -> Result<Vec<u8>, KeyError> {
    let encoded = base64url(text(jwk, name)?).ok_or(KeyError::Encoding(name))?;
    let mut buffer = vec![0; encoded.len()];
    let length =
        decode_base64(encoded.as_bytes(), &mut buffer).ok_or(KeyError::Encoding(name))?.len();
    buffer.truncate(length);
    Ok(buffer)
}

/// Rewrites base64 to the alphabet of base64url without padding (RFC 4648 section 5). A text of
/// both alphabets, or with padding that does not fit its length, is neither.
///
/// Decoding it still refuses other characters, and unused bits that are not zero: a text with such
/// bits was cut off or damaged.
pub(super) fn base64url(text: &str) -> Option<String> {
    let unpadded = text.trim_end_matches('=');
    let is_padded = unpadded.len() != text.len();
    let is_whole = text.len().is_multiple_of(4) && text.len().saturating_sub(unpadded.len()) <= 2;
    let is_standard = unpadded.contains(['+', '/']);
    if is_padded && !is_whole || is_standard && unpadded.contains(['-', '_']) {
        return None;
    }
    Some(unpadded.replace('+', "-").replace('/', "_"))
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::token::JsonBuffers;

    fn read(value: &str) -> Result<Vec<u8>, KeyError> {
        let mut buffers = JsonBuffers::with_capacity(256);
        let document = buffers.parse(format!(r#"{{"n":{value}}}"#).as_bytes()).unwrap();
        bytes(&document.members(), "n")
    }

    #[test]
    fn byte_string_is_read_in_every_spelling() {
        for text in ["-_8", "-_8=", "+/8", "+/8="] {
            assert_eq!(read(&format!("\"{text}\"")), Ok(vec![0xfb, 0xff]), "{text}");
        }
        assert_eq!(read(r#""AQ==""#), Ok(vec![1]));
        assert_eq!(read(r#""AQAB""#), Ok(vec![1, 0, 1]));
    }

    #[test]
    fn ambiguous_byte_string_is_refused() {
        for text in [
            "-/8", "+_8=", "-_8==", "-_8===", "AQ=", "=", "==", "====", "A", "AQAB=", "AQAB====",
            "AR", "AR==", "A Q", "AQ\\n", "A=Q=", "AQ.A",
        ] {
            assert_eq!(read(&format!("\"{text}\"")), Err(KeyError::Encoding("n")), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_spelling_of_bytes_is_the_same(bytes in vec(any::<u8>(), 1..70)) {
            use base64_simd::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};

            for alphabet in [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD] {
                let text = alphabet.encode_to_string(&bytes);
                assert_eq!(read(&format!("\"{text}\"")), Ok(bytes.clone()), "{text}");
            }
        }

        #[test]
        fn accepted_text_has_one_meaning(text in "[AQgw+/_=-]{1,12}") {
            if let Ok(bytes) = read(&format!("\"{text}\"")) {
                let spelled = text.trim_end_matches('=').replace('+', "-").replace('/', "_");
                assert_eq!(base64_simd::URL_SAFE_NO_PAD.encode_to_string(&bytes), spelled);
                assert!(!(text.contains(['+', '/']) && text.contains(['-', '_'])));
            }
        }
    }

    #[test]
    fn null_and_empty_members_are_absent() {
        assert_eq!(read("null"), Err(KeyError::MissingMember("n")));
        assert_eq!(read(r#""""#), Err(KeyError::MissingMember("n")));
        for value in ["5", "[]", "{}", "false", r#"["AQAB"]"#] {
            assert_eq!(read(value), Err(KeyError::MemberType("n")), "{value}");
        }
    }
}
