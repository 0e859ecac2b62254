//! Parameters of a request: from its path, its query, its headers, and its body where that is read.
//!
//! An application and this server must read the same value. A parameter that occurs twice with
//! different values, or is not of its declared type, could be read in two ways, so the request is
//! refused.

use std::{borrow::Cow, fmt};

use countersign_front::{Fields, only_line};
use http::HeaderName;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Number, Value};
use uuid::Uuid;

use super::{Endpoint, query::QueryNames};
use crate::base::printable::printable;

/// A parameter of an [`Endpoint`].
#[derive(Clone, Debug)]
pub struct EndpointParameter {
    /// Its name.
    pub name: Box<str>,
    /// Where it is.
    pub place: ParameterPlace,
    /// The type of its value.
    pub kind: ParameterType,
    /// Its value if a request does not have it.
    pub default: Option<Value>,
}

/// The place of a [`EndpointParameter`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParameterPlace {
    /// A segment of the path.
    Path,
    /// The query.
    Query,
    /// The header of this name.
    Header(HeaderName),
    /// The body.
    Body,
}

/// The type of a [`EndpointParameter`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ParameterType {
    /// A string.
    #[default]
    String,
    /// `true` or `false`.
    Boolean,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// A UUID, in lower case.
    Uuid,
    /// A list of strings: the parameter may occur several times.
    Array,
    /// An object, which only a body has.
    Object,
}

/// A parameter as written in a file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenParameter {
    #[serde(rename = "in")]
    place: WrittenPlace,
    #[serde(rename = "type", default)]
    kind: ParameterType,
    #[serde(default, deserialize_with = "written")]
    default: Option<Value>,
}

/// Reads a default that is written, which may be null.
fn written<'d, D: Deserializer<'d>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum WrittenPlace {
    Path,
    Query,
    Header,
    Body,
}

impl EndpointParameter {
    /// Creates the parameter `name`.
    pub(super) fn new(name: &str, written: WrittenParameter) -> Result<Self, String> {
        let place = match written.place {
            WrittenPlace::Path => ParameterPlace::Path,
            WrittenPlace::Query => ParameterPlace::Query,
            WrittenPlace::Body => ParameterPlace::Body,
            WrittenPlace::Header => {
                let header = HeaderName::from_bytes(name.as_bytes());
                ParameterPlace::Header(header.map_err(|_| "not a header name".to_owned())?)
            }
        };
        Ok(Self { name: name.into(), place, kind: written.kind, default: written.default })
    }
}

impl ParameterType {
    /// Returns the value with this text; `None` if the text is not of the type.
    fn parse(self, text: &str) -> Option<Value> {
        Some(match self {
            Self::String => text.into(),
            Self::Boolean if text.eq_ignore_ascii_case("true") => true.into(),
            Self::Boolean if text.eq_ignore_ascii_case("false") => false.into(),
            Self::Integer => text.parse::<i64>().ok()?.into(),
            Self::Number => Number::from_f64(text.parse().ok()?)?.into(),
            Self::Uuid => Uuid::parse_str(text).ok()?.to_string().into(),
            Self::Array => Value::Array(vec![text.into()]),
            Self::Boolean | Self::Object => return None,
        })
    }
}

/// The sources of the parameters of a request.
pub(super) struct ParameterSources<'r> {
    /// The values of the parameters in the path, in order.
    pub(super) path: &'r [&'r str],
    /// The query, without `?`.
    pub(super) query: &'r str,
    /// The header lines.
    pub(super) headers: &'r dyn Fields,
}

/// Error of a request whose path or parameters could be read in more than one way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// An application may take the path for that of another endpoint.
    SimilarPath,
    /// A parameter has two values.
    Repeated(String),
    /// A parameter of another place is in the query.
    OtherPlace(String),
    /// A name can be taken for another.
    Spelling(String),
    /// A parameter is not of its type.
    OtherType(String),
    /// The query, or a header, is not UTF-8.
    Encoding,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SimilarPath => f.write_str("its path can be taken for that of another endpoint"),
            Self::Repeated(name) => {
                write!(f, "the parameter {} has more than one value", printable(name))
            }
            Self::OtherPlace(name) => {
                write!(f, "the parameter {} is in the query only", printable(name))
            }
            Self::Spelling(name) => {
                write!(f, "the parameter {} can be taken for another", printable(name))
            }
            Self::OtherType(name) => {
                write!(f, "the parameter {} is not of the declared type", printable(name))
            }
            Self::Encoding => f.write_str("a parameter is not UTF-8"),
        }
    }
}

/// Collects the parameters of a request, without the declared defaults. `endpoint` is `None` if it
/// is unknown: only the query is read then.
pub(super) fn collect(
    endpoint: Option<&Endpoint>,
    sources: &ParameterSources<'_>,
) -> Result<Map<String, Value>, RequestError> {
    let mut found = FoundParameters { endpoint, values: Map::new() };
    let names = endpoint.map_or(&[][..], |endpoint| &endpoint.path_parameters);
    for (name, text) in names.iter().zip(sources.path) {
        // Only an encoded slash is still encoded.
        let text = percent_decode_str(text).decode_utf8().map_err(|_| RequestError::Encoding)?;
        found.add_text(name, &text)?;
    }
    for parameter in endpoint.map_or(&[][..], |endpoint| &endpoint.parameters) {
        let ParameterPlace::Header(header) = &parameter.place else { continue };
        let repeated = || RequestError::Repeated(parameter.name.to_string());
        if let Some(line) = only_line(sources.headers, header).map_err(|_| repeated())? {
            let text = str::from_utf8(line).map_err(|_| RequestError::Encoding)?;
            found.add_text(&parameter.name, text)?;
        }
    }
    let mut names = QueryNames::new(endpoint);
    for pair in sources.query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (form_decoded(name)?, form_decoded(value)?);
        names.add(&name, &value)?;
        found.add_of_query(&name, &value)?;
    }
    Ok(found.values)
}

struct FoundParameters<'e> {
    endpoint: Option<&'e Endpoint>,
    values: Map<String, Value>,
}

impl FoundParameters<'_> {
    fn add_text(&mut self, name: &str, text: &str) -> Result<(), RequestError> {
        let kind = self.declared(name).map(|parameter| parameter.kind).unwrap_or_default();
        let value = kind.parse(text).ok_or_else(|| RequestError::OtherType(name.into()))?;
        match self.values.get_mut(name) {
            None => {
                self.values.insert(name.into(), value);
            }
            Some(Value::Array(elements)) if kind == ParameterType::Array => {
                elements.push(text.into());
            }
            Some(before) if *before == value => {}
            Some(_) => return Err(RequestError::Repeated(name.into())),
        }
        Ok(())
    }

    /// Adds a parameter of the query, in which one of another place may stand only with the same
    /// value: applications do not agree which of the two they read.
    fn add_of_query(&mut self, name: &str, text: &str) -> Result<(), RequestError> {
        let is_in_path = self.endpoint.is_some_and(|endpoint| endpoint.has_path_parameter(name));
        let declared = self.declared(name);
        let place = declared.map_or(&ParameterPlace::Query, |parameter| &parameter.place);
        if !is_in_path && *place == ParameterPlace::Query {
            return self.add_text(name, text);
        }
        let kind = declared.map(|parameter| parameter.kind).unwrap_or_default();
        match self.values.get(name) {
            None => Err(RequestError::OtherPlace(name.into())),
            Some(before) if kind.parse(text).as_ref() == Some(before) => Ok(()),
            Some(_) => Err(RequestError::Repeated(name.into())),
        }
    }

    fn declared(&self, name: &str) -> Option<&EndpointParameter> {
        self.endpoint?.parameters.iter().find(|parameter| *parameter.name == *name)
    }
}

/// Adds the members of a body, in which a parameter of another place may stand only with the same
/// value.
pub(super) fn add_body(
    values: &mut Map<String, Value>,
    body: Map<String, Value>,
) -> Result<(), RequestError> {
    for (name, value) in body {
        match values.get(&name) {
            Some(before) if *before != value => return Err(RequestError::Repeated(name)),
            _ => drop(values.insert(name, value)),
        }
    }
    Ok(())
}

/// Adds the declared defaults of absent parameters.
pub(super) fn add_defaults(values: &mut Map<String, Value>, endpoint: &Endpoint) {
    for parameter in &endpoint.parameters {
        if let Some(default) = &parameter.default
            && !values.contains_key(&*parameter.name)
        {
            values.insert(parameter.name.to_string(), default.clone());
        }
    }
}

/// Decodes a name or a value of a query: `+` is a space (URL Standard, section 5.1).
fn form_decoded(text: &str) -> Result<String, RequestError> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    decoded.map(Cow::into_owned).map_err(|_| RequestError::Encoding)
}
