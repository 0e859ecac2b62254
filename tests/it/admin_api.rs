//! The Admin API: its document, pages of lists, preconditions, and every resource.

/// Changes that others make at the same time.
mod concurrent;
/// The OpenAPI document: every operation is called, and answers as it describes.
mod document;
/// Cursors, limits, methods, preconditions, paths and bodies as an attacker sends them.
mod hostile;
/// Changes of machine identities, and of their login method by a certificate.
mod identities;
/// Identities, API keys, tenants, the audit log and servers.
mod inspection;
/// The token inspector.
mod inspector;
/// Issuers and their keys.
mod issuers;
/// The figures of the overview.
mod overview;
/// Who may make which call, and where the API is served.
mod permissions;
/// Tokens that may not make a call, and listeners without the API.
mod refusals;
/// Tests of requests against routes and the access policy.
mod request_test;
/// Revocations.
mod revocations;
/// Strict bodies and queries, pages, and preconditions.
mod requests;
/// Requests that an independent tester makes of the document.
mod schemathesis;
/// Tokens of environments.
mod tokens;
/// Users, roles and assignments.
mod users;

use countersign_tests::{binary::Server, http::Response};
use serde_json::{Value, json};

use crate::users::session_of;

/// A client of the Admin API.
pub(crate) struct AdminApi<'s> {
    server: &'s Server<'s>,
    token: String,
}

impl<'s> AdminApi<'s> {
    /// Returns a client with the session of an administrator without a user account.
    pub(crate) fn root(server: &'s Server<'s>) -> Self {
        Self { server, token: session_of("root", true) }
    }

    /// Makes a call without a body, such as `GET /users`.
    #[track_caller]
    fn ask(&self, call: &str) -> Response {
        self.call(call, "", "")
    }

    /// Makes a call with a body.
    #[track_caller]
    fn send(&self, call: &str, body: Value) -> Response {
        self.call(call, "", &body.to_string())
    }

    /// Makes a call with further header lines and a body.
    #[track_caller]
    fn call(&self, call: &str, lines: &str, body: &str) -> Response {
        let (method, path) = call.split_once(' ').unwrap();
        let path = if path.starts_with("/v1/") { path.into() } else { format!("/v1/admin{path}") };
        let bearer = match &*self.token {
            "" => String::new(),
            token => format!("Authorization: Bearer {token}\r\n"),
        };
        let response = self
            .server
            .send(&format!("{method} {path} HTTP/1.1\r\n{bearer}{lines}"), body.as_bytes());
        assert_eq!(response.header("cache-control"), Some("no-store"), "{response:?}");
        response
    }

    /// Returns the answer to a call that succeeds.
    #[track_caller]
    fn get(&self, path: &str) -> Value {
        let response = self.ask(&format!("GET {path}"));
        assert_eq!(response.status, 200, "{response:?}");
        response.json()
    }

    /// Returns the items of all pages of a list, and the number of pages.
    #[track_caller]
    pub(crate) fn pages(&self, path: &str) -> (Vec<Value>, usize) {
        let (mut items, mut pages, mut next) = (Vec::new(), 0, Some(path.to_owned()));
        while let Some(path) = next {
            let page = self.get(&path);
            items.extend(page["items"].as_array().unwrap().iter().cloned());
            pages += 1;
            next = page["next"].as_str().map(str::to_owned);
        }
        (items, pages)
    }
}

/// Returns the only header with this name.
#[track_caller]
fn etag(response: &Response) -> String {
    response.header("etag").unwrap_or_else(|| panic!("{response:?}")).to_owned()
}

/// Checks that a call is answered with a problem of this status and code.
#[track_caller]
fn assert_problem(response: &Response, status: u16, code: &str) -> Value {
    assert_eq!(response.status, status, "{response:?}");
    assert_eq!(response.header("content-type"), Some("application/problem+json"));
    let problem = response.json();
    assert_eq!((&problem["status"], &problem["code"]), (&json!(status), &json!(code)));
    assert!(problem["detail"].is_string() && problem["title"].is_string(), "{problem}");
    problem
}
