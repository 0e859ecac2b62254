//! Properties of the HTTP/1 front. Responses do not depend on the pieces in which requests arrive,
//! and `hyper` parses every accepted head to the same request.

use std::{
    cell::RefCell, convert::Infallible, future::poll_fn, mem::MaybeUninit, rc::Rc, task::Poll,
};

use countersign_front::{
    KeptHead, RequestLimits,
    http1::head::{COMMON_HEADER_LINES, Framing, ParseStatus, parse},
};
use countersign_tests::{
    engine::{AUDIENCE, HEADER, ISSUER, SECRET, claims, token},
    front::{Front, ParsedResponse},
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
            "[auth_jwt_test]\nalgorithm=HS256\nsign=true\nexpire=0\nclient_types=api\nkey={}\nissuer={ISSUER}\naudience={AUDIENCE}\n[api_clients]\nci=sha256:{}\n",
            URL_SAFE_NO_PAD.encode(SECRET),
            "0".repeat(64)
        ));
    }

    /// Returns the responses to bytes in pieces of these sizes, repeating the last size, and
    /// whether the connection was closed.
    fn responses(bytes: &[u8], sizes: &[usize]) -> (Vec<ParsedResponse>, bool) {
        let (mut sizes, mut rest, mut last) = (sizes.iter(), bytes, bytes.len());
        let pieces = std::iter::from_fn(|| {
            last = sizes.next().copied().unwrap_or(last);
            let (piece, remaining) = rest.split_at(last.min(rest.len()));
            rest = remaining;
            (!piece.is_empty()).then_some(piece)
        });
        let pieces: Vec<_> = pieces.collect();
        let output = FRONT.with(|front| front.exchange(pieces));
        (output.responses(|_| false), output.is_closed)
    }

    fn good() -> String {
        token(HEADER, claims(""))
    }

    /// One request that keeps the connection open.
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

    /// Last input of a connection, with the status of its response.
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
        fn pieces_do_not_change_responses(
            requests in prop::collection::vec(request(), 0..8),
            (end, last) in end(),
            sizes in prop::collection::vec(1usize..400, 0..12),
        ) {
            let bytes = requests.concat() + &end;
            let (whole, is_closed) = responses(bytes.as_bytes(), &[]);
            prop_assert_eq!(whole.len(), requests.len() + usize::from(last.is_some()), "one response per request");
            prop_assert_eq!(is_closed, last.is_some());
            prop_assert_eq!(whole.iter().map(ParsedResponse::closes).position(|closes| closes), last.map(|_| requests.len()));
            prop_assert!(last.is_none_or(|status| whole[requests.len()].status == status), "{:?}", whole);
            for (request, response) in requests.iter().zip(&whole) {
                let alone = responses(request.as_bytes(), &[]).0;
                prop_assert_eq!(&alone[..], std::slice::from_ref(response), "same response as on its own connection: {}", request);
            }
            prop_assert_eq!(responses(bytes.as_bytes(), &sizes), (whole, is_closed));
        }
    }

    #[test]
    fn pipelined_requests_yield_to_other_connections() {
        const REQUESTS: usize = 20;
        let request = format!("GET /auth HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(8000));
        let bytes = request.repeat(REQUESTS);
        let turn = FRONT.with(|front| front.exchange_one_turn(bytes.as_bytes()));
        let answered = turn.responses(|_| false).len();
        assert!(
            (1..REQUESTS / 2).contains(&answered),
            "{answered} of {REQUESTS} requests were answered in one turn"
        );
        assert_eq!(responses(bytes.as_bytes(), &[]).0.len(), REQUESTS);
    }

    #[test]
    fn requests_split_into_bytes_get_the_same_responses() {
        let token = good();
        let bytes = format!(
            "GET /auth HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n\
             POST /v1/verify HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na.b\r\n0\r\n\r\n\
             GET /healthz HTTP/1.1\r\nHost: a\r\n\r\nGET /auth HTTP/1.1\r\n\r\n"
        );
        let whole = responses(bytes.as_bytes(), &[]);
        assert_eq!(
            whole.0.iter().map(|response| response.status).collect::<Vec<_>>(),
            [200, 401, 200, 400]
        );
        assert_eq!(responses(bytes.as_bytes(), &[1]), whole);
    }
}

/// Head of a request as parsed by one of the implementations.
#[derive(Debug, PartialEq)]
struct ParsedHead {
    method: Method,
    target: Uri,
    headers: HeaderMap,
    framing: Framing,
}

/// Parses a head with Countersign. Returns `None` if it is rejected or incomplete.
fn parse_with_countersign(bytes: &[u8]) -> Option<ParsedHead> {
    let mut room = [const { MaybeUninit::uninit() }; COMMON_HEADER_LINES];
    let ParseStatus::Complete(head) = parse(bytes, 0, &RequestLimits::default(), &mut room) else {
        return None;
    };
    assert!(head.length <= bytes.len());
    let kept = KeptHead::new(&head, head.target, |_| true).ok()?;
    let (parts, ()) = kept.into_request(()).ok()?.into_parts();
    Some(ParsedHead {
        method: parts.method,
        target: parts.uri,
        headers: parts.headers,
        framing: head.framing,
    })
}

fn is_partial(bytes: &[u8]) -> bool {
    let mut room = [const { MaybeUninit::uninit() }; COMMON_HEADER_LINES];
    matches!(parse(bytes, 0, &RequestLimits::default(), &mut room), ParseStatus::Partial)
}

/// Parses a head with `hyper`.
fn parse_with_hyper(bytes: &[u8]) -> Option<ParsedHead> {
    let read = Rc::new(RefCell::new(None));
    let recorded = Rc::clone(&read);
    let service = service_fn(move |request: Request<Incoming>| {
        let (parts, body) = request.into_parts();
        let framing = match body.size_hint().exact() {
            Some(0) => Framing::Empty,
            Some(length) => Framing::Length(length),
            None => Framing::Chunked,
        };
        let read =
            ParsedHead { method: parts.method, target: parts.uri, headers: parts.headers, framing };
        // Keeps the first request only.
        recorded.borrow_mut().get_or_insert(read);
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
            let _ignored = connection.as_mut().poll(context);
            Poll::Ready(())
        })
        .await;
    });
    read.take()
}

/// Selects `usual` with a probability of 95 %, otherwise one of `others`.
fn mostly(
    usual: &'static str,
    others: &'static [&'static str],
) -> impl Strategy<Value = &'static str> + Clone {
    prop_oneof![19 => Just(usual), 1 => prop::sample::select(others)]
}

fn one_of(choices: &'static [&'static str]) -> impl Strategy<Value = &'static str> + Clone {
    prop::sample::select(choices)
}

/// Header line other than the usual Host.
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

/// Valid and malformed heads.
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
        |(method, before, target, rest, version, end)| {
            [method, before, target, rest, version, end].concat()
        },
    );
    let lines = (
        prop::collection::vec((line(), end()), 0..5),
        prop::option::weighted(0.9, any::<prop::sample::Index>()),
    );
    let head =
        (first, lines, mostly("\r\n", &["", "\n"])).prop_map(|(first, (mut lines, host), last)| {
            if let Some(index) = host {
                lines.insert(index.index(lines.len() + 1), (b"Host: a".to_vec(), "\r\n"));
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
        if let Some((index, byte, how)) = change.filter(|_| !bytes.is_empty()) {
            let index = index.index(bytes.len());
            match how {
                0 => bytes[index] = byte,
                1 => bytes.insert(index, byte),
                _ => drop(bytes.remove(index)),
            }
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn head_accepted_by_us_parses_alike_in_hyper(bytes in head()) {
        let (ours, theirs) = (parse_with_countersign(&bytes), parse_with_hyper(&bytes));
        match (&ours, &theirs) {
            (Some(_), _) => prop_assert_eq!(&ours, &theirs, "{}", bytes.escape_ascii()),
            (None, Some(_)) => prop_assert!(!is_partial(&bytes), "refused, not waited for: {}", bytes.escape_ascii()),
            (None, None) => {}
        }
    }
}

#[test]
fn heads_accepted_only_by_hyper_are_listed() {
    for (name, head) in [
        ("a line that ends in LF alone", "GET / HTTP/1.1\nHost: a\r\n\r\n"),
        ("a head that ends in LF alone", "GET / HTTP/1.1\r\nHost: a\r\n\n"),
        ("no host", "GET / HTTP/1.1\r\n\r\n"),
        ("two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
        ("an invalid host", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
        (
            "the same length twice",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
        ),
        (
            "both lengths",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        (
            "a coding before chunked",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        ),
        (
            "chunked applied twice in one line",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
        ),
        (
            "chunked in two lines",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        ("two empty lines before the request", "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ] {
        assert!(
            parse_with_hyper(head.as_bytes()).is_some(),
            "hyper rejects {name} too, remove it from the list"
        );
        assert!(
            parse_with_countersign(head.as_bytes()).is_none() && !is_partial(head.as_bytes()),
            "{name} is accepted"
        );
    }
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(70_000));
    assert!(
        parse_with_hyper(long.as_bytes()).is_some()
            && parse_with_countersign(long.as_bytes()).is_none(),
        "a long head"
    );
}

#[test]
fn heads_accepted_only_by_us_are_listed() {
    // The parser accepts this length. The route rejects it when it reads the body.
    let endless = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551615\r\n\r\n";
    assert!(parse_with_hyper(endless).is_none());
    assert_eq!(
        parse_with_countersign(endless).map(|read| read.framing),
        Some(Framing::Length(u64::MAX))
    );
    // The rest of the path after `/auth` is only logged, so it need not be a valid URI.
    let request = b"GET /auth/< HTTP/1.1\r\nHost: a\r\n\r\n";
    assert!(parse_with_hyper(request).is_none() && parse_with_countersign(request).is_none());
    let mut room = [const { MaybeUninit::uninit() }; COMMON_HEADER_LINES];
    assert!(matches!(
        parse(request, 0, &RequestLimits::default(), &mut room),
        ParseStatus::Complete(_)
    ));
}
