//! RFC 6750.

use countersign_engine::{Blame, Reject};
use http::{HeaderMap, HeaderValue, header};

/// Says in the headers of a refusal what the caller can do: come again when we
/// could not tell, or bring another token.
pub fn explain(reject: Reject, headers: &mut HeaderMap) {
    match reject.blame() {
        Blame::Unavailable => headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5")),
        _ => headers.insert(header::WWW_AUTHENTICATE, invalid_token(reject)),
    };
}

/// The challenge for a refused token (RFC 6750 section 3): why, in words that
/// hold nothing of the token.
fn invalid_token(reject: Reject) -> HeaderValue {
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
