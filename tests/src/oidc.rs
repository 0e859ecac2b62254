//! An independent, certified OpenID provider: `oidc-provider` from npm, driven through
//! `tests/oidc/provider.mjs`.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Mutex,
};

use serde_json::{Value, json};

/// Audience of the access tokens of an [`OidcProvider`].
pub const AUDIENCE: &str = "https://service.example/";

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
