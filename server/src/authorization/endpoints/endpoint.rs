//! One [`Endpoint`] of an API, and its parsing from a member of an endpoint file.

use http::HeaderName;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::parameters::{EndpointParameter, ParameterPlace, ParameterType, WrittenParameter};
use crate::base::{
    claims::ClientType,
    redacted::{json_error, quoted},
};

/// An endpoint: a method and a path, and what authorization needs to know about it.
#[derive(Debug)]
pub struct Endpoint {
    /// `METHOD /path`, as written in the table. Policies compare it.
    pub id: Box<str>,
    /// The client types that may call it.
    pub client_types: Box<[ClientType]>,
    /// The environment that a call concerns.
    pub environment: EnvironmentScope,
    /// Whether a token that is scoped to an environment may call it, whatever its client types are.
    pub takes_scoped_tokens: bool,
    /// Its parameters, as far as their place, type or default matter.
    pub(super) parameters: Box<[EndpointParameter]>,
    /// The names of the parameters in its path, in order.
    pub(super) path_parameters: Box<[Box<str>]>,
    /// Its properties as policies see them.
    pub(super) properties: Value,
}

/// The environment that a call of an [`Endpoint`] concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnvironmentScope {
    /// None.
    Global,
    /// Whichever the token is scoped to.
    Any,
    /// The environment that this parameter names.
    Parameter(Box<str>),
}

/// The properties of an endpoint as written in a file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenEndpoint {
    client_types: Vec<String>,
    auth_label: String,
    read_only: bool,
    #[serde(deserialize_with = "Option::deserialize")]
    environment_param: Option<String>,
    #[serde(default)]
    any_environment: Option<bool>,
    #[serde(default)]
    allow_env_scoped_tokens: bool,
    #[serde(default)]
    parameters: Map<String, Value>,
}

/// Inmanta's calls about files, which a token of any environment may make. Its endpoint data does
/// not show it.
const ANY_ENVIRONMENT: [&str; 4] =
    ["GET /api/v1/file/", "HEAD /api/v1/file/", "PUT /api/v1/file/", "POST /api/v1/file"];

impl Endpoint {
    /// Parses the endpoint `id` with its properties in JSON.
    ///
    /// # Errors
    /// The mistake, and its remedy.
    pub(super) fn parse(id: &str, properties: &str) -> Result<Self, String> {
        let (method, path) = id.split_once(' ').ok_or_else(|| SHAPE.to_owned())?;
        let is_token = |text: &str| http::Method::from_bytes(text.as_bytes()).is_ok();
        if !is_token(method) || method.bytes().any(|byte| byte.is_ascii_lowercase()) {
            return Err(format!("{} is not a method: write it in upper case", quoted(method)));
        }
        let path_parameters = path_parameters(path)?;
        let unreadable = |error: serde_json::Error| format!("{}; {PROPERTIES}", json_error(&error));
        let written: WrittenEndpoint = serde_json::from_str(properties).map_err(unreadable)?;
        let client_types = written.client_types.iter().map(|name| name.parse());
        let parameter = |(name, value): (&String, &Value)| {
            WrittenParameter::deserialize(value)
                .map_err(|error| error.to_string())
                .and_then(|written| EndpointParameter::new(name, written))
                .map_err(|error| format!("parameter {name}: {error}"))
        };
        let mut parameters =
            written.parameters.iter().map(parameter).collect::<Result<Vec<_>, _>>()?;
        if parameters.is_empty() {
            parameters.extend(update_of_notify(id));
        }
        let environment = written.scope(id);
        if let EnvironmentScope::Parameter(name) = &environment {
            let is_known = path_parameters.contains(name)
                || parameters.iter().any(|parameter| parameter.name == *name);
            // Only the name of a header has a hyphen.
            if !is_known && name.contains('-') {
                parameters.push(header_parameter(name)?);
            }
        }
        Ok(Self {
            id: id.into(),
            client_types: client_types.collect::<Result<_, _>>()?,
            environment,
            takes_scoped_tokens: written.allow_env_scoped_tokens,
            parameters: parameters.into(),
            path_parameters,
            properties: written.shown(),
        })
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> &str {
        self.id.split_once(' ').map_or("", |(method, _)| method)
    }

    /// The path, with `<name>` or `{name}` for a parameter.
    #[must_use]
    pub fn path(&self) -> &str {
        self.id.split_once(' ').map_or("", |(_, path)| path)
    }

    /// Whether a segment of the path is the parameter of this name.
    pub(super) fn has_path_parameter(&self, name: &str) -> bool {
        self.path_parameters.iter().any(|one| **one == *name)
    }

    /// Returns the headers that are parameters.
    pub(super) fn headers(&self) -> impl Iterator<Item = &HeaderName> {
        self.parameters.iter().filter_map(|parameter| match &parameter.place {
            ParameterPlace::Header(name) => Some(name),
            _ => None,
        })
    }
}

impl WrittenEndpoint {
    /// Returns the properties that policies see.
    fn shown(&self) -> Value {
        json!({
            "auth_label": self.auth_label,
            "client_types": self.client_types,
            "environment_param": self.environment_param,
            "read_only": self.read_only,
        })
    }

    fn scope(&self, id: &str) -> EnvironmentScope {
        let is_file_call = || {
            ANY_ENVIRONMENT
                .iter()
                .any(|call| id == *call || call.ends_with('/') && id.starts_with(call))
        };
        match &self.environment_param {
            Some(name) => EnvironmentScope::Parameter(name.as_str().into()),
            None if self.any_environment.unwrap_or_else(is_file_call) => EnvironmentScope::Any,
            None => EnvironmentScope::Global,
        }
    }
}

const PROPERTIES: &str =
    "an endpoint has client_types, auth_label, read_only and environment_param";
const SHAPE: &str = "an endpoint is a method and a path, such as GET /orders/<id>";

/// Returns the parameter `update` of Inmanta's calls that have a model compiled. The default policy
/// depends on its default, which Inmanta's endpoint data does not show.
fn update_of_notify(id: &str) -> Option<EndpointParameter> {
    let (method, path) = id.split_once(' ')?;
    let place = match method {
        "GET" => ParameterPlace::Query,
        "POST" => ParameterPlace::Body,
        _ => return None,
    };
    let is_notify = ["/api/v1/notify/<id>", "/api/v1/notify/{id}"].contains(&path);
    is_notify.then(|| EndpointParameter {
        name: "update".into(),
        place,
        kind: ParameterType::Boolean,
        default: Some(true.into()),
    })
}

fn header_parameter(name: &str) -> Result<EndpointParameter, String> {
    let header = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| format!("{} is not a header name", quoted(name)))?;
    Ok(EndpointParameter {
        name: name.into(),
        place: ParameterPlace::Header(header),
        kind: ParameterType::String,
        default: None,
    })
}

/// Returns the names of the parameters in a path.
fn path_parameters(path: &str) -> Result<Box<[Box<str>]>, String> {
    if !path.starts_with('/') {
        return Err(SHAPE.into());
    }
    let mut names: Vec<Box<str>> = Vec::new();
    for segment in path.split('/') {
        let Some(name) = parameter_name(segment) else {
            if segment.contains(['<', '>', '{', '}']) {
                let segment = quoted(segment);
                return Err(format!("{segment} has a parameter that is not a whole segment"));
            }
            continue;
        };
        if name.is_empty() || names.iter().any(|one| **one == *name) {
            return Err(format!("the parameter {} has no name of its own", quoted(segment)));
        }
        names.push(name.into());
    }
    Ok(names.into())
}

/// Returns the name in `<name>` or `{name}`.
pub(super) fn parameter_name(segment: &str) -> Option<&str> {
    let between = |open, close| segment.strip_prefix(open)?.strip_suffix(close);
    between('<', '>').or_else(|| between('{', '}'))
}
