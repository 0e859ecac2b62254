//! Properties of the HTTP/1 front: that pieces make no difference, and that hyper
//! reads every head that we accept as we do.

use std::{
    cell::RefCell, convert::Infallible, future::poll_fn, mem::MaybeUninit, rc::Rc, task::Poll,
};

use countersign_server::listen::{
    exchange::RequestHead as _,
    http1::head::{Framing, MAX_HEADER_LINES, ParseStatus, parse},
};
use countersign_tests::{
    engine::{AUDIENCE, HEADER, ISSUER, SECRET, claims, token},
    front::{ParsedResponse, Front},
};
use hyper::{
    HeaderMap, Method, Request, Response, Uri,
    body::{Body as _, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::AsyncWriteExt as _;

mod pieces {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

    use super::*;

    thread_local! {
        static FRONT: Front = Front::new(&format!(
            "[auth_jwt_test]\nalgorithm=HS256\nsign=true\nexpire=0\nclient_types=api\nkey={}\nissuer={ISSUER}\naudience={AUDIENCE}\n",
            URL_SAFE_NO_PAD.encode(SECRET)
        ));
    }

    /// The answers to bytes that come in pieces of these sizes, the last of them again
    /// and again, and whether the connection was closed.
    fn answers(bytes: &[u8], sizes: &[usize]) -> (Vec<ParsedResponse>, bool) {
        let (mut sizes, mut rest, mut last) = (sizes.iter(), bytes, bytes.len());
        let pieces = std::iter::from_fn(|| {
            last = sizes.next().copied().unwrap_or(last);
            let (piece, behind) = rest.split_at(last.min(rest.len()));
            rest = behind;
            (!piece.is_empty()).then_some(piece)
        });
        let pieces: Vec<_> = pieces.collect();
        let output = FRONT.with(|front| front.exchange(pieces));
        (output.answers(|_| false), output.is_closed)
    }

    fn good() -> String {
        token(HEADER, claims(""))
    }

    /// One request, and the statuses that it can be answered with.
    fn request() -> impl Strategy<Value = String> {
        let good = good();
        let with_body = |line: &str, body: &str| {
            format!("POST {line}\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        };
        let chunks: String = good
            .as_bytes()
            .chunks(7)
            .map(|chunk| format!("{:x};x=y\r\n{}\r\n", chunk.len(), chunk.escape_ascii()))
            .collect();
        let requests = [
            format!("GET /auth HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {good}\r\n\r\n"),
            format!(
                "\r\nPUT /auth/x?y HTTP/1.1\r\nhost:a\r\nauthorization:bearer  {good} \r\n\r\n"
            ),
            format!(
                "GET /auth HTTP/1.0\r\nConnection: keep-alive\r\nAuthorization: Bearer {good}x\r\n\r\n"
            ),
            "GET /auth HTTP/1.1\r\nHost: a\r\n\r\n".into(),
            "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n".into(),
            "GET /nothing HTTP/1.1\r\nHost: a\r\nX: \u{e4}\r\n\r\n".into(),
            "OPTIONS * HTTP/1.1\r\nHost:\r\n\r\n".into(),
            with_body("/v1/verify HTTP/1.1", &good),
            with_body("/v1/verify HTTP/1.1", "GET /auth HTTP/1.1\r\nHost: a\r\n\r\n"),
            with_body("/v1/revoke HTTP/1.1", "token=x"),
            format!(
                "POST /v1/verify HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"
            ),
            format!("POST /v1/verify HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {good}\r\n\r\n"),
        ];
        prop::sample::select(requests.to_vec())
    }

    /// What ends a connection, with its status.
    fn end() -> impl Strategy<Value = (String, Option<u16>)> {
        let ends = [
            ("", None),
            ("GET /auth HTTP/1.1\r\nHost: a\r\n", None),
            ("GET /auth HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", Some(401)),
            ("GET /healthz HTTP/1.0\r\n\r\n", Some(200)),
            ("GET /auth HTTP/1.1\r\n\r\n", Some(400)),
            ("GET /auth HTTP/1.1\nHost: a\r\n\r\n", Some(400)),
            ("GET /auth HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", Some(400)),
            ("GET /auth HTTP/3.0\r\nHost: a\r\n\r\n", Some(505)),
            ("POST /auth HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", Some(501)),
            (
                "POST /auth HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                Some(400),
            ),
            (
                "POST /v1/verify HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
                Some(400),
            ),
            ("POST /v1/verify HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n", Some(413)),
            ("\x16\x03\x01", Some(400)),
            ("\r\n\r\n", Some(400)),
        ];
        prop::sample::select(ends.to_vec()).prop_map(|(text, status)| (text.to_owned(), status))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

        #[test]
        fn how_requests_arrive_changes_no_answer(
            requests in prop::collection::vec(request(), 0..8),
            (end, last) in end(),
            sizes in prop::collection::vec(1usize..400, 0..12),
        ) {
            let bytes = requests.concat() + &end;
            let (whole, is_closed) = answers(bytes.as_bytes(), &[]);
            prop_assert_eq!(whole.len(), requests.len() + usize::from(last.is_some()), "one answer for each");
            prop_assert_eq!(is_closed, last.is_some());
            prop_assert_eq!(whole.iter().map(ParsedResponse::closes).position(|closes| closes), last.map(|_| requests.len()));
            prop_assert!(last.is_none_or(|status| whole[requests.len()].status == status), "{:?}", whole);
            for (request, answer) in requests.iter().zip(&whole) {
                let alone = answers(request.as_bytes(), &[]).0;
                prop_assert_eq!(&alone[..], std::slice::from_ref(answer), "the same as alone: {}", request);
            }
            prop_assert_eq!(answers(bytes.as_bytes(), &sizes), (whole, is_closed));
        }
    }

    #[test]
    fn who_asks_much_at_once_lets_others_have_their_turn() {
        const QUESTIONS: usize = 20;
        let question = format!("GET /auth HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(8000));
        let bytes = question.repeat(QUESTIONS);
        let turn = FRONT.with(|front| front.exchange_one_turn(bytes.as_bytes()));
        let answered = turn.answers(|_| false).len();
        assert!(
            (1..QUESTIONS / 2).contains(&answered),
            "{answered} of {QUESTIONS} questions were answered in one turn"
        );
        assert_eq!(answers(bytes.as_bytes(), &[]).0.len(), QUESTIONS);
    }

    #[test]
    fn requests_that_come_byte_by_byte_are_answered_as_those_that_come_at_once() {
        let token = good();
        let bytes = format!(
            "GET /auth HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n\
             POST /v1/verify HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na.b\r\n0\r\n\r\n\
             GET /healthz HTTP/1.1\r\nHost: a\r\n\r\nGET /auth HTTP/1.1\r\n\r\n"
        );
        let whole = answers(bytes.as_bytes(), &[]);
        assert_eq!(
            whole.0.iter().map(|answer| answer.status).collect::<Vec<_>>(),
            [200, 401, 200, 400]
        );
        assert_eq!(answers(bytes.as_bytes(), &[1]), whole);
    }
}

/// What a reader makes of a head.
#[derive(Debug, PartialEq)]
struct ParsedHead {
    method: Method,
    target: Uri,
    headers: HeaderMap,
    framing: Framing,
}

/// What we make of the head of a request that is handed on; `None` if we refuse it or
/// wait for more.
fn parse_with_countersign(bytes: &[u8]) -> Option<ParsedHead> {
    let mut room = [const { MaybeUninit::uninit() }; MAX_HEADER_LINES];
    let ParseStatus::Complete(head) = parse(bytes, 0, &mut room) else { return None };
    assert!(head.length <= bytes.len());
    let (parts, ()) = head.to_request().ok()?.into_parts();
    Some(ParsedHead {
        method: parts.method,
        target: parts.uri,
        headers: parts.headers,
        framing: head.framing,
    })
}

fn is_partial(bytes: &[u8]) -> bool {
    let mut room = [const { MaybeUninit::uninit() }; MAX_HEADER_LINES];
    matches!(parse(bytes, 0, &mut room), ParseStatus::Partial)
}

/// What hyper makes of it.
fn hypers(bytes: &[u8]) -> Option<ParsedHead> {
    let read = Rc::new(RefCell::new(None));
    let seen = Rc::clone(&read);
    let service = service_fn(move |request: Request<Incoming>| {
        let (parts, body) = request.into_parts();
        let framing = match body.size_hint().exact() {
            Some(0) => Framing::Empty,
            Some(length) => Framing::Length(length),
            None => Framing::Chunked,
        };
        let read =
            ParsedHead { method: parts.method, target: parts.uri, headers: parts.headers, framing };
        // The first of those that it sees.
        seen.borrow_mut().get_or_insert(read);
        async { Ok::<_, Infallible>(Response::new(String::new())) }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (mut client, server) = tokio::io::duplex(bytes.len() + 1);
        client.write_all(bytes).await.unwrap();
        let mut connection = std::pin::pin!(
            hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(server), service)
        );
        poll_fn(|context| {
            let _whether_it_is_over = connection.as_mut().poll(context);
            Poll::Ready(())
        })
        .await;
    });
    read.take()
}

/// The usual most of the time, and one of the others otherwise.
fn mostly(
    usual: &'static str,
    others: &'static [&'static str],
) -> impl Strategy<Value = &'static str> + Clone {
    prop_oneof![19 => Just(usual), 1 => prop::sample::select(others)]
}

fn one_of(choices: &'static [&'static str]) -> impl Strategy<Value = &'static str> + Clone {
    prop::sample::select(choices)
}

/// A line that is not about the host.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let usual = one_of(&[
        "Accept: */*",
        "X: y",
        "x: z",
        "Connection: close",
        "Expect: 100-continue",
        "X: \u{e4}",
        "Content-Length: 5",
    ]);
    let about_lengths = one_of(&[
        "Content-Length: 6",
        "content-length: 0",
        "Content-Length:\t007 ",
        "Content-Length: +5",
        "Content-Length: 5, 5",
        "Content-Length: 0x5",
        "Content-Length:",
        "Content-Length: 18446744073709551616",
        "Content-Length : 5",
        "Transfer-Encoding: chunked",
        "transfer-encoding: Chunked ",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: \x0bchunked",
        "Transfer-Encoding:",
    ]);
    let odd = one_of(&[" folded", "\tfolded", "", "no colon", ": y", "X y: z", "Host: b", "host:"]);
    prop_oneof![
        6 => usual.prop_map(|line| line.as_bytes().to_vec()),
        3 => about_lengths.prop_map(|line| line.as_bytes().to_vec()),
        1 => odd.prop_map(|line| line.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..12),
    ]
}

/// Heads as clients write them, and as nobody should.
fn head() -> impl Strategy<Value = Vec<u8>> {
    let method = prop_oneof![9 => one_of(&["GET", "POST", "HEAD", "OPTIONS", "CONNECT", "get", "X-Y"]), 1 => one_of(&["G@T", ""])];
    let blank = mostly(" ", &["  ", "\t", ""]);
    let target = prop_oneof![
        9 => one_of(&["/", "/auth", "/a/../b?c=d", "*", "a.example:443", "http://a/b", "//", "/\u{e4}", "/|", "/%zz", "auth", "/\"{}"]),
        1 => one_of(&["/<", "/#", "", "/\\"]),
    ];
    let version = prop_oneof![6 => Just("HTTP/1.1"), 1 => one_of(&["HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "http/1.1", "HTTP/1.1 ", ""])];
    let end = || mostly("\r\n", &["\n", "\r", "\r\r\n"]);
    let first = (method, blank.clone(), target, blank, version, end()).prop_map(
        |(method, before, target, behind, version, end)| {
            [method, before, target, behind, version, end].concat()
        },
    );
    let lines = (
        prop::collection::vec((line(), end()), 0..5),
        prop::option::weighted(0.9, any::<prop::sample::Index>()),
    );
    let head =
        (first, lines, mostly("\r\n", &["", "\n"])).prop_map(|(first, (mut lines, host), last)| {
            if let Some(place) = host {
                lines.insert(place.index(lines.len() + 1), (b"Host: a".to_vec(), "\r\n"));
            }
            let lines = lines
                .into_iter()
                .map(|(line, end)| [&*line, end.as_bytes()].concat())
                .collect::<Vec<_>>()
                .concat();
            [first.as_bytes(), &lines, last.as_bytes()].concat()
        });
    let change = prop::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>(), 0..3));
    (head, change).prop_map(|(mut bytes, change)| {
        if let Some((place, byte, how)) = change.filter(|_| !bytes.is_empty()) {
            let place = place.index(bytes.len());
            match how {
                0 => bytes[place] = byte,
                1 => bytes.insert(place, byte),
                _ => drop(bytes.remove(place)),
            }
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn what_we_accept_hyper_reads_as_we_do(bytes in head()) {
        let (ours, hypers) = (ours(&bytes), hypers(&bytes));
        match (&ours, &hypers) {
            (Some(_), _) => prop_assert_eq!(&ours, &hypers, "{}", bytes.escape_ascii()),
            (None, Some(_)) => prop_assert!(!is_partial(&bytes), "refused, not waited for: {}", bytes.escape_ascii()),
            (None, None) => {}
        }
    }
}

#[test]
fn what_hyper_accepts_and_we_refuse_has_a_name() {
    for (name, head) in [
        ("a line that ends in LF alone", "GET / HTTP/1.1\nHost: a\r\n\r\n"),
        ("a head that ends in LF alone", "GET / HTTP/1.1\r\nHost: a\r\n\n"),
        ("no host", "GET / HTTP/1.1\r\n\r\n"),
        ("two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
        ("a host that is none", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
        (
            "the same length twice",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
        ),
        (
            "both lengths",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        (
            "a coding below the chunks",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        ),
        (
            "chunks in chunks",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
        ),
        (
            "chunked twice",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        ("two empty lines before it", "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ] {
        assert!(
            hypers(head.as_bytes()).is_some(),
            "hyper refuses {name} too: take it off the list"
        );
        assert!(
            ours(head.as_bytes()).is_none() && !is_partial(head.as_bytes()),
            "{name} is accepted"
        );
    }
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(40_000));
    assert!(hypers(long.as_bytes()).is_some() && ours(long.as_bytes()).is_none(), "a long head");
}

#[test]
fn what_we_accept_and_hyper_refuses_has_a_name() {
    // A body of this length is refused when its length is judged, where it is read.
    let endless = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551615\r\n\r\n";
    assert!(hypers(endless).is_none());
    assert_eq!(ours(endless).map(|read| read.framing), Some(Framing::Length(u64::MAX)));
    // What follows `/auth` is written down and nothing else, so it need not be a URI.
    let question = b"GET /auth/< HTTP/1.1\r\nHost: a\r\n\r\n";
    assert!(hypers(question).is_none() && ours(question).is_none());
    let mut room = [const { MaybeUninit::uninit() }; MAX_HEADER_LINES];
    assert!(matches!(parse(question, 0, &mut room), ParseStatus::Complete(_)));
}
