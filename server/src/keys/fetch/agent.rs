//! The HTTP client of a provider: what it trusts, and how its errors read.

use std::sync::Arc;

use http::{HeaderMap, Uri, header};
use rustls::{crypto::aws_lc_rs, pki_types::CertificateDer};
use ureq::{
    Agent, Proxy,
    tls::{RootCerts, TlsConfig},
};

use super::FetchError;
use crate::base::roots;

/// What authenticates a provider, and how it is reached.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProviderTrust<'s> {
    /// Whether its certificate is checked.
    pub(crate) validate_cert: bool,
    /// Trusted root certificates, in addition to those of the system.
    pub(crate) authorities: &'s [CertificateDer<'static>],
    /// Whether a request may use TLS.
    pub(crate) uses_tls: bool,
    /// Whether requests may go through a proxy of the environment.
    pub(crate) uses_proxy: bool,
}

impl ProviderTrust<'_> {
    /// Creates the client. It follows no redirect, and returns responses of every status.
    pub(crate) fn agent(&self) -> Result<Agent, FetchError> {
        let tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(Arc::new(aws_lc_rs::default_provider()))
            .disable_verification(!self.validate_cert);
        let needs_roots = self.validate_cert && self.uses_tls;
        let tls = if needs_roots { tls.root_certs(self.roots()?) } else { tls };
        let config = Agent::config_builder()
            .proxy(Proxy::try_from_env().filter(|_| self.uses_proxy))
            .tls_config(tls.build())
            // Minutes pass between two requests, and providers close idle connections before.
            .max_idle_connections(0)
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent("countersign");
        Ok(config.build().new_agent())
    }

    /// Returns the trust roots: those of the system and those configured for this issuer.
    fn roots(&self) -> Result<RootCerts, FetchError> {
        roots::roots(self.authorities).ok_or_else(|| {
            let text = format_args!("{}, or set ca_file", roots::NO_SYSTEM_ROOTS);
            FetchError::new("unreachable", text)
        })
    }
}

/// Returns the target of a redirect, if it is on the same origin (RFC 6454 section 4).
pub(crate) fn redirected(from: &Uri, headers: &HeaderMap) -> Result<Uri, FetchError> {
    let refused = || {
        FetchError::new("redirect", "redirects are not followed to another host, port or scheme")
    };
    let location = headers
        .get(header::LOCATION)
        .and_then(|location| location.to_str().ok())
        .ok_or_else(refused)?;
    if location.starts_with('/') && !location.starts_with("//") {
        let mut parts = from.clone().into_parts();
        parts.path_and_query = Some(location.parse().map_err(|_| refused())?);
        return Uri::from_parts(parts).map_err(|_| refused());
    }
    let to: Uri = location.parse().map_err(|_| refused())?;
    if to.scheme() == from.scheme() && to.authority() == from.authority() {
        Ok(to)
    } else {
        Err(refused())
    }
}

/// Returns the error of a request, without any part of its URI.
pub(crate) fn transport_error(error: &ureq::Error) -> FetchError {
    let text = error.to_string();
    match error {
        ureq::Error::Timeout(_) => FetchError::new("timeout", text),
        // Its text has the URI, whose query may be a secret.
        ureq::Error::BadUri(_) => FetchError::new("unreachable", "the location is not a URI"),
        ureq::Error::BodyExceedsLimit(limit) => {
            FetchError::new("too_long", format!("the answer has {limit} bytes or more"))
        }
        // A self-signed certificate made by `openssl req -x509` with its defaults.
        _ if text.contains("CaUsedAsEndEntity") => {
            let hint = "the provider presents a CA certificate (CA:TRUE): issue it a server \
                        certificate signed by that CA";
            FetchError::new("unreachable", format!("{text}; {hint}"))
        }
        _ => FetchError::new("unreachable", text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::test_headers::headers;

    #[test]
    fn d10_redirects_stay_on_their_origin() {
        let from: Uri = "https://idp.example/keys".parse().unwrap();
        let to = |location: &'static str| {
            redirected(&from, &headers(&[("location", location)])).ok().map(|uri| uri.to_string())
        };
        assert_eq!(to("/v2/keys?a=b").as_deref(), Some("https://idp.example/v2/keys?a=b"));
        assert_eq!(to("https://idp.example/other").as_deref(), Some("https://idp.example/other"));
        for elsewhere in [
            "http://idp.example/keys",
            "https://idp.example:8443/keys",
            "https://evil.example/keys",
            "//evil.example/keys",
            "https://idp.example@evil.example/keys",
            "file:///etc/passwd",
            "keys",
            "",
        ] {
            assert_eq!(to(elsewhere), None, "{elsewhere}");
        }
    }
}
