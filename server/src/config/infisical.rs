//! The environment variables of Infisical, by their own names.

use super::{options::TLS_CERT_AUTH_SECTION, raw::RawConfig};

/// The name of the header with the client certificate. Empty for the default.
const CERTIFICATE_HEADER: &str = "IDENTITY_TLS_CERT_AUTH_CLIENT_CERTIFICATE_HEADER_KEY";

/// Merges the variables of Infisical. They override the files, as other variables do.
pub(super) fn add(raw: &mut RawConfig, environment: impl Iterator<Item = (String, String)>) {
    for (variable, text) in environment {
        if variable == CERTIFICATE_HEADER && !text.trim().is_empty() {
            raw.set(TLS_CERT_AUTH_SECTION, "certificate_header", text, CERTIFICATE_HEADER);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn variable_names_the_certificate_header() {
        let header = |text: &str| {
            let variable = (CERTIFICATE_HEADER.to_owned(), text.to_owned());
            Config::load(&[], [variable]).unwrap().settings.tls_cert_auth.header
        };
        assert_eq!(header("X-Client-Cert"), "x-client-cert");
        for text in ["", " "] {
            assert_eq!(header(text), "x-identity-tls-cert-auth-client-cert", "{text:?}");
        }
    }
}
