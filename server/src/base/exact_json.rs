//! JSON with numbers of any size, as tokens may have.
//!
//! `serde_json` reads an integer beyond 64 bits as the nearest double, and refuses a number beyond
//! the doubles. The engine accepts both in claims that it does not read.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Map, Number, Value, value::RawValue};

/// The members of an object, each as it is spelled, in their order.
#[derive(Default)]
pub struct RawMembers<'j>(pub Vec<(String, &'j RawValue)>);

impl<'j> RawMembers<'j> {
    /// Returns the value of the member with this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'j RawValue> {
        self.0.iter().find_map(|(member, value)| (member == name).then_some(*value))
    }
}

impl<'j> Deserialize<'j> for RawMembers<'j> {
    fn deserialize<D: Deserializer<'j>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'j> Visitor<'j> for Members {
            type Value = RawMembers<'j>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'j>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = RawMembers::default();
                while let Some(member) = map.next_entry()? {
                    members.0.push(member);
                }
                Ok(members)
            }
        }

        deserializer.deserialize_map(Members)
    }
}

/// Parses the claims of a token. A number that a double cannot hold is null, and so is a value that
/// is nested too deeply, which a verified token does not have.
#[must_use]
pub fn claims(json: &[u8]) -> Map<String, Value> {
    serde_json::from_slice(json).unwrap_or_else(|_| {
        let members: RawMembers<'_> = serde_json::from_slice(json).unwrap_or_default();
        object(members, MAX_LEVELS, |_| Value::Null)
    })
}

/// Parses a value. An integer beyond 64 bits, a number that a double cannot hold, and a value that
/// is nested too deeply are strings of their spelling.
#[must_use]
pub fn exact(json: &RawValue) -> Value {
    parse(json, MAX_LEVELS, |text| text.into())
}

/// Maximum number of nested arrays and objects, as of `serde_json`: each takes a part of the stack,
/// and a token that is not verified may have thousands.
const MAX_LEVELS: u32 = 128;

/// The largest integer up to which an `f64` represents all integers exactly.
const MAX_EXACT_INTEGER: u64 = 1 << 53;

/// Returns a number as a double; `None` if it is an integer that a double may not represent. A
/// receiver of doubles gets its digits instead: an identifier that is off by one would belong to
/// another user.
#[must_use]
pub fn exact_double(number: &Number) -> Option<f64> {
    match number.as_i128() {
        Some(whole) if whole.unsigned_abs() > MAX_EXACT_INTEGER.into() => None,
        _ => number.as_f64(),
    }
}

fn object(members: RawMembers<'_>, levels: u32, beyond: fn(&str) -> Value) -> Map<String, Value> {
    let parse = |(name, value)| (name, parse(value, levels, beyond));
    members.0.into_iter().map(parse).collect()
}

fn parse(json: &RawValue, levels: u32, beyond: fn(&str) -> Value) -> Value {
    let text = json.get();
    let below = levels.saturating_sub(1);
    match text.as_bytes().first() {
        Some(b'{' | b'[') if levels == 0 => beyond(text),
        Some(b'{') => serde_json::from_str(text)
            .map_or(Value::Null, |members| Value::Object(object(members, below, beyond))),
        Some(b'[') => {
            let elements: Vec<&RawValue> = serde_json::from_str(text).unwrap_or_default();
            elements.into_iter().map(|element| parse(element, below, beyond)).collect()
        }
        _ => match serde_json::from_str(text) {
            Ok(Value::Number(number)) if number.is_f64() && is_integer(text) => beyond(text),
            Ok(value) => value,
            Err(_) => beyond(text),
        },
    }
}

fn is_integer(number: &str) -> bool {
    !number.contains(['.', 'e', 'E'])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_beyond_a_double_are_kept_or_null() {
        let json = r#"{"a":1e400,"b":[18446744073709551616,{"c":-1E400,"d":5}],"e":"x","f":1.5}"#;
        let raw: &RawValue = serde_json::from_str(json).unwrap();
        assert_eq!(
            exact(raw),
            json!({ "a": "1e400", "b": ["18446744073709551616", { "c": "-1E400", "d": 5 }], "e": "x", "f": 1.5 })
        );
        let members = claims(json.as_bytes());
        assert_eq!((&members["a"], &members["e"]), (&Value::Null, &json!("x")));
        for json in [r#"{"b":2,"a":1}"#, r#"{"b":1e400,"a":1}"#] {
            assert_eq!(claims(json.as_bytes()).keys().collect::<Vec<_>>(), ["b", "a"]);
        }
    }

    #[test]
    fn nested_values_take_a_bounded_stack() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let nested =
                |levels: usize| format!("{}1{}", open.repeat(levels), close.repeat(levels));
            let parsed = |text: &str| exact(serde_json::from_str(text).unwrap()).to_string();
            assert_eq!(parsed(&nested(128)), nested(128));
            assert!(parsed(&nested(129)).contains(r#""[1]""#) || open != "[");
            for levels in [129, 5_000, 100_000] {
                let text = nested(levels);
                assert!(parsed(&text).len() > text.len());
                let object = claims(format!(r#"{{"a":{text},"b":2}}"#).as_bytes());
                assert_eq!(object["b"], 2);
            }
        }
    }
}
