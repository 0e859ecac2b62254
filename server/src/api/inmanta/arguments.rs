//! Arguments of a call. GET and DELETE have them in the query, other methods in a JSON object; a
//! logout may have them in either.
//!
//! Some are in the path; clients of the Inmanta server repeat them in the object. The environment
//! is in a header, or the argument `tid`. An argument that is given in two ways must be the same.

mod body;

use std::fmt;

use bytes::Bytes;
use countersign_front::only_line;
use http::{HeaderName, Request};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::error::ApiError;
use crate::{
    authorization::endpoints::{
        ParameterType,
        api::{ApiArgument, ApiEndpoint, ApiOperation, ArgumentDefault},
    },
    base::{printable::printable, route::ENVIRONMENT_HEADER, whole_number::whole_number},
};

/// Arguments of a call. Reading one removes it, so that [`CallArguments::finish`] finds unexpected
/// ones.
pub(super) struct CallArguments {
    of_path: Vec<(&'static str, String)>,
    /// The environment, if the call has one in a header.
    environment: Option<String>,
    remaining: Map<String, Value>,
    /// The name of the call in errors.
    function: &'static str,
}

/// The argument that names an environment in place of its header.
pub(in crate::api) const ENVIRONMENT_ARGUMENT: &str = "tid";

impl CallArguments {
    pub(super) fn read(
        endpoint: &ApiEndpoint,
        of_path: Vec<(&'static str, String)>,
        request: &Request<Bytes>,
    ) -> Result<Self, ApiError> {
        let mut arguments = Self {
            of_path,
            environment: None,
            remaining: read_remaining(endpoint, request)?,
            function: endpoint.function(),
        };
        arguments.remove_path_arguments()?;
        if endpoint.environment == Some(ENVIRONMENT_HEADER) {
            arguments.environment = arguments.read_environment(request)?;
        }
        arguments.require_all(endpoint)?;
        Ok(arguments)
    }

    /// Checks that required arguments are there, which are reported before any other mistake.
    fn require_all(&self, endpoint: &ApiEndpoint) -> Result<(), ApiError> {
        if endpoint.environment == Some(ENVIRONMENT_HEADER) && self.environment.is_none() {
            return Err(missing(ENVIRONMENT_ARGUMENT));
        }
        let required = |one: &&ApiArgument| one.default == ArgumentDefault::Required;
        let mut required = endpoint.arguments.iter().filter(required);
        match required.find(|argument| !self.remaining.contains_key(argument.name)) {
            None => Ok(()),
            Some(argument) => Err(missing(argument.name)),
        }
    }

    /// Removes the arguments that the path has, too.
    fn remove_path_arguments(&mut self) -> Result<(), ApiError> {
        for (name, text) in &self.of_path {
            let is_same = |value: Value| value.as_str().is_some_and(|value| is_same(value, text));
            if self.remaining.remove(*name).is_some_and(|value| !is_same(value)) {
                let text = format!("the argument {name} is not the same as in the path");
                return Err(ApiError::Request(text));
            }
        }
        Ok(())
    }

    /// Returns the environment in the header or in the argument `tid`.
    fn read_environment(&mut self, request: &Request<Bytes>) -> Result<Option<String>, ApiError> {
        let name = HeaderName::from_static("x-inmanta-tid");
        let of_header = only_line(request.headers(), &name)
            .map_err(|_| ApiError::request(format!("{ENVIRONMENT_HEADER} is given twice")))?
            .map(|line| String::from_utf8_lossy(line).into_owned());
        let argument = match self.remaining.remove(ENVIRONMENT_ARGUMENT) {
            None => None,
            Some(Value::String(text)) => Some(text),
            Some(_) => return Err(self.invalid(ENVIRONMENT_ARGUMENT, "a valid UUID")),
        };
        match (of_header, argument) {
            (Some(header), Some(argument)) if !is_same(&header, &argument) => {
                Err(ApiError::request(format!(
                    "Value for argument tid was provided via a header and a non-header argument, \
                     but both values don't match (header={}; non-header={})",
                    printable(&header),
                    printable(&argument)
                )))
            }
            (header, argument) => Ok(header.or(argument)),
        }
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
        // One in the body is among the other arguments.
        let named = endpoint.environment.filter(|name| !self.remaining.contains_key(*name));
        let named = named.map(str::to_owned).zip(environment.map(str::to_owned));
        of_path.chain(named).map(|(name, text)| (name, Value::String(text))).collect()
    }

    /// Returns the arguments in the query or the body. Passwords are masked, as in the Inmanta
    /// server, and so is a token.
    pub(super) fn masked(&self) -> Map<String, Value> {
        let is_secret = |name: &str| matches!(name, "password" | "current_password" | "token");
        let mask = |(name, value): (&String, &Value)| {
            let value = if is_secret(name) { "**********".into() } else { value.clone() };
            (name.clone(), value)
        };
        self.remaining.iter().map(mask).collect()
    }

    /// Returns a required argument in the path.
    pub(super) fn required_path_argument(&self, name: &str) -> Result<String, ApiError> {
        let text = self.path_argument(name).ok_or_else(|| missing(name))?;
        self.check_text(name, text).map(|()| text.to_owned())
    }

    /// Returns a required argument in the path that is a UUID.
    pub(super) fn path_uuid(&self, name: &str) -> Result<String, ApiError> {
        self.parse_uuid(name, self.path_argument(name).ok_or_else(|| missing(name))?)
    }

    /// Returns the id of the environment, from the header or the argument `named`. One in the body
    /// may be absent.
    pub(super) fn environment(&mut self, named: &str) -> Result<Option<String>, ApiError> {
        if named == ENVIRONMENT_HEADER {
            let text = self.environment.as_deref().ok_or_else(|| missing(ENVIRONMENT_ARGUMENT))?;
            return self.parse_uuid(ENVIRONMENT_ARGUMENT, text).map(Some);
        }
        if self.path_argument(named).is_some() {
            return self.path_uuid(named).map(Some);
        }
        let Some(Value::String(text)) = self.remaining.get(named) else { return Ok(None) };
        let id = self.parse_uuid(named, text)?;
        // Authorization compares the canonical form.
        self.remaining.insert(named.into(), Value::String(id.clone()));
        Ok(Some(id))
    }

    pub(super) fn text(&mut self, name: &str) -> Result<String, ApiError> {
        let value = self.remaining.remove(name).ok_or_else(|| missing(name))?;
        self.string(name, value)
    }

    pub(super) fn optional_text(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        match self.remaining.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => self.string(name, value).map(Some),
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

    /// Returns a flag. Text in a body is refused: it is a mistake.
    pub(super) fn flag(&mut self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.remaining.remove(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(_) => Err(self.invalid(name, "a valid boolean")),
        }
    }

    /// Returns a whole number, which may be text or have a fraction of zero.
    pub(super) fn whole_number(&mut self, name: &str) -> Result<Option<i64>, ApiError> {
        let expected = match self.remaining.remove(name) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(text)) => match text.parse() {
                Ok(number) => return Ok(Some(number)),
                Err(_) => "a valid integer, unable to parse string as an integer",
            },
            Some(Value::Number(number)) => match whole_number(&number) {
                Some(number) => return Ok(Some(number)),
                None => "a valid integer, got a number with a fractional part",
            },
            Some(_) => "a valid integer",
        };
        Err(self.invalid(name, expected))
    }

    pub(super) fn texts(&mut self, name: &str) -> Result<Vec<String>, ApiError> {
        let Value::Array(elements) = self.remaining.remove(name).ok_or_else(|| missing(name))?
        else {
            return Err(self.invalid(name, "a valid list"));
        };
        elements.into_iter().map(|element| self.string(name, element)).collect()
    }

    pub(super) fn uuid(&mut self, name: &str) -> Result<String, ApiError> {
        let text = self.text(name)?;
        self.parse_uuid(name, &text)
    }

    pub(super) fn optional_uuid(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        self.optional_text(name)?.map(|text| self.parse_uuid(name, &text)).transpose()
    }

    /// Refuses unexpected arguments: one may be a misspelled argument that matters.
    pub(super) fn finish(self) -> Result<(), ApiError> {
        if self.remaining.is_empty() {
            return Ok(());
        }
        let names = self.remaining.keys().map(|name| format!("'{}'", printable(name)));
        Err(ApiError::request(format!(
            "request contains fields {{{}}} that are not declared in method and no kwargs argument \
             is provided.",
            names.collect::<Vec<_>>().join(", ")
        )))
    }

    fn string(&self, name: &str, value: Value) -> Result<String, ApiError> {
        match value {
            Value::String(text) => self.check_text(name, &text).map(|()| text),
            _ => Err(self.invalid(name, "a valid string")),
        }
    }

    /// Refuses NUL characters, which PostgreSQL does not accept in text.
    fn check_text(&self, name: &str, text: &str) -> Result<(), ApiError> {
        if text.contains('\0') { Err(self.invalid(name, "text without NUL")) } else { Ok(()) }
    }

    /// Parses a UUID and returns its canonical form.
    fn parse_uuid(&self, name: &str, text: &str) -> Result<String, ApiError> {
        Uuid::parse_str(text)
            .map(|uuid| uuid.to_string())
            .map_err(|error| self.invalid(name, format_args!("a valid UUID, {error}")))
    }

    /// Returns the error of an argument with another type, which does not repeat its value.
    pub(super) fn invalid(&self, name: &str, expected: impl fmt::Display) -> ApiError {
        ApiError::request(format!(
            "Failed to validate argument\n1 validation error for {}_arguments\n{name}\n  Input \
             should be {expected}",
            self.function
        ))
    }
}

fn read_remaining(
    endpoint: &ApiEndpoint,
    request: &Request<Bytes>,
) -> Result<Map<String, Value>, ApiError> {
    let mut query = parse_query(request.uri().query().unwrap_or_default())?;
    parse_flags(endpoint, &mut query);
    if endpoint.takes_query() {
        return if request.body().is_empty() { Ok(query) } else { Err(body_refused(endpoint)) };
    }
    if endpoint.operation == ApiOperation::Logout && request.body().is_empty() {
        return Ok(query);
    }
    let mut arguments = body::parse(request.headers(), request.body())?;
    for (name, value) in query {
        // A URL is written to logs, and one of two values would have to be ignored.
        if name != ENVIRONMENT_ARGUMENT {
            return Err(ApiError::request(format!(
                "the argument {} is in the query: a {} call has its arguments in the body",
                printable(&name),
                endpoint.method
            )));
        }
        if arguments.get(&name).is_some_and(|other| *other != value) {
            return Err(given_twice(&name));
        }
        arguments.insert(name, value);
    }
    Ok(arguments)
}

fn body_refused(endpoint: &ApiEndpoint) -> ApiError {
    ApiError::request(format!(
        "the call has a body: a {} call has its arguments in the query",
        endpoint.method
    ))
}

/// Whether two texts are the same, or the same UUID.
fn is_same(one: &str, other: &str) -> bool {
    let uuid = |text: &str| Uuid::parse_str(text).ok();
    one == other || uuid(one).is_some_and(|one| Some(one) == uuid(other))
}

/// Limit of a name, in characters: more than names have, and short enough for the tokens that
/// contain them.
const MAX_NAME_CHARS: usize = 255;

fn parse_query(query: &str) -> Result<Map<String, Value>, ApiError> {
    let pairs: Vec<(String, String)> = serde_urlencoded::from_str(query)
        .map_err(|_| ApiError::request("cannot parse the query"))?;
    unique_members(pairs.into_iter().map(|(name, text)| (name, Value::String(text))))
}

/// Replaces the text of each boolean in a query, in the spellings of the Inmanta server.
fn parse_flags(endpoint: &ApiEndpoint, arguments: &mut Map<String, Value>) {
    for argument in endpoint.arguments.iter().filter(|one| one.kind == ParameterType::Boolean) {
        let text = arguments.get(argument.name).and_then(Value::as_str);
        let flag = match text.map(str::to_ascii_lowercase).as_deref() {
            Some("true" | "t" | "yes" | "y" | "on" | "1") => true,
            Some("false" | "f" | "no" | "n" | "off" | "0") => false,
            _ => continue,
        };
        arguments.insert(argument.name.into(), flag.into());
    }
}

/// Refuses duplicates, because either of two values could be the intended one.
fn unique_members(
    pairs: impl Iterator<Item = (String, Value)>,
) -> Result<Map<String, Value>, ApiError> {
    let mut arguments = Map::new();
    for (name, value) in pairs {
        if arguments.contains_key(&name) {
            return Err(given_twice(&name));
        }
        arguments.insert(name, value);
    }
    Ok(arguments)
}

fn given_twice(name: &str) -> ApiError {
    ApiError::request(format!("the argument {} is given twice", printable(name)))
}

fn missing(name: &str) -> ApiError {
    ApiError::request(format!("Field '{name}' is required."))
}
