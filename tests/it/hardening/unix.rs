use std::{
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
};

use countersign_tests::{
    binary::{Output, Sandbox},
    http::Connection,
};

use super::{lines::request_lines, question, served, unharmed};
use crate::given::SIGNING;

fn configuration(path: &Path, options: &str) -> String {
    format!("{SIGNING}[listener_local]\nbind=unix:{}\n{options}\n", path.display())
}

/// What a server says that cannot be started.
fn fails(sandbox: &Sandbox, configuration: &str) -> Output {
    let config = sandbox
        .file("bad.cfg", format!("{configuration}[server]\nbind_port=0\n[metrics]\nbind_port=0\n"));
    let output = sandbox.run(["--config", config.to_str().unwrap()]);
    assert_ne!(output.code(), 0, "{output:?}");
    output
}

#[test]
fn a_unix_socket_is_listened_on_and_taken_away_again() {
    let sandbox = Sandbox::new();
    let path = sandbox.path().join("socket");
    let server = sandbox.serve(&configuration(&path, ""));
    let mut connection = Connection::over(UnixStream::connect(&path).unwrap());
    served(&mut connection);
    served(&mut connection);
    unharmed(&server);
    drop(connection);
    assert!(server.stop("TERM").0.success());
    assert!(!path.exists(), "left behind");
}

#[test]
fn a_socket_that_was_left_behind_is_replaced() {
    let sandbox = Sandbox::new();
    let path = sandbox.path().join("socket");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let server = sandbox.serve(&configuration(&path, ""));
    served(&mut Connection::over(UnixStream::connect(&path).unwrap()));
    // Killed, it cannot clean up; whoever comes next can.
    assert!(!server.stop("KILL").0.success());
    assert!(path.exists());
    let _server = sandbox.serve(&configuration(&path, ""));
    served(&mut Connection::over(UnixStream::connect(&path).unwrap()));
}

#[test]
fn what_is_somebody_elses_stays() {
    let sandbox = Sandbox::new();
    let path = sandbox.path().join("socket");
    let theirs = UnixListener::bind(&path).unwrap();
    let output = fails(&sandbox, &configuration(&path, ""));
    assert!(
        output.stderr.contains("cannot listen on unix:") && output.stderr.contains("bind in"),
        "{output:?}"
    );
    assert!(UnixStream::connect(&path).is_ok(), "the socket of another process was removed");
    drop(theirs);

    let file = sandbox.file("file", "precious");
    fails(&sandbox, &configuration(&file, ""));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    let link = sandbox.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    fails(&sandbox, &configuration(&link, ""));
    assert!(
        link.symlink_metadata().unwrap().is_symlink() && path.exists(),
        "a link is not followed"
    );
}

#[test]
fn the_other_end_of_a_unix_socket_is_believed_by_name_only() {
    for (options, client) in [
        ("trusted_proxies=unix", "198.51.100.7"),
        ("trusted_proxies=0.0.0.0/0, ::/0", "unix"),
        ("", "unix"),
    ] {
        let sandbox = Sandbox::new();
        let path = sandbox.path().join("socket");
        let server = sandbox
            .serve(&configuration(&path, &format!("{options}\n[log]\nrequests=all\nformat=json")));
        let mut connection = Connection::over(UnixStream::connect(&path).unwrap());
        connection.send_raw(question("X-Forwarded-For: 198.51.100.7\r\n").as_bytes());
        assert_eq!(connection.receive(false).status, 200);
        assert_eq!(request_lines(&server, 1)[0]["client"], client, "{options}");
    }
}
