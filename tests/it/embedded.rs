use std::{
    fs::Permissions,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
};

use countersign_tests::{
    binary::{self, Sandbox, Server},
    default_ports::DefaultPorts,
    http::request,
};

const STATE: &str = ".local/state/countersign";

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

/// Returns the printed command that starts with this word.
fn printed_command<'l>(printed: &'l [String], word: &str) -> &'l str {
    printed.iter().find(|line| line.starts_with(word)).unwrap()
}

fn curl(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Logs the first user in and returns the status.
fn log_in(server: &Server<'_>, password: &str) -> u16 {
    let credentials = serde_json::json!({ "username": "admin", "password": password }).to_string();
    request(server.address, "POST /api/v2/login HTTP/1.1\r\n", credentials.as_bytes()).status
}

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

    let state = sandbox.path().join(STATE);
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
    let (status, printed) = server.stop("TERM");
    assert!(status.success());
    let server = sandbox.start::<&str>([]);
    server.wait_until_ready();
    let answer = curl(printed_command(&printed, "curl "));
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "the key survives a restart: {answer}");
    assert!(answer.contains("x-auth-client-types: api,compiler,agent"), "{answer}");

    // A second server cannot bind the same port and names the option to change.
    let second = sandbox.run(["serve"]);
    assert_eq!(second.code(), 1);
    assert!(
        second.stderr.contains("cannot listen on 127.0.0.1:8888")
            && second.stderr.contains("bind_port"),
        "{}",
        second.stderr
    );
}

/// A sandbox whose embedded default listens on free ports.
fn with_free_ports() -> Sandbox {
    let sandbox = Sandbox::new().variable("INMANTA_SERVER_BIND_PORT", "0");
    sandbox.variable("INMANTA_METRICS_BIND_PORT", "0")
}

#[test]
fn secrets_are_in_files_without_a_terminal() {
    let sandbox = with_free_ports();
    let state = sandbox.path().join(STATE);
    let read = |name: &str| std::fs::read_to_string(state.join(name)).unwrap();
    let start = || {
        let server = sandbox.start::<&str>([]);
        server.wait_until_ready();
        assert_eq!(
            (mode(&state.join("admin-password")), mode(&state.join("token"))),
            (0o600, 0o600)
        );
        assert_eq!(log_in(&server, read("admin-password").trim()), 200);
        let (token, log) = (read("token"), server.log());
        assert_eq!(server.auth(token.trim()).status, 200);
        let printed = server.stop("TERM").1.join("\n");
        for secret in [token.trim(), read("admin-password").trim()] {
            assert!(!printed.contains(secret) && !log.contains(secret), "{printed}{log}");
        }
        assert!(printed.contains(&format!("$(cat {}/token)", state.display())), "{printed}");
        (printed, token)
    };
    let (first, token) = start();
    let password_line = format!("user admin, password in {}/admin-password", state.display());
    assert!(first.contains(&password_line), "{first}");
    let password = read("admin-password");

    // A second start renews the token, and neither the user nor the password.
    std::fs::write(state.join("token"), "stale").unwrap();
    let (second, renewed) = start();
    assert!(!second.contains("user admin") && renewed != "stale" && token != "stale", "{second}");
    assert_eq!(read("admin-password"), password);

    // A crash between the two writes of the first start: the user gets the stored password.
    std::fs::remove_file(state.join("countersign.db")).unwrap();
    let (third, _) = start();
    assert!(third.contains(&password_line) && read("admin-password") == password, "{third}");
}

#[test]
fn readable_password_file_is_not_used() {
    let sandbox = with_free_ports();
    let state = sandbox.path().join(STATE);
    let file = sandbox.file(&format!("{STATE}/admin-password"), "a-known-password\n");
    std::fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    let refused = sandbox.run(["serve"]);
    assert_eq!(refused.code(), 1);
    let place = format!("{}/admin-password: other users can read it", state.display());
    assert!(refused.stderr.contains(&place) && !refused.stderr.contains("a-known"), "{refused:?}");
}

#[test]
fn secrets_are_printed_on_a_terminal() {
    let sandbox = with_free_ports();
    let state = sandbox.path().join(STATE);
    let line = format!("echo $$ >pid; exec '{}' 2>log", binary::path().display());
    // script(1) runs a command on a terminal of its own.
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    script.current_dir(sandbox.path()).env("HOME", sandbox.path());
    script.env("INMANTA_SERVER_BIND_PORT", "0").env("INMANTA_METRICS_BIND_PORT", "0");
    script.env_remove("COUNTERSIGN_STATE_DIR").env_remove("XDG_STATE_HOME");
    let mut child = script.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut printed = Vec::new();
    for line in lines.map(|line| line.trim_end().to_owned()) {
        let is_last = line.starts_with("curl ");
        printed.push(line);
        if is_last {
            break;
        }
    }
    let answer = curl(printed_command(&printed, "curl "));
    let pid = std::fs::read_to_string(sandbox.path().join("pid")).unwrap();
    assert!(Command::new("kill").arg(pid.trim()).status().unwrap().success());
    child.wait().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{printed:?}: {answer}");

    let token = std::fs::read_to_string(state.join("token")).unwrap();
    assert!(printed.iter().any(|line| line == token.trim()), "{printed:?}");
    let password = printed
        .iter()
        .find_map(|line| {
            line.split_once("user admin, password ")?.1.strip_suffix(" (shown only once)")
        })
        .expect("the first start prints the password");
    assert!(!state.join("admin-password").exists());
    let log = std::fs::read_to_string(sandbox.path().join("log")).unwrap();
    assert!(!log.contains(password) && !log.contains(token.trim()), "{log}");
    let server = sandbox.start::<&str>([]);
    assert_eq!(log_in(&server, password), 200);
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
