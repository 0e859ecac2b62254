//! The generic profile: responses as in RFC 6750.

use std::sync::LazyLock;

use countersign_engine::{Blame, Reject, header_safe};
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{Refusal, is_insufficient};
use crate::observe::metrics::Budget;

/// Header of a 429 or 503 response, for the operator of a proxy: a reject code and, after a space,
/// the issuer or budget. `empty` follows if the issuer publishes an empty key set. These responses have no `WWW-Authenticate` challenge for it.
pub const ERROR_HEADER: HeaderName = HeaderName::from_static("x-auth-error");

/// Adds the headers of a refusal: `Retry-After` if the token could not be verified now, a
/// challenge if it was rejected.
pub fn add_headers(refusal: &Refusal<'_>, headers: &mut HeaderMap) {
    let reject = refusal.reject;
    if reject.blame() != Blame::Unavailable {
        headers.insert(header::WWW_AUTHENTICATE, challenge(refusal));
        return;
    }
    headers.insert(header::RETRY_AFTER, HeaderValue::from(refusal.retry_after()));
    if let Some(exceeded) = refusal.exceeded {
        headers.insert(ERROR_HEADER, HeaderValue::from_static(budget_error(exceeded.budget)));
        return;
    }
    let suffix = if refusal.is_emptied { " empty" } else { "" };
    let text = refusal
        .issuer
        .as_ref()
        .map(|issuer| format!("{} {}{suffix}", reject.code(), header_safe(&issuer.name)));
    let value = text.and_then(|text| HeaderValue::try_from(text).ok());
    headers.insert(ERROR_HEADER, value.unwrap_or_else(|| HeaderValue::from_static(reject.code())));
}

/// Returns the header value for an exceeded budget. Static, so that a flood causes no
/// formatting.
fn budget_error(budget: Budget) -> &'static str {
    match budget {
        Budget::Core => "not_admitted core",
        Budget::Issuer => "not_admitted issuer",
        Budget::Source => "not_admitted source",
    }
}

/// Returns the challenge for a rejected token. All but those that name scopes are formatted once,
/// so that a flood of invalid tokens causes no formatting: scopes are named to authentic tokens.
fn challenge(refusal: &Refusal<'_>) -> HeaderValue {
    static CHALLENGES: LazyLock<Box<[HeaderValue]>> =
        LazyLock::new(|| Reject::ALL.iter().map(|reject| format_challenge(*reject, "")).collect());
    match &refusal.issuer {
        Some(issuer) if refusal.reject == Reject::Scope => {
            let scopes = issuer.rules.scopes.join(" ");
            format_challenge(refusal.reject, &format!(r#", scope="{scopes}""#))
        }
        _ => CHALLENGES[refusal.reject.index()].clone(),
    }
}

/// Formats a challenge with the reason (RFC 6750 section 3). It contains no part of the token.
fn format_challenge(reject: Reject, parameters: &str) -> HeaderValue {
    let error = if is_insufficient(reject) { "insufficient_scope" } else { "invalid_token" };
    let text = format!(r#"Bearer error="{error}", error_description="{reject}"{parameters}"#);
    HeaderValue::try_from(text)
        .unwrap_or_else(|_| HeaderValue::from_static(r#"Bearer error="invalid_token""#))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_header_names_the_exceeded_budget() {
        for budget in Budget::ALL {
            assert_eq!(
                budget_error(budget),
                format!("{} {}", Reject::NotAdmitted.code(), budget.name())
            );
        }
    }

    #[test]
    fn every_reject_reason_fits_a_quoted_string() {
        for reject in Reject::ALL {
            let value = format_challenge(*reject, "");
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
