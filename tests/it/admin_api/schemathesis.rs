//! Schemathesis, an independent tester of APIs, makes requests from the OpenAPI document: valid
//! ones, ones with mistakes, and sequences. It checks each answer against the document.

use std::{path::Path, process::Command};

use countersign_tests::binary::{Sandbox, Server};

use super::AdminApi;
use crate::users::{Api, ENVIRONMENT, configuration, session_of};

/// Checks of Schemathesis that do not hold: a cursor, or the issuer of a revocation, can match its
/// schema and still be one that the server does not know.
const EXCLUDED: &str = "positive_data_acceptance";
/// Maximum number of requests per operation and phase, besides those for each detail of its schema.
const MAX_EXAMPLES: &str = "6";
/// Statuses of requests with a mistake. A text that is too long can make the body too long (413),
/// which the server sees first; Schemathesis does not expect that.
const STATUSES_OF_MISTAKES: [&str; 13] =
    ["400", "401", "403", "404", "405", "406", "409", "413", "415", "422", "428", "429", "5xx"];

#[test]
fn requests_of_an_administrator_answer_as_documented() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration("[identities]\nenabled=true\n"));
    let root = Api::root(&server);
    root.add_environment(ENVIRONMENT);
    root.add_user("bob");
    let bearer = format!("Authorization: Bearer {}", session_of("root", true));
    test(&sandbox, &server, &["--phases=coverage,fuzzing,stateful", "--header", &bearer]);
    assert_eq!(server.request("GET /readyz HTTP/1.1\r\n").status, 200);
}

#[test]
fn requests_without_a_token_answer_as_documented() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration("[identities]\nenabled=true\n"));
    Api::root(&server).add_environment(ENVIRONMENT);
    test(&sandbox, &server, &["--phases=coverage,fuzzing"]);
}

/// Runs Schemathesis in a sandbox, and checks that it finds nothing.
fn test(sandbox: &Sandbox, server: &Server<'_>, arguments: &[&str]) {
    let parameters = format!(
        "[parameters]\n\"path.environment\" = \"{ENVIRONMENT}\"\n\"path.username\" = [\"bob\", \
         \"eve\"]\n\"path.section\" = \"auth_jwt_default\"\n\n[checks.negative_data_rejection]\n\
         expected-statuses = {STATUSES_OF_MISTAKES:?}\n"
    );
    sandbox.file("schemathesis.toml", parameters);
    // From the server itself, Schemathesis would leave out the operation that answers with it.
    let document = AdminApi::root(server).get("/openapi.json");
    let file = sandbox.file("openapi.json", document.to_string());
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/.venv/bin/schemathesis");
    let mut schemathesis = Command::new(program);
    schemathesis
        .arg("run")
        .arg(file)
        .arg(format!("--url=http://{}", server.address))
        .args(["--checks=all", "--exclude-checks", EXCLUDED, "--max-examples", MAX_EXAMPLES])
        // Two threads that parse Python code at once fail in Python 3.11 now and then ("AST
        // constructor recursion depth mismatch", python/cpython#106905).
        .args(["--generation-deterministic", "--continue-on-failure", "--workers=1"])
        .args(["--request-timeout=30", "--no-color", "--warnings=off"])
        .args(arguments)
        .current_dir(sandbox.path())
        .env("HOME", sandbox.path())
        .env("NO_PROXY", "127.0.0.1");
    let output = schemathesis.output();
    let output = output.unwrap_or_else(|error| panic!("{error}: tests/run installs what it needs"));
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{report}{}", String::from_utf8_lossy(&output.stderr));
    let paths = document["paths"].as_object().unwrap().values();
    let operations: usize = paths.map(|item| item.as_object().unwrap().len()).sum();
    assert!(report.contains(&format!("Tested: {operations}\n")), "{report}");
}
