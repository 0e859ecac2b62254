//! Bodies of calls: a JSON object whose members are checked one by one. All mistakes are reported,
//! as Infisical does. Unknown members are ignored.

use serde_json::{Map, Value, json};

use super::error::InfisicalError;
use crate::base::{
    exact_json::RawMembers,
    strict_json::{JsonMistake, parse_strict},
};

/// Reader of the members of a body.
pub(super) struct BodyReader {
    members: Map<String, Value>,
    issues: Vec<Value>,
    /// Pointer to the first mistake. The issues have the member only.
    first: Option<String>,
}

/// A member that may be null, in a change: absent, null, or a value.
pub(super) type Change<T> = Option<Option<T>>;

impl BodyReader {
    /// Parses a body. An empty one has no members.
    ///
    /// # Errors
    /// It is not JSON, or a member of it or of an object in it occurs twice; or it is not an
    /// object.
    pub(super) fn parse(body: &[u8]) -> Result<Self, InfisicalError> {
        if body.is_empty() {
            return Ok(Self { members: Map::new(), issues: Vec::new(), first: None });
        }
        let raw: RawMembers<'_> = serde_json::from_slice(body).map_err(|error| {
            if error.is_data() {
                InfisicalError::validation(vec![issue("", "Expected object")])
            } else {
                InfisicalError::bad_request("Body is not valid JSON")
            }
        })?;
        let mut reader = Self { members: Map::new(), issues: Vec::new(), first: None };
        for (name, value) in raw.0 {
            let value = parse_strict(value).map_err(|error| match error.mistake {
                JsonMistake::Duplicate => member_twice(),
                _ => InfisicalError::bad_request("Body is not valid JSON"),
            })?;
            if has_null_character(&value) {
                reader.report(&name, "String must not contain null characters");
            }
            if reader.members.insert(name, value).is_some() {
                return Err(member_twice());
            }
        }
        Ok(reader)
    }

    /// Reports a mistake in a member.
    pub(super) fn report(&mut self, member: &str, message: &str) {
        self.report_at(&format!("/{member}"), member, message);
    }

    /// Reports a mistake in a member, with a pointer to the place that is wrong. The answer has the
    /// member only.
    pub(super) fn report_at(&mut self, pointer: &str, member: &str, message: &str) {
        self.first.get_or_insert_with(|| pointer.to_owned());
        self.issues.push(issue(member, message));
    }

    /// Returns the mistakes, if there are any.
    ///
    /// # Errors
    /// There are.
    pub(super) fn finish(self) -> Result<(), InfisicalError> {
        match self.first {
            None => Ok(()),
            Some(first) => Err(InfisicalError::validation(self.issues).at(&first)),
        }
    }

    /// Returns a member that is present.
    pub(super) fn value(&self, member: &str) -> Option<&Value> {
        self.members.get(member)
    }

    /// Reads a required text, without white space around it.
    pub(super) fn text(&mut self, member: &str) -> String {
        match self.optional_text(member) {
            Some(text) => text,
            None => {
                if !self.members.contains_key(member) {
                    self.report(member, "Required");
                }
                String::new()
            }
        }
    }

    /// Reads a required text that is not empty.
    pub(super) fn name(&mut self, member: &str) -> String {
        let text = self.text(member);
        if text.is_empty() && self.members.contains_key(member) {
            self.report(member, "String must contain at least 1 character(s)");
        }
        text
    }

    /// Reads an optional text, without white space around it.
    pub(super) fn optional_text(&mut self, member: &str) -> Option<String> {
        match self.members.get(member)? {
            Value::String(text) if text.chars().count() <= MAX_TEXT => Some(text.trim().to_owned()),
            Value::String(_) => {
                self.report(member, "String is too long");
                None
            }
            _ => {
                self.report(member, "Expected string");
                None
            }
        }
    }

    /// Reads an optional whole number. As in JavaScript, `3600.0` and `36e2` are whole. `max` is less
    /// than 2^53.
    pub(super) fn number(&mut self, member: &str, min: u64, max: u64) -> Option<u64> {
        let number = self.members.get(member)?.as_f64();
        let message = match number {
            None => "Expected number".into(),
            Some(number) if number.fract() != 0.0 => "Expected integer".into(),
            Some(number) if number < min as f64 => {
                format!("Number must be greater than or equal to {min}")
            }
            Some(number) if number > max as f64 => {
                format!("Number must be less than or equal to {max}")
            }
            Some(number) => return Some(number as u64),
        };
        self.report(member, &message);
        None
    }

    /// Reads an optional flag.
    pub(super) fn flag(&mut self, member: &str) -> Option<bool> {
        let value = self.members.get(member)?;
        let flag = value.as_bool();
        if flag.is_none() {
            self.report(member, "Expected boolean");
        }
        flag
    }

    /// Reads an optional list of texts of objects: their members `inner`, without white space
    /// around them.
    pub(super) fn objects(&mut self, member: &str, inner: &str) -> Option<Vec<String>> {
        let value = self.members.get(member)?;
        let texts = value.as_array().and_then(|list| {
            let text = |one: &Value| Some(one.get(inner)?.as_str()?.trim().to_owned());
            list.iter().map(text).collect::<Option<Vec<_>>>()
        });
        if texts.is_none() {
            self.report(member, "Expected an array of objects");
        }
        texts
    }

    /// Reads an optional list of texts that may be null.
    pub(super) fn texts(&mut self, member: &str) -> Change<Vec<String>> {
        let value = self.members.get(member)?;
        if value.is_null() {
            return Some(None);
        }
        let texts = value.as_array().and_then(|list| {
            let text = |one: &Value| Some(one.as_str()?.trim().to_owned());
            list.iter().map(text).collect::<Option<Vec<_>>>()
        });
        if texts.is_none() {
            self.report(member, "Expected an array of strings");
        }
        texts.map(Some)
    }
}

/// Longest text, in characters.
const MAX_TEXT: usize = 16_384;

fn member_twice() -> InfisicalError {
    InfisicalError::bad_request("Body has a member twice")
}

fn issue(member: &str, message: &str) -> Value {
    let path: Vec<_> = Some(member).filter(|member| !member.is_empty()).into_iter().collect();
    json!({ "code": "custom", "path": path, "message": message })
}

/// Whether a text in a value has a null character, which PostgreSQL cannot store.
fn has_null_character(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(elements) => elements.iter().any(has_null_character),
        Value::Object(members) => {
            members.iter().any(|(name, value)| name.contains('\0') || has_null_character(value))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_of_a_body_is_reported() {
        let body = br#"{"a":" x ","b":5,"c":-1,"d":1.5,"e":11,"f":"t","g":[{"k":"v"}],"h":[1],
            "i":3600.0,"j":1e3}"#;
        let mut reader = BodyReader::parse(body).unwrap();
        assert_eq!(reader.text("a"), "x");
        assert_eq!(reader.text("b"), "");
        assert_eq!(reader.text("z"), "");
        for member in ["c", "d", "e", "f"] {
            assert_eq!(reader.number(member, 0, 10), None, "{member}");
        }
        assert_eq!(reader.number("b", 5, 5), Some(5));
        assert_eq!(reader.number("i", 0, 3600), Some(3600));
        assert_eq!(reader.number("j", 0, 1000), Some(1000));
        assert_eq!(reader.flag("f"), None);
        assert_eq!(reader.objects("g", "k"), Some(vec!["v".into()]));
        assert_eq!(reader.texts("h"), None);
        assert_eq!(reader.issues.len(), 8);
        assert_eq!(reader.finish().unwrap_err().status(), 422);
    }

    #[test]
    fn body_that_is_not_an_object_is_refused() {
        let status =
            |body: &[u8]| BodyReader::parse(body).err().map(|error| error.status().as_u16());
        assert_eq!(status(b""), None);
        assert_eq!(status(b"{}"), None);
        assert_eq!(status(b"[]"), Some(422));
        assert_eq!(status(b"{"), Some(400));
        for twice in [r#"{"a":1,"a":2}"#, r#"{"a":{"b":1,"b":2}}"#, r#"{"a":[{"b":1,"b":1}]}"#] {
            let refusal = BodyReader::parse(twice.as_bytes()).err().unwrap();
            assert!(format!("{refusal:?}").contains("Body has a member twice"), "{twice}");
        }
    }
}
