//! The endpoints of the Inmanta API that this server implements. Its router is this table, so no
//! call of the API lacks an entry.

mod argument;
mod calls;
mod operation;

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

pub use self::{
    argument::{ApiArgument, ArgumentDefault},
    calls::ENDPOINTS,
    operation::ApiOperation,
};
use crate::base::claims::ClientType;

/// An endpoint of the API.
#[derive(Debug)]
pub struct ApiEndpoint {
    /// Its method.
    pub method: &'static str,
    /// Its path, with `<name>` for a segment that is an argument.
    pub path: &'static str,
    /// Its operation.
    pub operation: ApiOperation,
    /// The label that access policies use.
    pub label: &'static str,
    /// The client types that may call it.
    pub client_types: &'static [ClientType],
    /// The argument that names its environment, if it has one.
    pub environment: Option<&'static str>,
    /// Whether it only reads.
    pub read_only: bool,
    /// The arguments in its query, or in its body.
    pub arguments: &'static [ApiArgument],
    /// Whether it requires a token.
    pub needs_token: bool,
    /// Whether it administers: changes users, roles, projects, environments or tokens for others
    /// than its caller. Only tokens of sections that may administer are accepted then.
    pub administers: bool,
}

const fn endpoint(
    method: &'static str,
    path: &'static str,
    operation: ApiOperation,
    label: &'static str,
) -> ApiEndpoint {
    let read_only = matches!(method.as_bytes(), b"GET");
    ApiEndpoint {
        method,
        path,
        operation,
        label,
        client_types: &[ClientType::Api],
        environment: None,
        read_only,
        arguments: &[],
        needs_token: true,
        administers: !read_only,
    }
}

impl ApiEndpoint {
    const fn in_environment(self, environment: &'static str) -> Self {
        Self { environment: Some(environment), ..self }
    }

    const fn with(self, arguments: &'static [ApiArgument]) -> Self {
        Self { arguments, ..self }
    }

    const fn for_clients(self, client_types: &'static [ClientType]) -> Self {
        Self { client_types, ..self }
    }

    /// Returns the id in the endpoint table.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// Whether it is of version 1 of the API, whose answers have no envelope.
    #[must_use]
    pub fn is_v1(&self) -> bool {
        self.path.starts_with("/api/v1/")
    }

    /// Returns the name of the function of the Inmanta server, which its errors of arguments
    /// contain.
    #[must_use]
    pub fn function(&self) -> &'static str {
        self.operation.function(self.is_v1())
    }

    /// Whether its arguments are in the query.
    #[must_use]
    pub fn takes_query(&self) -> bool {
        matches!(self.method, "GET" | "DELETE")
    }

    /// Returns the argument of this name in its query or body.
    #[must_use]
    pub fn argument(&self, name: &str) -> Option<&ApiArgument> {
        self.arguments.iter().find(|argument| argument.name == name)
    }

    /// Returns the properties as an endpoint file has them.
    #[must_use]
    pub fn properties(&self) -> Value {
        let client_types: Vec<_> = self.client_types.iter().map(|one| one.name()).collect();
        let mut properties = json!({
            "auth_label": self.label,
            "client_types": client_types,
            "environment_param": self.environment,
            "read_only": self.read_only,
        });
        let place = if self.takes_query() { "query" } else { "body" };
        let flags = self.arguments.iter().filter_map(|argument| match argument.default {
            ArgumentDefault::Flag(default) => {
                let flag = json!({"in": place, "type": "boolean", "default": default});
                Some((argument.name.to_owned(), flag))
            }
            _ => None,
        });
        let flags: Map<_, _> = flags.collect();
        if !flags.is_empty() {
            properties["parameters"] = Value::Object(flags);
        }
        properties
    }
}

/// Result of [`find_endpoint`].
pub enum PathMatch {
    /// An endpoint, and the arguments in the path.
    Endpoint(&'static ApiEndpoint, Vec<(&'static str, String)>),
    /// Endpoints of this path exist, but only for these other methods.
    OtherMethods(Vec<&'static str>),
    /// No endpoint has this path.
    NotFound,
}

/// Finds the endpoint of a method and a path. HEAD finds the endpoint of GET.
#[must_use]
pub fn find_endpoint(method: &str, path: &str) -> PathMatch {
    let method = if method == "HEAD" { "GET" } else { method };
    let mut other_methods = Vec::new();
    for endpoint in ENDPOINTS {
        match arguments(endpoint.path, path) {
            Some(arguments) if endpoint.method == method => {
                return PathMatch::Endpoint(endpoint, arguments);
            }
            Some(_) => other_methods.push(endpoint.method),
            None => {}
        }
    }
    if other_methods.is_empty() {
        PathMatch::NotFound
    } else {
        PathMatch::OtherMethods(other_methods)
    }
}

/// Returns the arguments in `path` if it matches `pattern`.
fn arguments(pattern: &'static str, path: &str) -> Option<Vec<(&'static str, String)>> {
    let mut arguments = Vec::new();
    let (mut pattern, mut path) = (pattern.split('/'), path.split('/'));
    loop {
        match (pattern.next(), path.next()) {
            (None, None) => return Some(arguments),
            (Some(expected), Some(segment)) => match expected
                .strip_prefix('<')
                .and_then(|name| name.strip_suffix('>'))
            {
                Some(name) if !segment.is_empty() => {
                    arguments
                        .push((name, percent_decode_str(segment).decode_utf8().ok()?.into_owned()));
                }
                None if expected == segment => {}
                _ => return None,
            },
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_segments_are_decoded_once() {
        let found = |method: &str, path: &str| match find_endpoint(method, path) {
            PathMatch::Endpoint(endpoint, arguments) => Some((endpoint.operation, arguments)),
            _ => None,
        };
        let bob = vec![("username", "b/o%b".to_owned())];
        assert_eq!(
            found("PATCH", "/api/v2/user/b%2Fo%25b/password"),
            Some((ApiOperation::SetPassword, bob))
        );
        assert_eq!(found("GET", "/api/v2/role"), Some((ApiOperation::ListRoles, vec![])));
        for (method, path) in [
            ("GET", "/api/v2/role/"),
            ("GET", "/api/v2/Role"),
            ("DELETE", "/api/v2/user/"),
            ("DELETE", "/api/v2/user/a/b"),
            ("DELETE", "/api/v2/user/%ff"),
            ("GET", "/api/v1/user"),
        ] {
            assert!(found(method, path).is_none(), "{method} {path}");
        }
        assert!(
            matches!(find_endpoint("PUT", "/api/v2/role"), PathMatch::OtherMethods(other_methods) if other_methods == ["GET", "POST", "DELETE"])
        );
    }
}
