use std::{net::TcpStream, time::Duration};

use countersign_tests::{
    binary::Sandbox,
    certificates::{Authority, ours},
    eventually,
    frames::{Frame, PREFACE, Raw, code, flag, kind, setting},
    http::Connection,
    tls::{Client, Wishes},
};
use rustls::StreamOwned;

use super::{end, question, serve, served, told_to_go, unharmed, verify};
use crate::given::{self, SIGNING};

#[test]
fn settings_say_what_a_client_may_do() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    let mut raw = Raw::open(server.address, &[]);
    let settings = raw.receive().expect("settings come first");
    assert_eq!((settings.kind, settings.flags), (kind::SETTINGS, flag::NONE));
    assert_eq!(settings.setting(setting::MAX_CONCURRENT_STREAMS), Some(128));
    assert_eq!(settings.setting(setting::MAX_HEADER_LIST_SIZE), Some(32 * 1024));
    raw.receive_of(kind::SETTINGS, 0);
    raw.send(&[Frame::new(kind::PING, flag::NONE, 0, *b"whatever")]);
    let pong = raw.receive_of(kind::PING, 0);
    assert_eq!((pong.flags, &*pong.payload), (flag::ACK, &b"whatever"[..]));
}

#[test]
fn a_preface_is_recognized_in_whatever_pieces_it_comes() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    let bytes = [PREFACE, &Frame::settings(&[]).bytes(), &question(1).bytes()].concat();
    for size in [1, 2, 7, 23, 24, 25, 33, 40] {
        let stream = TcpStream::connect(server.address).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut raw = Raw::over(stream);
        for piece in bytes.chunks(size) {
            // Otherwise they may arrive together.
            std::thread::sleep(Duration::from_millis(1));
            raw.send_raw(piece);
        }
        assert_eq!(raw.receive_of(kind::HEADERS, 1).stream, 1, "{size} at a time");
    }
    // What only begins like it is HTTP/1.
    for method in ["P", "PR", "PRI", "PRIV", "PROPFIND", "GET"] {
        let mut connection = Connection::open(server.address);
        for byte in format!("{method} /auth HTTP/1.1\r\nHost: t\r\n\r\n").bytes() {
            connection.send_raw(&[byte]);
        }
        assert_eq!(connection.receive(false).status, 401, "{method}");
    }
    let mut connection = Connection::open(server.address);
    connection.send_raw(b"PRI * HTTP/2.0\r\n\r\nMS\r\n\r\n");
    assert_eq!(connection.receive(false).status, 505);
}

#[test]
fn a_listener_speaks_what_it_was_told_to_speak() {
    let sandbox = Sandbox::new();
    let only =
        |protocols: &str| sandbox.serve(&format!("{SIGNING}[listen]\nprotocols={protocols}\n"));
    {
        let server = only("http/1.1");
        let mut connection = Connection::open(server.address);
        connection.send_raw(&[PREFACE, &question(1).bytes()].concat());
        assert_eq!(connection.receive(false).status, 505);
        assert!(connection.is_closed());
    }
    let server = only("h2");
    served(&mut Raw::open(server.address, &[]), 1);
    for bytes in [
        "GET /auth HTTP/1.1\r\nHost: t\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nMS\r\n\r\n",
        "\x16\x03\x01\x02",
    ] {
        let mut connection = Connection::open(server.address);
        connection.send_raw(bytes.as_bytes());
        // It may have been hung up on already.
        let _not_connected = connection.stream().shutdown(std::net::Shutdown::Write);
        let said = String::from_utf8_lossy(&connection.receive_all()).into_owned();
        assert!(!said.contains("HTTP/1"), "{bytes:?}: {said:?}");
    }
    unharmed(&server);
}

#[test]
fn under_tls_a_client_gets_what_it_was_promised() {
    let sandbox = Sandbox::new();
    ours().1.write(sandbox.path());
    let tls = "[server]\nssl_cert_file=tls.crt\nssl_key_file=tls.key\n";
    let trusting =
        |protocols: &[&str]| Client::new(&ours().0, &Wishes { protocols, ..Wishes::default() });
    for (spoken, offered, chosen) in [
        ("http/1.1, h2", &["http/1.1", "h2"][..], Some(&b"h2"[..])),
        ("h2, http/1.1", &["h2", "http/1.1"], Some(b"h2")),
        ("http/1.1, h2", &["http/1.1"], Some(b"http/1.1")),
        ("http/1.1", &["h2", "http/1.1"], Some(b"http/1.1")),
        ("h2", &["http/1.1", "h2"], Some(b"h2")),
        ("h2", &["http/1.1"], None),
        ("http/1.1", &["h2"], None),
        ("http/1.1, h2", &["h3"], None),
    ] {
        let server = sandbox.serve(&format!("{SIGNING}{tls}[listen]\nprotocols={spoken}\n"));
        let mut stream = TcpStream::connect(server.address).unwrap();
        let mut tls = trusting(offered).connection();
        let shaken = tls.complete_io(&mut stream);
        assert_eq!(
            shaken.is_ok().then(|| tls.alpn_protocol()).flatten(),
            chosen,
            "{offered:?} of {spoken}: {shaken:?}"
        );
        let stream = StreamOwned::new(tls, stream);
        match chosen {
            Some(b"h2") => {
                let mut raw = Raw::over(stream);
                raw.begin(&[]);
                served(&mut raw, 1);
            }
            Some(_) => {
                let mut connection = Connection::over(stream);
                connection.send("GET /auth HTTP/1.1\r\n", b"");
                assert_eq!(connection.receive(false).status, 401);
            }
            None => assert!(shaken.unwrap_err().to_string().contains("NoApplicationProtocol")),
        }
    }
}

#[test]
fn a_client_that_was_promised_one_version_cannot_speak_another() {
    let sandbox = Sandbox::new();
    let authority = Authority::root("theirs");
    authority.server().write(sandbox.path());
    let tls = "[server]\nssl_cert_file=tls.crt\nssl_key_file=tls.key\n";
    let server = sandbox.serve(&format!("{SIGNING}{tls}[listen]\nprotocols=http/1.1, h2\n"));
    let open = |protocol: &str| {
        let client =
            Client::new(&authority, &Wishes { protocols: &[protocol], ..Wishes::default() });
        StreamOwned::new(client.connection(), TcpStream::connect(server.address).unwrap())
    };
    let mut connection = Connection::over(open("h2"));
    connection.send("GET /auth HTTP/1.1\r\n", b"");
    assert!(!String::from_utf8_lossy(&connection.receive_all()).contains("HTTP/1"));
    let mut connection = Connection::over(open("http/1.1"));
    connection.send_raw(PREFACE);
    assert_eq!(connection.receive(false).status, 505);
}

#[test]
fn an_idle_connection_is_told_that_it_ends() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "[limits]\nidle_timeout=1");
    let (mut fresh, mut used) = (Raw::open(server.address, &[]), Raw::open(server.address, &[]));
    served(&mut used, 1);
    told_to_go(&mut fresh, code::NO_ERROR);
    told_to_go(&mut used, code::NO_ERROR);
    // While one that is busy now and then goes on.
    let mut busy = Raw::open(server.address, &[]);
    for number in 0..8 {
        std::thread::sleep(Duration::from_millis(300));
        served(&mut busy, 2 * number + 1);
    }
}

#[test]
fn who_says_nothing_or_half_of_a_preface_is_not_waited_for() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "[limits]\nhead_timeout=1\nidle_timeout=1");
    for start in [&b""[..], b"P", &PREFACE[..23], PREFACE] {
        let mut connection = Connection::open(server.address);
        connection.send_raw(start);
        let said = String::from_utf8_lossy(&connection.receive_all()).into_owned();
        assert!(!said.contains("200"), "{start:?}: {said:?}");
    }
    unharmed(&server);
}

#[test]
fn a_server_that_stops_says_so_and_finishes_what_it_has() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "[limits]\ndrain_timeout=60");
    let (mut busy, mut idle) = (Raw::open(server.address, &[]), Raw::open(server.address, &[]));
    served(&mut idle, 1);
    busy.send(&[verify(1), Frame::new(kind::DATA, flag::NONE, 1, "a.")]);
    // Answered behind it, so it has been read.
    served(&mut busy, 3);
    server.signal("TERM");
    told_to_go(&mut idle, code::NO_ERROR);
    eventually(|| TcpStream::connect(server.address).is_err());
    assert_eq!(busy.receive_of(kind::GOAWAY, 0).code(), code::NO_ERROR);
    busy.send(&[end(1, "b.c")]);
    assert_eq!(busy.answer(1), 401);
    busy.receive_all();
    assert_eq!(server.stop("CONT").0.code(), Some(0));
}

#[test]
fn questions_that_are_on_their_way_when_a_server_stops_are_answered() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "[limits]\ndrain_timeout=60");
    let mut connections: Vec<_> = (0..10).map(|_| Raw::open(server.address, &[])).collect();
    connections.iter_mut().for_each(|raw| served(raw, 1));
    std::thread::scope(|scope| {
        let asking: Vec<_> = connections
            .into_iter()
            .map(|mut raw| scope.spawn(move || ask_to_the_end(&mut raw)))
            .collect();
        server.signal("TERM");
        for client in asking {
            client.join().expect("a question was not answered");
        }
    });
    assert_eq!(server.stop("CONT").0.code(), Some(0));
}

/// Asks until it is told which request was the last, and checks that each was answered
/// up to that one.
fn ask_to_the_end(raw: &mut Raw) {
    let (mut asked, mut answered, mut last) = (1, 1, u32::MAX);
    let mut sends = true;
    while answered < asked || sends {
        if sends {
            asked += 2;
            // It may have hung up when it was done.
            sends = raw.try_send(&[question(asked)]).is_ok();
        }
        match raw.receive() {
            Some(frame) if frame.kind == kind::HEADERS => {
                assert_eq!((frame.status(), frame.stream), (401, answered + 2));
                answered = frame.stream;
            }
            Some(frame) if frame.kind == kind::GOAWAY => {
                assert_eq!(frame.code(), code::NO_ERROR);
                last = last.min(u32::from_be_bytes(*frame.payload.first_chunk().unwrap()));
            }
            // To which it is answered that nothing more is on its way.
            Some(frame) if frame.kind == kind::PING => {
                sends = raw.try_send(&[Frame { flags: flag::ACK, ..frame }]).is_ok();
            }
            Some(_) => {}
            None => break,
        }
    }
    assert!(
        answered >= last.min(asked),
        "{answered} answered, {asked} asked, the last one was to be {last}"
    );
}

#[test]
fn who_goes_on_asking_when_told_to_go_does_not_keep_a_server_from_stopping() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "[limits]\ndrain_timeout=3600");
    let mut raw = Raw::open(server.address, &[]);
    served(&mut raw, 1);
    let asking = std::thread::spawn(move || {
        for stream in (3..).step_by(2) {
            let is_answered = raw.try_send(&[question(stream)]).is_ok()
                && std::iter::from_fn(|| raw.receive()).any(|frame| frame.kind == kind::HEADERS);
            if !is_answered {
                return;
            }
        }
    });
    server.signal("TERM");
    eventually(|| asking.is_finished());
    assert_eq!(server.stop("CONT").0.code(), Some(0));
}

#[test]
fn a_good_token_is_good_by_prior_knowledge_too() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    let token = given::good_token();
    let answer = super::client(&server)
        .request(&format!("GET /auth HTTP/1.1\r\nAuthorization: Bearer {token}\r\n"), b"");
    assert_eq!((answer.status, answer.header("x-auth-subject")), (200, Some("bob")));
    assert!(answer.header("connection").is_none() && answer.header("date").is_some(), "{answer:?}");
}
