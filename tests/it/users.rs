//! Calls of the Inmanta API about users, roles, environments and tokens. The behaviours 44 to 59 of
//! the real system are tested here under their numbers.

/// Login and session renewal.
mod sessions;
/// Overlap of renewed tokens, logout, and the maximum duration of a session.
mod session_end;
/// Limits for failed logins.
mod lockout;
/// Users and their passwords.
mod people;
/// Roles and role assignments.
mod roles;
/// Projects and environments.
mod projects;
/// The status, and the documentation of the API.
mod docs;
/// Tokens of environments.
mod tokens;
/// The order of checks, and refusals.
mod order;
/// Secrets in logs and files.
mod secrets;
/// A client written in Python with independent libraries.
mod walk;
/// Nodes that share a database.
mod nodes;
/// Acknowledged writes after a crash of the server or its database.
mod durability;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_server::{
    config::{Config, load_raw},
    store::{Store, users::User},
};
use countersign_tests::{
    binary::{Sandbox, Server},
    http::Response,
};
use serde_json::{Value, json};

use crate::fixture::{self, SIGNING};

pub(crate) const PASSWORD: &str = "correct horse";
pub(crate) const ENVIRONMENT: &str = "11111111-1111-1111-1111-111111111111";
pub(crate) const OTHER: &str = "22222222-2222-2222-2222-222222222222";
/// Project of the environments that [`Api::add_environment`] adds.
pub(crate) const TEST_PROJECT: &str = "00000000-0000-0000-0000-000000000001";

/// Returns the guide's section, [`SIGNING`], with authentication and these options of `[server]`,
/// which may open further sections.
pub(crate) fn configuration(options: &str) -> String {
    format!("{SIGNING}[server]\nauth=true\n{options}")
}

/// A client of a [`Server`]'s API with fixed header lines.
#[derive(Clone)]
pub(crate) struct Api<'s> {
    server: &'s Server<'s>,
    lines: String,
}

impl<'s> Api<'s> {
    /// Returns a client without a token.
    pub(crate) fn anonymous(server: &'s Server<'s>) -> Self {
        Self { server, lines: String::new() }
    }

    /// Returns a client with this token.
    pub(crate) fn bearing(server: &'s Server<'s>, token: &str) -> Self {
        Self::anonymous(server).with(&format!("Authorization: Bearer {token}"))
    }

    /// Returns a client with an administrator's session for which there is no user account.
    pub(crate) fn root(server: &'s Server<'s>) -> Self {
        Self::bearing(server, &session_of("root", true))
    }

    /// Adds a header line.
    pub(crate) fn with(&self, line: &str) -> Self {
        Self { server: self.server, lines: format!("{}{line}\r\n", self.lines) }
    }

    /// Selects an environment.
    pub(crate) fn within(&self, environment: &str) -> Self {
        self.with(&format!("X-Inmanta-tid: {environment}"))
    }

    /// Makes a call that has no body, such as `GET /user`.
    #[track_caller]
    pub(crate) fn ask(&self, call: &str) -> Response {
        self.send_raw(call, "")
    }

    /// Makes a call with a body.
    #[track_caller]
    pub(crate) fn send(&self, call: &str, body: Value) -> Response {
        self.send_raw(call, &body.to_string())
    }

    #[track_caller]
    pub(crate) fn send_raw(&self, call: &str, body: &str) -> Response {
        let (method, path) = call.split_once(' ').unwrap();
        let path =
            if path.starts_with("/api/") { path.to_owned() } else { format!("/api/v2{path}") };
        self.server.send(&format!("{method} {path} HTTP/1.1\r\n{}", self.lines), body.as_bytes())
    }

    #[track_caller]
    pub(crate) fn log_in(&self, username: &str, password: &str) -> Response {
        self.send("POST /login", json!({ "username": username, "password": password }))
    }

    /// Logs in and returns the session's token.
    #[track_caller]
    pub(crate) fn session(&self, username: &str) -> String {
        data(&self.log_in(username, PASSWORD))["token"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    pub(crate) fn add_user(&self, username: &str) {
        let added = self.send("POST /user", json!({ "username": username, "password": PASSWORD }));
        assert_eq!(added.status, 200, "{added:?}");
    }

    #[track_caller]
    pub(crate) fn add_environment(&self, id: &str) {
        // It may exist already.
        self.send("PUT /project", json!({ "name": "tests", "project_id": TEST_PROJECT }));
        let name = format!("env-{id}");
        let new = json!({ "name": name, "project_id": TEST_PROJECT, "environment_id": id });
        let added = self.send("PUT /environment", new);
        assert_eq!(added.status, 200, "{added:?}");
    }

    /// Creates a token of an environment with the client type `api`.
    #[track_caller]
    pub(crate) fn issue(&self, environment: &str) -> String {
        let issued = self
            .within(environment)
            .send("POST /environment_auth", json!({ "client_types": ["api"] }));
        data(&issued).as_str().unwrap().to_owned()
    }
}

/// Returns a session token as issued by a login, without a login.
pub(crate) fn session_of(subject: &str, is_admin: bool) -> String {
    let claims = json!({
        "sub": subject, "urn:inmanta:roles": {}, "urn:inmanta:is_admin": is_admin,
        "iat": fixture::now(), "sid": "a-session-of-the-tests",
    });
    fixture::token(&fixture::claims(claims))
}

/// Returns the content of an answer's envelope.
#[track_caller]
pub(crate) fn data(response: &Response) -> Value {
    assert_eq!(response.status, 200, "{response:?}");
    assert_eq!(response.header("cache-control"), Some("no-store"));
    let mut body = response.json();
    let data = body["data"].take();
    assert_eq!(body, json!({ "data": null }), "the envelope has only data");
    data
}

/// Checks that a call succeeded with an empty answer.
#[track_caller]
pub(crate) fn assert_done(response: &Response) {
    assert_eq!((response.status, response.body.as_str()), (200, ""), "{response:?}");
}

/// Checks that a call was refused with this status and text. The text follows the prefix that the
/// real system has for the status.
#[track_caller]
pub(crate) fn refused(response: &Response, status: u16, text: &str) {
    let prefix = match status {
        400 => "Invalid request: ",
        403 => "Access denied: ",
        404 => "Request or referenced resource does not exist: ",
        409 => "Request conflicts with the current state of the resource: ",
        _ => "",
    };
    let expected = json!({ "message": format!("{prefix}{text}") });
    assert_eq!((response.status, response.json()), (status, expected), "{response:?}");
    assert_eq!(response.header("cache-control"), Some("no-store"));
    let challenge = response.header("www-authenticate");
    match status {
        401 => assert_eq!(challenge, Some("Bearer")),
        _ => assert_eq!(challenge, None),
    }
}

/// Returns the claims of a token, in their order.
pub(crate) fn claims(token: &str) -> Value {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice(&payload).unwrap()
}

/// Returns the names of a token's claims, in their order.
pub(crate) fn names(token: &str) -> Vec<String> {
    claims(token).as_object().unwrap().keys().cloned().collect()
}

/// Opens the database of a server that is configured with [`in_file`].
fn store(sandbox: &Sandbox) -> Store {
    let raw = load_raw(&[sandbox.file("store.cfg", in_file(sandbox))], []);
    Store::new(&Config::from_raw(raw).unwrap().database, || unreachable!("it says where it is"))
        .unwrap()
}

/// Returns a section with a database file in the sandbox.
pub(crate) fn in_file(sandbox: &Sandbox) -> String {
    format!("[database]\nurl=sqlite:{}\n", sandbox.path().join("users.db").display())
}

/// Adds a user with this password hash.
fn add_with_hash(store: &Store, username: &str, hash: &str) {
    let (username, password_hash) = (username.to_owned(), hash.to_owned());
    let user = User::new(&username, password_hash, false);
    store.block_on(store.add_user(user)).unwrap();
}
