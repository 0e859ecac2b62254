//! The JOSE header, and the members that are refused in it.

use super::json::{Document, Value};
use crate::{keyset::KeyName, reject::Reject};

/// The header members that verification uses.
///
/// All others are never read, among them `jku`, `jwk`, `x5u` and `x5c`: a token cannot bring its
/// own key (RFC 8725 sections 2.9 and 3.10). The thumbprints of certificates only name one.
#[derive(Clone, Copy)]
pub(crate) struct Header<'b> {
    pub(crate) algorithm: Option<&'b str>,
    pub(crate) key: KeyName<'b>,
    pub(crate) token_type: Option<&'b str>,
}

impl<'b> Header<'b> {
    pub(crate) fn read(document: &Document<'b>) -> Result<Self, Reject> {
        let mut header = Self { algorithm: None, key: KeyName::default(), token_type: None };
        for (name, value) in document.members() {
            match name {
                "alg" => header.algorithm = value.as_str(),
                "kid" => {
                    let kid = value.as_str().ok_or(Reject::KidType)?;
                    // An empty name names no key.
                    header.key.kid = Some(kid).filter(|kid| !kid.is_empty());
                }
                "x5t" => header.key.x5t = thumbprint(value),
                "x5t#S256" => header.key.x5t_s256 = thumbprint(value),
                "typ" => header.token_type = Some(value.as_str().ok_or(Reject::TypeFormat)?),
                // No extension is supported, so none may be critical. An empty or malformed `crit`
                // is invalid anyway (RFC 7515 section 4.1.11).
                "crit" => return Err(Reject::Critical),
                // RFC 7797 section 7: not in a JWT, and not without `crit`.
                "b64" if value.as_bool() != Some(true) => return Err(Reject::Unencoded),
                _ => {}
            }
        }
        Ok(header)
    }
}

/// Longest thumbprint that is read: that of SHA-256 has 43 characters.
pub(super) const MAX_THUMBPRINT_BYTES: usize = 64;

/// Returns the thumbprint of a certificate; `None` for a value that cannot be one, which then names
/// no key.
fn thumbprint<'b>(value: Value<'_, 'b>) -> Option<&'b str> {
    value.as_str().filter(|text| (1..=MAX_THUMBPRINT_BYTES).contains(&text.len()))
}

#[cfg(test)]
mod tests {
    use super::super::JsonBuffers;
    use super::*;

    fn read(json: &str) -> Result<(Option<String>, Option<String>), Reject> {
        let mut buffers = JsonBuffers::with_capacity(256);
        let document =
            buffers.parse(json.as_bytes()).map_err(|error| error.reject(Reject::HeaderJson))?;
        let header = Header::read(&document)?;
        Ok((header.algorithm.map(str::to_owned), header.key.kid.map(str::to_owned)))
    }

    #[test]
    fn header_algorithm_and_kid_are_read() {
        assert_eq!(
            read(r#"{"typ":"JWT","kid":"k1","alg":"RS256"}"#),
            Ok((Some("RS256".into()), Some("k1".into())))
        );
        assert_eq!(read(r#"{"alg":5}"#), Ok((None, None)));
    }

    #[test]
    fn header_names_of_a_key_are_read() {
        let name = |json: &str| {
            let mut buffers = JsonBuffers::with_capacity(256);
            let document = buffers.parse(json.as_bytes()).unwrap();
            let KeyName { kid, x5t_s256, x5t } = Header::read(&document).unwrap().key;
            [kid, x5t_s256, x5t].map(|text| text.map(str::to_owned))
        };
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(name(r#"{"kid":"","x5t":"a","x5t#S256":"b"}"#), [None, text("b"), text("a")]);
        assert_eq!(name(r#"{"kid":"k","x5t":5,"x5t#S256":null}"#), [text("k"), None, None]);
        let long = "a".repeat(MAX_THUMBPRINT_BYTES + 1);
        assert_eq!(name(&format!(r#"{{"x5t":"","x5t#S256":"{long}"}}"#)), [None, None, None]);
    }

    #[test]
    fn b6_crit_is_refused_in_every_form() {
        for crit in
            [r#"["x"]"#, "[]", r#"["alg"]"#, r#"["b64"]"#, "null", r#""exp""#, r#"["x","x"]"#]
        {
            assert_eq!(
                read(&format!(r#"{{"alg":"HS256","crit":{crit}}}"#)),
                Err(Reject::Critical),
                "{crit}"
            );
        }
    }

    #[test]
    fn b7_unencoded_payload_is_refused() {
        assert_eq!(read(r#"{"alg":"HS256","b64":false}"#), Err(Reject::Unencoded));
        assert_eq!(read(r#"{"alg":"HS256","b64":"true"}"#), Err(Reject::Unencoded));
        assert!(read(r#"{"alg":"HS256","b64":true}"#).is_ok());
    }

    #[test]
    fn a11_kid_of_another_type_is_refused() {
        for kid in ["5", "null", r#"["k"]"#, "{}", "true"] {
            assert_eq!(
                read(&format!(r#"{{"alg":"HS256","kid":{kid}}}"#)),
                Err(Reject::KidType),
                "{kid}"
            );
        }
    }

    #[test]
    fn c6_typ_of_another_json_type_is_refused() {
        assert_eq!(read(r#"{"alg":"HS256","typ":["JWT"]}"#), Err(Reject::TypeFormat));
        assert_eq!(read(r#"{"alg":"HS256","typ":null}"#), Err(Reject::TypeFormat));
    }

    #[test]
    fn b8_header_that_is_not_an_object_is_refused() {
        assert_eq!(read("[]"), Err(Reject::HeaderJson));
        assert_eq!(read(r#"{"alg":"HS256","alg":"none"}"#), Err(Reject::DuplicateMember));
    }
}
