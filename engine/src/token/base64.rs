//! Base64url decoding as defined by RFC 7515 section 2: no padding, no whitespace, no other
//! alphabet.
//!
//! The unused low bits of the last character must be zero, so every byte string has exactly one
//! encoding.

use base64_simd::{AsOut as _, URL_SAFE_NO_PAD};

/// Decodes one segment to the front of `buffer`. Returns `None` if the segment is not canonical, or
/// too long for the buffer.
pub(crate) fn decode<'b>(segment: &[u8], buffer: &'b mut [u8]) -> Option<&'b [u8]> {
    let length = URL_SAFE_NO_PAD.decoded_length(segment).ok()?;
    let target = buffer.get_mut(..length)?;
    URL_SAFE_NO_PAD.decode(segment, target.as_out()).ok().map(|decoded| &*decoded)
}

#[cfg(test)]
mod tests {
    fn decode(segment: &str) -> Option<Vec<u8>> {
        super::decode(segment.as_bytes(), &mut [0; 64]).map(<[u8]>::to_vec)
    }

    #[test]
    fn rfc_4648_vectors_decode() {
        for (text, bytes) in
            [("", ""), ("Zg", "f"), ("Zm8", "fo"), ("Zm9v", "foo"), ("Zm9vYmFy", "foobar")]
        {
            assert_eq!(decode(text).as_deref(), Some(bytes.as_bytes()), "{text}");
        }
        assert_eq!(decode("-_8"), Some(vec![0xfb, 0xff]));
    }

    #[test]
    fn b1_non_canonical_base64url_is_refused() {
        for text in [
            "Zg==", "Zg=", "Zm8=", "+/8", "Zg\n", " Zg", "Z g", "Zh", "Zm9", "Z", "Zm9vY", "Zg.",
            "Zg\0", "Zé",
        ] {
            assert_eq!(decode(text), None, "{text:?}");
        }
    }

    #[test]
    fn b1_unused_bits_of_the_last_character_are_zero() {
        const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        for (value, character) in ALPHABET.chars().enumerate() {
            assert_eq!(decode(&format!("A{character}")).is_some(), value % 16 == 0, "A{character}");
            assert_eq!(
                decode(&format!("AA{character}")).is_some(),
                value % 4 == 0,
                "AA{character}"
            );
            // The same at the end of a long segment, which the SIMD loop leaves to the scalar code.
            let long = "A".repeat(64);
            assert_eq!(
                super::decode(format!("{long}A{character}").as_bytes(), &mut [0; 64]).is_some(),
                value % 16 == 0
            );
        }
    }

    #[test]
    fn segment_longer_than_its_buffer_is_refused() {
        assert_eq!(super::decode(b"Zm9v", &mut [0; 2]), None);
    }
}
