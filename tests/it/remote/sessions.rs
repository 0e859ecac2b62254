use std::{
    os::unix::fs::{PermissionsExt as _, chown, symlink},
    path::PathBuf,
};

use countersign_tests::{
    binary::{Output, Sandbox},
    providers::{CannedResponse, JwksServer},
};
use serde_json::json;

use super::real::{configuration, set_up};

/// Token of a session that [`server`] issues.
const SESSION: &str = "s.e.s";

/// Starts a server that answers every call with a session.
fn server() -> JwksServer {
    JwksServer::start(&json!({ "data": { "token": SESSION } }).to_string())
}

fn log_in(sandbox: &Sandbox, server: &JwksServer) -> Output {
    let output = sandbox.run_with_input(["login", "bob", "--server", &server.origin()], "secret\n");
    assert_eq!(output.text(), SESSION, "scripts get the bare token");
    output
}

fn list(sandbox: &Sandbox, server: &JwksServer) -> Output {
    sandbox.run(["user", "list", "--json", "--server", &server.origin()])
}

/// Returns the file of the session with a server.
fn session_file(sandbox: &Sandbox, server: &JwksServer) -> PathBuf {
    let name = format!(".config/countersign/sessions/http_127.0.0.1_{}.json", server.port());
    sandbox.path().join(name)
}

/// Returns the tokens that the server got from then on, each with its scheme.
fn tokens(server: &JwksServer) -> Vec<Option<String>> {
    server.header_values("authorization")
}

#[test]
fn login_stores_the_session_for_later_commands() {
    let (sandbox, server) = (Sandbox::new(), server());
    let output = log_in(&sandbox, &server);
    assert!(
        output.stderr.contains("Logged in to http://127.0.0.1:")
            && !output.stderr.contains(SESSION),
        "{output:?}"
    );
    let file = session_file(&sandbox, &server);
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
    let siblings = file.parent().unwrap().read_dir().unwrap().count();
    assert_eq!(siblings, 1, "no draft remains");
    list(&sandbox, &server).text();
    assert_eq!(tokens(&server), [None, Some("Bearer s.e.s".into())]);

    let out = sandbox.run(["logout", "--server", &server.origin()]);
    assert!(out.text().starts_with("Logged out of http://127.0.0.1:"), "{out:?}");
    assert!(!file.exists() && out.stderr.is_empty(), "{out:?}");
    assert_eq!(tokens(&server).last(), Some(&Some("Bearer s.e.s".into())), "the session is ended");
    list(&sandbox, &server).text();
    assert_eq!(tokens(&server).last(), Some(&None));
    let again = sandbox.run(["logout", "--server", &server.origin()]);
    assert!(again.text().starts_with("There is no session with http://127.0.0.1:"), "{again:?}");
}

#[test]
fn login_on_a_terminal_does_not_show_the_token() {
    let (sandbox, server) = (Sandbox::new(), server());
    let origin = server.origin();
    let login = ["login", "bob", "--password-stdin", "--server", &origin];
    let output = sandbox.run_on_terminal(&login, "secret\n");
    assert!(output.text().starts_with("Logged in to http://127.0.0.1:"), "{output:?}");
    assert!(!output.stdout.contains(SESSION) && !output.stdout.contains("secret"), "{output:?}");
    assert!(session_file(&sandbox, &server).exists());

    let other = Sandbox::new().variable("HOME", "");
    let output = other.run_on_terminal(&login, "secret\n");
    assert!(output.code() == 1 && output.stdout.contains("--print prints the token"), "{output:?}");
    assert_eq!(server.requests(), 1, "it fails before the password is sent");
    let printed = other.run_on_terminal(&[&login[..], &["--print"]].concat(), "secret\n");
    assert_eq!(printed.text(), SESSION);
    // A script works without a directory for sessions.
    let piped = other.run_with_input(login, "secret\n");
    assert_eq!(piped.text(), SESSION);
    assert!(piped.stderr.contains("warning: there is no directory for sessions"), "{piped:?}");
}

#[test]
fn login_print_stores_nothing() {
    let (sandbox, server) = (Sandbox::new(), server());
    let login = ["login", "bob", "--print", "--server", &server.origin()];
    let output = sandbox.run_with_input(login, "secret\n");
    assert_eq!((output.text(), &*output.stderr), (SESSION, ""));
    assert!(!sandbox.path().join(".config").exists());
}

#[test]
fn session_is_sent_to_its_own_server_only() {
    let (sandbox, server, other) = (Sandbox::new(), server(), server());
    log_in(&sandbox, &server);
    list(&sandbox, &other).text();
    assert_eq!(tokens(&other), [None]);
    // The same host by another name is another server.
    let port = other.port().to_string();
    sandbox.run(["user", "list", "--host", "localhost", "--port", &port]).text();
    // A renamed file is not used.
    std::fs::rename(session_file(&sandbox, &server), session_file(&sandbox, &other)).unwrap();
    let renamed = list(&sandbox, &other);
    assert!(renamed.code() == 1 && renamed.stderr.contains("not a session with"), "{renamed:?}");
    assert!(tokens(&other).iter().all(Option::is_none));
}

#[test]
fn session_does_not_follow_a_redirect() {
    let (sandbox, server, other) = (Sandbox::new(), server(), server());
    log_in(&sandbox, &server);
    server.respond_with(CannedResponse::redirect(&format!("{}/api/v2/user", other.origin())));
    let refused = list(&sandbox, &server);
    assert!(refused.code() == 1 && refused.stderr.contains("302 Found"), "{refused:?}");
    assert_eq!(other.requests(), 0);
}

#[test]
fn unsafe_session_file_is_not_used() {
    let (sandbox, server) = (Sandbox::new(), server());
    log_in(&sandbox, &server);
    let file = session_file(&sandbox, &server);
    let refused = |text: &str| {
        let output = list(&sandbox, &server);
        assert!(output.code() == 1 && output.stderr.contains(text), "{text}: {output:?}");
        assert!(output.stderr.contains("log in again with countersign login"), "{output:?}");
        assert!(!output.stderr.contains(SESSION), "{output:?}");
    };
    let set_mode = |mode| {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    for mode in [0o644, 0o640, 0o620, 0o604] {
        set_mode(mode);
        refused("other users can read it");
    }
    set_mode(0o600);
    // Only root can give a file away.
    if chown(&file, Some(1), None).is_ok() {
        refused("it belongs to another user");
        chown(&file, Some(0), None).unwrap();
    }
    let text = std::fs::read_to_string(&file).unwrap();
    let target = sandbox.file("target", &text);
    std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::remove_file(&file).unwrap();
    symlink(&target, &file).unwrap();
    refused("it is a symbolic link");
    // A login replaces the link, and does not write through it.
    std::fs::write(&target, "kept").unwrap();
    log_in(&sandbox, &server);
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "kept");
    list(&sandbox, &server).text();
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    refused("it is not a regular file");
    std::fs::remove_dir(&file).unwrap();
    sandbox.file(file.to_str().unwrap(), "{");
    set_mode(0o600);
    refused("not a session with");
    assert_eq!(tokens(&server).iter().flatten().count(), 1);
}

#[test]
fn given_tokens_precede_the_session() {
    let (sandbox, server) = (Sandbox::new(), server());
    log_in(&sandbox, &server);
    let sandbox = sandbox.variable("COUNTERSIGN_TOKEN", "from.the.variable\n");
    list(&sandbox, &server).text();
    let port = server.port();
    let section = format!("[cmdline_rest_transport]\nhost=127.0.0.1\nport={port}\ntoken=c.f.g\n");
    sandbox.file("c.cfg", section);
    sandbox.run(["user", "list", "-c", "c.cfg"]).text();
    let warned = sandbox.run_with_input(["login", "bob", "-c", "c.cfg"], "secret\n");
    assert!(warned.stderr.contains("commands use the token in COUNTERSIGN_TOKEN"), "{warned:?}");
    let sandbox = sandbox.variable("COUNTERSIGN_TOKEN", "");
    sandbox.run(["user", "list", "-c", "c.cfg"]).text();
    let warned = sandbox.run_with_input(["login", "bob", "-c", "c.cfg"], "secret\n");
    let text = "commands use the token in [cmdline_rest_transport], not this session";
    assert!(warned.stderr.contains(text), "{warned:?}");
    let variable = Some("Bearer from.the.variable".to_owned());
    assert_eq!(
        tokens(&server),
        [None, variable.clone(), variable, None, Some("Bearer c.f.g".into()), None]
    );
    let odd = sandbox.variable("COUNTERSIGN_TOKEN", "top secret");
    let refused = list(&odd, &server);
    assert!(refused.code() == 1 && refused.stderr.contains("COUNTERSIGN_TOKEN has"), "{refused:?}");
    assert!(!refused.stderr.contains("secret"), "{refused:?}");
}

#[test]
fn refused_token_is_not_shown_with_its_source() {
    let (sandbox, server) = (Sandbox::new(), server());
    log_in(&sandbox, &server);
    server.respond_with(CannedResponse::status("401 Unauthorized"));
    let expired = list(&sandbox, &server);
    assert!(expired.stderr.contains("log in again with countersign login"), "{expired:?}");
    let with_variable = sandbox.variable("COUNTERSIGN_TOKEN", "t.o.k");
    let refused = list(&with_variable, &server);
    assert!(refused.stderr.contains("check COUNTERSIGN_TOKEN"), "{refused:?}");
    assert!(!refused.stderr.contains("t.o.k"), "{refused:?}");
    let without = list(&Sandbox::new(), &server);
    assert!(without.stderr.contains("log in with countersign login"), "{without:?}");
}

#[test]
fn logout_works_without_the_server() {
    let sandbox = Sandbox::new();
    set_up(&sandbox);
    let server = sandbox.serve(&configuration());
    let origin = format!("http://{}", server.address);
    let login = ["login", "admin", "--server", &origin];
    sandbox.run_with_input(login, "correct horse\n").text();
    drop(server);
    let out = sandbox.run(["logout", "--all", "--server", &origin]);
    assert!(out.text().contains("would be accepted until it expires, in "), "{out:?}");
    assert!(out.stderr.contains("warning: the session was not ended: "), "{out:?}");
    let again = sandbox.run(["logout", "--server", &origin]);
    assert!(again.text().starts_with("There is no session with "), "{again:?}");
}

#[test]
fn logout_ends_the_session_of_the_variable() {
    let (sandbox, server) = (Sandbox::new(), server());
    log_in(&sandbox, &server).text();
    let file = session_file(&sandbox, &server);
    let sandbox = sandbox.variable("COUNTERSIGN_TOKEN", "t.o.k");
    let out = sandbox.run(["logout", "--server", &server.origin()]);
    assert!(out.text().contains("Ended the session of the token in COUNTERSIGN_TOKEN"), "{out:?}");
    assert_eq!(tokens(&server).last(), Some(&Some("Bearer t.o.k".into())));
    assert!(file.exists(), "the stored session is another one");
}

#[test]
fn session_works_with_a_real_server() {
    let sandbox = Sandbox::new();
    set_up(&sandbox);
    let server = sandbox.serve(&configuration());
    let sandbox = &sandbox;
    let origin = format!("http://{}", server.address);
    let run = |words: &[&str]| sandbox.run(words.iter().chain(&["--server", &origin]));
    let login = ["login", "admin", "--server", &origin];
    let logged_in = sandbox.run_on_terminal(&login, "correct horse\n");
    let ends = "The session, which ends in 60 minutes, is in";
    let nearly = "The session, which ends in 59 minutes, is in";
    assert!(logged_in.text().contains(ends) || logged_in.text().contains(nearly), "{logged_in:?}");
    run(&["environment", "add", "prod"]).text();
    let create = ["token", "create", "-e", "prod", "--agent"];
    let token = run(&create);
    assert_eq!(server.auth(token.text()).status, 200, "{token:?}");
    let shown = sandbox.run_on_terminal(&[&create[..], &["--server", &origin]].concat(), "");
    let shown = shown.text().strip_prefix("Token: ").expect("a terminal shows a label");
    assert_eq!(server.auth(shown).status, 200);
    let changed = sandbox.run_with_input(
        ["user", "password", "admin", "--server", &origin],
        "correct horse\nanother horse\n",
    );
    assert!(changed.text().contains("The password of admin is changed."), "{changed:?}");
    let path = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().path();
    let directory = sandbox.path().join(".config/countersign/sessions");
    let file = directory.read_dir().unwrap().map(path).next().unwrap();
    let text: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let token = text["token"].as_str().unwrap();
    assert_eq!(server.auth(token).status, 200, "the new session is stored");
    let out = run(&["logout"]);
    assert!(out.text().starts_with("Logged out of ") && out.stderr.is_empty(), "{out:?}");
    assert_eq!(server.auth(token).status, 401);
    let refused = run(&["user", "list"]);
    assert!(refused.stderr.contains("log in with countersign login"), "{refused:?}");
}
