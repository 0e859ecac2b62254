//! RFC 6750.

use std::sync::LazyLock;

use countersign_engine::{Blame, Reject, header_safe};
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::Refusal;
use crate::admission::Budget;

/// Tells a proxy's operator why no answer could be given: a reject code and, after
/// a space, the issuer or the budget it is about. A 429 or 503 has no challenge to
/// say it in.
pub const ERROR_HEADER: HeaderName = HeaderName::from_static("x-auth-error");

/// Says in the headers of a refusal what the caller can do: come again when we
/// could not tell, or bring another token.
pub fn add_headers(refusal: &Refusal<'_>, headers: &mut HeaderMap) {
    let reject = refusal.reject;
    if reject.blame() != Blame::Unavailable {
        headers.insert(header::WWW_AUTHENTICATE, challenge(reject));
        return;
    }
    headers.insert(header::RETRY_AFTER, HeaderValue::from(refusal.retry_after()));
    if let Some(exceeded) = refusal.exceeded {
        headers.insert(ERROR_HEADER, HeaderValue::from_static(budget_error(exceeded.budget)));
        return;
    }
    let text = refusal
        .issuer
        .as_ref()
        .map(|issuer| format!("{} {}", reject.code(), header_safe(&issuer.name)));
    let value = text.and_then(|text| HeaderValue::try_from(text).ok());
    headers.insert(ERROR_HEADER, value.unwrap_or_else(|| HeaderValue::from_static(reject.code())));
}

/// Nothing is formatted for floods.
fn budget_error(budget: Budget) -> &'static str {
    match budget {
        Budget::Core => "not_admitted core",
        Budget::Issuer => "not_admitted issuer",
        Budget::Source => "not_admitted source",
    }
}

/// The challenge for a refused token. All of them are made once: who sends garbage
/// is not worth the formatting of an answer.
fn challenge(reject: Reject) -> HeaderValue {
    static CHALLENGES: LazyLock<Box<[HeaderValue]>> =
        LazyLock::new(|| Reject::ALL.iter().map(|reject| invalid_token(*reject)).collect());
    CHALLENGES[reject.index()].clone()
}

/// RFC 6750 section 3: why, in words that hold nothing of the token.
fn invalid_token(reject: Reject) -> HeaderValue {
    let text = format!(r#"Bearer error="invalid_token", error_description="{reject}""#);
    HeaderValue::try_from(text)
        .unwrap_or_else(|_| HeaderValue::from_static(r#"Bearer error="invalid_token""#))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spent_budget_is_named_after_the_code() {
        for budget in Budget::ALL {
            assert_eq!(
                budget_error(budget),
                format!("{} {}", Reject::NotAdmitted.code(), budget.name())
            );
        }
    }

    #[test]
    fn every_reason_fits_a_quoted_string() {
        for reject in Reject::ALL {
            let value = challenge(*reject);
            let text = value.to_str().unwrap();
            assert!(text.contains(&reject.to_string()), "{text}");
            assert_eq!(
                text.matches('"').count(),
                4,
                "RFC 6750 section 3 allows no quote inside: {text}"
            );
        }
    }
}
