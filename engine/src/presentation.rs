//! The request that presents a token, and the proof of possession that a token may demand of it.
//!
//! A bearer token is good in any hands. A token with a confirmation claim (`cnf`, RFC 7800) is
//! bound to the holder of a key, and is refused unless the request proves possession of that key.
//! One proof is supported: a TLS client certificate, named by its thumbprint (RFC 8705 section
//! 3.1).

use core::fmt;

use aws_lc_rs::digest::{SHA256, digest};

use crate::{
    reject::Reject,
    token::{Value, decode_base64},
};

/// The SHA-256 thumbprint of a client certificate (RFC 8705 section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertificateThumbprint([u8; 32]);

impl CertificateThumbprint {
    /// Returns the thumbprint of a certificate in DER.
    #[must_use]
    pub fn of(certificate: &[u8]) -> Self {
        let mut thumbprint = [0; 32];
        thumbprint.copy_from_slice(digest(&SHA256, certificate).as_ref());
        Self(thumbprint)
    }

    /// Returns the thumbprint with this SHA-256 digest of a certificate in DER.
    #[must_use]
    pub const fn from_digest(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// Parses a thumbprint as in `x5t#S256`: 43 characters of canonical base64url without padding.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut thumbprint = [0; 32];
        let length = decode_base64(text.as_bytes(), &mut thumbprint)?.len();
        (length == thumbprint.len()).then_some(Self(thumbprint))
    }
}

/// The properties of a request that the verification of its token depends on.
///
/// # Defaults
/// A request without a client certificate, whose token must satisfy all rules.
#[derive(Clone, Copy, Default)]
pub struct Presentation<'p> {
    /// Returns the thumbprint of the client certificate, if the client has proven possession of
    /// its key. Called only for a token that is bound to a certificate.
    pub certificate: Option<&'p dyn Fn() -> Option<CertificateThumbprint>>,
    /// Whether a token may lack the username that its issuer requires.
    pub username_optional: bool,
}

impl fmt::Debug for Presentation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presentation").finish_non_exhaustive()
    }
}

impl Presentation<'_> {
    /// Checks that the request proves every member of a `cnf` claim. A claim that is not an
    /// object, has no member, or a member of unknown meaning, is proven by no request.
    pub(crate) fn check_confirmation(&self, claim: Value<'_, '_>) -> Result<(), Reject> {
        let mut proven = None;
        for (member, value) in claim.members().ok_or(Reject::Bound)? {
            let is_proven = match member {
                "x5t#S256" => self.proves_certificate(value),
                _ => false,
            };
            proven = Some(is_proven && proven != Some(false));
        }
        if proven == Some(true) { Ok(()) } else { Err(Reject::Bound) }
    }

    fn proves_certificate(&self, thumbprint: Value<'_, '_>) -> bool {
        let expected = thumbprint.as_str().and_then(CertificateThumbprint::parse);
        expected.is_some_and(|expected| {
            self.certificate.and_then(|certificate| certificate()) == Some(expected)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::JsonBuffers;

    /// The thumbprint of `abc`, from `printf abc | openssl dgst -sha256 -binary | base64`, in the
    /// URL alphabet.
    const ABC: &str = "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0";

    fn check(cnf: &str, certificate: Option<CertificateThumbprint>) -> Result<(), Reject> {
        let mut buffers = JsonBuffers::with_capacity(256);
        let document = buffers.parse(format!(r#"{{"cnf":{cnf}}}"#).as_bytes()).unwrap();
        let certificate = || certificate;
        let presentation =
            Presentation { certificate: Some(&certificate), ..Presentation::default() };
        presentation.check_confirmation(document.members().get("cnf").unwrap())
    }

    #[test]
    fn certificate_thumbprint_has_one_canonical_form() {
        assert_eq!(CertificateThumbprint::parse(ABC), Some(CertificateThumbprint::of(b"abc")));
        for other in [
            "",
            "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0=",
            "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa1",
            "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0",
            "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa",
            "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0A",
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        ] {
            assert_eq!(CertificateThumbprint::parse(other), None, "{other}");
        }
    }

    #[test]
    fn confirmation_needs_exactly_this_certificate() {
        let cnf = format!(r#"{{"x5t#S256":"{ABC}"}}"#);
        assert_eq!(check(&cnf, Some(CertificateThumbprint::of(b"abc"))), Ok(()));
        assert_eq!(check(&cnf, Some(CertificateThumbprint::of(b"other"))), Err(Reject::Bound));
        assert_eq!(check(&cnf, None), Err(Reject::Bound));
    }

    #[test]
    fn unknown_confirmation_is_refused() {
        let certificate = Some(CertificateThumbprint::of(b"abc"));
        let good = format!(r#""x5t#S256":"{ABC}""#);
        assert_eq!(check(&format!("{{{good}}}"), certificate), Ok(()));
        for cnf in [
            "null".into(),
            "true".into(),
            "5".into(),
            "[]".into(),
            format!(r#"[{{{good}}}]"#),
            format!("\"{ABC}\""),
            "{}".into(),
            r#"{"jkt":"0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}"#.into(),
            r#"{"jwk":{"kty":"EC"}}"#.into(),
            r#"{"kid":"k"}"#.into(),
            r#"{"x5u":"https://idp/c"}"#.into(),
            r#"{"x5t#S256":null}"#.into(),
            format!(r#"{{"x5t#S256":["{ABC}"]}}"#),
            format!(r#"{{"X5T#S256":"{ABC}"}}"#),
            format!(r#"{{{good},"jkt":"x"}}"#),
            format!(r#"{{"jkt":"x",{good}}}"#),
            format!(r#"{{"":0,{good}}}"#),
        ] {
            assert_eq!(check(&cnf, certificate), Err(Reject::Bound), "{cnf}");
        }
    }

    #[test]
    fn certificate_is_asked_for_only_by_a_binding() {
        let mut buffers = JsonBuffers::with_capacity(64);
        let document = buffers.parse(br#"{"cnf":{"jkt":"x"}}"#).unwrap();
        let certificate = || panic!("no member names a certificate");
        let presentation =
            Presentation { certificate: Some(&certificate), ..Presentation::default() };
        let cnf = document.members().get("cnf").unwrap();
        assert_eq!(presentation.check_confirmation(cnf), Err(Reject::Bound));
        assert!(format!("{presentation:?}").contains("Presentation"));
    }
}
