//! Metadata of the provider (OpenID Connect Discovery 1.0 section 3), as far as a sign-in uses it.

use http::Uri;
use serde::Deserialize;

use super::error::SignInError;
use crate::{
    base::{redacted::json_error, uri::differ_by_slash},
    keys::{fetch::is_template_of, static_keys::without_byte_order_mark},
};

/// Metadata of a provider whose endpoints were checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ProviderMetadata {
    /// The `iss` of its ID tokens. For several tenants, it contains the place of the tenant.
    pub(super) issuer: String,
    pub(super) authorization_endpoint: String,
    pub(super) token_endpoint: String,
    pub(super) jwks_uri: String,
    /// Where a user signs out (OpenID Connect RP-Initiated Logout 1.0 section 2.1).
    pub(super) end_session_endpoint: Option<String>,
    /// Where tokens are revoked (RFC 7009), if it can be used.
    pub(super) revocation_endpoint: Option<String>,
    /// Whether each answer names the provider (RFC 9207 section 3).
    pub(super) names_issuer: bool,
}

/// The document that [`ProviderMetadata::parse`] reads. Other members are ignored.
#[derive(Deserialize)]
struct MetadataDocument {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    end_session_endpoint: Option<String>,
    revocation_endpoint: Option<String>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
    code_challenge_methods_supported: Option<Vec<String>>,
}

impl ProviderMetadata {
    /// Parses the metadata of this authority.
    pub(super) fn parse(document: &[u8], authority: &str) -> Result<Self, SignInError> {
        let document: MetadataDocument = serde_json::from_slice(without_byte_order_mark(document))
            .map_err(|error| {
                let error = json_error(&error);
                SignInError::Metadata(format!("cannot parse the discovery document: {error}"))
            })?;
        check_issuer(&document.issuer, authority)?;
        // Entra ID does not list the methods, and supports S256.
        let methods = document.code_challenge_methods_supported.as_deref();
        if methods.is_some_and(|methods| methods.iter().all(|method| method != "S256")) {
            let text = "the provider does not support PKCE with S256, which protects clients \
                        without a secret";
            return Err(SignInError::Metadata(text.into()));
        }
        for (name, uri) in [
            ("authorization_endpoint", Some(&document.authorization_endpoint)),
            ("token_endpoint", Some(&document.token_endpoint)),
            ("jwks_uri", Some(&document.jwks_uri)),
            ("end_session_endpoint", document.end_session_endpoint.as_ref()),
        ] {
            if let Some(uri) = uri {
                check_endpoint(name, uri, authority)?;
            }
        }
        // Sign-in does not depend on it.
        let is_usable = |uri: &String| check_endpoint("", uri, authority).is_ok();
        let revocation_endpoint = document.revocation_endpoint.filter(is_usable);
        Ok(Self {
            issuer: document.issuer,
            authorization_endpoint: document.authorization_endpoint,
            token_endpoint: document.token_endpoint,
            jwks_uri: document.jwks_uri,
            end_session_endpoint: document.end_session_endpoint,
            revocation_endpoint,
            names_issuer: document.authorization_response_iss_parameter_supported,
        })
    }
}

/// Checks that the document is that of the authority (section 4.3). A slash at the end may differ,
/// since many operators write the authority without it.
fn check_issuer(issuer: &str, authority: &str) -> Result<(), SignInError> {
    let is_same = issuer == authority
        || differ_by_slash(issuer, authority)
        || is_template_of(issuer, authority);
    if is_same {
        return Ok(());
    }
    let issuer: String = issuer.chars().take(200).collect();
    Err(SignInError::Metadata(format!(
        "the discovery document names the issuer {issuer:?}, not {authority:?}"
    )))
}

/// Checks that an endpoint is as protected as the authority. The message has no part of the URI,
/// which may contain a password.
fn check_endpoint(name: &str, uri: &str, authority: &str) -> Result<(), SignInError> {
    let invalid = |text: &str| Err(SignInError::Metadata(format!("its {name} {text}")));
    let Ok(parsed) = uri.parse::<Uri>() else { return invalid("is not an http(s) URI") };
    if parsed.authority().is_none_or(|authority| authority.as_str().contains('@')) {
        return invalid("has no host, or contains credentials");
    }
    match parsed.scheme_str() {
        _ if uri.contains('#') => invalid("has a fragment"),
        Some("https") => Ok(()),
        Some("http") if authority.starts_with("http://") => Ok(()),
        _ => invalid("is not https"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn document(changes: &Value) -> String {
        let mut document = json!({
            "issuer": "https://idp.example/",
            "authorization_endpoint": "https://idp.example/auth?realm=a",
            "token_endpoint": "https://idp.example/token",
            "jwks_uri": "https://idp.example/jwks",
        });
        for (name, value) in changes.as_object().unwrap() {
            document[name] = value.clone();
        }
        document.to_string()
    }

    fn parse(changes: &Value, authority: &str) -> Result<ProviderMetadata, String> {
        ProviderMetadata::parse(document(changes).as_bytes(), authority)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn metadata_belongs_to_its_authority() {
        for authority in ["https://idp.example/", "https://idp.example"] {
            assert!(parse(&json!({}), authority).is_ok(), "{authority}");
        }
        let other = parse(&json!({}), "https://other.example/").unwrap_err();
        assert!(other.contains("names the issuer \"https://idp.example/\""), "{other}");
        let template = json!({ "issuer": "https://login.example/{tenantid}/v2.0" });
        assert!(parse(&template, "https://login.example/common/v2.0").is_ok());
        assert!(parse(&template, "https://evil.example/common/v2.0").is_err());
    }

    #[test]
    fn endpoints_are_as_protected_as_the_authority() {
        let authority = "https://idp.example/";
        for (name, uri, reason) in [
            ("token_endpoint", "http://idp.example/token", "is not https"),
            ("authorization_endpoint", "https://a:secret@idp.example/", "credentials"),
            ("jwks_uri", "/jwks", "has no host"),
            ("end_session_endpoint", "javascript:alert(1)", "not"),
            ("token_endpoint", "https://idp.example/token#x", "fragment"),
        ] {
            let text = parse(&json!({ name: uri }), authority).unwrap_err();
            assert!(text.starts_with(&format!("its {name} ")), "{text}");
            assert!(text.contains(reason) || uri.starts_with("javascript"), "{text}");
            assert!(!text.contains("secret"), "{text}");
        }
    }

    #[test]
    fn unusable_revocation_endpoint_is_left_out() {
        let endpoint = |uri: &str| {
            let document = json!({ "revocation_endpoint": uri });
            parse(&document, "https://idp.example/").unwrap().revocation_endpoint
        };
        let usable = "https://idp.example/revoke";
        assert_eq!(endpoint(usable).as_deref(), Some(usable));
        assert_eq!(endpoint("http://idp.example/revoke"), None);
        assert_eq!(endpoint("https://a:b@idp.example/"), None);
    }

    #[test]
    fn provider_without_s256_is_refused() {
        let methods = |methods: Value| {
            parse(&json!({ "code_challenge_methods_supported": methods }), "https://idp.example/")
        };
        assert!(methods(json!(["plain", "S256"])).is_ok());
        assert!(methods(json!(["plain"])).unwrap_err().contains("PKCE"));
        assert!(methods(json!([])).is_err());
    }

    #[test]
    fn duplicate_metadata_member_is_refused() {
        let twice = document(&json!({})).replacen('{', r#"{"issuer":"https://evil/","#, 1);
        let error = ProviderMetadata::parse(twice.as_bytes(), "https://idp.example/").unwrap_err();
        assert!(error.to_string().contains("duplicate field"), "{error}");
    }
}
