//! The check of the feed by `countersign doctor`, which follows it as a tier does.

use std::os::unix::fs::PermissionsExt;

use countersign_tests::binary::{Output, Sandbox, Server};

use super::{socket, with_feed};
use crate::fixture;

/// Runs the command with these files of the sandbox.
pub(super) fn run(sandbox: &Sandbox, files: &[&str]) -> Output {
    let files = files.iter().map(|name| sandbox.path().join(name).display().to_string());
    sandbox.run(
        ["doctor".to_owned()]
            .into_iter()
            .chain(files.flat_map(|file| ["--config".to_owned(), file])),
    )
}

/// Runs the command with the configuration of a server.
fn run_for(sandbox: &Sandbox, server: &Server<'_>) -> Output {
    let port = server.address.port();
    let transport = format!("[client_rest_transport]\nhost=127.0.0.1\nport={port}\n");
    sandbox.replace("transport.cfg", transport);
    run(sandbox, &["server.cfg", "ports.cfg", "transport.cfg"])
}

/// Whether a problem with the feed was found.
fn is_feed_wrong(output: &Output) -> bool {
    output.stdout.split_once("[feed]").unwrap().1.contains("WRONG")
}

#[test]
fn doctor_reads_the_first_lines_of_the_feed() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&with_feed(&sandbox, fixture::SIGNING));
    let output = run_for(&sandbox, &server);
    for line in [
        "  OK     the server has the feed for tiers in proxies, and tiers trust its user, ",
        "  OK     the server has this configuration",
        ", mode 0660\n",
    ] {
        assert!(output.stdout.contains(line), "{line}: {output:?}");
    }
    std::fs::remove_file(socket(&sandbox)).unwrap();
    let output = run_for(&sandbox, &server);
    assert!(output.stdout.contains("  WRONG  cannot connect"), "{output:?}");
    assert_eq!(output.code(), 1);
}

#[test]
fn doctor_names_sections_that_differ_in_the_feed() {
    let sandbox = Sandbox::new();
    let configuration = with_feed(&sandbox, fixture::SIGNING);
    let server = sandbox.serve(&configuration);
    let other = format!("{configuration}[limits]\nbad_signatures_per_core=50\n");
    sandbox.replace("server.cfg", other);
    let output = run_for(&sandbox, &server);
    let expected = "  CHECK  the server has another configuration: different: [limits]\n";
    assert!(output.stdout.contains(expected), "{output:?}");
    assert!(!is_feed_wrong(&output), "it may be intended: {output:?}");
}

#[test]
fn doctor_checks_who_may_replace_the_feed() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&format!("{}mode=0666\n", with_feed(&sandbox, fixture::SIGNING)));
    let output = run_for(&sandbox, &server);
    assert!(output.stdout.contains("  CHECK  all users may connect to the socket"), "{output:?}");
    assert!(!is_feed_wrong(&output), "{output:?}");
    std::fs::set_permissions(sandbox.path(), PermissionsExt::from_mode(0o1777)).unwrap();
    let output = run_for(&sandbox, &server);
    assert!(output.stdout.contains("  WRONG  all users may write to"), "{output:?}");
    assert!(output.stdout.contains(", mode 1777\n"), "{output:?}");
    assert_eq!(output.code(), 1);
}

#[test]
fn doctor_does_not_wait_long_for_a_stopped_server() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&with_feed(&sandbox, fixture::SIGNING));
    server.signal("STOP");
    let output = run_for(&sandbox, &server);
    server.signal("CONT");
    for line in
        [" did not answer within 4 s\n", "  WRONG  the server has written nothing to the feed"]
    {
        assert!(output.stdout.contains(line), "{line}: {output:?}");
    }
    assert_eq!(output.code(), 1);
}
