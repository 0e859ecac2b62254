//! The environment variables of Infisical, by their own names.

use super::{
    options::{IDENTITIES_SECTION, TLS_CERT_AUTH_SECTION},
    raw::RawConfig,
};

/// The name of the header with the client certificate.
const CERTIFICATE_HEADER: &str = "IDENTITY_TLS_CERT_AUTH_CLIENT_CERTIFICATE_HEADER_KEY";
/// The longest lifetime of an access token in seconds.
const MAX_TOKEN_AGE: &str = "MAX_MACHINE_IDENTITY_TOKEN_AGE";
/// The trusted proxies of the main listener: addresses, networks and names, with commas.
const TRUSTED_PROXIES: &str = "TRUSTED_PROXY_CIDRS";

/// Merges the variables of Infisical. They override the files, as other variables do. An empty one
/// counts as unset.
pub(super) fn add(raw: &mut RawConfig, environment: impl Iterator<Item = (String, String)>) {
    for (variable, text) in environment {
        if text.trim().is_empty() {
            continue;
        }
        let (section, option) = match &*variable {
            CERTIFICATE_HEADER => (TLS_CERT_AUTH_SECTION, "certificate_header"),
            MAX_TOKEN_AGE => (IDENTITIES_SECTION, "max_token_age"),
            TRUSTED_PROXIES => ("listen", "trusted_proxies"),
            _ => continue,
        };
        raw.set(section, option, text, &variable);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn load(variable: &str, text: &str) -> Result<Config, String> {
        Config::load(&[], [(variable.to_owned(), text.to_owned())]).map_err(|e| e.to_string())
    }

    #[test]
    fn variable_names_the_certificate_header() {
        let header =
            |text: &str| load(CERTIFICATE_HEADER, text).unwrap().settings.tls_cert_auth.header;
        assert_eq!(header("X-Client-Cert"), "x-client-cert");
        for text in ["", " "] {
            assert_eq!(header(text), "x-identity-tls-cert-auth-client-cert", "{text:?}");
        }
    }
    #[test]
    fn variable_lists_the_trusted_proxies() {
        let trusted = |text: &str| {
            let config = load(TRUSTED_PROXIES, text).unwrap();
            config.settings.listener("main").unwrap().client.proxies.trusted().join(" ")
        };
        assert_eq!(trusted("10.1.0.0/16, linklocal"), "10.1.0.0/16 169.254.0.0/16 fe80::/10");
        assert_eq!(trusted("loopback"), "127.0.0.0/8 ::1");
        assert_eq!(trusted(" "), "");
        let error = load(TRUSTED_PROXIES, "10.1.2.3/40").unwrap_err();
        assert!(error.contains(TRUSTED_PROXIES), "{error}");
        let remarks = load(TRUSTED_PROXIES, "10.0.0.1,0.0.0.0/0").unwrap().remarks.to_string();
        assert!(remarks.contains("0.0.0.0/0 trusts every client"), "{remarks}");
    }

    #[test]
    fn variable_limits_the_age_of_tokens() {
        let error = load(MAX_TOKEN_AGE, "ten").unwrap_err();
        assert!(error.contains(MAX_TOKEN_AGE) && error.contains("max_token_age"), "{error}");
        assert!(load(MAX_TOKEN_AGE, "3600").is_ok() && load(MAX_TOKEN_AGE, "").is_ok());
    }
}
