//! The JOSE header, and the members that are refused in it.

use super::json::Document;
use crate::reject::Reject;

/// The header members that verification uses.
///
/// All others are never read, among them `jku`, `jwk`, `x5u` and `x5c`: a token cannot bring its
/// own key (RFC 8725 sections 2.9 and 3.10).
#[derive(Clone, Copy)]
pub(crate) struct Header<'b> {
    pub(crate) algorithm: Option<&'b str>,
    pub(crate) kid: Option<&'b str>,
    pub(crate) token_type: Option<&'b str>,
}

impl<'b> Header<'b> {
    pub(crate) fn read(document: &Document<'b>) -> Result<Self, Reject> {
        let mut header = Self { algorithm: None, kid: None, token_type: None };
        for (name, value) in document.members() {
            match name {
                "alg" => header.algorithm = value.as_str(),
                "kid" => header.kid = Some(value.as_str().ok_or(Reject::KidType)?),
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

#[cfg(test)]
mod tests {
    use super::super::JsonBuffers;
    use super::*;

    fn read(json: &str) -> Result<(Option<String>, Option<String>), Reject> {
        let mut buffers = JsonBuffers::with_capacity(256);
        let document =
            buffers.parse(json.as_bytes()).map_err(|error| error.reject(Reject::HeaderJson))?;
        let header = Header::read(&document)?;
        Ok((header.algorithm.map(str::to_owned), header.kid.map(str::to_owned)))
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
