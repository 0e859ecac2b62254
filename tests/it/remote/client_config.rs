use countersign_tests::{
    binary::{Output, Sandbox},
    certificates,
    providers::{CannedResponse, JwksServer},
};
use serde_json::json;

use super::ENVIRONMENT;
use crate::fixture::SIGNING;

/// Writes a server's configuration with TLS.
fn server_configuration(sandbox: &Sandbox) {
    certificates::ours().1.write(sandbox.path());
    let text = "[server]\nbind_port=8443\nssl_cert_file=tls.crt\nssl_key_file=tls.key\nssl_ca_cert_file=/etc/inmanta/server.chain\n\
                internal_server_address=inside.example\nserver_address=outside.example\n";
    sandbox.file("c.cfg", format!("{SIGNING}{text}"));
}

fn run(sandbox: &Sandbox, options: &str) -> Output {
    sandbox.run(["client-config", "-c", "c.cfg"].into_iter().chain(options.split(' ')))
}

/// Returns the value of an option that is printed once.
fn value<'o>(output: &'o Output, option: &str) -> &'o str {
    let line = output.text().lines().find_map(|line| line.strip_prefix(option)?.strip_prefix('='));
    line.unwrap_or_else(|| panic!("{option}: {output:?}"))
}

#[test]
fn local_section_is_complete_and_verifies() {
    let sandbox = Sandbox::new();
    server_configuration(&sandbox);
    for (options, section, host, types) in [
        ("--agent", "agent_rest_transport", "inside.example", json!(["agent"])),
        ("--compiler", "compiler_rest_transport", "inside.example", json!(["compiler", "api"])),
        ("--agent --remote", "agent_rest_transport", "outside.example", json!(["agent"])),
        ("--api --remote", "cmdline_rest_transport", "outside.example", json!(["api"])),
    ] {
        let output = run(&sandbox, &format!("{options} --local --expire 600 -e {ENVIRONMENT}"));
        let start = format!(
            "[{section}]\nhost={host}\nport=8443\nssl=true\nssl_ca_cert_file=/etc/inmanta/server.chain\ntoken="
        );
        assert!(output.text().starts_with(&start), "{output:?}");
        let verified = sandbox.run_with_input(
            ["token", "verify", "--surface", "inmanta", "-c", "c.cfg"],
            value(&output, "token"),
        );
        let claims = &verified.json_lines()[0]["claims"];
        assert_eq!(
            (&claims["urn:inmanta:ct"], &claims["urn:inmanta:env"]),
            (&types, &json!(ENVIRONMENT)),
            "{options}"
        );
        // The output is a valid configuration file.
        sandbox.file("client.cfg", output.text());
        let check = sandbox.run(["config", "check", "-c", "client.cfg"]);
        assert_eq!((check.code(), &*check.stderr), (0, ""));
        assert!(
            check
                .stdout
                .contains(&format!("[{section}] connects to https://{host}:8443 with a token")),
            "{check:?}"
        );
    }
    let named = run(&sandbox, "--agent --local -e prod");
    assert!(named.code() == 1 && named.stderr.contains("\"prod\" is not an id"), "{named:?}");
    assert_eq!(run(&sandbox, "--local").code(), 2, "the kind of client is required");
    assert_eq!(run(&sandbox, "--agent --api --local").code(), 2);
    assert_eq!(run(&sandbox, "--agent").code(), 2, "a token of the server needs an environment");
}

#[test]
fn section_without_tls_names_no_ca_file() {
    let sandbox = Sandbox::new();
    sandbox
        .file("c.cfg", format!("{SIGNING}[server]\nssl_ca_cert_file=/etc/inmanta/server.chain\n"));
    let output = run(&sandbox, "--agent --local");
    assert!(
        output
            .text()
            .starts_with("[agent_rest_transport]\nhost=localhost\nport=8888\nssl=false\ntoken="),
        "{output:?}"
    );
}

#[test]
fn token_is_issued_by_the_server_by_default() {
    let (sandbox, server) =
        (Sandbox::new(), JwksServer::start(&json!({ "data": "t.o.k" }).to_string()));
    let environments = json!({ "data": [{ "id": ENVIRONMENT, "name": "prod" }] });
    server.respond_at("/api/v2/environment", CannedResponse::json(&environments.to_string()));
    let text =
        format!("[cmdline_rest_transport]\nhost=127.0.0.1\nport={}\ntoken=a.b.c\n", server.port());
    sandbox.file("c.cfg", format!("{SIGNING}{text}"));
    let output = run(&sandbox, "--api -e prod --expire 60");
    let expected = [
        "[cmdline_rest_transport]",
        "host=localhost",
        "port=8888",
        "ssl=false",
        "token=t.o.k",
        "",
        "[client_rest_transport]",
    ];
    assert_eq!(output.text().lines().take(7).collect::<Vec<_>>(), expected);
    let request = &server.received()[1];
    assert_eq!(
        (&*request.target, request.header("x-inmanta-tid")),
        ("/api/v2/environment_auth", Some(ENVIRONMENT))
    );
    let body: serde_json::Value = serde_json::from_str(&request.body).unwrap();
    assert_eq!(body, json!({ "client_types": ["api"], "idempotent": false, "expire": 60 }));
}
