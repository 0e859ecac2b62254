use std::{
    io::{BufReader, Write as _},
    net::TcpListener,
    thread,
};

use countersign_tests::{
    binary::{Output, Sandbox, Server},
    certificates,
    http::Request,
};
use serde_json::json;

use super::{
    ENVIRONMENT,
    real::{CliUser, configuration, set_up},
};
use crate::fixture::{self, SIGNING};

/// Runs the doctor on one transport section, with `own` as the server's configuration or none.
fn doctor(sandbox: &Sandbox, server: &Server<'_>, name: &str, lines: &str, own: &str) -> Output {
    let port = server.address.port();
    sandbox.file("d.cfg", format!("{own}[{name}]\nhost=127.0.0.1\nport={port}\n{lines}\n"));
    sandbox.run(["doctor", "-c", "d.cfg"])
}

#[test]
fn doctor_confirms_working_sections() {
    let sandbox = Sandbox::new();
    set_up(&sandbox);
    let server = sandbox.serve(&configuration());
    let admin = CliUser::log_in(&sandbox, &server, "admin", "correct horse");
    let environment = admin.run("environment add prod").text().to_owned();
    let port = server.address.port();
    // The printed sections are used as configuration, as an operator would do.
    sandbox.file("own.cfg", format!("{}[server]\nbind_port={port}\nauth=true\n", SIGNING));
    let own = std::fs::read_to_string(sandbox.path().join("admin.cfg")).unwrap();
    let printed = |kind: &str| {
        let command = [
            "client-config",
            kind,
            "-e",
            "prod",
            "--expire",
            "600000",
            "-c",
            "own.cfg",
            "-c",
            "admin.cfg",
        ];
        sandbox.run(command).text().to_owned()
    };
    let sections: Vec<_> = ["--agent", "--compiler", "--api"].into_iter().map(printed).collect();
    assert!(sections[0].contains(&format!("port={port}\nssl=false\n")), "{sections:?}");
    sandbox.file("clients.cfg", sections.join("\n"));
    let output = sandbox.run(["doctor", "-c", "own.cfg", "-c", "clients.cfg"]);
    assert_eq!(output.code(), 0, "{output:?}");
    for section in ["agent", "client", "cmdline", "compiler"] {
        assert!(
            output
                .stdout
                .contains(&format!("[{section}_rest_transport] http://localhost:{port}\n")),
            "{output:?}"
        );
    }
    for (text, count) in [
        ("OK     the server answers, without TLS", 4),
        ("OK     the server accepts the token", 4),
        ("OK     the token is valid for [auth_jwt_default]", 4),
        ("OK     the token expires in 6 days", 4),
        ("OK     the token is for client type compiler, api", 1),
        ("OK     the server has the signing key of [auth_jwt_default]", 4),
        ("WRONG", 0),
    ] {
        assert_eq!(output.stdout.matches(text).count(), count, "{text}: {output:?}");
    }
    assert!(
        !format!("{output:?}").contains(own.split("token=").nth(1).unwrap().trim())
            && !environment.is_empty()
    );
}

#[test]
fn doctor_reports_problems_with_remedies() {
    let sandbox = Sandbox::new();
    set_up(&sandbox);
    let server = sandbox.serve(&configuration());
    let token = |claims| format!("token={}", fixture::token(&fixture::claims(claims)));
    let foreign = token(json!({ "iss": "https://other/" }));
    let unregistered = token(json!({ "jti": ENVIRONMENT, "urn:inmanta:ct": "agent" }));
    for (lines, own, texts) in [
        (
            "",
            "",
            &[
                "the server requires a token, but the section has none",
                "help: set token in [agent_rest_transport]",
            ][..],
        ),
        (
            &token(json!({})),
            "",
            &[
                "the token is for client type api, but this section needs agent",
                "countersign client-config",
            ],
        ),
        (
            &token(json!({ "exp": 1_700_000_000, "urn:inmanta:ct": "agent" })),
            SIGNING,
            &["the token expired", "Signature has expired"],
        ),
        (
            &foreign,
            "",
            &[
                "the server refuses the token: Access denied: Unknown issuer for token",
                "token inspect",
            ],
        ),
        (&foreign, SIGNING, &["the issuers configured here refuse the token"]),
        (&unregistered, SIGNING, &["the server refuses the token", "not recognized"]),
        ("token=abc", "", &["the configured token is not a JWT"]),
        ("ssl=true\ntoken=a.b.c", "", &["WRONG", "write ssl = false in [agent_rest_transport]"]),
        ("ssl=true\nssl_ca_cert_file=/nowhere", "", &["cannot read /nowhere"]),
    ] {
        let output = doctor(&sandbox, &server, "agent_rest_transport", lines, own);
        assert!(output.code() == 1 && output.stderr.contains("problem"), "{lines}: {output:?}");
        assert!(texts.iter().all(|text| output.stdout.contains(text)), "{texts:?}: {output:?}");
        let secret = lines.split("token=").nth(1).unwrap_or("-");
        assert!(!output.stdout.contains(secret) || secret.len() < 6, "{output:?}");
    }
    let soon = fixture::token(&fixture::claims(
        json!({ "exp": countersign_server::base::clock::now().0 + 7200 }),
    ));
    let output = doctor(&sandbox, &server, "cmdline_rest_transport", &format!("token={soon}"), "");
    assert!(
        output.code() == 1 && output.stdout.contains("WRONG  the token expires in"),
        "{output:?}"
    );
    sandbox.file("d.cfg", "[compiler_rest_transport]\nhost=127.0.0.1\nport=1\n");
    let absent = sandbox.run(["doctor", "-c", "d.cfg"]);
    assert!(
        absent.code() == 1 && absent.stdout.contains("no server listens at 127.0.0.1:1"),
        "{absent:?}"
    );
    assert!(absent.stderr.contains("1 problem found"), "{absent:?}");
}

#[test]
fn doctor_detects_another_signing_key() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration());
    let token = fixture::token(&fixture::claims(json!({ "urn:inmanta:ct": "agent" })));
    let other =
        configuration().replace(fixture::KEY, "eciwliGyqECVmXtIkNpfVrtBLutZiITZKSKYhogeHMM");
    let output =
        doctor(&sandbox, &server, "agent_rest_transport", &format!("token={token}"), &other);
    let text = "WRONG  the server does not accept the signing key of [auth_jwt_default]: Access denied: Signature verification failed";
    assert!(output.code() == 1 && output.stdout.contains(text), "{output:?}");
    assert!(
        output
            .stdout
            .contains("help: use the same auth_jwt_* sections on all servers of one database"),
        "{output:?}"
    );
    let same = doctor(
        &sandbox,
        &server,
        "agent_rest_transport",
        &format!("token={token}"),
        &configuration(),
    );
    assert!(
        same.code() == 0 && same.stdout.contains("OK     the server has the signing key"),
        "{same:?}"
    );
}

#[test]
fn doctor_accepts_a_server_without_authentication() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&format!("{SIGNING}[server]\nauth=false\n"));
    let output = doctor(&sandbox, &server, "agent_rest_transport", "", "");
    assert!(
        output.code() == 0 && output.stdout.contains("OK     the server does not require a token"),
        "{output:?}"
    );
    // The default is the server of the configuration.
    let without = sandbox.run(["doctor"]);
    assert!(without.stdout.starts_with("[server] http://127.0.0.1:8888\n"), "{without:?}");
}

#[test]
fn doctor_checks_the_server_certificate() {
    let sandbox = Sandbox::new();
    certificates::ours().1.write(sandbox.path());
    let authority = sandbox.file("ca.crt", certificates::ours().0.pem());
    let server =
        sandbox.serve(&format!("[server]\nssl_cert_file=tls.crt\nssl_key_file=tls.key\n{SIGNING}"));
    let check = |lines: &str| doctor(&sandbox, &server, "agent_rest_transport", lines, "");
    let good = check(&format!("ssl=true\nssl_ca_cert_file={}", authority.display()));
    assert!(
        good.stdout.contains("OK     the server answers, and its certificate is trusted"),
        "{good:?}"
    );
    let unknown = check("ssl=true");
    assert!(
        unknown.code() == 1 && unknown.stdout.contains("help: set ssl_ca_cert_file"),
        "{unknown:?}"
    );
    let plain = check("ssl=false");
    assert!(
        plain.code() == 1
            && plain.stdout.contains("help: if the server uses TLS, write ssl = true"),
        "{plain:?}"
    );
}

/// Starts a server that refuses every token like Inmanta's, with this text. Returns its port.
fn refusing_server(text: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let request = Request::read(&mut BufReader::new(&stream)).unwrap().unwrap();
            let (status, body) = match request.header("authorization") {
                Some(_) => (403, json!({ "message": text })),
                None if request.target.ends_with("/health") => (200, json!({ "data": null })),
                None => (401, json!({ "message": "Access to this resource is unauthorized" })),
            };
            let body = body.to_string();
            let length = body.len();
            let head = format!("HTTP/1.1 {status} x\r\nContent-Length: {length}\r\n\r\n{body}");
            stream.write_all(head.as_bytes()).unwrap();
        }
    });
    port
}

#[test]
fn doctor_reads_the_reason_of_a_refusal_on_health() {
    let sandbox = Sandbox::new();
    let token = fixture::token(&fixture::claims(json!({ "urn:inmanta:ct": "agent" })));
    let check = |text| {
        let port = refusing_server(text);
        let transport =
            format!("[agent_rest_transport]\nhost=127.0.0.1\nport={port}\ntoken={token}\n");
        sandbox.file("d.cfg", format!("{}{transport}", configuration()));
        sandbox.run(["doctor", "-c", "d.cfg"])
    };
    for text in [
        "Access denied: The authorization token does not have a valid client type for this call. \
         (['agent'] provided, ['api'] expected)",
        "Access denied: The authorization token is scoped to a specific environment.",
        "Access denied: The authorization token is not valid for the requested environment.",
    ] {
        let accepted = check(text);
        assert!(
            accepted.code() == 0
                && accepted.stdout.contains("OK     the server accepts the token")
                && accepted.stdout.contains("OK     the server has the signing key"),
            "{accepted:?}"
        );
    }
    let refused = check("Access denied: Signature verification failed");
    assert!(
        refused.code() == 1
            && refused.stdout.contains("WRONG  the server refuses the token: Access denied")
            && refused.stdout.contains("WRONG  the server does not accept the signing key"),
        "{refused:?}"
    );
}
