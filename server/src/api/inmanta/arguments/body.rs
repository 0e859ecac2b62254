//! Bodies of calls: a JSON object, as it is or compressed with gzip.

use std::{fmt, io::Read as _};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http::{HeaderMap, header};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Map, Value};

use super::unique_members;
use crate::{api::inmanta::error::ApiError, base::route::MAX_BODY};

/// Reads the arguments in a body. An empty one, and `null`, has none. The type of the content is
/// not looked at: clients of the Inmanta server send JSON as a form.
pub(super) fn parse(headers: &HeaderMap, body: &Bytes) -> Result<Map<String, Value>, ApiError> {
    let is_compressed = headers
        .get(header::CONTENT_ENCODING)
        .is_some_and(|coding| coding.as_bytes().eq_ignore_ascii_case(b"gzip"));
    if is_compressed { parse_json(&inflate(body)?) } else { parse_json(body) }
}

/// Decompresses a body. The result is limited like a body without compression.
fn inflate(body: &[u8]) -> Result<Vec<u8>, ApiError> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_BODY).unwrap_or(u64::MAX);
    let decoder = MultiGzDecoder::new(body);
    decoder
        .take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|_| ApiError::Body("The request body is not in gzip format".into()))?;
    if bytes.len() > MAX_BODY {
        let text = format!("The request body has more than {MAX_BODY} bytes once decompressed");
        return Err(ApiError::Body(text));
    }
    Ok(bytes)
}

fn parse_json(body: &[u8]) -> Result<Map<String, Value>, ApiError> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    let text =
        str::from_utf8(body).map_err(|_| ApiError::Body("Unable to decode request body".into()))?;
    match serde_json::from_str(text) {
        Ok(BodyMembers(members)) => unique_members(members.into_iter()),
        Err(error) if error.is_data() => Err(ApiError::request("the body is not a JSON object")),
        // The position of the error reveals nothing of the body, which may contain a password.
        Err(error) => Err(ApiError::Body(format!(
            "The request body couldn't be decoded as a JSON: line {} column {}",
            error.line(),
            error.column()
        ))),
    }
}

/// Members of a JSON object in order, with duplicates. None of `null`.
struct BodyMembers(Vec<(String, Value)>);

impl<'d> Deserialize<'d> for BodyMembers {
    fn deserialize<D: Deserializer<'d>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;

        impl<'d> Visitor<'d> for MembersVisitor {
            type Value = BodyMembers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_unit<E>(self) -> Result<BodyMembers, E> {
                Ok(BodyMembers(Vec::new()))
            }

            fn visit_map<A: MapAccess<'d>>(self, mut map: A) -> Result<BodyMembers, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(BodyMembers(members))
            }
        }

        deserializer.deserialize_any(MembersVisitor)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};
    use http::HeaderValue;

    use super::*;

    fn compressed(text: &[u8]) -> Bytes {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap().into()
    }

    fn parsed(coding: &'static str, body: &Bytes) -> Result<usize, String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding));
        match parse(&headers, body) {
            Ok(arguments) => Ok(arguments.len()),
            Err(ApiError::Body(text) | ApiError::Request(text)) => Err(text),
            Err(_) => panic!("another error"),
        }
    }

    #[test]
    fn compressed_body_is_limited_once_decompressed() {
        let object = br#"{"username": "anna"}"#;
        assert_eq!(parsed("gzip", &compressed(object)), Ok(1));
        assert_eq!(parsed("GZip", &compressed(object)), Ok(1));
        let spaces = |count: usize| compressed(format!("{{{}}}", " ".repeat(count)).as_bytes());
        assert_eq!(parsed("gzip", &spaces(MAX_BODY - 2)), Ok(0));
        assert!(spaces(100 << 20).len() < MAX_BODY * 2, "a bomb");
        let refused = parsed("gzip", &spaces(MAX_BODY - 1)).unwrap_err();
        assert!(refused.contains("more than"), "{refused}");
        assert!(parsed("gzip", &spaces(100 << 20)).unwrap_err().contains("more than"));
        for broken in [Bytes::from_static(object), compressed(object).slice(..20)] {
            assert!(parsed("gzip", &broken).unwrap_err().contains("gzip format"));
        }
        // Clients announce other codings and use none.
        assert_eq!(parsed("deflate", &Bytes::from_static(object)), Ok(1));
    }

    #[test]
    fn body_that_is_no_object_is_described() {
        for (body, text) in [
            (&b"[1]"[..], "not a JSON object"),
            (b"5", "not a JSON object"),
            (b"\"a\"", "not a JSON object"),
            (b"{\"a\": ", "couldn't be decoded as a JSON: line 1 column 6"),
            (b"a=b", "couldn't be decoded as a JSON"),
            (b"{} x", "couldn't be decoded as a JSON"),
            (b"{\"a\": \"\xff\"}", "Unable to decode request body"),
            (b"{\"a\": 1, \"a\": 2}", "given twice"),
        ] {
            let error = parsed("identity", &Bytes::copy_from_slice(body)).unwrap_err();
            assert!(error.contains(text), "{error}");
        }
        assert_eq!(parsed("identity", &Bytes::from_static(b"null")), Ok(0));
        assert_eq!(parsed("identity", &Bytes::new()), Ok(0));
    }
}
