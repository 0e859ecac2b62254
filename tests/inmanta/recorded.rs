//! Recorded requests and answers of the real server, replayed in order.
//!
//! A case of `recorded.json` has a `request`, and with it the name of a `token`, an `environment`,
//! further `headers_sent`, and a body: `json`, `text` or `base64`, with `gzip` compressed.
//! `content_type` replaces `application/json`; null sends none. The answer has a `status`,
//! `headers`, a `body` of this [shape](super::shape), which `open` allows to have further members,
//! and by JSON pointer the `claims` of its tokens. `keep` names values for later cases, which
//! write them as `{{name}}`; `/data#jti` is the claim `jti` of the token at `/data`. `signs`
//! makes tokens of claims. Where this server decides otherwise, the answer is ours, `decided` is
//! the reason, and `real` has the real status.

use std::{collections::BTreeMap, io::Write as _};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use countersign_tests::{
    binary::{Sandbox, Server},
    engine::{sign_with, signing_input},
    http::Response,
    postgres::Postgres,
};
use flate2::{Compression, write::GzEncoder};
use serde_json::{Map, Value, json};

use super::shape::{difference, is_text};

/// Options of the policy engine.
const POLICY: &str = concat!(
    "authorization_provider=policy-engine\n[policy_engine]\npolicy_file=",
    env!("CARGO_MANIFEST_DIR"),
    "/../server/policies/inmanta.rego\n"
);

#[test]
fn answers_are_the_recorded_ones() {
    RecordedCases::new("auth").replay(&["auth=true\n"]);
}

#[test]
fn answers_on_postgresql_are_the_recorded_ones() {
    let postgres = Postgres::start();
    let options = format!("auth=true\n[database]\nurl={}\n", postgres.url());
    RecordedCases::new("auth").replay(&[&options]);
}

#[test]
fn answers_without_authentication_are_recorded() {
    RecordedCases::new("auth-off").replay(&["auth=true\n", "auth=false\n"]);
}

#[test]
fn answers_with_endless_sessions_are_recorded() {
    RecordedCases::new("endless-sessions").replay(&["auth=true\nlogin_session_expire=0\n"]);
}

#[test]
fn answers_with_a_policy_are_the_recorded_ones() {
    RecordedCases::new("policy-engine").replay(&[&format!("auth=true\n{POLICY}")]);
}

/// The cases of one configuration.
struct RecordedCases {
    key: String,
    administrator: Value,
    /// Cases in order. There is a restart between two phases.
    phases: Vec<Vec<Value>>,
}

impl RecordedCases {
    fn new(name: &str) -> Self {
        let table: Value = serde_json::from_str(include_str!("recorded.json")).unwrap();
        let configurations = table["configurations"].as_array().unwrap();
        let of_name = configurations.iter().find(|one| one["name"] == name).unwrap();
        let phases = ["before", "cases"].iter().filter_map(|phase| of_name[phase].as_array());
        Self {
            key: table["key"].as_str().unwrap().into(),
            administrator: table["administrator"].clone(),
            phases: phases.cloned().collect(),
        }
    }

    /// Replays each phase against a server with these options of `[server]`, and names every case
    /// whose answer differs.
    #[track_caller]
    fn replay(&self, options: &[&str]) {
        let configuration =
            |options: &str| format!("{}{options}", configuration(self.key.as_bytes()));
        let sandbox = Sandbox::new();
        set_up(&sandbox, &configuration(options[0]), &self.administrator);
        let (mut kept, mut failed) = (BTreeMap::new(), Vec::new());
        for (options, cases) in options.iter().zip(&self.phases) {
            let server = sandbox.serve(&configuration(options));
            let mut replay = CaseReplay { server: &server, key: self.key.as_bytes(), kept };
            failed.extend(cases.iter().filter_map(|case| replay.failure(case)));
            kept = replay.kept;
        }
        assert!(failed.is_empty(), "{} answers differ:\n{}", failed.len(), failed.join("\n"));
    }
}

/// Returns the configuration of the recorded server, without the options of `[server]` that
/// differ.
pub(crate) fn configuration(key: &[u8]) -> String {
    format!(
        "\
[auth_jwt_default]
algorithm=HS256
sign=true
client_types=agent,compiler,api
key={}
expire=0
issuer=https://localhost:8888/
audience=https://localhost:8888/
[server]
auth_method=database
password_min_length=12
password_min_classes=3
",
        URL_SAFE_NO_PAD.encode(key)
    )
}

/// Creates the first user.
#[track_caller]
pub(crate) fn set_up(sandbox: &Sandbox, configuration: &str, administrator: &Value) {
    sandbox.file("setup.cfg", configuration);
    let text = |name: &str| administrator[name].as_str().unwrap();
    let arguments = ["setup", "-c", "setup.cfg", "--yes", "--username", text("username")];
    let created = sandbox.run_with_input(arguments, text("password"));
    assert_eq!(created.code(), 0, "{created:?}");
}

/// A replay, with the values that earlier answers gave.
struct CaseReplay<'s> {
    server: &'s Server<'s>,
    key: &'s [u8],
    kept: BTreeMap<String, String>,
}

impl CaseReplay<'_> {
    /// Sends the request of a case, and returns how its answer differs.
    fn failure(&mut self, case: &Value) -> Option<String> {
        let failed = |difference: String| {
            let (name, request) = (&case["name"], &case["request"]);
            Some(format!("{name} {request}: {difference}"))
        };
        for (name, claims) in members(&case["signs"]) {
            let claims = self.fill(claims.as_str().unwrap());
            let input = signing_input(r#"{"alg":"HS256","typ":"JWT"}"#, claims);
            self.kept.insert(name.clone(), sign_with(self.key, &input));
        }
        if let Some(missing) = self.missing(case) {
            return failed(format!("{missing} is missing, because an earlier case failed"));
        }
        let response = self.send(case);
        if case["status"] != response.status {
            let (status, body) = (response.status, &response.body);
            return failed(format!("expected {}, got {status} {body:.300}", case["status"]));
        }
        let body = serde_json::from_str(&response.body).unwrap_or(Value::Null);
        if let Err(difference) = self.keep(case, &body) {
            return failed(difference);
        }
        let difference = self
            .body_difference(case, &response, &body)
            .or_else(|| self.header_difference(case, &response))
            .or_else(|| self.claims_difference(case, &body));
        difference.and_then(failed)
    }

    fn send(&self, case: &Value) -> Response {
        let text = |name: &str| case[name].as_str();
        let mut head = format!("{} HTTP/1.1\r\n", self.fill(text("request").unwrap()));
        let mut add = |name: &str, value: &str| head += &format!("{name}: {value}\r\n");
        if let Some(token) = text("token") {
            add("Authorization", &format!("Bearer {}", self.kept[token]));
        }
        if let Some(environment) = text("environment") {
            add("X-Inmanta-tid", &self.fill(environment));
        }
        for (name, value) in members(&case["headers_sent"]) {
            add(name, &self.fill(value.as_str().unwrap()));
        }
        let mut body = match (&case["json"], text("text"), text("base64")) {
            (_, Some(text), _) => self.fill(text).into_bytes(),
            (_, _, Some(text)) => STANDARD.decode(text).unwrap(),
            (Value::Null, None, None) => Vec::new(),
            (json, None, None) => self.fill(&json.to_string()).into_bytes(),
        };
        if !body.is_empty() && case.get("content_type") != Some(&Value::Null) {
            add("Content-Type", text("content_type").unwrap_or("application/json"));
        }
        if case["gzip"] == true {
            add("Content-Encoding", "gzip");
            body = gzip(&body);
        }
        self.server.send(&head, &body)
    }

    fn body_difference(&self, case: &Value, response: &Response, body: &Value) -> Option<String> {
        match case["body"].as_str() {
            Some("<any>") => None,
            Some("<empty>") => {
                (!response.body.is_empty()).then(|| format!("expected no body, got {body}"))
            }
            Some("<html>") => {
                let content_type = response.header("content-type").unwrap_or_default();
                (!content_type.starts_with("text/html")).then(|| format!("got {content_type}"))
            }
            _ => {
                let shape = serde_json::from_str(&self.fill(&case["body"].to_string())).unwrap();
                difference(&shape, body, case["open"] == true)
            }
        }
    }

    fn header_difference(&self, case: &Value, response: &Response) -> Option<String> {
        members(&case["headers"]).find_map(|(name, pattern)| {
            let pattern = self.fill(pattern.as_str().unwrap());
            let value = response.header(name).unwrap_or("nothing");
            (!is_text(&pattern, value)).then(|| format!("{name}: expected {pattern}, got {value}"))
        })
    }

    fn claims_difference(&self, case: &Value, body: &Value) -> Option<String> {
        members(&case["claims"]).find_map(|(pointer, pattern)| {
            let claims = claims(body.pointer(pointer).unwrap().as_str().unwrap());
            let pattern = self.fill(pattern.as_str().unwrap());
            (!is_text(&pattern, &claims)).then(|| format!("expected {pattern}, got {claims}"))
        })
    }

    /// Keeps values of an answer, or claims of tokens in it, for later cases.
    fn keep(&mut self, case: &Value, body: &Value) -> Result<(), String> {
        for (name, place) in members(&case["keep"]) {
            let place = place.as_str().unwrap();
            let (pointer, claim) = place.split_once('#').unwrap_or((place, ""));
            let value = body.pointer(pointer).and_then(Value::as_str);
            let value = value.ok_or_else(|| format!("{pointer} is missing in {body}"))?;
            let value = if claim.is_empty() {
                value.to_owned()
            } else {
                let claims: Value = serde_json::from_str(&claims(value)).unwrap();
                claims[claim].as_str().ok_or_else(|| format!("no claim {claim}"))?.to_owned()
            };
            self.kept.insert(name.clone(), value);
        }
        Ok(())
    }

    /// Returns the name of a value that a case needs and no earlier case kept.
    fn missing(&self, case: &Value) -> Option<String> {
        let sent =
            json!([case["request"], case["environment"], case["headers_sent"], case["json"]]);
        let sent = self.fill(&sent.to_string());
        let placeholder = sent.split_once("{{").map(|(_, rest)| rest.split("}}").next().unwrap());
        let token = case["token"].as_str().filter(|name| !self.kept.contains_key(*name));
        placeholder.or(token).map(str::to_owned)
    }

    /// Replaces `{{name}}` by the value that was kept under this name.
    fn fill(&self, text: &str) -> String {
        let replace = |text: String, (name, value): (&String, &String)| {
            text.replace(&format!("{{{{{name}}}}}"), value)
        };
        self.kept.iter().fold(text.to_owned(), replace)
    }
}

/// Returns the members of an object; none if the value is absent.
fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().map(Map::iter).into_iter().flatten()
}

/// Returns the payload of a token as it is spelled.
fn claims(token: &str) -> String {
    let payload = token.split('.').nth(1).unwrap();
    String::from_utf8(URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}
