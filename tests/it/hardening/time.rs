use std::{
    io::{ErrorKind, Write as _},
    net::{Shutdown, TcpStream},
    os::unix::net::UnixStream,
    time::Duration,
};

use countersign_tests::{
    binary::Sandbox,
    certificates::Authority,
    http::Connection,
    openssl::SigningKey,
    providers::{Answer, JwksServer},
    tls::{Client, Wishes},
};
use rustls::StreamOwned;

use super::{kilobytes, refused, served, unharmed, with_limits};
use crate::given::{self, SIGNING};

/// Sends a byte now and then until there is an answer, or an end.
#[track_caller]
fn drip(connection: &mut Connection, byte: u8) {
    let wait = |stream: &TcpStream, millis| {
        stream.set_read_timeout(Some(Duration::from_millis(millis))).unwrap()
    };
    wait(connection.stream(), 100);
    for _ in 0..300 {
        match connection.wait() {
            Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => {
                // It may have been refused in this moment.
                let _refused = connection.stream().write(&[byte]);
            }
            _ => return wait(connection.stream(), 20_000),
        }
    }
    panic!("bytes now and then were waited for during 30 s");
}

#[test]
fn a_head_that_takes_too_long_is_refused_however_it_goes_on() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&with_limits("head_timeout=1"));
    std::thread::scope(|scope| {
        for start in ["G", "\r\n", "GET /auth HTTP/1.1\r\nHost: t\r\nX: "] {
            let server = &server;
            scope.spawn(move || {
                let (mut silent, mut dripping) =
                    (Connection::open(server.address), Connection::open(server.address));
                served(&mut dripping);
                silent.send_raw(start.as_bytes());
                dripping.send_raw(start.as_bytes());
                drip(&mut dripping, b'x');
                refused(&mut dripping, 408, "head_timeout");
                refused(&mut silent, 408, "head_timeout");
            });
        }
    });
    unharmed(&server);
}

#[test]
fn a_body_that_takes_too_long_is_refused_however_it_goes_on() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&with_limits("body_timeout=1"));
    std::thread::scope(|scope| {
        for start in [
            "Content-Length: 1000\r\n\r\nabc",
            "Transfer-Encoding: chunked\r\n\r\n3e8\r\nabc",
            "Content-Length: 1000\r\n\r\n",
        ] {
            let server = &server;
            scope.spawn(move || {
                let head = format!("POST /v1/verify HTTP/1.1\r\nHost: t\r\n{start}");
                let (mut silent, mut dripping) =
                    (Connection::open(server.address), Connection::open(server.address));
                silent.send_raw(head.as_bytes());
                dripping.send_raw(head.as_bytes());
                drip(&mut dripping, b'x');
                refused(&mut dripping, 408, "body_timeout");
                refused(&mut silent, 408, "body_timeout");
            });
        }
    });
    unharmed(&server);
}

#[test]
fn an_idle_connection_ends_without_a_word() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&with_limits("idle_timeout=1"));
    let (mut fresh, mut used) =
        (Connection::open(server.address), Connection::open(server.address));
    served(&mut used);
    assert!(fresh.is_closed() && used.is_closed());
    // While one that is busy now and then goes on.
    let mut busy = Connection::open(server.address);
    for _ in 0..8 {
        std::thread::sleep(Duration::from_millis(300));
        served(&mut busy);
    }
    unharmed(&server);
}

#[test]
fn an_idle_connection_under_tls_ends_with_a_word_of_tls() {
    let sandbox = Sandbox::new();
    let authority = Authority::root("ours");
    authority.server().write(sandbox.path());
    let tls = "[server]\nssl_cert_file=tls.crt\nssl_key_file=tls.key\n";
    let server = sandbox.serve(&format!("{}{tls}", with_limits("idle_timeout=1")));
    let client = Client::new(&authority, &Wishes::default());
    let mut idle = Connection::over(StreamOwned::new(
        client.connection(),
        TcpStream::connect(server.address).unwrap(),
    ));
    served(&mut idle);
    assert!(idle.is_closed(), "by an end, not by a break");
}

/// How a record of TLS begins that says what is wrong.
const ALERT: &[u8] = b"\x15\x03\x03";
/// A header of the PROXY protocol, of a proxy that wants to see whether we answer.
const PROXY: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

#[test]
fn what_comes_before_the_first_request_has_its_time_too() {
    let sandbox = Sandbox::new();
    let authority = Authority::root("ours");
    authority.server().write(sandbox.path());
    let options = "[server]\nssl_cert_file=tls.crt\nssl_key_file=tls.key\n[listen]\nproxy_protocol=true\ntrusted_proxies=127.0.0.1\n";
    let server = sandbox.serve(&format!("{}{options}", with_limits("head_timeout=1")));
    let address = server.address;
    std::thread::scope(|scope| {
        for start in [
            Vec::new(),
            PROXY[..13].to_vec(),
            PROXY.to_vec(),
            [PROXY, b"\x16\x03\x01\x02\0"].concat(),
        ] {
            scope.spawn(move || {
                let (mut silent, mut dripping) =
                    (Connection::open(address), Connection::open(address));
                silent.send_raw(&start);
                dripping.send_raw(&start);
                drip(&mut dripping, 0);
                // At most that this is no TLS.
                let said = dripping.receive_all();
                assert!(said.is_empty() || said.starts_with(ALERT), "{start:?} {said:?}");
                assert!(silent.is_closed(), "{start:?}");
            });
        }
    });
}

/// Sends questions and reads no answer until the server has had enough.
#[track_caller]
fn never_read(mut stream: impl std::io::Write) {
    const MOST: usize = 1 << 30;
    let questions = "GET /auth HTTP/1.1\r\nHost: t\r\n\r\nGET /nothing HTTP/1.1\r\nHost: t\r\n\r\n"
        .repeat(1000);
    let mut sent = 0;
    let error = loop {
        match stream.write_all(questions.as_bytes()) {
            Ok(()) => sent += questions.len(),
            Err(error) => break error,
        }
        assert!(sent < MOST, "there is no end");
    };
    assert!(
        ![ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()),
        "the connection was not ended: {error}"
    );
}

#[test]
fn who_never_reads_answers_is_cut_off_and_costs_little() {
    const MOST: u64 = 64 * 1024;
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&with_limits("body_timeout=1"));
    served(&mut Connection::open(server.address));
    let before = kilobytes(&server, "VmHWM");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let stream = TcpStream::connect(server.address).unwrap();
                stream.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
                never_read(stream);
            });
        }
    });
    let after = kilobytes(&server, "VmHWM");
    assert!(after < before + MOST, "{before} KiB grew to {after} KiB");
    unharmed(&server);
}

#[test]
fn who_never_reads_answers_under_tls_is_cut_off_and_costs_little() {
    const MOST: u64 = 64 * 1024;
    let sandbox = Sandbox::new();
    let authority = Authority::root("ours");
    authority.server().write(sandbox.path());
    let tls = "[server]\nssl_cert_file=tls.crt\nssl_key_file=tls.key\n";
    let server = sandbox.serve(&format!("{}{tls}", with_limits("body_timeout=1")));
    let client = Client::new(&authority, &Wishes::default());
    assert_eq!(client.ask(server.address, "GET /healthz HTTP/1.1\r\n").unwrap().0.status, 200);
    let before = kilobytes(&server, "VmHWM");
    let stream = TcpStream::connect(server.address).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
    never_read(StreamOwned::new(client.connection(), stream));
    let after = kilobytes(&server, "VmHWM");
    assert!(after < before + MOST, "{before} KiB grew to {after} KiB");
}

#[test]
fn who_reads_answers_late_gets_all_of_them() {
    let sandbox = Sandbox::new();
    let authority = Authority::root("ours");
    authority.server().write(sandbox.path());
    let (plain, tls) = (sandbox.path().join("plain"), sandbox.path().join("tls"));
    let server = sandbox.serve(&format!(
        "{SIGNING}[listener_plain]\nbind=unix:{}\n[listener_tls]\nbind=unix:{}\nssl_cert_file=tls.crt\nssl_key_file=tls.key\n",
        plain.display(),
        tls.display()
    ));
    let client = Client::new(&authority, &Wishes::default());
    // What the system takes has an end, and so has what TLS takes: both are met.
    for questions in (200..2000).step_by(150) {
        let open = |path| {
            let stream = UnixStream::connect(path).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            stream
        };
        let mut late = Connection::over(open(&plain));
        late_reader(&mut late, questions);
        let mut late = Connection::over(StreamOwned::new(client.connection(), open(&tls)));
        late_reader(&mut late, questions);
    }
    unharmed(&server);
}

fn late_reader<S: std::io::Read + std::io::Write>(
    connection: &mut Connection<S>,
    questions: usize,
) {
    served(connection);
    connection.send_raw("GET /auth HTTP/1.1\r\nHost: t\r\n\r\n".repeat(questions).as_bytes());
    // The server has done what it can by then, or else the test proves less.
    std::thread::sleep(Duration::from_millis(50));
    for nth in 0..questions {
        connection.wait().unwrap_or_else(|error| panic!("{nth} of {questions}: {error}"));
        assert_eq!(connection.receive(false).status, 401);
    }
    served(connection);
}

#[test]
fn what_follows_an_answer_that_takes_long_comes_behind_it() {
    let [old, new] = ["old", "new"].map(|kid| SigningKey::generate("ES256", kid));
    let provider = JwksServer::start(&given::key_set(&[&old]));
    let sandbox = Sandbox::new();
    let server =
        sandbox.serve(&given::with_idp("ES256", &format!("jwks_uri={}\n", provider.uri())));
    provider.behave(Answer::json(&given::key_set(&[&old, &new])).late(Duration::from_millis(300)));
    let token = new.token(&given::claims_of("https://idp/"));
    let mut connection = Connection::open(server.address);
    connection.send_raw(
        format!(
            "GET /auth HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {token}\r\n\r\n\
             GET /auth HTTP/1.1\r\nHost: t\r\n\r\nGET /healthz HTTP/1.1\r\nHost: t\r\n\r\n"
        )
        .as_bytes(),
    );
    connection.stream().shutdown(Shutdown::Write).unwrap();
    assert_eq!([(); 3].map(|()| connection.receive(false).status), [200, 401, 200]);
    assert!(connection.is_closed());
}
