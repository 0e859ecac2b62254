//! The generic profile: responses as in RFC 6750.

use countersign_engine::{Blame, header_safe};
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::Refusal;
use crate::{auth::challenge::Challenges, observe::metrics::Budget};

/// Header of a 429 or 503 response, and of a refused use of an access token, for the operator of a
/// proxy: a reject code and, after a space, the issuer or budget. `empty` follows if the issuer
/// publishes an empty key set. These responses have no `WWW-Authenticate` challenge for it.
pub const ERROR_HEADER: HeaderName = HeaderName::from_static("x-auth-error");

/// Adds the headers of a refusal: `Retry-After` if the token could not be verified now, a
/// challenge if it was rejected.
pub fn add_headers(refusal: &Refusal<'_>, challenges: &Challenges, headers: &mut HeaderMap) {
    let reject = refusal.reject;
    if reject.blame() != Blame::Unavailable {
        let challenge = match &refusal.skipped {
            Some(skipped) => challenges.skipped(skipped.error),
            None => challenges.rejected(reject, refusal.missing_scopes()),
        };
        headers.insert(header::WWW_AUTHENTICATE, challenge);
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

#[cfg(test)]
mod tests {
    use countersign_engine::Reject;

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
}
