//! What an allowed request changes in its own header lines, for proxies that apply the changes to
//! the request itself: Envoy over gRPC, and proxies with the tier in their process.
//!
//! - **Identity headers without a value are removed** rather than sent empty, so an application
//!   can test for their presence. So is what the client sent under another spelling of an
//!   identity header: CGI and its descendants make one `HTTP_X_AUTH_USER` of `X-Auth-User`,
//!   `X_Auth_User` and more.
//! - **The credential is removed.** An application that receives its caller's identity does not
//!   need what would let it act as the caller elsewhere.

use countersign_front::Fields;
use http::{HeaderName, header};

use super::{
    AuthDecision,
    credential::CredentialPlaces,
    forward_auth::identity_headers,
    settings::{AuthSettings, IdentityHeaders},
};
use crate::{
    base::header_names::{NameLengths, is_header},
    client::request_description::is_spelling_of,
    tenancy::request_headers::API_KEY,
};

/// The changes of an allowed request.
pub struct HeaderChanges<'l, 't> {
    settings: &'l AuthSettings,
    decision: &'l AuthDecision<'t>,
    /// The cookies that stay, if a cookie has the credential.
    cookies: Option<Vec<u8>>,
}

static AUTHORIZATION: HeaderName = header::AUTHORIZATION;
static COOKIE: HeaderName = header::COOKIE;

impl<'l, 't> HeaderChanges<'l, 't> {
    /// Returns the changes of a request with these header lines.
    pub fn new(
        settings: &'l AuthSettings,
        decision: &'l AuthDecision<'t>,
        fields: &impl Fields,
    ) -> Self {
        let is_removed = !settings.ext_authz.forward_credentials;
        let cookies = is_removed.then(|| settings.credentials.other_cookies(fields)).flatten();
        Self { settings, decision, cookies }
    }

    /// Returns the lines that replace those of the same name.
    pub fn set(&self) -> impl Iterator<Item = (&HeaderName, &[u8])> {
        let present = self.identity().filter(|(_, value)| !value.is_empty());
        let cookies = self.cookies.iter().filter(|rest| !rest.is_empty());
        present.chain(cookies.map(|rest| (&COOKIE, &rest[..])))
    }

    /// Whether a line with this name is removed from a request that has it.
    #[must_use]
    pub fn removes(&self, name: &[u8]) -> bool {
        self.settings.changed_names.may_contain(name)
            && (self.removed().any(|removed| is_header(name, removed)) || self.is_imitation(name))
    }

    /// Returns the names of the lines to remove, other than [imitations](Self::is_imitation).
    pub fn removed(&self) -> impl Iterator<Item = &HeaderName> {
        let settings = self.settings;
        let tenant = self.decision.tenant();
        let absent = self.identity().filter(|(_, value)| value.is_empty()).map(|(name, _)| name);
        let allowed_tenants = settings.identity_headers.allowed_tenants.iter();
        let absent = absent.chain(allowed_tenants.filter(move |_| tenant.is_none()));
        // Also the credentials that were not used, which are unverified. A header that is also an
        // identity header has just been set, so it is kept.
        let api_key = tenant.map(|_| &API_KEY);
        let credentials =
            [&AUTHORIZATION].into_iter().chain(api_key).chain(settings.credentials.headers());
        let credentials = credentials.filter(move |name| {
            let mut identities = settings.identity_headers.names();
            !settings.ext_authz.forward_credentials && identities.all(|identity| identity != *name)
        });
        let emptied = self.cookies.iter().filter(|rest| rest.is_empty()).map(|_| &COOKIE);
        absent.chain(credentials).chain(emptied)
    }

    /// Whether an application could mistake a name for that of an identity header, of which it is
    /// [another spelling](is_spelling_of). A name that differs only in case is the same name, and
    /// was set or removed.
    #[must_use]
    pub fn is_imitation(&self, name: &[u8]) -> bool {
        imitates_identity_header(name, self.settings.identity_headers.names())
    }

    fn identity(&self) -> impl Iterator<Item = (&HeaderName, &[u8])> + Clone {
        identity_headers(self.settings, self.decision)
    }
}

/// Returns the lengths of all names that changes may concern.
pub(super) fn changed_names(
    identities: &IdentityHeaders,
    credentials: &CredentialPlaces,
) -> NameLengths {
    let fixed = [&AUTHORIZATION, &COOKIE, &API_KEY];
    NameLengths::of(identities.names().chain(credentials.headers()).chain(fixed))
}

/// Whether a name is that of an identity header, in any spelling.
#[must_use]
pub fn is_identity_header(settings: &AuthSettings, name: &[u8]) -> bool {
    let mut identities = settings.identity_headers.names().map(HeaderName::as_str);
    identities.any(|identity| is_spelling_of(name, identity))
}

fn imitates_identity_header<'l>(
    name: &[u8],
    identities: impl Iterator<Item = &'l HeaderName> + Clone,
) -> bool {
    let mut identities = identities.map(HeaderName::as_str);
    name.is_ascii()
        && identities.clone().any(|identity| is_spelling_of(name, identity))
        && identities.all(|identity| !identity.as_bytes().eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e2_other_spellings_of_identity_headers_are_found() {
        let identities = ["x-who", "x-auth-user", "x-auth_user"].map(HeaderName::from_static);
        let is_one = |name: &[u8]| imitates_identity_header(name, identities.iter());
        for name in
            ["x_auth_user", "X_AUTH_USER", "x.auth.user", "x auth user", "X-Auth~User", "x_who"]
        {
            assert!(is_one(name.as_bytes()), "{name}");
        }
        // Configured names in any case, unrelated names, and a name that is not ASCII.
        for name in [
            "x-auth-user",
            "X-AUTH-USER",
            "X-Auth_User",
            "xauthuser",
            "x--auth-user",
            "x-auth-use",
            "x1auth1user",
            "",
        ] {
            assert!(!is_one(name.as_bytes()), "{name}");
        }
        assert!(!is_one(b"x\xffauth-user"));
    }
}
