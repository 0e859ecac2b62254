//! [`ApiArgument`]: an argument in the query or the body of a call.

use serde_json::Value;

use crate::authorization::endpoints::ParameterType;

/// An argument of an [`ApiEndpoint`](super::ApiEndpoint) in its query or its body. Arguments in the
/// path, and the environment in a header, are properties of the endpoint.
#[derive(Clone, Copy, Debug)]
pub struct ApiArgument {
    /// Its name.
    pub name: &'static str,
    /// The type of its value.
    pub kind: ParameterType,
    /// Its value in a call that does not have it.
    pub default: ArgumentDefault,
}

/// The default of an [`ApiArgument`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgumentDefault {
    /// None: every call needs the argument.
    Required,
    /// Null.
    Null,
    /// A boolean.
    Flag(bool),
    /// A string.
    Text(&'static str),
}

impl ArgumentDefault {
    /// Returns the value; `None` if the argument is required.
    #[must_use]
    pub fn value(self) -> Option<Value> {
        Some(match self {
            Self::Required => return None,
            Self::Null => Value::Null,
            Self::Flag(flag) => flag.into(),
            Self::Text(text) => text.into(),
        })
    }
}

/// A required argument.
pub(super) const fn required(name: &'static str, kind: ParameterType) -> ApiArgument {
    ApiArgument { name, kind, default: ArgumentDefault::Required }
}

/// A required string.
pub(super) const fn text(name: &'static str) -> ApiArgument {
    required(name, ParameterType::String)
}

/// An argument that may be absent or null.
pub(super) const fn optional(name: &'static str, kind: ParameterType) -> ApiArgument {
    ApiArgument { name, kind, default: ArgumentDefault::Null }
}

/// A string with a default.
pub(super) const fn text_or(name: &'static str, default: &'static str) -> ApiArgument {
    ApiArgument { name, kind: ParameterType::String, default: ArgumentDefault::Text(default) }
}

/// A boolean with a default.
pub(super) const fn flag(name: &'static str, default: bool) -> ApiArgument {
    ApiArgument { name, kind: ParameterType::Boolean, default: ArgumentDefault::Flag(default) }
}
