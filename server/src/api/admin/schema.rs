//! Schemas of bodies and answers. A body is checked by the same schema that the OpenAPI document
//! shows.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{
    accounts::check_username,
    base::{redacted::shown, whole_number::whole_number},
};

/// An object, of which no other member exists.
#[derive(Debug)]
pub(super) struct ObjectSchema {
    /// Its name in the document.
    pub(super) name: &'static str,
    /// Its members.
    pub(super) members: &'static [MemberSchema],
}

/// A member of an [`ObjectSchema`].
#[derive(Debug)]
pub(super) struct MemberSchema {
    /// Its name.
    pub(super) name: &'static str,
    /// The values that it may have.
    pub(super) value: ValueSchema,
    /// Whether it is always present.
    pub(super) is_required: bool,
    /// Whether it may be null.
    pub(super) is_nullable: bool,
    /// What it means.
    pub(super) about: &'static str,
}

/// The values of a [`MemberSchema`] or a parameter.
#[derive(Clone, Copy, Debug)]
pub(super) enum ValueSchema {
    /// Text of at most this many characters.
    Text(usize),
    /// A name of 1 to 255 characters.
    Name,
    /// A name that a new user may have.
    Username,
    /// A text that is only ever sent to the server.
    Password,
    /// A UUID.
    Uuid,
    /// A time in UTC (RFC 3339).
    Time,
    /// True or false.
    Flag,
    /// A whole number within these bounds.
    Whole(u64, u64),
    /// One of these texts.
    Choice(&'static [&'static str]),
    /// A list of at least one of these texts, each once.
    Choices(&'static [&'static str]),
    /// A list of texts.
    Texts,
    /// A list of texts by name.
    TextLists,
    /// A text by name. Neither is blank.
    TextMap,
    /// An object with any members.
    AnyObject,
    /// An object.
    Object(&'static ObjectSchema),
    /// A list of objects.
    Objects(&'static ObjectSchema),
}

/// Longest text in a body, in characters. Far more than a name, and less than a body.
pub(super) const MAX_TEXT: usize = 4096;
/// Longest name, in characters.
const MAX_NAME: usize = 255;
/// Longest password, in characters.
const MAX_PASSWORD: usize = 4096;

/// Returns a member that is always present.
pub(super) const fn member(
    name: &'static str,
    value: ValueSchema,
    about: &'static str,
) -> MemberSchema {
    MemberSchema { name, value, is_required: true, is_nullable: false, about }
}

impl MemberSchema {
    /// Returns the member as one that may be absent.
    pub(super) const fn optional(self) -> Self {
        Self { is_required: false, ..self }
    }

    /// Returns the member as one that may be null.
    pub(super) const fn nullable(self) -> Self {
        Self { is_nullable: true, ..self }
    }

    fn json(&self) -> Value {
        let mut schema = self.value.json();
        if let (ValueSchema::Object(_), true) = (self.value, self.is_nullable) {
            schema = json!({ "anyOf": [schema, { "type": "null" }] });
        } else if self.is_nullable {
            schema["type"] = json!([schema["type"].take(), "null"]);
        }
        schema["description"] = self.about.into();
        schema
    }
}

impl ObjectSchema {
    /// Returns the member of this name.
    pub(super) fn member(&self, name: &str) -> Option<&MemberSchema> {
        self.members.iter().find(|member| member.name == name)
    }

    /// Returns a reference to the schema in the document.
    pub(super) fn reference(&self) -> Value {
        json!({ "$ref": format!("#/components/schemas/{}", self.name) })
    }

    /// Adds the schema, and those that it refers to.
    pub(super) fn add_to(&self, schemas: &mut Map<String, Value>) {
        let properties = self.members.iter().map(|member| (member.name.into(), member.json()));
        let properties: Map<_, _> = properties.collect();
        let required = self.members.iter().filter(|member| member.is_required);
        let required: Vec<_> = required.map(|member| member.name).collect();
        let schema = json!({
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": false,
        });
        schemas.insert(self.name.into(), schema);
        for member in self.members {
            if let ValueSchema::Object(inner) | ValueSchema::Objects(inner) = member.value {
                inner.add_to(schemas);
            }
        }
    }
}

impl ValueSchema {
    /// Returns the schema in the form of the document.
    pub(super) fn json(self) -> Value {
        match self {
            Self::Text(max) => json!({ "type": "string", "maxLength": max }),
            Self::Name => json!({ "type": "string", "minLength": 1, "maxLength": MAX_NAME }),
            Self::Username => {
                let mut schema = Self::Name.json();
                schema["not"] = json!({ "enum": [".", ".."] });
                schema
            }
            Self::Password => {
                json!({ "type": "string", "format": "password", "writeOnly": true,
                        "maxLength": MAX_PASSWORD })
            }
            Self::Uuid => json!({ "type": "string", "format": "uuid" }),
            Self::Time => json!({ "type": "string", "format": "date-time" }),
            Self::Flag => json!({ "type": "boolean" }),
            Self::Whole(min, max) => json!({ "type": "integer", "minimum": min, "maximum": max }),
            Self::Choice(choices) => json!({ "type": "string", "enum": choices }),
            Self::Choices(choices) => json!({
                "type": "array", "items": { "type": "string", "enum": choices },
                "minItems": 1, "uniqueItems": true,
            }),
            Self::Texts => json!({ "type": "array", "items": { "type": "string" } }),
            Self::TextLists => json!({
                "type": "object",
                "additionalProperties": { "type": "array", "items": { "type": "string" } },
            }),
            Self::TextMap => json!({
                "type": "object",
                "propertyNames": { "minLength": 1 },
                "additionalProperties": { "type": "string", "minLength": 1 },
            }),
            Self::AnyObject => json!({ "type": "object" }),
            Self::Object(object) => object.reference(),
            Self::Objects(object) => json!({ "type": "array", "items": object.reference() }),
        }
    }

    /// Returns a value that the schema accepts as calls read it: whole numbers without a fraction.
    pub(super) fn canonical(self, value: Value) -> Value {
        match self {
            Self::Whole(..) => whole(&value).map_or(value, Value::from),
            _ => value,
        }
    }

    /// Describes the mistake of a value in a body, and its place below the member; `None` for a
    /// value that the schema accepts.
    pub(super) fn mistake(self, value: &Value) -> Option<(String, String)> {
        let here = |text: &str| Some((String::new(), text.to_owned()));
        match (self, value) {
            (Self::Text(max), Value::String(text)) => text_mistake(text, max),
            (Self::Name, Value::String(text)) if text.is_empty() => here("the text is empty"),
            (Self::Name, Value::String(text)) => text_mistake(text, MAX_NAME),
            (Self::Username, Value::String(text)) => match check_username(text) {
                Err(mistake) if !text.is_empty() => here(mistake),
                _ => Self::Name.mistake(value),
            },
            (Self::Password, Value::String(text)) => text_mistake(text, MAX_PASSWORD),
            (Self::Uuid, Value::String(text)) if Uuid::parse_str(text).is_ok() => None,
            (Self::Uuid, _) => here("expected a UUID"),
            (Self::Flag, Value::Bool(_)) => None,
            (Self::Flag, _) => here("expected true or false"),
            (Self::Whole(min, max), value) => match whole(value) {
                Some(number) if (min..=max).contains(&number) => None,
                _ => here(&format!("expected a whole number from {min} to {max}")),
            },
            (Self::Choice(choices), Value::String(text)) if choices.contains(&&**text) => None,
            (Self::Choice(choices), _) => here(&format!("expected {}", choices.join(", "))),
            (Self::AnyObject, Value::Object(_)) => None,
            (Self::AnyObject, _) => here("expected an object"),
            (Self::Choices(choices), Value::Array(chosen)) => choices_mistake(choices, chosen),
            (Self::Texts, Value::Array(texts)) => texts_mistake(texts),
            (Self::Choices(_) | Self::Texts, _) => here("expected a list of texts"),
            (Self::TextMap, Value::Object(texts)) => text_map_mistake(texts),
            (Self::TextMap, _) => here("expected an object with texts"),
            (Self::Text(_) | Self::Name | Self::Username | Self::Password | Self::Time, _) => {
                here("expected a text")
            }
            // Only answers have these.
            (Self::TextLists | Self::Object(_) | Self::Objects(_), _) => here("unexpected"),
        }
    }
}

fn text_mistake(text: &str, max: usize) -> Option<(String, String)> {
    // PostgreSQL cannot store it.
    let mistake = if text.contains('\0') {
        "a null character is not allowed".to_owned()
    } else if text.chars().count() > max {
        format!("expected at most {max} characters")
    } else {
        return None;
    };
    Some((String::new(), mistake))
}

fn texts_mistake(texts: &[Value]) -> Option<(String, String)> {
    texts.iter().enumerate().find_map(|(index, text)| {
        let (_, mistake) = ValueSchema::Text(MAX_TEXT).mistake(text)?;
        Some((format!("/{index}"), mistake))
    })
}

fn text_map_mistake(texts: &Map<String, Value>) -> Option<(String, String)> {
    texts.iter().find_map(|(name, text)| {
        let schema = ValueSchema::Text(MAX_TEXT);
        let is_blank = |text: &str| text.trim().is_empty();
        let has_blank = is_blank(name) || text.as_str().is_some_and(is_blank);
        let blank = has_blank.then(|| (String::new(), "the text is empty".to_owned()));
        let of_name = blank.or_else(|| text_mistake(name, MAX_TEXT));
        let (_, mistake) = of_name.or_else(|| schema.mistake(text))?;
        let name = shown(name).replace('~', "~0").replace('/', "~1");
        Some((format!("/{name}"), mistake))
    })
}

fn whole(value: &Value) -> Option<u64> {
    let Value::Number(number) = value else { return None };
    u64::try_from(whole_number(number)?).ok()
}

fn choices_mistake(choices: &[&str], chosen: &[Value]) -> Option<(String, String)> {
    if chosen.is_empty() {
        return Some((String::new(), "expected at least one".into()));
    }
    for (index, one) in chosen.iter().enumerate() {
        let place = || format!("/{index}");
        if !one.as_str().is_some_and(|text| choices.contains(&text)) {
            return Some((place(), format!("expected {}", choices.join(", "))));
        }
        if chosen.iter().take(index).any(|other| other == one) {
            return Some((place(), "the element is there twice".into()));
        }
    }
    None
}
