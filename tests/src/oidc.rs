//! A certified OpenID provider that nobody here wrote: `oidc-provider` from npm,
//! driven through `tests/oidc/provider.mjs`.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Mutex,
};

use serde_json::{Value, json};

/// What its access tokens are for.
pub const AUDIENCE: &str = "https://service.example/";

/// A running provider with one key for RS256 and one for ES256; ended when it is
/// dropped.
pub struct OidcProvider {
    child: Child,
    /// A command and its answer belong together.
    pipes: Mutex<Pipes>,
    issuer: String,
}

struct Pipes {
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl OidcProvider {
    /// Starts one on a port of its own and waits until it listens.
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
        let (commands, answers) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut pipes = Pipes { commands, answers: BufReader::new(answers) };
        let issuer = text(&pipes.answer()["issuer"]);
        Self { child, pipes: Mutex::new(pipes), issuer }
    }

    /// Its name in `iss`, a URL without a slash at its end.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Where its metadata are (OpenID Connect Discovery 1.0 section 4).
    pub fn discovery_uri(&self) -> String {
        format!("{}/.well-known/openid-configuration", self.issuer)
    }

    /// Where its keys are; its metadata say the same.
    pub fn jwks_uri(&self) -> String {
        format!("{}/jwks", self.issuer)
    }

    /// An access token (RFC 9068) for [`AUDIENCE`], from its token endpoint.
    pub fn token(&self, algorithm: &str) -> String {
        text(&self.ask(&json!({ "command": "token", "alg": algorithm }))["token"])
    }

    /// Replaces both keys. Returns the `kid`s of the new ones.
    pub fn rotate(&self) -> Vec<String> {
        self.ask(&json!({ "command": "rotate" }))["kids"]
            .as_array()
            .unwrap()
            .iter()
            .map(text)
            .collect()
    }

    /// How many requests for its keys and for its metadata it has seen.
    pub fn requests(&self) -> (u64, u64) {
        let counts = self.ask(&json!({ "command": "requests" }));
        (counts["jwks"].as_u64().unwrap(), counts["discovery"].as_u64().unwrap())
    }

    fn ask(&self, command: &Value) -> Value {
        let mut pipes = self.pipes.lock().unwrap();
        writeln!(pipes.commands, "{command}").unwrap();
        pipes.answer()
    }
}

impl Pipes {
    fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        serde_json::from_str(&line).expect("the provider has ended; standard error says why")
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
