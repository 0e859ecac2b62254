/// The address of the server, and the trust in its certificate.
mod address;
/// `countersign client-config`.
mod client_config;
/// `countersign doctor`.
mod doctor;
/// `countersign identity`.
mod identity;
/// The commands against a real server.
mod real;
/// `countersign doctor` and servers that share a database.
mod servers;
/// `countersign login` and `logout`, and the sources of the token.
mod sessions;
/// `countersign setup`.
mod setup;

use countersign_tests::{
    binary::{Output, Sandbox},
    http::Request,
    providers::{CannedResponse, JwksServer, TlsProvider},
};
use serde_json::{Value, json};

const ENVIRONMENT: &str = "11111111-1111-1111-1111-111111111111";
const TRANSPORT: &str = "[cmdline_rest_transport]\ntoken=a.b.c\n";

/// Runs a command against a server; `command` is split at blanks.
fn run(server: &JwksServer, command: &str, input: &str) -> Output {
    let sandbox = Sandbox::new();
    sandbox.file("c.cfg", TRANSPORT);
    let port = server.port().to_string();
    let words = command.split(' ').chain(["-c", "c.cfg", "--host", "127.0.0.1", "--port", &port]);
    sandbox.run_with_input(words, input)
}

/// Runs a command against a server with a fixed answer, and returns the requests it sent.
#[track_caller]
fn run_with_answer(command: &str, input: &str, answer: &Value) -> (Output, Vec<Request>) {
    let server = JwksServer::start(&json!({ "data": answer }).to_string());
    let output = run(&server, command, input);
    assert_eq!(output.code(), 0, "{command}: {output:?}");
    (output, server.received())
}

/// Returns method and target, and the body of a request.
fn summary(request: &Request) -> (String, Value) {
    let body = if request.body.is_empty() {
        Value::Null
    } else {
        serde_json::from_str(&request.body).unwrap()
    };
    (format!("{} {}", request.method, request.target), body)
}

#[test]
fn commands_make_the_real_api_calls() {
    let assignment = json!({ "environment": ENVIRONMENT, "role": "operator" });
    for (command, calls) in [
        ("user list", vec![("GET /api/v2/user", Value::Null)]),
        ("user delete a/b", vec![("DELETE /api/v2/user/a%2Fb", Value::Null)]),
        (
            "user admin bob",
            vec![("PATCH /api/v2/is_admin", json!({ "username": "bob", "is_admin": true }))],
        ),
        (
            "user admin bob --revoke",
            vec![("PATCH /api/v2/is_admin", json!({ "username": "bob", "is_admin": false }))],
        ),
        ("role list", vec![("GET /api/v2/role", Value::Null)]),
        ("role add operator", vec![("POST /api/v2/role", json!({ "name": "operator" }))]),
        ("role delete a&b", vec![("DELETE /api/v2/role?name=a%26b", Value::Null)]),
        (
            "role assign bob operator -e 11111111-1111-1111-1111-111111111111",
            vec![("POST /api/v2/role_assignment/bob", assignment)],
        ),
        (
            "role unassign bob operator -e 11111111-1111-1111-1111-111111111111",
            vec![(
                "DELETE /api/v2/role_assignment/bob?environment=11111111-1111-1111-1111-111111111111&role=operator",
                Value::Null,
            )],
        ),
        ("project list", vec![("GET /api/v2/project", Value::Null)]),
        (
            "project add lab --id x",
            vec![("PUT /api/v2/project", json!({ "name": "lab", "project_id": "x" }))],
        ),
        (
            "project delete 11111111-1111-1111-1111-111111111111",
            vec![("DELETE /api/v2/project/11111111-1111-1111-1111-111111111111", Value::Null)],
        ),
        ("environment list", vec![("GET /api/v2/environment", Value::Null)]),
        (
            "environment add prod --project 11111111-1111-1111-1111-111111111111 --id x",
            vec![(
                "PUT /api/v2/environment",
                json!({ "name": "prod", "project_id": ENVIRONMENT, "environment_id": "x" }),
            )],
        ),
        (
            "environment add prod",
            vec![
                ("GET /api/v2/project", Value::Null),
                ("PUT /api/v2/project", json!({ "name": "default" })),
                ("PUT /api/v2/environment", json!({ "name": "prod", "project_id": "" })),
            ],
        ),
        (
            "environment delete 11111111-1111-1111-1111-111111111111",
            vec![("DELETE /api/v2/environment/11111111-1111-1111-1111-111111111111", Value::Null)],
        ),
    ] {
        let (_, requests) = run_with_answer(command, "", &Value::Null);
        let expected: Vec<_> =
            calls.into_iter().map(|(call, body)| (call.to_owned(), body)).collect();
        assert_eq!(requests.iter().map(summary).collect::<Vec<_>>(), expected, "{command}");
        assert!(
            requests.iter().all(|request| request.header("authorization") == Some("Bearer a.b.c")),
            "{command}"
        );
    }
}

#[test]
fn token_create_defaults_to_the_api_client_type() {
    for (options, body) in [
        ("", json!({ "client_types": ["api"], "idempotent": false })),
        (
            " --agent --compiler --expire 60",
            json!({ "client_types": ["compiler", "agent"], "idempotent": false, "expire": 60 }),
        ),
        (" --api --idempotent", json!({ "client_types": ["api"], "idempotent": true })),
    ] {
        let (output, requests) = run_with_answer(
            &format!("token create -e {ENVIRONMENT}{options}"),
            "",
            &json!("t.o.k"),
        );
        assert_eq!(output.stdout, "t.o.k\n");
        assert_eq!(summary(&requests[0]), ("POST /api/v2/environment_auth".into(), body));
        assert_eq!(requests[0].header("x-inmanta-tid"), Some(ENVIRONMENT));
    }
    let (_, requests) =
        run_with_answer(&format!("token delete -e {ENVIRONMENT} some-id"), "", &Value::Null);
    assert_eq!(summary(&requests[0]).0, "DELETE /api/v2/environment_auth/some-id");
    assert_eq!(requests[0].header("x-inmanta-tid"), Some(ENVIRONMENT));
}

#[test]
fn environment_can_be_given_by_name() {
    let server = JwksServer::start(&json!({ "data": "t.o.k" }).to_string());
    let all = json!([{ "id": ENVIRONMENT, "name": "prod" }, { "id": "2", "name": "twice" }, { "id": "3", "name": "twice" }]);
    server.respond_at(
        "/api/v2/environment",
        CannedResponse::json(&json!({ "data": all }).to_string()),
    );
    assert_eq!(run(&server, "token create --environment prod", "").text(), "t.o.k");
    assert_eq!(server.header_values("x-inmanta-tid"), [None, Some(ENVIRONMENT.into())]);
    for (name, text) in [
        ("dev", "no environment is named \"dev\""),
        ("twice", "more than one environment is named"),
    ] {
        let refused = run(&server, &format!("token create --environment {name}"), "");
        assert!(refused.code() == 1 && refused.stderr.contains(text), "{refused:?}");
    }
}

#[test]
fn passwords_are_read_from_stdin_and_not_shown() {
    let password = "correct horse \u{e9} ";
    let (output, requests) = run_with_answer(
        "user add bob --admin",
        &format!("{password}\r\nmore\n"),
        &json!({ "username": "bob" }),
    );
    let calls: Vec<_> = requests.iter().map(summary).collect();
    assert_eq!(
        calls[0],
        ("POST /api/v2/user".into(), json!({ "username": "bob", "password": password }))
    );
    assert_eq!(calls[1].1, json!({ "username": "bob", "is_admin": true }));
    assert!(!format!("{output:?}").contains("correct"), "{output:?}");
    // Changing one's own password requires the current one.
    let own = json!({ "username": "bob" });
    let (_, requests) = run_with_answer("user password bob", "the old one\nthe new one\n", &own);
    let body = json!({ "current_password": "the old one", "password": "the new one" });
    assert_eq!(summary(&requests[1]), ("PATCH /api/v2/user/bob/password".into(), body));
    let (_, requests) =
        run_with_answer("user password alice --password-stdin", "the new one", &own);
    assert_eq!(
        summary(&requests[1]),
        ("PATCH /api/v2/user/alice/password".into(), json!({ "password": "the new one" }))
    );
    // The token belongs to no user.
    let server = JwksServer::start("{}");
    server.respond_at("/api/v2/current_user", CannedResponse::status("404 Not Found"));
    assert_eq!(run(&server, "user password bob", "the new one\n").code(), 0);
    let none = run(&server, "user add bob", "");
    assert!(none.code() == 1 && none.stderr.contains("the password is empty"), "{none:?}");
    let argument = run(&server, "user add bob secret", "");
    assert_eq!(argument.code(), 2, "a password must not be an argument");
}

#[test]
fn login_sends_the_password_without_a_token() {
    let session = json!({ "token": "s.e.s", "user": { "username": "bob" }, "expires_in": 3600 });
    let (output, requests) = run_with_answer("login bob", "secret\n", &session);
    assert_eq!(output.stdout, "s.e.s\n");
    assert_eq!(
        summary(&requests[0]),
        ("POST /api/v2/login".into(), json!({ "username": "bob", "password": "secret" }))
    );
    assert_eq!(requests[0].header("authorization"), None);
}

#[test]
fn lists_are_printed_as_tables_or_json() {
    let users = json!([
        { "username": "alice", "auth_method": "database", "is_admin": true, "roles": {} },
        { "username": "bob\u{1b}[2J", "auth_method": "oidc", "is_admin": false, "roles": { ENVIRONMENT: ["noc", "operator"] } },
    ]);
    let (output, _) = run_with_answer("user list", "", &users);
    let lines: Vec<_> = output.stdout.lines().collect();
    assert_eq!(
        lines,
        [
            "USER          ADMIN  METHOD    ROLES",
            "alice         yes    database  -",
            "bob\\u{1b}[2J  no     oidc      11111111-1111-1111-1111-111111111111: noc,operator",
        ]
    );
    assert_eq!(run_with_answer("user list --json", "", &users).0.json_lines(), [users]);
    assert_eq!(
        run_with_answer("role list", "", &json!(["noc", "operator"])).0.stdout,
        "noc\noperator\n"
    );
    assert_eq!(
        run_with_answer("role list --json", "", &json!(["noc"])).0.json_lines(),
        [json!(["noc"])]
    );
    let environments = json!([{ "id": ENVIRONMENT, "name": "prod", "project_id": null }]);
    let (output, _) = run_with_answer("environment list", "", &environments);
    assert_eq!(output.stdout.lines().nth(1), Some("11111111-1111-1111-1111-111111111111  prod  -"));
    assert_eq!(run_with_answer("environment add prod", "", &environments[0]).0.text(), ENVIRONMENT);
    let tokens = json!([{ "jti": "j1", "client_types": ["api", "agent"], "created_by": null, "issued_at": "2026-01-01" }]);
    let (output, _) = run_with_answer(&format!("token list -e {ENVIRONMENT}"), "", &tokens);
    assert_eq!(
        output.stdout.lines().nth(1),
        Some("j1  api,agent  -   2026-01-01  -        -        -")
    );
}

#[test]
fn server_errors_are_printed_with_a_remedy() {
    let message = |text: &str| json!({ "message": text }).to_string();
    let answer = |status: &str, body: &str| {
        CannedResponse::raw(format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    };
    for (answer, texts) in [
        (
            answer("409 Conflict", &message("A user with name X already exists.")),
            &["error: A user with name X already exists."][..],
        ),
        (
            answer("403 Forbidden", &message("Access denied: no")),
            &["Access denied: no", "the token in [cmdline_rest_transport]"],
        ),
        (answer("400 Bad Request", &message("\u{1b}]0;evil")), &["error: \\u{1b}]0;evil"]),
        (answer("500 Oops", "<html>"), &["the server answered 500"]),
        (
            answer("200 OK", "<html>"),
            &["is not an Inmanta server", "check host and port in [cmdline_rest_transport]"],
        ),
        (answer("404 Not Found", ""), &["404 Not Found", "--host and --port"]),
        (CannedResponse::close(), &["no response from", "ssl = true in [cmdline_rest_transport]"]),
        // The token must not be sent to another server.
        (CannedResponse::redirect("http://127.0.0.1:1/"), &["the server answered 302 Found"]),
    ] {
        let server = JwksServer::start_with(answer);
        let refused = run(&server, "user list", "");
        assert_eq!((refused.code(), &*refused.stdout), (1, ""), "{refused:?}");
        assert!(texts.iter().all(|text| refused.stderr.contains(text)), "{texts:?}: {refused:?}");
        assert!(!refused.stderr.contains("a.b.c"), "the token is shown: {refused:?}");
    }
}

#[test]
fn unreachable_server_names_the_section_to_check() {
    let sandbox = Sandbox::new();
    let refused = sandbox.run(["user", "list", "--host", "127.0.0.1", "--port", "1"]);
    let texts =
        ["no server listens at 127.0.0.1:1", "[cmdline_rest_transport], or --host and --port"];
    assert!(
        refused.code() == 1 && texts.iter().all(|text| refused.stderr.contains(text)),
        "{refused:?}"
    );
    assert!(!sandbox.path().join(".local").exists(), "a client command must not create a key");
    let nowhere = sandbox.run(["user", "list", "--host", "no-such-host.invalid"]);
    assert!(nowhere.code() == 1 && nowhere.stderr.contains("no-such-host.invalid"), "{nowhere:?}");
    let odd = sandbox.run(["user", "list", "--host", "https://localhost"]);
    assert!(odd.code() == 2 && odd.stderr.contains("without scheme, port and path"), "{odd:?}");
    let silent = JwksServer::start_with(CannedResponse::hang());
    let config = format!(
        "[cmdline_rest_transport]\nport={}\nhost=127.0.0.1\nrequest_timeout=1\n",
        silent.port()
    );
    sandbox.file("c.cfg", config);
    let late = sandbox.run(["user", "list", "-c", "c.cfg"]);
    assert!(
        late.code() == 1 && late.stderr.contains("request_timeout in [cmdline_rest_transport]"),
        "{late:?}"
    );
}

#[test]
fn environment_overrides_the_transport_section() {
    let server = JwksServer::start("{\"data\":[]}");
    let port = server.port().to_string();
    let sandbox = Sandbox::new()
        .variable("INMANTA_CMDLINE_REST_TRANSPORT_PORT", &port)
        .variable("INMANTA_CMDLINE_REST_TRANSPORT_HOST", "127.0.0.1")
        .variable("INMANTA_CMDLINE_REST_TRANSPORT_TOKEN", " t.o.k ")
        .variable("HTTP_PROXY", "http://127.0.0.1:1/");
    assert_eq!(sandbox.run(["user", "list", "--json"]).text(), "[]", "HTTP_PROXY must be ignored");
    assert_eq!(server.header_values("authorization"), [Some("Bearer t.o.k".into())]);
}

#[test]
fn server_is_trusted_only_by_its_ca_file() {
    let (sandbox, server) = (Sandbox::new(), TlsProvider::start());
    let uri = server.serve("x", &json!({}));
    let port = uri.split(':').nth(2).unwrap().split('/').next().unwrap();
    let list = |options: &str| {
        sandbox.file("c.cfg", format!("[cmdline_rest_transport]\nport={port}\n{options}"));
        sandbox.run(["user", "list", "-c", "c.cfg"])
    };
    let trusting = format!("ssl=true\nssl_ca_cert_file={}\n", server.authority().display());
    for (options, text) in [
        ("ssl=true\n", "set ssl_ca_cert_file in [cmdline_rest_transport] to its CA certificate"),
        ("ssl=true\nssl_ca_cert_file=/nowhere\n", "cannot read /nowhere"),
        ("ssl=false\n", "write ssl = true in [cmdline_rest_transport]"),
        // The provider only serves files, but TLS succeeded.
        (&trusting, "is not an Inmanta server"),
    ] {
        let refused = list(options);
        assert!(refused.code() == 1 && refused.stderr.contains(text), "{options}: {refused:?}");
    }
    let plain = JwksServer::start("{}");
    sandbox.file("c.cfg", format!("[cmdline_rest_transport]\nport={}\nssl=true\n", plain.port()));
    let refused = sandbox.run(["user", "list", "-c", "c.cfg"]);
    assert!(
        refused.code() == 1
            && refused.stderr.contains("write ssl = false in [cmdline_rest_transport]"),
        "{refused:?}"
    );
}

#[test]
fn transport_mistakes_are_reported_with_a_line() {
    let sandbox = Sandbox::new();
    let check = |text: &str| {
        sandbox.file("c.cfg", text);
        sandbox.run(["config", "check", "-c", "c.cfg"])
    };
    for (text, message) in [
        (
            "[agent_rest_transport]\nhost=https://server\n",
            "c.cfg:2: host \"https://server\" in agent_rest_transport is not a host",
        ),
        (
            "[client_rest_transport]\nport=0\n",
            "port in client_rest_transport must be a number from 1 to 65535",
        ),
        (
            "[compiler_rest_transport]\nmax_clients=0\n",
            "max_clients in compiler_rest_transport must be a number from 1",
        ),
        (
            "[cmdline_rest_transport]\ntoken=my secret\n",
            "token in cmdline_rest_transport has characters that a header cannot contain",
        ),
        ("[server]\nserver_address=a b\n", "server_address \"a b\" in server is not a host"),
    ] {
        let refused = check(text);
        assert!(refused.code() == 2 && refused.stderr.contains(message), "{refused:?}");
        assert!(!refused.stderr.contains("my secret"), "{refused:?}");
    }
    let warned = check(
        "[agent_rest_transport]\nhost=far.example\ntoken=secret.to.ken\nssl_ca_cert_file=ca.crt\n",
    );
    assert!(
        warned
            .stderr
            .contains("the token in agent_rest_transport is sent to far.example without TLS"),
        "{warned:?}"
    );
    assert!(
        warned.stderr.contains("ssl_ca_cert_file in agent_rest_transport is ignored without ssl"),
        "{warned:?}"
    );
    assert!(
        warned
            .stdout
            .contains("[agent_rest_transport] connects to http://far.example:8888 with a token"),
        "{warned:?}"
    );
    assert!(!format!("{warned:?}").contains("secret.to.ken"), "{warned:?}");
    let near = check("[cmdline_rest_transport]\nhost=::1\ntoken=secret.to.ken\n");
    assert!(
        near.stderr.is_empty()
            && near.stdout.contains("connects to http://[::1]:8888 with a token"),
        "{near:?}"
    );
}
