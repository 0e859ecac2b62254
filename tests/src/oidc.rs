//! An independent, certified OpenID provider: `oidc-provider` from npm, driven through
//! `tests/oidc/provider.mjs`.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Mutex,
};

use serde_json::{Value, json};

use crate::http::Connection;

/// Audience of the access tokens of an [`OidcProvider`].
pub const AUDIENCE: &str = "https://service.example/";

/// The public client for users, and the user.
pub const CLIENT_ID: &str = "console";
/// The username of the user, in access tokens.
pub const USERNAME: &str = "u1@example";
/// The subject of the user.
pub const SUBJECT: &str = "u1";
/// An origin that is registered as a redirect URI.
pub const ORIGIN: &str = "http://localhost:8888";

/// Running provider with one RS256 key and one ES256 key. Dropping it ends the process.
pub struct OidcProvider {
    child: Child,
    /// One lock, because each command is followed by its response.
    pipes: Mutex<Pipes>,
    issuer: String,
}

/// Both directions of the provider's protocol: one JSON line per command and response.
struct Pipes {
    commands: ChildStdin,
    responses: BufReader<ChildStdout>,
}

impl OidcProvider {
    /// Starts a provider on a free port and waits until it listens.
    pub fn start() -> Self {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("oidc");
        assert!(
            directory.join("node_modules/oidc-provider").exists(),
            "the OpenID provider is missing; tests/run installs it: npm ci --prefix tests/oidc"
        );
        let mut child = Command::new("node")
            .arg(directory.join("provider.mjs"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node is missing: apt-get install nodejs");
        let (commands, responses) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut pipes = Pipes { commands, responses: BufReader::new(responses) };
        let issuer = text(&pipes.read_response()["issuer"]);
        Self { child, pipes: Mutex::new(pipes), issuer }
    }

    /// Returns its `iss`, a URL without a trailing slash.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Returns the URI of its metadata (OpenID Connect Discovery 1.0 section 4).
    pub fn discovery_uri(&self) -> String {
        format!("{}/.well-known/openid-configuration", self.issuer)
    }

    /// Returns the URI of its keys, the same as in its metadata.
    pub fn jwks_uri(&self) -> String {
        format!("{}/jwks", self.issuer)
    }

    /// Requests an access token (RFC 9068) for [`AUDIENCE`] from its token endpoint.
    pub fn token(&self, algorithm: &str) -> String {
        text(&self.send_command(&json!({ "command": "token", "alg": algorithm }))["token"])
    }

    /// Replaces both keys. Returns the `kid`s of the new ones.
    pub fn rotate(&self) -> Vec<String> {
        self.send_command(&json!({ "command": "rotate" }))["kids"]
            .as_array()
            .unwrap()
            .iter()
            .map(text)
            .collect()
    }

    /// Returns the number of requests for its keys and for its metadata.
    pub fn requests(&self) -> (u64, u64) {
        let counts = self.send_command(&json!({ "command": "requests" }));
        (counts["jwks"].as_u64().unwrap(), counts["discovery"].as_u64().unwrap())
    }

    /// Returns the number of requests to its token endpoint.
    pub fn token_requests(&self) -> u64 {
        self.send_command(&json!({ "command": "requests" }))["token"].as_u64().unwrap()
    }

    /// Returns the number of refresh tokens that were revoked at it.
    pub fn revoked_tokens(&self) -> u64 {
        self.send_command(&json!({ "command": "requests" }))["revoked"].as_u64().unwrap()
    }

    /// Makes the provider revoke tokens, or answer 503.
    pub fn set_revocation(&self, revokes: bool) {
        self.send_command(&json!({ "command": "set", "revocation": revokes }));
    }

    /// Makes the provider refuse users, or not.
    pub fn deny(&self, deny: bool) {
        self.send_command(&json!({ "command": "set", "deny": deny }));
    }

    /// Sets the lifetime of access tokens, in seconds, and whether refresh tokens are issued.
    pub fn set_tokens(&self, lifetime: u32, refresh: bool) {
        let behaviour = json!({ "command": "set", "lifetime": lifetime, "refresh": refresh });
        self.send_command(&behaviour);
    }

    /// Sets the clock of the provider, in seconds ahead of the time.
    pub fn set_clock_ahead(&self, seconds: i64) {
        self.send_command(&json!({ "command": "set", "ahead": seconds }));
    }

    /// Returns the body of the request with which the provider ends a session of its user at
    /// [`CLIENT_ID`].
    pub fn logout_body(&self, session: &str) -> String {
        text(&self.send_command(&json!({ "command": "logout", "sid": session }))["body"])
    }

    /// As [`logout_body`](Self::logout_body), of a token without a subject.
    pub fn logout_body_of_session(&self, session: &str) -> String {
        let logout = json!({ "command": "logout", "sid": session, "sub": null });
        text(&self.send_command(&logout)["body"])
    }

    /// Opens a page of the provider as a browser of a user does, follows its redirects, and returns
    /// the one that leaves the provider. Cookies are kept in `cookies`.
    pub fn browse(&self, uri: &str, cookies: &mut HashMap<String, String>) -> String {
        const MAX_PAGES: usize = 10;
        let host = self.issuer.trim_start_matches("http://");
        let mut uri = uri.to_owned();
        for _ in 0..MAX_PAGES {
            let path = match uri.strip_prefix(&self.issuer) {
                Some(path) => path,
                None if uri.starts_with('/') => &*uri,
                None => return uri,
            };
            let lines = cookies.iter().map(|(name, value)| format!("{name}={value}"));
            let cookie = lines.collect::<Vec<_>>().join("; ");
            let mut connection = Connection::open(host.parse().unwrap());
            let request = format!(
                "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nCookie: {cookie}\r\n\r\n"
            );
            connection.send_raw(request.as_bytes());
            let page = connection.receive(false);
            for (_, line) in page.headers.iter().filter(|(name, _)| name == "set-cookie") {
                let (name, value) = line.split(';').next().unwrap().split_once('=').unwrap();
                cookies.insert(name.to_owned(), value.to_owned());
            }
            let location = page.header("location").map(str::to_owned);
            uri = location.unwrap_or_else(|| panic!("not a redirect: {page:?}"));
        }
        panic!("too many redirects, the last to {uri}");
    }

    fn send_command(&self, command: &Value) -> Value {
        let mut pipes = self.pipes.lock().unwrap();
        writeln!(pipes.commands, "{command}").unwrap();
        pipes.read_response()
    }
}

impl Pipes {
    fn read_response(&mut self) -> Value {
        let mut line = String::new();
        self.responses.read_line(&mut line).unwrap();
        serde_json::from_str(&line).expect("the provider has ended, see standard error")
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

impl Drop for OidcProvider {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
