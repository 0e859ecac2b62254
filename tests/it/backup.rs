//! Databases at rest and in copies: stop, backup, restore.

use std::{fs, path::PathBuf};

use countersign_tests::{
    binary::{Sandbox, Server},
    http,
};

use crate::users::{Api, ENVIRONMENT, configuration, data, session_of};

const FILES: [&str; 2] = ["countersign.db", "revocations"];

fn state(sandbox: &Sandbox) -> PathBuf {
    sandbox.path().join(".local/state/countersign")
}

/// Adds a user and a revoked token. Returns that token.
fn fill(server: &Server<'_>, user: &str) -> String {
    let root = Api::root(server);
    root.add_user(user);
    root.add_environment(ENVIRONMENT);
    revoked_token(server)
}

fn revoked_token(server: &Server<'_>) -> String {
    let root = Api::root(server);
    let token = root.issue(ENVIRONMENT);
    let jti = crate::users::claims(&token)["jti"].as_str().unwrap().to_owned();
    assert_eq!(
        root.within(ENVIRONMENT).ask(&format!("DELETE /environment_auth/{jti}")).status,
        200
    );
    assert_eq!(server.auth(&token).status, 401);
    token
}

fn usernames(server: &Server<'_>) -> Vec<String> {
    let users = data(&Api::root(server).ask("GET /user"));
    let users = users.as_array().unwrap().iter();
    users.map(|user| user["username"].as_str().unwrap().to_owned()).collect()
}

fn assert_merged(sandbox: &Sandbox) {
    for file in FILES {
        let log = state(sandbox).join(format!("{file}-wal"));
        assert!(!log.exists(), "{}", log.display());
    }
}

#[test]
fn database_file_alone_is_complete_after_a_stop() {
    let (sandbox, copy) = (Sandbox::new(), Sandbox::new());
    let revoked = {
        let server = sandbox.serve(&configuration(""));
        let revoked = fill(&server, "bob");
        assert!(server.stop("TERM").0.success());
        revoked
    };
    assert_merged(&sandbox);
    fs::create_dir_all(state(&copy)).unwrap();
    for file in FILES {
        fs::copy(state(&sandbox).join(file), state(&copy).join(file)).unwrap();
    }
    let server = copy.serve(&configuration(""));
    assert_eq!(usernames(&server), ["bob"]);
    assert_eq!(server.auth(&revoked).status, 401);
    assert_eq!(server.auth(&session_of("bob", false)).status, 200);
}

#[test]
fn database_is_complete_after_every_end() {
    let sandbox = Sandbox::new();
    {
        // Two servers: the last one that ends merges the log.
        let [one, other] = [(), ()].map(|()| sandbox.serve(&configuration("")));
        fill(&one, "bob");
        let mut idle = http::Connection::open(other.address);
        idle.send("GET /auth HTTP/1.1\r\n", b"");
        assert!(one.stop("TERM").0.success());
        assert_eq!(usernames(&other), ["bob"]);
        other.signal("TERM");
        other.stop("TERM");
        assert_merged(&sandbox);
    }
    // Commands without a server.
    let config = sandbox.file("c.cfg", configuration(""));
    let run = |arguments: &[&str]| {
        let config = ["--config", config.to_str().unwrap()];
        sandbox.run(arguments.iter().copied().chain(config))
    };
    let issuer = crate::fixture::ISSUER;
    for arguments in
        [&["token", "revoke", "--issuer", issuer, "--jti", "x"][..], &["audit"], &["doctor"]]
    {
        run(arguments);
        assert_merged(&sandbox);
    }
    // A server that cannot start.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!("[server]\nbind_port={}\n", taken.local_addr().unwrap().port());
    let failed = sandbox.run(
        ["--config", sandbox.file("d.cfg", port).to_str().unwrap()]
            .iter()
            .copied()
            .chain(["--config", config.to_str().unwrap()]),
    );
    assert!(failed.stderr.contains("cannot listen on"), "{failed:?}");
    assert_merged(&sandbox);
}
