use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use countersign_tests::{
    binary::{Sandbox, Server},
    eventually,
    postgres::Postgres,
};

use super::{
    KEY, NEXT, apply, before, id, moved, rotate, session_signer, signed_by, signer, with_keys,
    with_next,
};
use crate::{
    fixture,
    users::{Api, ENVIRONMENT},
};

const KNOWN: &str = "countersign_signing_key_known{section=\"auth_jwt_default\"}";

/// Checks that the servers refuse none of the tokens that any of them issues, until `done`.
fn verify_everywhere(servers: &[Server<'_>], done: &AtomicBool) -> [usize; 2] {
    let (issued, tokens) = ([const { AtomicUsize::new(0) }; 2], Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for server in servers {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let token = Api::root(server).issue(ENVIRONMENT);
                    issued[usize::from(signer(&token) == NEXT)].fetch_add(1, Ordering::Relaxed);
                    tokens.lock().unwrap().push(token.clone());
                    for other in servers {
                        let verified = other.auth(&token);
                        assert_eq!(verified.status, 200, "{verified:?}");
                    }
                }
            });
        }
    });
    for token in tokens.into_inner().unwrap() {
        assert!(servers.iter().all(|server| server.auth(&token).status == 200), "earlier tokens");
    }
    issued.map(AtomicUsize::into_inner)
}

#[test]
fn rotation_on_three_servers_refuses_no_token() {
    let postgres = Postgres::start();
    let options = format!("[database]\nurl={}\n", postgres.url());
    let configured = |lines: &str| with_keys(lines, &options);
    let sandboxes = [(); 3].map(|()| Sandbox::new());
    let servers = sandboxes.each_ref().map(|sandbox| sandbox.serve(&configured(&before())));
    Api::root(&servers[0]).add_user("bob");
    Api::root(&servers[0]).add_environment(ENVIRONMENT);
    let done = AtomicBool::new(false);
    let apply_everywhere = |lines: &str| {
        for (sandbox, server) in sandboxes.iter().zip(&servers) {
            apply(sandbox, server, &configured(lines));
        }
    };
    let signs = |key: &str| servers.iter().all(|server| session_signer(server) == key);
    let issued = thread::scope(|scope| {
        let verifying = scope.spawn(|| verify_everywhere(&servers, &done));
        apply_everywhere(&with_next());
        assert!(signs(KEY));
        eventually(|| rotate(&sandboxes[0], &[]).status.success());
        eventually(|| signs(NEXT));
        apply_everywhere(&moved());
        assert!(signs(NEXT));
        done.store(true, Ordering::Relaxed);
        verifying.join().unwrap()
    });
    assert!(issued.iter().all(|count| *count > 0), "tokens of both keys: {issued:?}");
    let old = signed_by(KEY);
    assert!(servers.iter().all(|server| server.auth(&old).status == 200));
    apply_everywhere(&format!("key={NEXT}"));
    assert!(servers.iter().all(|server| server.auth(&old).status == 401));
}

#[test]
fn rotation_waits_for_a_server_without_the_key() {
    let postgres = Postgres::start();
    let options = format!("[database]\nurl={}\n", postgres.url());
    let configured = |lines: &str| with_keys(lines, &options);
    let sandboxes = [(); 3].map(|()| Sandbox::new());
    let [one, other, late] =
        &sandboxes.each_ref().map(|sandbox| sandbox.serve(&configured(&with_next())));
    Api::root(one).add_user("bob");
    apply(&sandboxes[2], late, &configured(&before()));
    let late_address = late.address.to_string();
    eventually(|| {
        let refused = rotate(&sandboxes[0], &[]);
        refused.code() == 1
            && refused.stderr.contains("these servers would refuse tokens")
            && refused.stderr.contains(&late_address)
    });
    let refused = rotate(&sandboxes[0], &[]);
    assert!(!refused.stderr.contains(&one.address.to_string()), "{refused:?}");
    assert_eq!(session_signer(other), KEY, "it has changed nothing");

    let forced = rotate(&sandboxes[0], &["--force"]);
    assert!(forced.text().contains("2 servers verify it"), "{forced:?}");
    assert!(forced.text().contains("these servers refuse its tokens"), "{forced:?}");
    eventually(|| [one, other].iter().all(|server| session_signer(server) == NEXT));
    eventually(|| late.metric(KNOWN) == 0);
    assert_eq!((session_signer(late), one.metric(KNOWN)), (KEY, 1), "a key that all verify");
    let missing = format!("the key in force, {}, is not configured here", id(NEXT));
    assert!(late.log().contains(&missing), "{}", late.log());
    check_doctor(one, &sandboxes[0]);
    assert_eq!([one, other].map(|server| server.auth(&signed_by(KEY)).status), [200, 200]);

    apply(&sandboxes[2], late, &configured(&with_next()));
    assert_eq!((late.metric(KNOWN), session_signer(late)), (1, NEXT));
}

/// Checks that the doctor reports the server that lacks the key in force.
fn check_doctor(server: &Server<'_>, sandbox: &Sandbox) {
    let token = fixture::token(&fixture::claims(serde_json::json!({ "urn:inmanta:ct": "agent" })));
    let port = server.address.port();
    sandbox.file(
        "client.cfg",
        format!("[agent_rest_transport]\nhost=127.0.0.1\nport={port}\ntoken={token}\n"),
    );
    let expected = format!("the signing key in force ({}) is not configured on ", id(NEXT));
    eventually(|| {
        let report = sandbox.run(["doctor", "-c", "server.cfg", "-c", "client.cfg"]);
        report.code() == 1 && report.stdout.contains(&expected)
    });
}
