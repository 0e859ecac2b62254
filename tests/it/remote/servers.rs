use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_tests::{
    binary::{Output, Sandbox, Server},
    eventually,
    postgres::Postgres,
};

use super::real::configuration;
use crate::fixture;

/// Runs the doctor with this configuration and a section for the server.
fn doctor(server: &Server<'_>, configuration: &str) -> Output {
    let sandbox = Sandbox::new();
    let token = fixture::token(&fixture::claims(serde_json::json!({ "urn:inmanta:ct": "agent" })));
    let transport = format!(
        "[agent_rest_transport]\nhost=127.0.0.1\nport={}\ntoken={token}\n",
        server.address.port()
    );
    sandbox.file("c.cfg", format!("{configuration}{transport}"));
    sandbox.run(["doctor", "-c", "c.cfg"])
}

/// Waits until the doctor's report about the database lists this number of servers and contains
/// these words, because servers register with a delay. Returns the report and the exit code.
#[track_caller]
fn database_report(
    server: &Server<'_>,
    configuration: &str,
    servers: usize,
    words: &[&str],
) -> (String, i32) {
    let mut output = None;
    eventually(|| {
        let report = doctor(server, configuration);
        let lines = report
            .stdout
            .split_once("[database] ")
            .map(|(_, lines)| lines.to_owned())
            .unwrap_or_default();
        let is_complete =
            lines.matches(concat!(", version ", env!("CARGO_PKG_VERSION"), ", started ")).count()
                == servers
                && words.iter().all(|word| lines.contains(word));
        output = Some((lines, report.code()));
        is_complete
    });
    output.unwrap()
}

/// Returns the server's address as the report prints it.
fn address(server: &Server<'_>) -> String {
    format!("({})", server.address)
}

/// All comparisons share one database, because starting one is slow.
#[test]
fn doctor_compares_servers_of_a_database() {
    let postgres = Postgres::start();
    let same = format!("{}[database]\nurl={}\n", configuration(), postgres.url());
    let sandboxes = [Sandbox::new(), Sandbox::new()];
    let [one, other] = sandboxes.each_ref().map(|sandbox| sandbox.serve(&same));
    let alike = "  OK     2 servers on this database run the same issuers and signing key";
    let (lines, code) = database_report(&one, &same, 2, &[alike, &address(&one), &address(&other)]);
    assert!(code == 0 && !lines.contains("WRONG"), "{lines}");
    let edited = same.replace("client_types=agent,compiler,api", "client_types=agent,compiler");
    let here = "WRONG  [auth_jwt_default] differs between this configuration and the servers";
    assert_eq!(database_report(&one, &edited, 2, &[alike, here]).1, 1);

    assert!(other.stop("TERM").0.success());
    let (lines, code) = database_report(&one, &same, 1, &[&address(&one)]);
    assert!(
        code == 0
            && lines.contains("OK     1 server on this database runs the issuers and signing key"),
        "{lines}"
    );

    detect_another_signing_key(&one, &sandboxes[1], &same);
    detect_another_audience(&one, &sandboxes[1], &same);
    detect_a_configuration_not_in_force(&one, &same);
    let rows = postgres.query("SELECT sections || signing_key FROM countersign_server");
    let secret = URL_SAFE_NO_PAD.decode(fixture::KEY).unwrap();
    for bytes in [digest(&SHA256, &secret).as_ref(), &secret] {
        let hexadecimal: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(!rows.is_empty() && !rows.contains(&hexadecimal), "{rows}");
    }
}

fn detect_another_signing_key(one: &Server<'_>, sandbox: &Sandbox, same: &str) {
    let other =
        sandbox.serve(&same.replace(fixture::KEY, "eciwliGyqECVmXtIkNpfVrtBLutZiITZKSKYhogeHMM"));
    let wrong = "  WRONG  the signing key differs between servers: ";
    let (lines, code) = database_report(one, same, 2, &[wrong]);
    let line = lines.lines().find(|line| line.starts_with(wrong)).unwrap();
    let host = reported_host(&lines);
    for side in [
        format!("as configured here on {host} {}", address(one)),
        format!("one on {host} {}", address(&other)),
    ] {
        assert!(line.contains(&side), "{line}");
    }
    assert!(code == 1 && lines.contains("help: compare the section with sign = true"), "{lines}");
    assert_eq!(lines.matches("WRONG").count(), 1, "only the signing key differs: {lines}");
    // A server that stops removes its row.
    assert!(other.stop("TERM").0.success());
}

/// Returns the name of this machine as it is in the report.
fn reported_host(lines: &str) -> String {
    lines
        .lines()
        .find_map(|line| {
            line.split_once(", version ")?.0.trim().split(' ').next().map(str::to_owned)
        })
        .unwrap()
}

/// One server is reconfigured by a reload.
fn detect_another_audience(one: &Server<'_>, sandbox: &Sandbox, same: &str) {
    let other = sandbox.serve(same);
    database_report(one, same, 2, &["OK     2 servers"]);
    let audience = same.replace("audience=https://localhost:8888/", "audience=https://elsewhere/");
    sandbox.replace("server.cfg", audience);
    other.reload();
    let (lines, code) =
        database_report(one, same, 2, &["WRONG  [auth_jwt_default] differs between servers: "]);
    assert!(
        code == 1 && lines.contains(&address(one)) && lines.contains(&address(&other)),
        "{lines}"
    );
    assert!(
        lines.contains("help: compare [auth_jwt_default] in their configuration files"),
        "{lines}"
    );
    assert!(other.stop("TERM").0.success());
}

fn detect_a_configuration_not_in_force(one: &Server<'_>, same: &str) {
    let edited =
        same.replace("issuer=https://localhost:8888/", "issuer=https://localhost:8888/\nleeway=5");
    let (lines, code) = database_report(
        one,
        &edited,
        1,
        &["WRONG  [auth_jwt_default] differs between this configuration and the servers"],
    );
    assert!(
        code == 1 && lines.contains("help: if [auth_jwt_default] was changed, reload (SIGHUP)"),
        "{lines}"
    );
}

#[test]
fn doctor_compares_a_server_on_sqlite() {
    let sandbox = Sandbox::new();
    let same = format!(
        "{}[database]\nurl=sqlite:{}\n",
        configuration(),
        sandbox.path().join("c.db").display()
    );
    let server = sandbox.serve(&same);
    let (lines, code) = database_report(
        &server,
        &same,
        1,
        &["OK     1 server on this database runs the issuers and signing key"],
    );
    assert!(code == 0 && !lines.contains("WRONG"), "{lines}");

    let elsewhere = same.replace("c.db", "other.db");
    let output = doctor(&server, &elsewhere);
    let text = "WRONG  a server requires tokens, but none has written to this database in the last 2 minutes";
    assert!(output.code() == 1 && output.stdout.contains(text), "{output:?}");
    assert!(!sandbox.path().join("other.db").exists(), "the doctor must not create a database");
}

#[test]
fn reload_enabling_auth_registers_the_server() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&format!("{}[server]\nauth=false\n", fixture::SIGNING));
    sandbox.file("c.cfg", configuration());
    let database_report = || sandbox.run(["doctor", "-c", "c.cfg"]).stdout;
    assert!(
        database_report()
            .contains("  no server has written to this database in the last 2 minutes"),
        "{}",
        database_report()
    );
    sandbox.replace("server.cfg", configuration());
    assert!(!server.reload().contains("restart"), "{}", server.log());
    eventually(|| {
        database_report()
            .contains("OK     1 server on this database runs the issuers and signing key")
    });
}

#[test]
fn unreachable_database_is_reported_by_the_doctor() {
    let sandbox = Sandbox::new();
    let same = format!(
        "{}[database]\nurl=postgres://u:secret@127.0.0.1:1/d\nconnection_timeout=1\n",
        configuration()
    );
    let server = sandbox.serve(&format!("{same}[revocation]\nfile=r\n"));
    assert_eq!(server.auth(&fixture::good_token()).status, 200);
    eventually(|| server.log().contains("cannot record heartbeat"));
    let output = doctor(&server, &same);
    assert!(
        output.code() == 1 && output.stdout.contains("WRONG  cannot query the database"),
        "{output:?}"
    );
    assert!(!format!("{output:?}{}", server.log()).contains("secret"), "{output:?}");
    assert!(server.stop("TERM").0.success());
}
