use std::{
    fs,
    os::unix::{
        fs::MetadataExt as _,
        net::{UnixListener, UnixStream},
    },
    path::Path,
};

use countersign_tests::{
    binary::{Output, Sandbox},
    http::Connection,
};

use super::{assert_healthy, assert_served, auth_request, lines::request_lines};
use crate::fixture::SIGNING;

fn configuration(path: &Path, options: &str) -> String {
    format!("{SIGNING}[listener_local]\nbind=unix:{}\n{options}\n", path.display())
}

/// Runs a server that must fail to start and returns its output.
fn fail_to_start(sandbox: &Sandbox, configuration: &str) -> Output {
    let config = sandbox
        .file("bad.cfg", format!("{configuration}[server]\nbind_port=0\n[metrics]\nbind_port=0\n"));
    let output = sandbox.run(["--config", config.to_str().unwrap()]);
    assert_ne!(output.code(), 0, "{output:?}");
    output
}

#[test]
fn unix_socket_is_served_and_removed() {
    let sandbox = Sandbox::new();
    let path = sandbox.path().join("socket");
    let server = sandbox.serve(&configuration(&path, ""));
    let mut connection = Connection::over(UnixStream::connect(&path).unwrap());
    assert_served(&mut connection);
    assert_served(&mut connection);
    assert_healthy(&server);
    drop(connection);
    assert!(server.stop("TERM").0.success());
    assert!(!path.exists(), "the socket file was not removed");
}

#[test]
fn unix_socket_has_its_mode_and_group() {
    let sandbox = Sandbox::new();
    let path = sandbox.path().join("socket");
    let own = fs::metadata(sandbox.path()).unwrap().gid();
    for (options, mode) in
        [("", 0o660), ("mode=0600", 0o600), ("mode=666", 0o666), (&*format!("group={own}"), 0o660)]
    {
        let server = sandbox.serve(&configuration(&path, options));
        let file = fs::metadata(&path).unwrap();
        assert_eq!((file.mode() & 0o7777, file.gid()), (mode, own), "{options}");
        assert_served(&mut Connection::over(UnixStream::connect(&path).unwrap()));
        drop(server);
    }
}

#[test]
fn stale_unix_socket_is_replaced() {
    let sandbox = Sandbox::new();
    let path = sandbox.path().join("socket");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let server = sandbox.serve(&configuration(&path, ""));
    assert_served(&mut Connection::over(UnixStream::connect(&path).unwrap()));
    // A killed server cannot remove its socket; the next server can.
    assert!(!server.stop("KILL").0.success());
    assert!(path.exists());
    let _server = sandbox.serve(&configuration(&path, ""));
    assert_served(&mut Connection::over(UnixStream::connect(&path).unwrap()));
}

#[test]
fn foreign_files_and_sockets_are_not_replaced() {
    let sandbox = Sandbox::new();
    let path = sandbox.path().join("socket");
    let theirs = UnixListener::bind(&path).unwrap();
    let output = fail_to_start(&sandbox, &configuration(&path, ""));
    assert!(
        output.stderr.contains("cannot listen on unix:") && output.stderr.contains("bind in"),
        "{output:?}"
    );
    assert!(UnixStream::connect(&path).is_ok(), "the socket of another process was removed");
    drop(theirs);

    let file = sandbox.file("file", "precious");
    fail_to_start(&sandbox, &configuration(&file, ""));
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    let link = sandbox.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    fail_to_start(&sandbox, &configuration(&link, ""));
    assert!(
        link.symlink_metadata().unwrap().is_symlink() && path.exists(),
        "a symbolic link must not be followed"
    );
}

#[test]
fn unix_peer_is_trusted_only_as_unix() {
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
        connection.send_raw(auth_request("X-Forwarded-For: 198.51.100.7\r\n").as_bytes());
        assert_eq!(connection.receive(false).status, 200);
        assert_eq!(request_lines(&server, 1)[0]["client"], client, "{options}");
    }
}
