//! Bodies of calls: a JSON object that a schema describes. It is checked strictly, because a
//! misspelled member would be ignored otherwise.

use http::{HeaderMap, header};
use serde_json::{Map, Value};

use super::{error::AdminError, schema::ObjectSchema};
use crate::base::{
    exact_json::RawMembers,
    redacted::{json_error, shown},
    strict_json::parse_strict,
};

/// The members of a body, which the schema of its operation accepts. Not `Debug`: it may contain a
/// password.
#[derive(Default)]
pub(super) struct BodyValues(Map<String, Value>);

/// Refuses a body that is compressed. The type of the content is not looked at: many clients send
/// JSON with the media type of a form.
///
/// # Errors
/// The body has a coding by `Content-Encoding`, which is a list (RFC 9110 section 8.4).
pub(super) fn check_coding(headers: &HeaderMap, body: &[u8]) -> Result<(), AdminError> {
    let lines = headers.get_all(header::CONTENT_ENCODING).iter();
    let mut codings = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let is_none = |coding: &[u8]| coding.is_empty() || coding.eq_ignore_ascii_case(b"identity");
    if body.is_empty() || codings.all(|coding| is_none(coding.trim_ascii())) {
        Ok(())
    } else {
        Err(AdminError::compressed())
    }
}

impl BodyValues {
    /// Reads a body. An operation without a [`ObjectSchema`] has none.
    ///
    /// # Errors
    /// It is not a JSON object, or a member is missing, repeated, unknown, or has a wrong value.
    pub(super) fn read(schema: Option<&ObjectSchema>, body: &[u8]) -> Result<Self, AdminError> {
        let Some(schema) = schema else {
            return match body {
                [] => Ok(Self::default()),
                _ => Err(AdminError::body("this call has no body")),
            };
        };
        let raw: RawMembers<'_> = serde_json::from_slice(body).map_err(|error| {
            if error.is_data() {
                AdminError::body("the body is not a JSON object")
            } else {
                AdminError::body(&format!("cannot read the body: {}", json_error(&error)))
            }
        })?;
        let mut values = Map::new();
        for (name, value) in raw.0 {
            let Some(member) = schema.member(&name) else {
                let name = shown(&name);
                return Err(AdminError::member(&name, "", "unknown member"));
            };
            let value = parse_strict(value).map_err(|error| {
                AdminError::member(member.name, &error.pointer, &error.mistake.to_string())
            })?;
            if !(member.is_nullable && value.is_null())
                && let Some((place, mistake)) = member.value.mistake(&value)
            {
                return Err(AdminError::member(member.name, &place, &mistake));
            }
            let value = member.value.canonical(value);
            if values.insert(name, value).is_some() {
                return Err(AdminError::member(member.name, "", "the member is there twice"));
            }
        }
        let missing =
            schema.members.iter().find(|one| one.is_required && !values.contains_key(one.name));
        match missing {
            None => Ok(Self(values)),
            Some(member) => Err(AdminError::member(member.name, "", "the member is missing")),
        }
    }

    /// Returns a member; `None` if it is absent or null.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// Returns a member, which may be null; `None` if it is absent.
    pub(super) fn given(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// Returns a text; empty if it is absent.
    pub(super) fn text(&self, name: &str) -> &str {
        self.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// Returns a flag; false if it is absent.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.get(name).and_then(Value::as_bool).unwrap_or_default()
    }

    /// Returns all members.
    pub(super) fn into_members(self) -> Map<String, Value> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::api::admin::schema::{ValueSchema, member};

    const SCHEMA: ObjectSchema = ObjectSchema {
        name: "Example",
        members: &[
            member("name", ValueSchema::Text(3), ""),
            member("types", ValueSchema::Choices(&["a", "b"]), "").optional(),
            member("count", ValueSchema::Whole(1, 9), "").optional().nullable(),
        ],
    };

    #[test]
    fn body_is_read_strictly_with_a_pointer() {
        let read = |body: &str| BodyValues::read(Some(&SCHEMA), body.as_bytes());
        let values = read(r#"{"name":"abc","count":null,"types":["b","a"]}"#).ok().unwrap();
        assert_eq!((values.text("name"), values.get("count")), ("abc", None));
        let values = read(r#"{"name":"abc","count":70e-1}"#).ok().unwrap();
        assert_eq!(values.get("count").and_then(Value::as_u64), Some(7));
        for (body, pointer) in [
            ("", None),
            ("[]", None),
            ("{", None),
            (r#"{"name":"a"}x"#, None),
            ("{}", Some("/name")),
            (r#"{"name":null}"#, Some("/name")),
            (r#"{"name":"abcd"}"#, Some("/name")),
            (r#"{"name":"\u0000"}"#, Some("/name")),
            (r#"{"name":"a","name":"a"}"#, Some("/name")),
            (r#"{"name":"a","other":1}"#, Some("/other")),
            (r#"{"name":"a","a/b~":1}"#, Some("/a~1b~0")),
            (r#"{"name":"a","count":0}"#, Some("/count")),
            (r#"{"name":"a","count":1.5}"#, Some("/count")),
            (r#"{"name":"a","count":-1.0}"#, Some("/count")),
            (r#"{"name":"a","count":1e1}"#, Some("/count")),
            (r#"{"name":"a","count":"1"}"#, Some("/count")),
            (r#"{"name":"a","types":[]}"#, Some("/types")),
            (r#"{"name":"a","types":"a"}"#, Some("/types")),
            (r#"{"name":"a","types":["a","c"]}"#, Some("/types/1")),
            (r#"{"name":"a","types":["a","a"]}"#, Some("/types/1")),
            (r#"{"name":"\ud800"}"#, Some("/name")),
            (r#"{"name":"a","types":["a","\ud800"]}"#, Some("/types/1")),
            (r#"{"name":"a","types":{"a":1,"a":1}}"#, Some("/types/a")),
            (r#"{"name":"a","count":1e400}"#, Some("/count")),
        ] {
            let error = read(body).err().unwrap_or_else(|| panic!("{body}"));
            assert_eq!(error.pointer(), pointer, "{body}");
            assert_eq!(error.into_response().status(), StatusCode::BAD_REQUEST, "{body}");
        }
        let deep = format!(r#"{{"name":{}{}}}"#, "[".repeat(30_000), "]".repeat(30_000));
        assert_eq!(read(&deep).err().unwrap().pointer(), Some("/name"));
    }

    #[test]
    fn call_without_a_body_takes_none() {
        assert!(BodyValues::read(None, b"").is_ok());
        assert!(BodyValues::read(None, b"{}").is_err());
    }
}
