//! Machine identities, as Infisical has them. The behaviours of the real system are tested under
//! their numbers.

/// Identities, roles and memberships, and who may change them.
mod administration;
/// Budgets of what an identity may do without any right.
mod budgets;
/// Certificates that log an identity in, or do not.
mod certificate_rules;
/// Presentation of certificates at a login.
mod certificates;
/// Independent clients: Node.js, Python and curl.
pub(crate) mod clients;
/// Servers of one database with different issuers.
mod issuers;
/// Numbers of uses that a server counts in blocks.
mod leases;
/// Rotation of the key that signs.
mod key_rotation;
/// Login methods and their terms.
mod methods;
/// Roles in access tokens.
mod roles;
/// Access tokens: login, renewal, revocation.
mod tokens;
/// Trusted addresses and numbers of uses.
mod uses;

use std::fs;

use countersign_tests::{
    binary::{Sandbox, Server},
    client::Protocol,
    http::Response,
};
use serde_json::{Value, json};

use crate::{
    fixture::SIGNING,
    users::{claims, session_of},
};

/// Issuer of the access tokens.
const ISSUER: &str = "https://localhost:8888/identities";

/// Returns a configuration with machine identities, whose clients are named by a trusted proxy.
fn configuration(options: &str) -> String {
    format!(
        "{SIGNING}[server]\nauth=true\n[listen]\ntrusted_proxies=127.0.0.1\n[identities]\n\
         enabled=true\n{options}"
    )
}

/// Runs a test with a server.
fn with_server(protocol: Protocol, options: &str, test: impl FnOnce(&IdentityApi<'_>)) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(options));
    test(&IdentityApi::new(&server));
}

/// A client that administers machine identities.
pub(crate) struct IdentityApi<'s> {
    server: &'s Server<'s>,
    /// Session of an administrator.
    token: String,
    organization: String,
}

/// The credentials of an identity with universal auth.
pub(crate) struct MachineCredentials {
    id: String,
    client_id: String,
    secret: String,
}

impl<'s> IdentityApi<'s> {
    pub(crate) fn new(server: &'s Server<'s>) -> Self {
        let mut api = Self { server, token: session_of("root", true), organization: String::new() };
        let organizations = api.ask("GET /organization").json();
        api.organization = text(&organizations["organizations"][0]["id"]);
        api
    }

    /// Makes a call without a body.
    #[track_caller]
    fn ask(&self, call: &str) -> Response {
        self.call(&self.token, call, "", "")
    }

    /// Makes a call with a body.
    #[track_caller]
    fn send(&self, call: &str, body: Value) -> Response {
        self.call(&self.token, call, "", &body.to_string())
    }

    /// Makes a call with a token and further header lines.
    #[track_caller]
    fn call(&self, token: &str, call: &str, lines: &str, body: &str) -> Response {
        let (method, path) = call.split_once(' ').unwrap();
        let path =
            if path.starts_with("/api/") { path.to_owned() } else { format!("/api/v1{path}") };
        let bearer = match token {
            "" => String::new(),
            token => format!("Authorization: Bearer {token}\r\n"),
        };
        self.server.send(&format!("{method} {path} HTTP/1.1\r\n{bearer}{lines}"), body.as_bytes())
    }

    /// Creates an identity and returns its id.
    #[track_caller]
    fn create(&self, name: &str, role: &str) -> String {
        let new = json!({ "name": name, "organizationId": self.organization, "role": role });
        let created = self.send("POST /identities", new);
        assert_eq!(created.status, 200, "{created:?}");
        text(&created.json()["identity"]["id"])
    }

    /// Creates an identity with universal auth on these terms, and a secret.
    #[track_caller]
    pub(crate) fn machine(&self, role: &str, terms: Value) -> MachineCredentials {
        let id = self.create("machine", role);
        let path = format!("/auth/universal-auth/identities/{id}");
        let attached = self.send(&format!("POST {path}"), terms);
        assert_eq!(attached.status, 200, "{attached:?}");
        let client_id = text(&attached.json()["identityUniversalAuth"]["clientId"]);
        let created = self.send(&format!("POST {path}/client-secrets"), json!({}));
        assert_eq!(created.status, 200, "{created:?}");
        MachineCredentials { id, client_id, secret: text(&created.json()["clientSecret"]) }
    }

    /// Makes a call that authenticates by its body.
    #[track_caller]
    fn open(&self, call: &str, body: Value) -> Response {
        self.call("", call, "", &body.to_string())
    }

    #[track_caller]
    fn log_in(&self, machine: &MachineCredentials) -> Response {
        let body = json!({ "clientId": machine.client_id, "clientSecret": machine.secret });
        self.open("POST /auth/universal-auth/login", body)
    }

    /// Logs in and returns the access token.
    #[track_caller]
    pub(crate) fn access_token(&self, machine: &MachineCredentials) -> String {
        let response = self.log_in(machine);
        assert_eq!(response.status, 200, "{response:?}");
        text(&response.json()["accessToken"])
    }

    #[track_caller]
    fn renew(&self, token: &str) -> Response {
        self.open("POST /auth/token/renew", json!({ "accessToken": token }))
    }

    #[track_caller]
    fn revoke(&self, token: &str) -> Response {
        self.open("POST /auth/token/revoke", json!({ "accessToken": token }))
    }

    /// Returns the status of a check of this token.
    #[track_caller]
    fn auth(&self, token: &str) -> u16 {
        self.server.auth(token).status
    }

    /// Returns the status of a check that a proxy makes for a client with this address.
    #[track_caller]
    fn auth_from(&self, token: &str, address: &str) -> u16 {
        let head = format!(
            "GET /auth HTTP/1.1\r\nAuthorization: Bearer {token}\r\nX-Forwarded-For: {address}\r\n"
        );
        self.server.request(&head).status
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value}")).to_owned()
}

/// Checks that a call was refused in Infisical's envelope.
#[track_caller]
fn refused(response: &Response, status: u16, message: &str) {
    let body = response.json();
    let (found, shown) = (response.status, &body["message"]);
    assert_eq!((found, shown.as_str()), (status, Some(message)), "{response:?}");
    assert_eq!(body["statusCode"], status);
    assert!(text(&body["reqId"]).starts_with("req-") && body["error"].is_string(), "{body}");
    assert_eq!(response.header("cache-control"), Some("no-store"));
}

/// Checks that members of a body were refused.
#[track_caller]
fn invalid(response: &Response, member: &str) {
    let body = response.json();
    assert_eq!((response.status, &body["error"]), (422, &json!("ValidationFailure")), "{body}");
    assert_eq!(body["message"][0]["path"][0], member, "{body}");
}

/// Each behaviour of the real system has a number, and exactly one test that begins with it.
#[test]
fn every_behaviour_has_one_test() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/it/identities");
    let files = fs::read_dir(folder).unwrap();
    let texts = files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap());
    let texts: Vec<_> = texts.collect();
    let tests = texts.iter().flat_map(|text| text.lines()).filter_map(|line| {
        let (number, _) = line.strip_prefix("fn c")?.split_once('_')?;
        number.starts_with(|first: char| first.is_ascii_digit()).then_some(number)
    });
    let mut found: Vec<_> = tests.collect();
    found.sort_unstable();
    let mut expected: Vec<_> = (43..=82).map(|number| number.to_string()).collect();
    expected.extend(["48b".into(), "48c".into()]);
    expected.sort_unstable();
    assert_eq!(found, expected);
}
