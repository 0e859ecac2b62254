//! What a tier reads from a server that is not ours, and what a server does with a client that is
//! not.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt, chown},
        net::{UnixListener, UnixStream},
        process::CommandExt as _,
    },
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use countersign_server::base::clock::since_boot;
use countersign_tests::{binary::Sandbox, eventually};
use serde_json::json;

use super::{
    check_token, configuration, doctor, outage::start_nginx, revoke, socket, start, with_feed,
};
use crate::fixture;

/// A server that writes the same lines to each client, and leaves the connection open.
struct ScriptedServer {
    script: Arc<Mutex<Vec<u8>>>,
    connections: Arc<AtomicUsize>,
}

impl ScriptedServer {
    fn start(sandbox: &Sandbox) -> Self {
        let listener = UnixListener::bind(socket(sandbox)).unwrap();
        let server = Self { script: Arc::default(), connections: Arc::default() };
        let (script, connections) = (Arc::clone(&server.script), Arc::clone(&server.connections));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let lines = script.lock().unwrap().clone();
                connections.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || serve(stream, &lines));
            }
        });
        server
    }

    /// Writes these lines to all later clients.
    fn write(&self, lines: impl AsRef<[u8]>) {
        *self.script.lock().unwrap() = lines.as_ref().to_vec();
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn serve(mut stream: UnixStream, lines: &[u8]) {
    // An error if the client has left, which it may.
    if stream.write_all(lines).is_ok() {
        let _left = stream.read(&mut [0]);
    }
}

fn hello(generation: u64) -> String {
    format!("{{\"hello\":{{\"version\":3,\"run\":\"r\",\"generation\":{generation}}}}}\n")
}

/// Returns a line with this time, in milliseconds after the present one.
fn state(kind: &str, generation: u64, ahead: i128) -> String {
    let at = since_boot().as_millis().saturating_add_signed(ahead);
    format!(
        "{{\"{kind}\":{{\"generation\":{generation},\"at\":{at},\"available\":true,\
         \"revocations\":0}}}}\n"
    )
}

#[test]
fn lines_of_another_server_verify_no_token() {
    let (sandbox, good) = (Sandbox::new(), fixture::good_token());
    let server = ScriptedServer::start(&sandbox);
    let scripts = [
        b"\n".to_vec(),
        b"HTTP/1.1 200 OK\r\n\r\n".to_vec(),
        b"\0\xff\n".to_vec(),
        vec![b'x'; 9 << 20],
        hello(7).replace(":3,", ":1,").into(),
        hello(7).repeat(2).into(),
        state("complete", 7, 0).into(),
        format!("{}{}", hello(7), state("alive", 7, 0)).into(),
        format!("{}{}", hello(7), state("complete", 8, 0)).into(),
        format!("{}{}", hello(7), state("complete", 7, 60_000)).into(),
        format!("{}{{\"revocation\":{{\"revocation\":{{}}}}}}\n", hello(7)).into(),
        format!("{}{}", hello(7), state("complete", 7, 0).replace("true", "1")).into(),
    ];
    server.write(&scripts[0]);
    let tier = start(&sandbox, &with_feed(&sandbox, fixture::SIGNING));
    for script in scripts {
        server.write(&script);
        // The first of these connections may have the script before.
        let before = server.connections();
        eventually(|| server.connections() >= before + 3);
        let shown = String::from_utf8_lossy(&script[..script.len().min(80)]).into_owned();
        assert!(!tier.is_ready(), "{shown}");
    }
    server.write(format!("{}{}", hello(7), state("complete", 7, 0)));
    eventually(|| tier.is_ready());
    assert_eq!(check_token(&tier, &good), 200);
}

#[test]
fn stale_feed_is_logged_with_its_reason() {
    let sandbox = Sandbox::new();
    let server = ScriptedServer::start(&sandbox);
    server.write(hello(7));
    let nginx = start_nginx(&with_feed(&sandbox, fixture::SIGNING));
    let is_logged = |text: &str| nginx.running.log().contains(text);
    eventually(|| {
        is_logged("not been received yet: the snapshot is not complete: its last line arrived")
    });
    // As written on a machine with another clock.
    server.write(format!("{}{}", hello(7), state("complete", 7, -60_000)));
    eventually(|| is_logged("s old when they are read, by the clock of this process"));
    server.write(format!("{}{}", hello(7), state("complete", 7, 60_000)));
    eventually(|| is_logged("is from the future, by the clock of this process"));
    assert!(!is_logged("is current again"));
    server.write(format!("{}{}", hello(7), state("complete", 7, 0)));
    eventually(|| is_logged("is current again"));
    // It writes nothing more.
    eventually(|| is_logged("(max_staleness): the server is silent"));
}

#[test]
fn missed_change_is_read_again() {
    let sandbox = Sandbox::new();
    let server = ScriptedServer::start(&sandbox);
    let snapshot = || format!("{}{}", hello(7), state("complete", 7, 0));
    server.write(format!("{}{}", snapshot(), state("alive", 9, 0)));
    let tier = start(&sandbox, &with_feed(&sandbox, fixture::SIGNING));
    eventually(|| server.connections() >= 3);
    assert!(tier.is_ready(), "it knows the snapshot");
}

/// Serves a good snapshot as another user, and counts its clients in a file.
const SERVER_OF_ANOTHER_USER: &str = r#"
import os, socket, sys, time
os.umask(0)
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen(8)
clients = []
while True:
    client, _ = listener.accept()
    at = int(time.monotonic() * 1000)
    with open(sys.argv[2], "a") as count:
        count.write("x")
    try:
        client.sendall(
            b'{"hello":{"version":3,"run":"r","generation":0}}\n'
            b'{"complete":{"generation":0,"at":%d,"available":true,"revocations":0}}\n' % at
        )
        clients.append(client)
    except BrokenPipeError:
        pass
"#;

/// A user without rights.
const OTHER_USER: u32 = 65534;

/// Whether the test can start a process of another user.
fn is_root() -> bool {
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

/// A process that is ended with the test.
struct EndedProcess(Child);

impl Drop for EndedProcess {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn server_of_another_user_is_not_trusted() {
    if !is_root() {
        return;
    }
    let sandbox = Sandbox::new();
    std::fs::set_permissions(sandbox.path(), PermissionsExt::from_mode(0o770)).unwrap();
    let count = sandbox.path().join("count");
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", SERVER_OF_ANOTHER_USER]).arg(socket(&sandbox)).arg(&count).uid(OTHER_USER);
    let _server = EndedProcess(command.stdin(Stdio::null()).spawn().unwrap());
    eventually(|| socket(&sandbox).exists());
    let tier = start(&sandbox, &with_feed(&sandbox, fixture::SIGNING));
    let clients = || std::fs::read(&count).unwrap_or_default().len();
    eventually(|| clients() >= 3);
    assert!(!tier.is_ready());
    let output = doctor::run(&sandbox, &["embedded.cfg"]);
    let expected = "WRONG  the server is not trusted, because it runs as user 65534 instead of 0: ";
    assert!(output.stdout.contains(expected), "{output:?}");
    // The owner of the directory could replace the socket.
    chown(sandbox.path(), Some(OTHER_USER), None).unwrap();
    eventually(|| tier.is_ready());
}

#[test]
fn clients_of_the_feed_are_bounded() {
    let sandbox = Sandbox::new();
    let configuration = with_feed(&sandbox, &configuration());
    let server = sandbox.serve(&configuration);
    let tier = start(&sandbox, &configuration);
    assert_eq!(check_token(&tier, &fixture::good_token()), 200);
    let connect = || UnixStream::connect(socket(&sandbox)).unwrap();
    // One that does not send requests is disconnected.
    let mut sending = connect();
    sending.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut read = String::new();
    drop(sending.read_to_string(&mut read));
    let sent = "countersign_feed_disconnected_total{reason=\"sent\"}";
    eventually(|| server.metric(sent) == 1);
    // Many that read.
    let mut reading: Vec<_> = (0..300).map(|_| BufReader::new(connect())).collect();
    for client in &mut reading {
        let mut line = String::new();
        client.read_line(&mut line).unwrap();
        assert!(line.starts_with("{\"hello\":{\"version\":3,\"run\":\""), "{line}");
    }
    assert_eq!(server.metric("countersign_feed_clients"), 301);
    // None of them reads what follows: more than a socket holds.
    for number in 0..60 {
        let subject = format!("{number}-{}", "s".repeat(12_000));
        let body = json!({ "issuer": fixture::ISSUER, "subject": subject }).to_string();
        assert_eq!(revoke(&server, &body).status, 200);
    }
    let slow = "countersign_feed_disconnected_total{reason=\"slow\"}";
    eventually(|| server.metric(slow) == 300);
    eventually(|| server.metric("countersign_feed_clients") == 1);
    let _many: Vec<_> = (0..520).map(|_| connect()).collect();
    // The tier, too, if it has found the server silent: their snapshots keep it busy for a moment.
    eventually(|| server.metric(OF_USER) >= 9);
    eventually(|| tier.is_ready());
}

/// Connections that were closed because their user has too many.
const OF_USER: &str = "countersign_feed_disconnected_total{reason=\"user_limit\"}";

/// Prints the first line of the feed as another user.
const CLIENT_OF_ANOTHER_USER: &str = r#"
import socket, sys
client = socket.socket(socket.AF_UNIX)
client.connect(sys.argv[1])
print(client.makefile().readline(), end="")
"#;

#[test]
fn user_cannot_take_all_places_of_the_feed() {
    let sandbox = Sandbox::new();
    std::fs::set_permissions(sandbox.path(), PermissionsExt::from_mode(0o770)).unwrap();
    let server = sandbox.serve(&with_feed(&sandbox, fixture::SIGNING));
    let connect = |_| UnixStream::connect(socket(&sandbox)).unwrap();
    let many: Vec<_> = (0..600).map(connect).collect();
    eventually(|| server.metric(OF_USER) == 88);
    assert_eq!(server.metric("countersign_feed_clients"), 512);
    assert_eq!(server.log().matches("the limit of one user").count(), 1);
    if is_root() {
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-c", CLIENT_OF_ANOTHER_USER]).arg(socket(&sandbox)).uid(OTHER_USER);
        let output = command.output().unwrap();
        assert!(output.stdout.starts_with(b"{\"hello\":"), "{output:?}");
    }
    drop(many);
    eventually(|| server.metric("countersign_feed_clients") == 0);
    let mut line = String::new();
    BufReader::new(connect(0)).read_line(&mut line).unwrap();
    assert!(line.starts_with("{\"hello\":"), "{line}");
}
