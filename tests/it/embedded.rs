use std::{os::unix::fs::PermissionsExt as _, process::Command};

use countersign_tests::{binary::Sandbox, default_ports::DefaultPorts, http::request};

#[test]
fn embedded_default_prints_a_working_curl_command() {
    let _ports = DefaultPorts::reserve();
    let sandbox = Sandbox::new();
    let server = sandbox.start::<&str>([]);
    assert_eq!(
        (server.address.to_string(), server.metrics.to_string()),
        ("127.0.0.1:8888".into(), "127.0.0.1:8082".into())
    );
    server.wait_until_ready();
    let address = server.address;

    let state = sandbox.path().join(".local/state/countersign");
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&state), mode(&state.join("countersign.cfg"))), (0o700, 0o600));

    // The command line signs with the running server's key.
    let token = sandbox.run(["token", "sign", "--client-type", "agent"]);
    assert_eq!(server.auth(token.text()).header("x-auth-client-types"), Some("agent"));
    let jwks = request(address, "GET /.well-known/jwks.json HTTP/1.1\r\n", b"");
    assert_eq!(
        (jwks.status, jwks.body.as_str()),
        (200, "{\"keys\":[]}"),
        "a shared secret is never published"
    );

    // The test harness cannot read the pipe while it runs the command. The server is therefore
    // started a second time, after its complete output was read.
    let log = server.log();
    let (status, printed) = server.stop("TERM");
    assert!(status.success());
    let curl = printed.iter().find(|line| line.starts_with("curl ")).unwrap();
    let bootstrap = printed.iter().find(|line| line.starts_with("eyJ")).unwrap();
    let password = printed_password(&printed).expect("the first start prints the password");
    assert!(
        curl.contains(bootstrap.as_str()) && !log.contains(bootstrap.as_str()),
        "a token belongs on the screen, not in the log"
    );

    let server = sandbox.start::<&str>([]);
    server.wait_until_ready();
    let output = Command::new("sh").args(["-c", curl]).output().unwrap();
    let answer = String::from_utf8_lossy(&output.stdout);
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "the key survives a restart: {answer}");
    assert!(answer.contains("x-auth-client-types: api,compiler,agent"), "{answer}");

    let credentials = format!("{{\"username\":\"admin\",\"password\":\"{password}\"}}");
    let session =
        request(server.address, "POST /api/v2/login HTTP/1.1\r\n", credentials.as_bytes());
    assert_eq!(
        (session.status, &session.json()["data"]["user"]["is_admin"]),
        (200, &serde_json::json!(true))
    );
    assert!(!log.contains(password) && !server.log().contains(password));

    // A second server cannot bind the same port and names the option to change.
    let second = sandbox.run(["serve"]);
    assert_eq!(second.code(), 1);
    assert!(
        second.stderr.contains("cannot listen on 127.0.0.1:8888")
            && second.stderr.contains("bind_port"),
        "{}",
        second.stderr
    );
    assert_eq!(printed_password(&server.stop("TERM").1), None);
}

/// Returns the first user's password, if it was printed.
fn printed_password(printed: &[String]) -> Option<&str> {
    printed.iter().find_map(|line| line.split_once("user admin, password ")?.1.split(' ').next())
}

#[test]
fn state_dir_option_is_used() {
    let sandbox = Sandbox::new();
    let directory = sandbox.path().join("elsewhere");
    let sign = [
        "token",
        "sign",
        "--client-type",
        "api",
        "--idempotent",
        "--state-dir",
        directory.to_str().unwrap(),
    ];
    let (one, other) = (sandbox.run(sign), sandbox.run(sign));
    assert_eq!(one.text(), other.text(), "the key is generated once");
    assert!(directory.join("countersign.cfg").is_file());
    let failed = sandbox.run(["token", "bootstrap", "--state-dir", "/proc/nowhere"]);
    assert!(failed.code() == 1 && failed.stderr.contains("/proc/nowhere"), "{failed:?}");
}
