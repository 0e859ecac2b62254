use std::{
    io::{Read as _, Write as _},
    process::{Command, Stdio},
};

use countersign_tests::{
    binary::{self, Output, Sandbox},
    postgres::Postgres,
};
use serde_json::json;

use crate::fixture::SIGNING;

const DATABASE: &str = "[server]\nauth=true\nauth-method=database\n";
const PASSWORD: &str = "correct horse";
/// The first prompt of the real command.
const LOCAL: &str = "This command should be executed locally on the orchestrator you want to \
                     configure. Are you running this command locally? [y/N]: ";

/// Runs `countersign setup` with these answers.
fn setup(sandbox: &Sandbox, configuration: &str, options: &str, answers: &str) -> Output {
    sandbox.file("inmanta.d/server.cfg", configuration);
    let arguments = ["setup", "-c", "inmanta.d"].into_iter().chain(options.split_whitespace());
    sandbox.run_with_input(arguments, answers)
}

#[test]
fn setup_creates_the_first_user_as_in_the_guide() {
    let sandbox = Sandbox::new();
    let output =
        setup(&sandbox, &format!("{DATABASE}{SIGNING}"), "", &format!("y\n\n{PASSWORD}\n"));
    let place = sandbox.path().join(".local/state/countersign/countersign.db");
    let expected = format!(
        "{LOCAL}\
Server authentication:                            enabled
Server authentication method:                     database
Authentication signing config:                    found
Trying to connect to DB:                          {}
Connection to database                            success
What username do you want to use? [admin]: \
User admin:                                       created
Make sure to (re)start the orchestrator to activate all changes.
",
        place.display()
    );
    assert_eq!((output.code(), &*output.stdout, &*output.stderr), (0, &*expected, ""));
    let again = setup(&sandbox, &format!("{DATABASE}{SIGNING}"), "--yes --username eve", PASSWORD);
    assert!(
        again.code() == 1
            && again.stderr.starts_with("error: There are already users in the database\n"),
        "{again:?}"
    );
    assert!(
        again.stdout.ends_with("Connection to database                            success\n"),
        "no further prompt"
    );
}

#[test]
fn setup_suggests_a_signing_section() {
    let sandbox = Sandbox::new();
    let output = setup(&sandbox, DATABASE, "--yes", "");
    assert_eq!(output.code(), 1);
    let (before, rest) = output
        .stdout
        .split_once("Error: No signing config available in the configuration.\n")
        .unwrap();
    assert!(
        before.ends_with("database\n")
            && output.stderr.contains("Make sure signing configuration is added to the config.")
    );
    let text =
        "To use a new config, add the following to the configuration in inmanta.d/auth.cfg:\n\n";
    let section = rest.strip_prefix(text).unwrap_or_else(|| panic!("{rest}"));
    assert!(
        section.contains("\nissuer=https://") && section.contains(":8888/\naudience=https://"),
        "{section}"
    );
    assert!(!sandbox.path().join(".local").exists(), "setup must not create a state directory");
    // As in the guide: the section is saved, and setup is run again.
    sandbox.file("inmanta.d/auth.cfg", section);
    let again = setup(&sandbox, DATABASE, "--yes --username root --password-stdin", PASSWORD);
    assert!(
        again.code() == 0
            && again.stdout.contains("User root:                                        created"),
        "{again:?}"
    );
}

#[test]
fn setup_refusals_give_a_remedy_and_add_no_user() {
    let sandbox = Sandbox::new();
    let usual = format!("{DATABASE}{SIGNING}");
    let nowhere = format!("{usual}[database]\nhost=127.0.0.1\nport=1\npassword=hunter2\n");
    for (configuration, options, answers, text) in [
        (&*usual, "", "n\n", "The user setup was aborted as it was not executed locally"),
        (&usual, "", "", "The user setup was aborted as it was not executed locally"),
        (
            &format!("{SIGNING}[server]\nauth=false\n"),
            "--yes",
            "",
            "Server authentication should be enabled before running the initial user setup.",
        ),
        (
            &usual.replace("=database", "=databse"),
            "--yes",
            "",
            "(auth_method in the server section) is 'databse', expected one of database, oidc, \
             jwt.",
        ),
        (&usual.replace("=database", "=Database"), "--yes", "", "is 'Database', expected one of"),
        (
            &usual,
            "--yes --username admin",
            "short\n",
            "the password should be at least 8 characters long",
        ),
        (&usual, "--yes --username admin", "", "the password is empty"),
        (&usual, "--yes --username ..", PASSWORD, "the username cannot be . or .."),
        (&usual, "", "y\n.\n", "the username cannot be . or .."),
        (&nowhere, "--yes", "", "check [database]"),
    ] {
        let refused = setup(&sandbox, configuration, options, answers);
        assert!(refused.code() == 1 && refused.stderr.contains(text), "{text}: {refused:?}");
        assert!(
            !refused.stdout.contains("created") && !format!("{refused:?}").contains("hunter2"),
            "{refused:?}"
        );
    }
    assert_eq!(
        setup(&sandbox, &usual, "--yes --username admin", PASSWORD).code(),
        0,
        "no user was created before"
    );
}

#[test]
fn setup_does_not_echo_the_password() {
    let sandbox = Sandbox::new();
    sandbox.file("c.cfg", format!("{DATABASE}{SIGNING}"));
    let command = format!("{} setup -c c.cfg --yes --username admin", binary::path().display());
    // A terminal whose output can be read.
    let mut terminal = Command::new("script")
        .args(["--quiet", "--return", "--flush", "--command", &command, "/dev/null"])
        .current_dir(sandbox.path())
        .env("HOME", sandbox.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script is missing: apt-get install bsdutils");
    let (mut input, mut screen) = (terminal.stdin.take().unwrap(), terminal.stdout.take().unwrap());
    let mut shown = String::new();
    while !shown.ends_with("What password do you want to use?: ") {
        let mut byte = [0];
        assert_eq!(screen.read(&mut byte).unwrap(), 1, "{shown}");
        shown.push(byte[0].into());
    }
    input.write_all(format!("{PASSWORD}\n").as_bytes()).unwrap();
    screen.read_to_string(&mut shown).unwrap();
    assert!(terminal.wait().unwrap().success(), "{shown}");
    assert!(shown.contains("User admin:") && !shown.contains("correct"), "{shown}");
}

#[test]
fn setup_creates_an_emergency_user_for_providers() {
    for (lines, method) in
        [("auth_method=oidc\n", "oidc"), ("auth_method=jwt\n", "jwt"), ("", "oidc")]
    {
        let sandbox = Sandbox::new();
        let configuration = format!("[server]\nauth=true\n{lines}{SIGNING}");
        let made = setup(&sandbox, &configuration, "--yes --username breakglass", PASSWORD);
        let expected = format!(
            "Server authentication method:                     {method}\n\
             Note: auth_method is '{method}'. Creating a break-glass database user for the \
             web-console local login fallback. Make sure web-ui.oidc_local_fallback is enabled so \
             it can be used.\n\
             Authentication signing config:                    found\n"
        );
        assert!(made.code() == 0 && made.stdout.contains(&expected), "{made:?}");
        let server = sandbox.serve(&configuration);
        let body = json!({ "username": "breakglass", "password": PASSWORD }).to_string();
        let login = server.send("POST /api/v2/login HTTP/1.1\r\n", body.as_bytes());
        assert_eq!(login.status, 200, "{login:?}");
        assert_eq!(login.json()["data"]["user"]["is_admin"], true);
    }
}

#[test]
fn setup_prints_no_notices_of_the_database() {
    let postgres = Postgres::start();
    let configuration = format!("{DATABASE}{SIGNING}[database]\nurl={}\n", postgres.url());
    for level in ["", "info", "debug"] {
        let sandbox = Sandbox::new().variable("COUNTERSIGN_LOG", level);
        // The second and third run find the tables of the first.
        let made = setup(&sandbox, &configuration, "--yes --username admin", PASSWORD);
        assert_eq!((made.code(), &*made.stderr), (0, ""), "{level}");
        assert!(!made.stdout.contains("skipping"), "{made:?}");
        postgres.query("DELETE FROM countersign_user; DELETE FROM countersign_audit");
    }
}
