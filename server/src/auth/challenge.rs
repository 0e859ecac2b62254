//! The values of `WWW-Authenticate` (RFC 6750 section 3, RFC 9728 section 5.1).
//!
//! All of them are formatted when the configuration is loaded, so that a flood of bad requests
//! causes no formatting. They contain no part of a request, except for the tenant or user that an
//! authentic credential asked for.

use countersign_engine::{KeyError, Reject};
use http::HeaderValue;

use super::profile::is_insufficient;
use crate::{identities::checks::IdentityRefusal, tenancy::refusal::TenancyRefusal};

/// The challenges of one configuration.
#[derive(Clone, Debug)]
pub struct Challenges {
    missing: HeaderValue,
    conflict: HeaderValue,
    cross_site: HeaderValue,
    exhausted: HeaderValue,
    untrusted_address: HeaderValue,
    /// For each [`Reject`], by its index.
    rejected: Box<[HeaderValue]>,
}

/// Description of a request with two credentials.
pub(super) const CONFLICT: &str = "the request has two credentials";
/// Description of a token in a cookie of a request that another site may have caused.
pub(super) const CROSS_SITE: &str =
    "the token is in a cookie, and the request may come from another site";

/// Description of a token that has no uses left.
const EXHAUSTED: &str = "all uses of the token were made";
/// Description of a token that is used from an address that its login method does not trust.
const UNTRUSTED_ADDRESS: &str = "the token may not be used from this address";

impl Challenges {
    /// Formats the challenges, with a realm, and the URL of the metadata of the protected resource.
    /// Both are visible ASCII or spaces, without quotes and backslashes.
    #[must_use]
    pub fn new(realm: Option<&str>, resource_metadata: Option<&str>) -> Self {
        let format = |error: Option<(&str, &str)>| {
            let (error, description) = error.unzip();
            let parameters = [
                ("realm", realm),
                ("error", error),
                ("error_description", description),
                ("resource_metadata", resource_metadata),
            ];
            let parameters = parameters
                .into_iter()
                .filter_map(|(name, value)| Some(format!(r#"{name}="{}""#, value?)))
                .collect::<Vec<_>>()
                .join(", ");
            HeaderValue::try_from(format!("Bearer {parameters}").trim_end())
                .unwrap_or(HeaderValue::from_static("Bearer"))
        };
        let rejected = |reject: &Reject| {
            let error =
                if is_insufficient(*reject) { "insufficient_scope" } else { "invalid_token" };
            format(Some((error, &reject.to_string())))
        };
        Self {
            missing: format(None),
            conflict: format(Some(("invalid_request", CONFLICT))),
            cross_site: format(Some(("invalid_request", CROSS_SITE))),
            exhausted: format(Some(("invalid_token", EXHAUSTED))),
            untrusted_address: format(Some(("invalid_token", UNTRUSTED_ADDRESS))),
            rejected: Reject::ALL.iter().map(rejected).collect(),
        }
    }

    /// The challenge for a request without a token. It names no error (RFC 6750 section 3.1).
    #[must_use]
    pub fn missing(&self) -> HeaderValue {
        self.missing.clone()
    }

    /// The challenge for a refusal of multi-tenancy: with the reason, unless the credential itself
    /// is not acceptable. A description has no quotation mark (RFC 6750 section 3).
    #[must_use]
    pub fn of_tenancy(&self, refusal: &TenancyRefusal) -> HeaderValue {
        if matches!(refusal, TenancyRefusal::WrongKey | TenancyRefusal::RepeatedHeader(_)) {
            return self.missing();
        }
        let base = self.missing.to_str().unwrap_or("Bearer");
        let separator = if base == "Bearer" { "" } else { "," };
        let reason = refusal.to_string().replace(['"', '\\'], "'");
        let parameters = format!(r#"error="invalid_token", error_description="{reason}""#);
        HeaderValue::try_from(format!("{base}{separator} {parameters}"))
            .unwrap_or_else(|_| self.missing.clone())
    }

    /// The challenge for a request with two credentials.
    #[must_use]
    pub fn conflict(&self) -> HeaderValue {
        self.conflict.clone()
    }

    /// The challenge for a token in a cookie of a request that another site may have caused.
    #[must_use]
    pub fn cross_site(&self) -> HeaderValue {
        self.cross_site.clone()
    }

    /// The challenge for a genuine access token that may not be used.
    #[must_use]
    pub fn refused_use(&self, refusal: IdentityRefusal) -> HeaderValue {
        match refusal {
            IdentityRefusal::Address => self.untrusted_address.clone(),
            IdentityRefusal::Exhausted => self.exhausted.clone(),
            IdentityRefusal::Revoked | IdentityRefusal::Unavailable => {
                self.rejected(Reject::Revoked, &[])
            }
        }
    }

    /// The challenge for a rejected token, with the reason, and the scopes that its issuer's tokens
    /// must grant if that is the reason. Only for an authentic token are they formatted.
    #[must_use]
    pub fn rejected(&self, reject: Reject, scopes: &[Box<str>]) -> HeaderValue {
        if scopes.is_empty() {
            self.rejected[reject.index()].clone()
        } else {
            self.insufficient_scope(&scopes.join(" "))
        }
    }

    /// The challenge for a token that does not grant these scopes, which are separated by spaces.
    #[must_use]
    pub fn insufficient_scope(&self, scopes: &str) -> HeaderValue {
        let challenge = &self.rejected[Reject::Scope.index()];
        let base = challenge.to_str().unwrap_or("Bearer");
        HeaderValue::try_from(format!(r#"{base}, scope="{scopes}""#))
            .unwrap_or_else(|_| challenge.clone())
    }

    /// The challenge for a token that names a key of its issuer that cannot be used, with the
    /// reason.
    #[must_use]
    pub fn skipped(&self, error: KeyError) -> HeaderValue {
        let challenge = self.rejected(Reject::KeySkipped, &[]);
        // RFC 6750 section 3 allows no quotation mark in a description.
        let reason = error.to_string().replace('"', "'");
        let description = format!("the key named by the token (kid) was skipped: {reason}");
        let base = challenge.to_str().unwrap_or("Bearer");
        HeaderValue::try_from(base.replace(&Reject::KeySkipped.to_string(), &description))
            .unwrap_or(challenge)
    }
}

impl Default for Challenges {
    fn default() -> Self {
        Self::new(None, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reject_reason_fits_a_quoted_string() {
        for reject in Reject::ALL {
            let value = Challenges::default().rejected(*reject, &[]);
            let text = value.to_str().unwrap();
            assert!(text.contains(&reject.to_string()), "{text}");
            assert_eq!(
                text.matches('"').count(),
                4,
                "RFC 6750 section 3 allows no quote inside: {text}"
            );
        }
    }

    #[test]
    fn challenge_names_the_reason_of_a_skipped_key() {
        let challenge = Challenges::default().skipped(KeyError::MissingMember("n"));
        let text = r#"Bearer error="invalid_token", error_description="the key named by the token (kid) was skipped: its member 'n' is missing""#;
        assert_eq!(challenge, text);
    }

    #[test]
    fn refusal_of_a_tenant_names_its_reason() {
        let refusal = TenancyRefusal::Tenant("a\"b".into());
        let text = r#"error="invalid_token", error_description="access to tenant 'a'b' forbidden""#;
        assert_eq!(Challenges::default().of_tenancy(&refusal), format!("Bearer {text}"));
        let realm = Challenges::new(Some("shop"), None);
        assert_eq!(realm.of_tenancy(&refusal), format!(r#"Bearer realm="shop", {text}"#));
        assert_eq!(realm.of_tenancy(&TenancyRefusal::WrongKey), realm.missing());
    }

    #[test]
    fn every_challenge_has_realm_and_metadata() {
        let plain = Challenges::default();
        assert_eq!(plain.missing(), "Bearer");
        let full = Challenges::new(Some("shop"), Some("https://api.example/m"));
        let metadata = r#"resource_metadata="https://api.example/m""#;
        assert_eq!(full.missing(), format!(r#"Bearer realm="shop", {metadata}"#).as_str());
        let rejected = Reject::ALL.iter().map(|reject| full.rejected(*reject, &[]));
        for challenge in rejected.chain([full.conflict(), full.cross_site()]) {
            let text = challenge.to_str().unwrap();
            assert!(text.starts_with(r#"Bearer realm="shop", error=""#), "{text}");
            assert!(text.ends_with(metadata), "{text}");
        }
        let scopes = ["a:b".into(), "c".into()];
        let challenge = plain.rejected(Reject::Scope, &scopes);
        assert!(challenge.to_str().unwrap().ends_with(r#", scope="a:b c""#), "{challenge:?}");
    }
}
