//! Arguments of a call. GET and DELETE have them in the query, other methods in a JSON object; a
//! logout may have them in either.
//! Some are in the path, and the environment is in a header.

use std::fmt;

use bytes::Bytes;
use countersign_front::only_line;
use http::{HeaderName, Request};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::error::ApiError;
use crate::{
    authorization::endpoints::api::{ApiEndpoint, ApiOperation},
    base::route::ENVIRONMENT_HEADER,
};

/// Arguments of a call. Reading one removes it, so that [`Arguments::finish`] finds unexpected
/// ones.
pub(super) struct Arguments {
    of_path: Vec<(&'static str, String)>,
    environment: Option<String>,
    remaining: Map<String, Value>,
}

impl Arguments {
    pub(super) fn read(
        endpoint: &ApiEndpoint,
        of_path: Vec<(&'static str, String)>,
        request: &Request<Bytes>,
    ) -> Result<Self, ApiError> {
        let name = HeaderName::from_static("x-inmanta-tid");
        let environment = only_line(request.headers(), &name)
            .map_err(|_| ApiError::request(format!("{ENVIRONMENT_HEADER} is given twice")))?
            .map(|line| String::from_utf8_lossy(line).into_owned());
        let remaining = match endpoint.method {
            "GET" | "DELETE" => parse_query(request.uri().query().unwrap_or_default())?,
            _ if endpoint.operation == ApiOperation::Logout && request.body().is_empty() => {
                parse_query(request.uri().query().unwrap_or_default())?
            }
            _ => parse_body(request.body())?,
        };
        Ok(Self { of_path, environment, remaining })
    }

    /// Returns an argument in the path.
    pub(super) fn path_argument(&self, name: &str) -> Option<&str> {
        self.of_path.iter().find(|(of, _)| *of == name).map(|(_, text)| text.as_str())
    }

    /// Returns the arguments in the path and the headers. `environment` is in canonical form.
    pub(super) fn parameters(
        &self,
        endpoint: &ApiEndpoint,
        environment: Option<&str>,
    ) -> Map<String, Value> {
        let of_path = self.of_path.iter().map(|(name, text)| ((*name).to_owned(), text.clone()));
        let named = endpoint.environment.map(str::to_owned).zip(environment.map(str::to_owned));
        of_path.chain(named).map(|(name, text)| (name, Value::String(text))).collect()
    }

    /// Returns the arguments in the query or the body. Passwords are masked, as in the Inmanta
    /// server.
    pub(super) fn masked(&self) -> Map<String, Value> {
        let is_password = |name: &str| matches!(name, "password" | "current_password");
        let mask = |(name, value): (&String, &Value)| {
            let value = if is_password(name) { "**********".into() } else { value.clone() };
            (name.clone(), value)
        };
        self.remaining.iter().map(mask).collect()
    }

    /// Returns a required argument in the path.
    pub(super) fn required_path_argument(&self, name: &str) -> Result<String, ApiError> {
        let text = self.path_argument(name).ok_or_else(|| missing(name))?;
        check_text(name, text).map(|()| text.to_owned())
    }

    /// Returns the id of the environment, from the header or from the path argument `named`.
    pub(super) fn environment(&self, named: &str) -> Result<String, ApiError> {
        let text = if named == ENVIRONMENT_HEADER {
            self.environment.as_deref()
        } else {
            self.path_argument(named)
        };
        uuid(named, text.ok_or_else(|| missing(named))?)
    }

    pub(super) fn text(&mut self, name: &str) -> Result<String, ApiError> {
        self.optional_text(name)?.ok_or_else(|| missing(name))
    }

    pub(super) fn optional_text(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        match self.remaining.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => check_text(name, &text).map(|()| Some(text)),
            Some(_) => Err(invalid(name, "a string")),
        }
    }

    /// Returns the name of a new object.
    pub(super) fn name(&mut self, name: &str) -> Result<String, ApiError> {
        let text = self.text(name)?;
        match text.chars().nth(MAX_NAME_CHARS) {
            None => Ok(text),
            Some(_) => Err(ApiError::request(format!(
                "the argument {name} has more than {MAX_NAME_CHARS} characters"
            ))),
        }
    }

    /// Returns the name of a new object, which must not be empty.
    pub(super) fn nonempty_name(&mut self, name: &str) -> Result<String, ApiError> {
        let text = self.name(name)?;
        if text.is_empty() {
            Err(ApiError::request(format!("the argument {name} is empty")))
        } else {
            Ok(text)
        }
    }

    pub(super) fn flag(&mut self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.remaining.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(_) => Err(invalid(name, "a boolean")),
        }
    }

    /// Returns a flag that may be in the query, where it is text.
    pub(super) fn switch(&mut self, name: &str) -> Result<bool, ApiError> {
        match self.remaining.get(name).and_then(Value::as_str) {
            Some("true") => self.remaining.insert(name.into(), Value::Bool(true)),
            Some("false") => self.remaining.insert(name.into(), Value::Bool(false)),
            _ => None,
        };
        Ok(self.flag(name)?.unwrap_or(false))
    }

    pub(super) fn whole_number(&mut self, name: &str) -> Result<Option<i64>, ApiError> {
        match self.remaining.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value.as_i64().map(Some).ok_or_else(|| invalid(name, "a whole number")),
        }
    }

    pub(super) fn texts(&mut self, name: &str) -> Result<Vec<String>, ApiError> {
        let Value::Array(elements) = self.remaining.remove(name).ok_or_else(|| missing(name))?
        else {
            return Err(invalid(name, "a list of strings"));
        };
        let text = |element: Value| {
            element.as_str().map(str::to_owned).ok_or_else(|| invalid(name, "a list of strings"))
        };
        elements.into_iter().map(text).collect()
    }

    pub(super) fn uuid(&mut self, name: &str) -> Result<String, ApiError> {
        uuid(name, &self.text(name)?)
    }

    pub(super) fn optional_uuid(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        self.optional_text(name)?.map(|text| uuid(name, &text)).transpose()
    }

    /// Refuses unexpected arguments: one may be a misspelled argument that matters.
    pub(super) fn finish(self) -> Result<(), ApiError> {
        match self.remaining.keys().next() {
            None => Ok(()),
            Some(name) => Err(ApiError::request(format!("the call has no argument {name}"))),
        }
    }
}

/// Limit of a name, in characters: more than names have, and short enough for the tokens that
/// contain them.
const MAX_NAME_CHARS: usize = 255;

fn parse_query(query: &str) -> Result<Map<String, Value>, ApiError> {
    let pairs: Vec<(String, String)> = serde_urlencoded::from_str(query)
        .map_err(|_| ApiError::request("cannot parse the query"))?;
    unique_members(pairs.into_iter().map(|(name, text)| (name, Value::String(text))))
}

/// Refuses duplicates, because either of two values could be the intended one.
fn unique_members(
    pairs: impl Iterator<Item = (String, Value)>,
) -> Result<Map<String, Value>, ApiError> {
    let mut arguments = Map::new();
    for (name, value) in pairs {
        if arguments.contains_key(&name) {
            return Err(ApiError::request(format!("the argument {name} is given twice")));
        }
        arguments.insert(name, value);
    }
    Ok(arguments)
}

/// Members of a JSON object in order, with duplicates.
struct ObjectMembers(Vec<(String, Value)>);

impl<'d> Deserialize<'d> for ObjectMembers {
    fn deserialize<D: Deserializer<'d>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;

        impl<'d> Visitor<'d> for MembersVisitor {
            type Value = ObjectMembers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'d>>(self, mut map: A) -> Result<ObjectMembers, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(ObjectMembers(members))
            }
        }

        deserializer.deserialize_map(MembersVisitor)
    }
}

fn parse_body(body: &Bytes) -> Result<Map<String, Value>, ApiError> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(body) {
        Ok(ObjectMembers(members)) => unique_members(members.into_iter()),
        Err(error) if error.is_data() => Err(ApiError::request("the body is not a JSON object")),
        // The position of the error reveals nothing of the body, which may contain a password.
        Err(error) => Err(ApiError::request(format!(
            "the body is not JSON: line {}, column {}",
            error.line(),
            error.column()
        ))),
    }
}

/// Refuses NUL characters, which PostgreSQL does not accept in text.
fn check_text(name: &str, text: &str) -> Result<(), ApiError> {
    if text.contains('\0') { Err(invalid(name, "text")) } else { Ok(()) }
}

/// Parses a UUID and returns its canonical form.
pub(super) fn uuid(name: &str, text: &str) -> Result<String, ApiError> {
    Uuid::parse_str(text).map(|uuid| uuid.to_string()).map_err(|_| invalid(name, "a UUID"))
}

fn missing(name: &str) -> ApiError {
    ApiError::request(format!("the argument {name} is missing"))
}

fn invalid(name: &str, expected: &str) -> ApiError {
    ApiError::request(format!("the argument {name} is not {expected}"))
}
