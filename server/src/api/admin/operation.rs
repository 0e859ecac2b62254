//! [`AdminOperation`]: an operation of the API. The [table](super::table) of all is the router, and
//! the source of the OpenAPI document.

use percent_encoding::percent_decode_str;
use uuid::Uuid;

use super::{
    error::AdminError,
    schema::{ObjectSchema, ValueSchema},
    table::OPERATIONS,
};
use crate::audit::AuditOperation;

/// What an [`AdminOperation`] does, for its dispatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AdminAction {
    OpenApi,
    Docs,
    GetOverview,
    ListRefusedRequests,
    ListIssuers,
    GetIssuer,
    RefreshIssuer,
    RefreshIssuers,
    ListEnvironments,
    ListTokens,
    CreateToken,
    GetToken,
    RevokeToken,
    InspectToken,
    ListRevocations,
    AddRevocation,
    ListUsers,
    AddUser,
    GetUser,
    SetAdmin,
    SetPassword,
    DeleteUser,
    ListRoles,
    AddRole,
    GetRole,
    DeleteRole,
    ListAssignments,
    AssignRole,
    UnassignRole,
    ListIdentities,
    CreateIdentity,
    GetIdentity,
    ChangeIdentity,
    DeleteIdentity,
    ListMethods,
    AttachMethod,
    GetTlsMethod,
    ChangeTlsMethod,
    DetachTlsMethod,
    ListApiKeys,
    ListTenants,
    GetAuthorization,
    ListEndpoints,
    TestRequest,
    ListAuditEvents,
    ListConfiguration,
    ListServers,
}

/// An operation.
#[derive(Debug)]
pub(super) struct AdminOperation {
    /// Its method.
    pub(super) method: &'static str,
    /// Its path, with `{name}` for a segment that is a parameter.
    pub(super) path: &'static str,
    /// What it does.
    pub(super) action: AdminAction,
    /// What it does, in a sentence.
    pub(super) summary: &'static str,
    /// Who may make it.
    pub(super) permission: AdminPermission,
    /// The parameters of its query, besides those of a page.
    pub(super) query: &'static [QueryParameter],
    /// Its body.
    pub(super) body: Option<&'static ObjectSchema>,
    /// The answer if it succeeds.
    pub(super) answer: AdminAnswer,
    /// Whether it can conflict with the present state.
    pub(super) conflicts: bool,
    /// How the audit log records it; `None` if it only reads.
    pub(super) audited: Option<AuditOperation>,
}

/// The callers that may make an [`AdminOperation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AdminPermission {
    /// Every client, without a token.
    Open,
    /// Those who may make this call of `/api/v2` or `/api/v1`.
    Call(&'static str, &'static str),
    /// Those who may administer the server.
    Administrator,
}

/// The answer to an [`AdminOperation`] that succeeds.
#[derive(Clone, Copy, Debug)]
pub(super) enum AdminAnswer {
    /// 204.
    Nothing,
    /// 200 with a representation and its tag.
    One(&'static ObjectSchema),
    /// 200 with a value that has no tag, as it is computed for the call.
    Value(&'static ObjectSchema),
    /// 201 with a representation, its tag and its address.
    Created(&'static ObjectSchema),
    /// 201 with a value that is in this answer only, and the address of what it belongs to.
    Issued(&'static ObjectSchema),
    /// 201 with the result of a call that creates nothing with an address.
    Recorded(&'static ObjectSchema),
    /// 200 with a page of a list.
    List(&'static ObjectSchema),
    /// 200 with a list that has no pages.
    All(&'static ObjectSchema),
    /// 200 with the OpenAPI document.
    Document,
    /// 200 with a page for a browser.
    Page,
}

/// A parameter of the query.
#[derive(Debug)]
pub(super) struct QueryParameter {
    /// Its name.
    pub(super) name: &'static str,
    /// The values that it may have.
    pub(super) value: ValueSchema,
    /// What it means.
    pub(super) about: &'static str,
}

impl AdminOperation {
    /// Whether it has the parameters of a page.
    pub(super) const fn is_paged(&self) -> bool {
        matches!(self.answer, AdminAnswer::List(_))
    }

    /// Whether it changes a resource whose representation has a tag.
    pub(super) fn has_precondition(&self) -> bool {
        matches!(self.method, "PATCH" | "PUT" | "DELETE")
    }

    /// Returns the names of the parameters of its path.
    pub(super) fn path_parameters(&self) -> impl Iterator<Item = &'static str> {
        self.path.split('/').filter_map(parameter)
    }
}

/// Returns the values that a parameter of a path may have, by its name.
pub(super) fn path_schema(name: &str) -> ValueSchema {
    match name {
        "environment" | "jti" | "id" => ValueSchema::Uuid,
        _ => ValueSchema::Name,
    }
}

/// Result of [`find`].
pub(super) enum OperationMatch {
    /// The operation, with the parameters of its path.
    Found(&'static AdminOperation, Vec<(&'static str, String)>),
    /// The path has only these methods.
    OtherMethods(Vec<&'static str>),
    /// The path does not exist.
    NotFound,
}

/// Finds the operation of a method and a path. HEAD finds that of GET. Of two paths, only the one
/// with a fixed segment in place of a parameter counts, which is earlier in the table.
pub(super) fn find(method: &str, path: &str) -> OperationMatch {
    let method = if method == "HEAD" { "GET" } else { method };
    let (mut found, mut methods) = (None, Vec::new());
    for operation in OPERATIONS {
        if found.is_some_and(|path| path != operation.path) {
            continue;
        }
        let Some(parameters) = parameters(operation.path, path) else { continue };
        if operation.method == method {
            return OperationMatch::Found(operation, parameters);
        }
        found = Some(operation.path);
        methods.push(operation.method);
        if operation.method == "GET" {
            methods.push("HEAD");
        }
    }
    if methods.is_empty() {
        OperationMatch::NotFound
    } else {
        OperationMatch::OtherMethods(methods)
    }
}

/// Checks the parameters of a path, and returns ids in canonical form.
///
/// # Errors
/// A parameter is not a UUID, or has a null character.
pub(super) fn checked(
    parameters: Vec<(&'static str, String)>,
) -> Result<Vec<(&'static str, String)>, AdminError> {
    let checked = |(name, text): (&'static str, String)| {
        let text = match path_schema(name) {
            ValueSchema::Uuid => match Uuid::parse_str(&text) {
                Ok(id) => id.to_string(),
                Err(_) => return Err(AdminError::parameter(name, "expected a UUID")),
            },
            // PostgreSQL cannot store it.
            _ if text.contains('\0') => {
                return Err(AdminError::parameter(name, "a null character is not allowed"));
            }
            _ => text,
        };
        Ok((name, text))
    };
    parameters.into_iter().map(checked).collect()
}

fn parameters(pattern: &'static str, path: &str) -> Option<Vec<(&'static str, String)>> {
    let mut found = Vec::new();
    let (mut expected, mut given) = (pattern.split('/'), path.split('/'));
    loop {
        match (expected.next(), given.next()) {
            (None, None) => return Some(found),
            (Some(expected), Some(segment)) => match parameter(expected) {
                Some(name) if !segment.is_empty() => {
                    let text = percent_decode_str(segment).decode_utf8().ok()?;
                    found.push((name, text.into_owned()));
                }
                None if expected == segment => {}
                _ => return None,
            },
            _ => return None,
        }
    }
}

fn parameter(segment: &'static str) -> Option<&'static str> {
    segment.strip_prefix('{')?.strip_suffix('}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(method: &str, path: &str) -> Option<(AdminAction, Vec<String>)> {
        let OperationMatch::Found(operation, parameters) = find(method, path) else { return None };
        Some((operation.action, parameters.into_iter().map(|(_, text)| text).collect()))
    }

    #[test]
    fn paths_have_one_spelling() {
        let bob = || vec!["b/o%b".to_owned()];
        assert_eq!(found("GET", "/v1/admin/users/b%2Fo%25b"), Some((AdminAction::GetUser, bob())));
        assert_eq!(found("HEAD", "/v1/admin/users"), Some((AdminAction::ListUsers, vec![])));
        let all = found("POST", "/v1/admin/issuers/refresh");
        assert_eq!(all, Some((AdminAction::RefreshIssuers, vec![])));
        for path in ["/v1/admin/", "/v1/admin/users/", "/v1/admin/Users", "/v1/admin/users/%ff"] {
            assert_eq!(found("GET", path), None, "{path}");
        }
        let OperationMatch::OtherMethods(methods) = find("TRACE", "/v1/admin/users") else {
            panic!("the path exists")
        };
        assert_eq!(methods, ["GET", "HEAD", "POST"]);
        let OperationMatch::OtherMethods(methods) = find("GET", "/v1/admin/issuers/refresh") else {
            panic!("no issuer has this name")
        };
        assert_eq!(methods, ["POST"]);
    }

    #[test]
    fn fixed_segments_precede_parameters() {
        for operation in OPERATIONS {
            let path = operation.path.replace(['{', '}'], "");
            let found = found(operation.method, &path).map(|(action, _)| action);
            assert_eq!(found, Some(operation.action), "{path}");
        }
    }
}
