//! RFC 6750.

use countersign_engine::Reject;
use http::HeaderValue;

/// The challenge for a refused token (RFC 6750 section 3): why, in words that
/// hold nothing of the token.
#[must_use]
pub fn invalid_token(reject: Reject) -> HeaderValue {
    let text = format!(r#"Bearer error="invalid_token", error_description="{reject}""#);
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(r#"Bearer error="invalid_token""#))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_fits_a_quoted_string() {
        for reject in Reject::ALL {
            let value = invalid_token(*reject);
            let text = value.to_str().unwrap();
            assert!(text.contains(&reject.to_string()), "{text}");
            assert_eq!(text.matches('"').count(), 4, "RFC 6750 section 3 allows no quote inside: {text}");
        }
    }
}
