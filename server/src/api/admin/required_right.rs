//! What the caller of a call needs, for tests of requests.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{
    operation::{self, AdminPermission, OperationMatch},
    segment,
};
use crate::{
    api::request_test::own_call::{EquivalentCall, RequiredRight},
    authorization::endpoints::api::{ApiEndpoint, PathMatch, find_endpoint},
    base::route::ENVIRONMENT_HEADER,
};

/// Returns what the caller of a call needs; `None` for a call that does not exist.
pub(in crate::api) fn required_right(method: &str, path: &str) -> Option<RequiredRight> {
    let OperationMatch::Found(operation, parameters) = operation::find(method, path) else {
        return None;
    };
    // The call itself refuses what it cannot read, such as an id that is not a UUID.
    let parameters = operation::checked(parameters.clone()).unwrap_or(parameters);
    Some(match operation.permission {
        AdminPermission::Open => RequiredRight::Nothing("the call needs no token"),
        AdminPermission::Administrator => RequiredRight::Administrator,
        AdminPermission::Call(method, path) => {
            let PathMatch::Endpoint(endpoint, _) = find_endpoint(method, path) else { return None };
            RequiredRight::OtherCall(equivalent_call(endpoint, &parameters))
        }
    })
}

/// Returns the call of an endpoint with the parameters in the path of a call of this API. Those
/// that it has in a body are in its query, where a test sees them.
fn equivalent_call(
    endpoint: &'static ApiEndpoint,
    parameters: &[(&'static str, String)],
) -> EquivalentCall {
    let (mut target, mut query, mut headers) =
        (endpoint.path.to_owned(), Vec::new(), HeaderMap::new());
    for (name, text) in parameters {
        let placeholder = format!("<{name}>");
        if target.contains(&placeholder) {
            target = target.replace(&placeholder, &segment(text));
        } else if *name == "environment" && endpoint.environment == Some(ENVIRONMENT_HEADER) {
            const HEADER: HeaderName = HeaderName::from_static("x-inmanta-tid");
            headers.extend(HeaderValue::from_str(text).map(|id| (HEADER, id)));
        } else if endpoint.argument(name).is_some() {
            query.push((*name, text));
        } else if *name == "role" && endpoint.argument("name").is_some() {
            query.push(("name", text));
        }
    }
    if !query.is_empty() {
        let query = serde_urlencoded::to_string(query).unwrap_or_default();
        target = format!("{target}?{query}");
    }
    EquivalentCall { method: endpoint.method, target, headers }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::admin::table::OPERATIONS;

    const ID: &str = "11111111-1111-1111-1111-111111111111";

    fn equivalent(method: &str, path: &str) -> (String, bool) {
        let Some(RequiredRight::OtherCall(call)) =
            required_right(method, &format!("/v1/admin{path}"))
        else {
            panic!("{method} {path}")
        };
        (format!("{} {}", call.method, call.target), !call.headers.is_empty())
    }

    #[test]
    fn calls_need_the_right_to_make_another() {
        for (method, path, expected, has_environment) in [
            ("GET", "/users/b%2Fo", "GET /api/v2/user".into(), false),
            ("DELETE", "/users/b%2Fo", "DELETE /api/v2/user/b%2Fo".into(), false),
            ("PUT", "/users/bob/password", "PATCH /api/v2/user/bob/password".into(), false),
            (
                "PUT",
                &format!("/users/bob/roles/{ID}/noc"),
                format!("POST /api/v2/role_assignment/bob?environment={ID}&role=noc"),
                false,
            ),
            ("DELETE", "/roles/n%20oc", "DELETE /api/v2/role?name=n+oc".into(), false),
            ("HEAD", "/roles", "GET /api/v2/role".into(), false),
            (
                "GET",
                &format!("/environments/{ID}/tokens"),
                "GET /api/v2/environment_auth".into(),
                true,
            ),
            ("GET", &format!("/environments/{ID}/assignments"), "GET /api/v2/user".into(), false),
        ] {
            assert_eq!(equivalent(method, path), (expected, has_environment), "{method} {path}");
        }
    }

    #[test]
    fn every_call_needs_a_right() {
        for operation in OPERATIONS {
            let path = operation.path.replace(['{', '}'], "");
            assert!(required_right(operation.method, &path).is_some(), "{path}");
        }
        assert!(required_right("GET", "/v1/admin/nothing").is_none());
        assert!(required_right("PUT", "/v1/admin/users").is_none());
    }
}
