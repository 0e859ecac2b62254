//! Shapes of answers: JSON in which placeholders stand for what differs between two servers.

use serde_json::{Map, Value};

/// Returns the difference between a shape and a value, or `None` if the value has the shape.
///
/// A text of a shape may contain placeholders: `<any>` for any text, `<uuid>`, `<token>` for a
/// JWT, `<seconds>` for an integer, and `<time>` for a time in UTC with microseconds. Alone, they
/// also stand for values: `<any>` for everything, `<text>`, `<list>` and `<object>` for a value
/// of that type, and `<text-or-null>` and `<time-or-null>`. A list that ends with `<more>` has one
/// or more elements of the shape of its first. Members beyond those of the shape are a difference
/// unless it is `open`.
pub(crate) fn difference(shape: &Value, actual: &Value, open: bool) -> Option<String> {
    let same = match (shape, actual) {
        (Value::String(pattern), _) => is_value(pattern, actual),
        (Value::Array(shapes), Value::Array(elements)) => {
            return list_difference(shapes, elements, open);
        }
        (Value::Object(shapes), Value::Object(members)) => {
            return object_difference(shapes, members, open);
        }
        _ => shape == actual,
    };
    (!same).then(|| format!("expected {shape}, got {actual}"))
}

fn list_difference(shapes: &[Value], elements: &[Value], open: bool) -> Option<String> {
    if let [shape, Value::String(last)] = shapes
        && last == "<more>"
    {
        return if elements.is_empty() {
            Some("the list is empty".into())
        } else {
            elements.iter().find_map(|element| difference(shape, element, open))
        };
    }
    if shapes.len() != elements.len() {
        return Some(format!("expected {} elements, got {elements:?}", shapes.len()));
    }
    shapes.iter().zip(elements).find_map(|(shape, element)| difference(shape, element, open))
}

fn object_difference(
    shapes: &Map<String, Value>,
    members: &Map<String, Value>,
    open: bool,
) -> Option<String> {
    let unexpected = members.keys().find(|name| !shapes.contains_key(*name));
    if let Some(name) = unexpected.filter(|_| !open) {
        return Some(format!("unexpected member {name}"));
    }
    shapes.iter().find_map(|(name, shape)| {
        let Some(member) = members.get(name) else { return Some(format!("no member {name}")) };
        difference(shape, member, open).map(|difference| format!("{name}: {difference}"))
    })
}

fn is_value(pattern: &str, actual: &Value) -> bool {
    match (pattern, actual) {
        ("<any>", _)
        | ("<text>" | "<text-or-null>", Value::String(_))
        | ("<list>", Value::Array(_))
        | ("<object>", Value::Object(_))
        | ("<text-or-null>" | "<time-or-null>", Value::Null) => true,
        ("<time-or-null>", Value::String(text)) => is_text("<time>", text),
        (_, Value::String(text)) => is_text(pattern, text),
        _ => false,
    }
}

/// Whether a text matches a pattern with placeholders.
pub(crate) fn is_text(pattern: &str, text: &str) -> bool {
    let placeholder = PLACEHOLDERS
        .iter()
        .filter_map(|(name, accepts)| Some((pattern.find(name)?, name.len(), accepts)))
        .min_by_key(|(start, ..)| *start);
    let Some((start, length, accepts)) = placeholder else { return pattern == text };
    let (before, rest) = (&pattern[..start], &pattern[start + length..]);
    let Some(text) = text.strip_prefix(before) else { return false };
    let mut ends = text.char_indices().map(|(index, _)| index).chain([text.len()]);
    ends.any(|end| accepts(&text[..end]) && is_text(rest, &text[end..]))
}

type AcceptsText = fn(&str) -> bool;

const PLACEHOLDERS: [(&str, AcceptsText); 5] = [
    ("<any>", |_| true),
    ("<uuid>", |text| has_form("xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", text)),
    ("<time>", |text| has_form("0000-00-00T00:00:00.000000+00:00", text)),
    ("<token>", |text| {
        let is_part = |part: &str| part.len() > 1 && part.bytes().all(is_base64url);
        text.split('.').count() == 3 && text.split('.').all(is_part)
    }),
    ("<seconds>", |text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())),
];

/// Whether a text has a form of `0` for a digit, `x` for a lower-case hexadecimal digit, and other
/// characters for themselves.
fn has_form(form: &str, text: &str) -> bool {
    let fits = |(form, byte): (u8, u8)| match form {
        b'0' => byte.is_ascii_digit(),
        b'x' => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
        _ => byte == form,
    };
    form.len() == text.len() && form.bytes().zip(text.bytes()).all(fits)
}

fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn shape_matches_what_varies() {
        let shape = json!({
            "at": "<time>",
            "id": "id <uuid>.",
            "list": [{ "n": 1, "end": "<time-or-null>" }, "<more>"],
            "token": "<token>",
        });
        let time = "2026-11-29T10:25:00.123456+00:00";
        let value = json!({
            "at": time,
            "id": "id 11111111-2222-4333-8444-55555555abcd.",
            "list": [{ "n": 1, "end": null }, { "n": 1, "end": time }],
            "token": "ab.cd.e-_",
        });
        assert_eq!(difference(&shape, &value, false), None);
        assert!(is_text("a<any>b<seconds>", "a and b12"));
    }

    #[test]
    fn shape_names_the_first_difference() {
        let cases = [
            (json!({ "a": 1 }), json!({ "a": 1, "b": 2 }), "unexpected member b"),
            (json!({ "a": 1, "b": 2 }), json!({ "a": 1 }), "no member b"),
            (
                json!({ "a": [1, 2] }),
                json!({ "a": [1] }),
                "a: expected 2 elements, got [Number(1)]",
            ),
            (json!([1, "<more>"]), json!([]), "the list is empty"),
            (
                json!("<time>"),
                json!("2026-11-29T10:25:00Z"),
                "expected \"<time>\", got \"2026-11-29T10:25:00Z\"",
            ),
            (json!("<uuid>"), json!("x"), "expected \"<uuid>\", got \"x\""),
            (json!("<object>"), json!([]), "expected \"<object>\", got []"),
            (json!(null), json!(1), "expected null, got 1"),
        ];
        for (shape, value, expected) in cases {
            assert_eq!(difference(&shape, &value, false).as_deref(), Some(expected), "{shape}");
        }
        assert_eq!(difference(&json!({ "a": 1 }), &json!({ "a": 1, "b": 2 }), true), None);
    }
}
