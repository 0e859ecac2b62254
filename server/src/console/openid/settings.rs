//! Settings of signing in with an OpenID provider.

use std::time::Duration;

use countersign_engine::IssuerTenants;
use rustls::pki_types::CertificateDer;

use crate::keys::{IssuerSection, settings::KeySource};

/// Timeout of a request to the provider if its section has none.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// Settings of signing in with an OpenID provider: `[web-ui]`, and the section that verifies its
/// access tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignInSettings {
    /// `oidc_authority`.
    pub authority: String,
    /// `oidc_client_id`.
    pub client_id: String,
    /// The scopes to request. `openid` is always among them.
    pub scopes: Vec<String>,
    /// Name of the section that verifies the access tokens.
    pub section: Box<str>,
    /// `tenants` of the section.
    pub tenants: IssuerTenants,
    /// `leeway` of the section, in seconds.
    pub leeway: u32,
    /// `validate_cert` of the section.
    pub validate_cert: bool,
    /// `ca_file` of the section.
    pub authorities: Vec<CertificateDer<'static>>,
    /// `jwks_request_timeout` of the section.
    pub timeout: Duration,
}

impl SignInSettings {
    /// Creates the settings from the options of `[web-ui]` and the section of the provider.
    #[must_use]
    pub fn new(authority: &str, client_id: &str, scope: &str, section: &IssuerSection) -> Self {
        let (validate_cert, authorities, timeout) = match &section.keys {
            KeySource::Refreshed(keys) => {
                (keys.validate_cert, keys.authorities.clone(), keys.timeout)
            }
            KeySource::Secret(_) | KeySource::Static(_) => (true, Vec::new(), DEFAULT_TIMEOUT),
        };
        Self {
            authority: authority.into(),
            client_id: client_id.into(),
            scopes: scopes(scope),
            section: section.section().into(),
            tenants: section.issuer.tenants.clone(),
            leeway: section.issuer.rules.leeway,
            validate_cert,
            authorities,
            timeout,
        }
    }
}

impl SignInSettings {
    /// Returns a text that names provider and client, and no other pair.
    #[must_use]
    pub fn provider_and_client(&self) -> String {
        let Self { authority, client_id, .. } = self;
        format!("{} {authority}{client_id}", authority.len())
    }
}

/// Splits a list of scopes (RFC 6749 section 3.3). Without `openid`, a provider sends no ID token.
fn scopes(text: &str) -> Vec<String> {
    const OPENID: &str = "openid";
    let mut scopes: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    if !scopes.iter().any(|scope| scope == OPENID) {
        scopes.insert(0, OPENID.into());
    }
    scopes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openid_is_always_among_the_scopes() {
        assert_eq!(scopes("openid  profile"), ["openid", "profile"]);
        assert_eq!(scopes("api://x/access"), ["openid", "api://x/access"]);
        assert_eq!(scopes(""), ["openid"]);
    }
}
