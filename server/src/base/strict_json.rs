//! JSON values of requests, read strictly. Of two members with one name, either could be the
//! intended one, and a value of any depth could exhaust the stack.

use std::fmt;

use serde::{
    Deserializer,
    de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value, value::RawValue};

use super::redacted::shown;

/// Maximum depth of a value, in arrays and objects. Less than the limit of the parser, so that this
/// one is reported.
const MAX_DEPTH: usize = 100;

/// The mistake of a value, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StrictJsonError {
    /// The place below the value: a JSON pointer (RFC 6901), empty for the value itself. A name
    /// that may be a secret is not shown.
    pub pointer: String,
    /// The mistake.
    pub mistake: JsonMistake,
}

/// The mistake of a [`StrictJsonError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonMistake {
    /// An object has two members with one name.
    Duplicate,
    /// The value is nested too deeply.
    TooDeep,
    /// A `\u` escape is one half of a surrogate pair, which stands for no character.
    LoneSurrogate,
    /// A number is beyond the doubles.
    NumberTooLarge,
    /// It is not JSON for another reason.
    Malformed,
}

impl fmt::Display for JsonMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Duplicate => "the member is there twice",
            Self::TooDeep => "the value is nested too deeply",
            Self::LoneSurrogate => {
                "an escape \\u is half of a surrogate pair: write both halves, or the character"
            }
            Self::NumberTooLarge => "the number is too large",
            Self::Malformed => "the value is not JSON",
        })
    }
}

/// Parses a value, each object of which has every name once.
///
/// # Errors
/// The first [`JsonMistake`], with its place.
pub fn parse_strict(json: &RawValue) -> Result<Value, StrictJsonError> {
    let mut place = ValuePlace::default();
    let mut deserializer = serde_json::Deserializer::from_str(json.get());
    let parsed = ValueSeed { place: &mut place }.deserialize(&mut deserializer);
    parsed.map_err(|error| {
        let mistake = place.mistake.unwrap_or_else(|| mistake_of(&error));
        // The pointer to a value that is too deep would be as long as the value.
        let pointer = if mistake == JsonMistake::TooDeep { String::new() } else { place.pointer() };
        StrictJsonError { pointer, mistake }
    })
}

/// Returns the mistake that the parser has found. A raw value is JSON but for these.
fn mistake_of(error: &serde_json::Error) -> JsonMistake {
    let text = error.to_string();
    if text.contains("surrogate") || text.contains("hex escape") {
        JsonMistake::LoneSurrogate
    } else if text.contains("number out of range") {
        JsonMistake::NumberTooLarge
    } else {
        JsonMistake::Malformed
    }
}

/// The place of the value that is read. After an error, that of the error.
#[derive(Default)]
struct ValuePlace {
    segments: Vec<PlaceSegment>,
    /// The mistake, unless the parser has found it.
    mistake: Option<JsonMistake>,
}

enum PlaceSegment {
    Index(usize),
    Name(String),
}

impl ValuePlace {
    /// Returns an error of the parser's type, with this mistake.
    fn fail<E: de::Error>(&mut self, mistake: JsonMistake) -> E {
        self.mistake = Some(mistake);
        E::custom("refused")
    }

    fn pointer(&self) -> String {
        let segments = self.segments.iter().map(|segment| match segment {
            PlaceSegment::Index(index) => format!("/{index}"),
            PlaceSegment::Name(name) => {
                format!("/{}", shown(name).replace('~', "~0").replace('/', "~1"))
            }
        });
        segments.collect()
    }
}

/// Reads the value at a [`ValuePlace`].
struct ValueSeed<'p> {
    place: &'p mut ValuePlace,
}

impl ValueSeed<'_> {
    fn check_depth<E: de::Error>(&mut self) -> Result<(), E> {
        if self.place.segments.len() < MAX_DEPTH {
            return Ok(());
        }
        Err(self.place.fail(JsonMistake::TooDeep))
    }
}

impl<'d> DeserializeSeed<'d> for ValueSeed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'d>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'d> Visitor<'d> for ValueSeed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Number::from_f64(number).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'d>>(mut self, mut elements: A) -> Result<Value, A::Error> {
        self.check_depth::<A::Error>()?;
        let mut list = Vec::new();
        loop {
            self.place.segments.push(PlaceSegment::Index(list.len()));
            let element = elements.next_element_seed(ValueSeed { place: &mut *self.place })?;
            self.place.segments.pop();
            match element {
                Some(element) => list.push(element),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'d>>(mut self, mut members: A) -> Result<Value, A::Error> {
        self.check_depth::<A::Error>()?;
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            self.place.segments.push(PlaceSegment::Name(name.clone()));
            if object.contains_key(&name) {
                return Err(self.place.fail(JsonMistake::Duplicate));
            }
            let value = members.next_value_seed(ValueSeed { place: &mut *self.place })?;
            self.place.segments.pop();
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parsed(json: &str) -> Result<Value, (String, JsonMistake)> {
        let raw: &RawValue = serde_json::from_str(json).unwrap();
        parse_strict(raw).map_err(|StrictJsonError { pointer, mistake }| (pointer, mistake))
    }

    #[test]
    fn strict_value_is_that_of_the_parser() {
        for json in [
            "null",
            "true",
            "-5",
            "18446744073709551615",
            "1.5",
            "\"a\\u00e9\\ud83d\\ude00\"",
            "[1,[],{}]",
            "{\"b\":[{\"a\":null}],\"a\":{\"b\":1}}",
        ] {
            assert_eq!(parsed(json), Ok(serde_json::from_str(json).unwrap()), "{json}");
        }
        let members = parsed("{\"b\":1,\"a\":2}").unwrap();
        assert_eq!(members.as_object().unwrap().keys().collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!(parsed(" {\"a\" : 1 } "), Ok(json!({ "a": 1 })));
    }

    #[test]
    fn mistake_of_a_value_has_its_place() {
        let secret = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
        for (json, pointer, mistake) in [
            ("\"\\ud800\"", "", JsonMistake::LoneSurrogate),
            ("\"\\ud800x\"", "", JsonMistake::LoneSurrogate),
            ("\"\\udc00\"", "", JsonMistake::LoneSurrogate),
            ("\"\\ud800\\ud800\"", "", JsonMistake::LoneSurrogate),
            ("[\"a\",{\"b/c~\":\"\\ud800\"}]", "/1/b~1c~0", JsonMistake::LoneSurrogate),
            ("{\"a\":{\"\\ud800\":1}}", "/a", JsonMistake::LoneSurrogate),
            ("[1e400]", "/0", JsonMistake::NumberTooLarge),
            ("{\"a\":1,\"a\":1}", "/a", JsonMistake::Duplicate),
            ("[[],{\"a\":{\"b\":1,\"\\u0062\":2}}]", "/1/a/b", JsonMistake::Duplicate),
        ] {
            assert_eq!(parsed(json), Err((pointer.to_owned(), mistake)), "{json}");
        }
        let (pointer, _) = parsed(&format!("{{\"{secret}\":1e400}}")).unwrap_err();
        assert!(pointer.contains("not shown"), "{pointer}");
    }

    #[test]
    fn depth_of_a_value_is_limited() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parsed(&nested(MAX_DEPTH)).is_ok());
        for depth in [MAX_DEPTH + 1, 127, 128, 129, 30_000] {
            assert_eq!(parsed(&nested(depth)), Err((String::new(), JsonMistake::TooDeep)));
        }
        let objects = format!("{}0{}", "{\"a\":".repeat(200), "}".repeat(200));
        assert_eq!(parsed(&objects), Err((String::new(), JsonMistake::TooDeep)));
    }
}
