use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_tests::{
    binary::{Output, Sandbox, Server},
    eventually,
    postgres::Postgres,
};

use super::real::configuration;
use crate::given;

/// Asks the doctor where this is configured, and by way of a server.
fn doctor(server: &Server<'_>, configuration: &str) -> Output {
    let sandbox = Sandbox::new();
    let token = given::token(&given::claims(serde_json::json!({ "urn:inmanta:ct": "agent" })));
    let way = format!(
        "[agent_rest_transport]\nhost=127.0.0.1\nport={}\ntoken={token}\n",
        server.address.port()
    );
    sandbox.file("c.cfg", format!("{configuration}{way}"));
    sandbox.run(["doctor", "-c", "c.cfg"])
}

/// The lines of the doctor about a database, once they are about so many servers and
/// these words are among them: servers take a moment to write themselves down.
#[track_caller]
fn told(server: &Server<'_>, configuration: &str, servers: usize, words: &[&str]) -> (String, i32) {
    let mut output = None;
    eventually(|| {
        let told = doctor(server, configuration);
        let lines = told
            .stdout
            .split_once("[database] ")
            .map(|(_, lines)| lines.to_owned())
            .unwrap_or_default();
        let is_it =
            lines.matches(concat!(", version ", env!("CARGO_PKG_VERSION"), ", started ")).count()
                == servers
                && words.iter().all(|word| lines.contains(word));
        output = Some((lines, told.code()));
        is_it
    });
    output.unwrap()
}

/// The name that a server gives itself, from its host's on.
fn address(server: &Server<'_>) -> String {
    format!("({})", server.address)
}

/// One database for all of it: it takes its time to start one.
#[test]
fn servers_of_one_database_are_compared() {
    let postgres = Postgres::start();
    let same = format!("{}[database]\nurl={}\n", configuration(), postgres.url());
    let sandboxes = [Sandbox::new(), Sandbox::new()];
    let [one, other] = sandboxes.each_ref().map(|sandbox| sandbox.serve(&same));
    let alike = "  OK     2 servers on this database run the same issuers and signing key";
    let (lines, code) = told(&one, &same, 2, &[alike, &address(&one), &address(&other)]);
    assert!(code == 0 && !lines.contains("WRONG"), "{lines}");
    let edited = same.replace("client_types=agent,compiler,api", "client_types=agent,compiler");
    let here = "WRONG  [auth_jwt_default] differs between this configuration and the servers";
    assert_eq!(told(&one, &edited, 2, &[alike, here]).1, 1);

    assert!(other.stop("TERM").0.success());
    let (lines, code) = told(&one, &same, 1, &[&address(&one)]);
    assert!(
        code == 0
            && lines.contains("OK     1 server on this database runs the issuers and signing key"),
        "{lines}"
    );

    with_another_signing_key(&one, &sandboxes[1], &same);
    with_another_audience(&one, &sandboxes[1], &same);
    with_what_is_not_in_force(&one, &same);
    let rows = postgres.query("SELECT sections || signing_key FROM countersign_server");
    let secret = URL_SAFE_NO_PAD.decode(given::KEY).unwrap();
    for bytes in [digest(&SHA256, &secret).as_ref(), &secret] {
        let hexadecimal: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(!rows.is_empty() && !rows.contains(&hexadecimal), "{rows}");
    }
}

fn with_another_signing_key(one: &Server<'_>, sandbox: &Sandbox, same: &str) {
    let other =
        sandbox.serve(&same.replace(given::KEY, "eciwliGyqECVmXtIkNpfVrtBLutZiITZKSKYhogeHMM"));
    let wrong = "  WRONG  the signing key differs between servers: ";
    let (lines, code) = told(one, same, 2, &[wrong]);
    let line = lines.lines().find(|line| line.starts_with(wrong)).unwrap();
    let host = host_of(&lines);
    for side in [
        format!("as configured here on {host} {}", address(one)),
        format!("one on {host} {}", address(&other)),
    ] {
        assert!(line.contains(&side), "{line}");
    }
    assert!(code == 1 && lines.contains("help: compare the section with sign = true"), "{lines}");
    assert_eq!(lines.matches("WRONG").count(), 1, "the section is the same: {lines}");
    // Its row goes with it.
    assert!(other.stop("TERM").0.success());
}

/// The name of this machine, as a server tells it.
fn host_of(lines: &str) -> String {
    lines
        .lines()
        .find_map(|line| {
            line.split_once(", version ")?.0.trim().split(' ').next().map(str::to_owned)
        })
        .unwrap()
}

/// Configured otherwise while it runs, by a reload.
fn with_another_audience(one: &Server<'_>, sandbox: &Sandbox, same: &str) {
    let other = sandbox.serve(same);
    told(one, same, 2, &["OK     2 servers"]);
    let audience = same.replace("audience=https://localhost:8888/", "audience=https://elsewhere/");
    sandbox.replace("server.cfg", audience);
    other.reload();
    let (lines, code) =
        told(one, same, 2, &["WRONG  [auth_jwt_default] differs between servers: "]);
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

fn with_what_is_not_in_force(one: &Server<'_>, same: &str) {
    let edited =
        same.replace("issuer=https://localhost:8888/", "issuer=https://localhost:8888/\nleeway=5");
    let (lines, code) = told(
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
fn a_server_on_sqlite_is_compared_with_what_is_configured() {
    let sandbox = Sandbox::new();
    let same = format!(
        "{}[database]\nurl=sqlite:{}\n",
        configuration(),
        sandbox.path().join("c.db").display()
    );
    let server = sandbox.serve(&same);
    let (lines, code) = told(
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
    assert!(!sandbox.path().join("other.db").exists(), "whoever looks makes nothing");
}

#[test]
fn authentication_switched_on_by_a_reload_has_the_database_looked_after() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(given::SIGNING);
    sandbox.file("c.cfg", configuration());
    let told = || sandbox.run(["doctor", "-c", "c.cfg"]).stdout;
    assert!(
        told().contains("  no server has written to this database in the last 2 minutes"),
        "{}",
        told()
    );
    sandbox.replace("server.cfg", configuration());
    assert!(!server.reload().contains("restart"), "{}", server.log());
    eventually(|| {
        told().contains("OK     1 server on this database runs the issuers and signing key")
    });
}

#[test]
fn a_database_that_is_away_is_told_and_holds_up_no_server() {
    let sandbox = Sandbox::new();
    let same = format!(
        "{}[database]\nurl=postgres://u:secret@127.0.0.1:1/d\nconnection_timeout=1\n",
        configuration()
    );
    let server = sandbox.serve(&format!("{same}[revocation]\nfile=r\n"));
    assert_eq!(server.auth(&given::good_token()).status, 200);
    eventually(|| server.log().contains("cannot record heartbeat"));
    let output = doctor(&server, &same);
    assert!(
        output.code() == 1 && output.stdout.contains("WRONG  cannot query the database"),
        "{output:?}"
    );
    assert!(!format!("{output:?}{}", server.log()).contains("secret"), "{output:?}");
    assert!(server.stop("TERM").0.success());
}
