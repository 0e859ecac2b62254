//! One table of requests, well-formed and malformed, with equal answers over HTTP/1, 2 and 3.

use std::io::Read;

use countersign_front::{http2::error::Http2ErrorCode, http3::error::Http3ErrorCode};
use countersign_tests::{
    binary::{Sandbox, Server},
    certificates::Authority,
    frames::{Frame, RawConnection, flag, kind, section},
    http::Connection,
    quic::{self, QuicClient, error_code},
    tls::{self, TlsClientOptions},
};

use crate::fixture::{self, SIGNING};

/// The answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ExpectedAnswer {
    Status(u16),
    /// HTTP/1: status 400. HTTP/2: PROTOCOL_ERROR. HTTP/3: H3_MESSAGE_ERROR.
    Malformed,
}

use ExpectedAnswer::{Malformed, Status};

/// A request, and the answer that every version gives.
struct RequestCase {
    name: &'static str,
    method: &'static str,
    path: &'static str,
    host: &'static str,
    lines: Vec<(String, String)>,
    body: Option<RequestBody>,
    answer: ExpectedAnswer,
    /// Whether it can be expressed in HTTP/1, in which `Content-Length` delimits the body.
    is_in_http1: bool,
}

/// A body. Over HTTP/1 it is chunked, unless the request has `Content-Length`.
struct RequestBody {
    data: Vec<u8>,
    trailers: Vec<(&'static str, &'static str)>,
}

impl RequestCase {
    fn new(
        name: &'static str,
        method: &'static str,
        path: &'static str,
        answer: ExpectedAnswer,
    ) -> Self {
        let (host, lines) = ("t.example", Vec::new());
        Self { name, method, path, host, lines, body: None, answer, is_in_http1: true }
    }

    fn get(name: &'static str, answer: ExpectedAnswer) -> Self {
        Self::new(name, "GET", "/auth", answer)
    }

    fn verify(name: &'static str, answer: ExpectedAnswer) -> Self {
        let form = format!("token={}", fixture::good_token());
        let case = Self::new(name, "POST", "/v1/verify", answer).body(form);
        case.line("content-type", "application/x-www-form-urlencoded")
    }

    fn line(mut self, name: &str, value: impl Into<String>) -> Self {
        self.lines.push((name.into(), value.into()));
        self
    }

    fn lines(self, count: usize, name: &str, value: &str) -> Self {
        (0..count).fold(self, |case, _| case.line(name, value))
    }

    fn token(self) -> Self {
        self.line("authorization", format!("Bearer {}", fixture::good_token()))
    }

    fn host(self, host: &'static str) -> Self {
        Self { host, ..self }
    }

    fn body(self, data: impl Into<Vec<u8>>) -> Self {
        Self { body: Some(RequestBody { data: data.into(), trailers: Vec::new() }), ..self }
    }

    fn trailer(mut self, name: &'static str, value: &'static str) -> Self {
        self.body.as_mut().unwrap().trailers.push((name, value));
        self
    }

    fn not_in_http1(self) -> Self {
        Self { is_in_http1: false, ..self }
    }

    /// Returns the pseudo-header fields and the lines.
    fn fields(&self) -> Vec<(&str, &str)> {
        let pseudo = [
            (":method", self.method),
            (":scheme", "https"),
            (":authority", self.host),
            (":path", self.path),
        ];
        let lines = self.lines.iter().map(|(name, value)| (&**name, &**value));
        pseudo.into_iter().chain(lines).collect()
    }

    fn over_http1(&self, server: &Server<'_>) -> ExpectedAnswer {
        let mut bytes =
            format!("{} {} HTTP/1.1\r\nHost: {}\r\n", self.method, self.path, self.host);
        let mut has_length = false;
        for (name, value) in &self.lines {
            bytes += &format!("{name}: {value}\r\n");
            has_length |= name == "content-length";
        }
        let mut bytes = bytes.into_bytes();
        match &self.body {
            None => bytes.extend(b"\r\n"),
            Some(body) if has_length => bytes.extend([b"\r\n", &body.data[..]].concat()),
            Some(body) => {
                bytes.extend(b"transfer-encoding: chunked\r\n\r\n");
                for chunk in body.data.chunks(4000) {
                    bytes.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
                    bytes.extend([chunk, b"\r\n"].concat());
                }
                bytes.extend(b"0\r\n");
                for (name, value) in &body.trailers {
                    bytes.extend(format!("{name}: {value}\r\n").into_bytes());
                }
                bytes.extend(b"\r\n");
            }
        }
        let mut connection = Connection::open(server.address);
        connection.send_raw(&bytes);
        match connection.receive(self.method == "HEAD").status {
            400 => Malformed,
            status => Status(status),
        }
    }

    fn over_http2(&self, server: &Server<'_>) -> ExpectedAnswer {
        let mut raw = RawConnection::open(server.address, &[]);
        raw.send(&self.frames(1));
        loop {
            let frame = raw.receive().expect("the connection stays open");
            match (frame.kind, frame.stream) {
                (kind::HEADERS, 1) => return Status(frame.status()),
                (kind::RST_STREAM, 1) => {
                    assert_eq!(
                        frame.code(),
                        Http2ErrorCode::ProtocolError.number(),
                        "{}",
                        self.name
                    );
                    return Malformed;
                }
                (kind::GOAWAY, _) => panic!("{}: {frame:?}", self.name),
                _ => {}
            }
        }
    }

    /// Returns the request in frames of at most 16 KiB.
    fn frames(&self, stream: u32) -> Vec<Frame> {
        let block = section(&self.fields());
        let mut frames: Vec<_> = (block.chunks(16 * 1024))
            .map(|piece| Frame::new(kind::CONTINUATION, flag::NONE, stream, piece))
            .collect();
        frames[0].kind = kind::HEADERS;
        frames.last_mut().unwrap().flags |= flag::END_HEADERS;
        match &self.body {
            None => frames[0].flags |= flag::END_STREAM,
            Some(RequestBody { data, trailers }) => {
                for piece in data.chunks(16 * 1024) {
                    frames.push(Frame::new(kind::DATA, flag::NONE, stream, piece));
                }
                frames.push(match &trailers[..] {
                    [] => Frame::new(kind::DATA, flag::END_STREAM, stream, []),
                    trailers => Frame::request(stream, trailers),
                });
            }
        }
        frames
    }

    fn over_http3(&self, client: &QuicClient) -> ExpectedAnswer {
        let mut bytes = quic::headers(&self.fields());
        if let Some(RequestBody { data, trailers }) = &self.body {
            bytes.extend(quic::frame(0x0, data));
            if !trailers.is_empty() {
                bytes.extend(quic::headers(trailers));
            }
        }
        match client.request(&bytes) {
            Ok(response) => Status(response.status),
            Err(code) => {
                assert_eq!(code, error_code(Http3ErrorCode::MessageError), "{}", self.name);
                Malformed
            }
        }
    }
}

/// The table, for the default limits of 65,536 bytes and 200 lines.
fn cases() -> Vec<RequestCase> {
    let get = RequestCase::get;
    let verify = RequestCase::verify;
    let form = || format!("token={}", fixture::good_token());
    let length = || form().len().to_string();
    vec![
        get("no token", Status(401)),
        get("a token", Status(200)).token(),
        RequestCase::new("HEAD", "HEAD", "/auth", Status(200)).token(),
        RequestCase::new("a method of an extension", "X-Y", "/auth", Status(200)).token(),
        RequestCase::new("HEAD of nothing", "HEAD", "/nothing", Status(404)),
        RequestCase::new("OPTIONS *", "OPTIONS", "*", Status(404)),
        RequestCase::new("an absolute path", "GET", "//auth", Status(404)),
        RequestCase::new("a fragment", "GET", "/auth#x", Malformed),
        // The authority.
        get("a port", Status(401)).host("t.example:65535"),
        get("an empty port", Status(401)).host("t.example:"),
        get("an IPv6 address", Status(401)).host("[2001:db8::1]:443"),
        get("a port above 65535", Malformed).host("t.example:65536"),
        get("a port that is not a number", Malformed).host("t.example:x"),
        get("two ports", Malformed).host("t.example:1:1"),
        get("user information", Malformed).host("u:p@t.example"),
        get("a quote in the host", Malformed).host("t\"example"),
        get("a comma in the host", Malformed).host("a,b"),
        get("half of an encoded byte", Malformed).host("t%4"),
        get("an unclosed bracket", Malformed).host("[::1"),
        get("a port alone", Malformed).host(":80"),
        // Lines.
        get("a control character in a value", Malformed).line("x", "a\u{1}b"),
        get("a NUL in a value", Malformed).line("x", "a\0b"),
        get("a blank in a name", Malformed).line("x y", "z"),
        get("an empty name", Malformed).line("", "z"),
        get("two tokens", Status(401)).token().token(),
        // Sizes. `:authority` or Host is one of the lines.
        get("200 lines", Status(200)).token().lines(198, "x", "y"),
        get("201 lines", Status(431)).token().lines(199, "x", "y"),
        get("48 KiB", Status(200)).token().lines(12, "x", &"y".repeat(4096)),
        get("a line of 70 KiB", Status(431)).line("x", "y".repeat(70_000)),
        get("80 KiB", Status(431)).lines(20, "x", &"y".repeat(4096)),
        get("500 cookies in one line", Status(200)).token().line("cookie", "a=b;".repeat(500)),
        get("500 cookies in lines", Status(200)).token().lines(500, "cookie", "a=b").not_in_http1(),
        get("cookies and 200 lines", Status(431)).lines(500, "cookie", "a=b").lines(199, "x", "y"),
        // Bodies.
        verify("a form", Status(200)),
        verify("a form with its length", Status(200)).line("content-length", length()),
        verify("a form of 100 KiB", Status(413)).body("x".repeat(100 * 1024)),
        verify("a length with a sign", Malformed).line("content-length", "+5"),
        verify("two lengths", Malformed)
            .line("content-length", length())
            .line("content-length", length()),
        verify("less than the length", Malformed).line("content-length", "9999").not_in_http1(),
        verify("more than the length", Malformed).line("content-length", "9").not_in_http1(),
        // On a route that waits for the end of the request. Others may answer before it.
        RequestCase::new("a length without a body", "POST", "/v1/verify", Malformed)
            .line("content-length", "30")
            .not_in_http1(),
        // Trailers.
        verify("trailers", Status(200)).trailer("x-checksum", "abc").trailer("b", ""),
        verify("a trailer with a blank in its name", Malformed).trailer("x y", "z"),
        verify("a control character in a trailer", Malformed).trailer("x", "\u{1}"),
        verify("Host in the trailers", Malformed).trailer("host", "t.example"),
        verify("Content-Length in the trailers", Malformed).trailer("content-length", "5"),
        verify("Transfer-Encoding in the trailers", Malformed)
            .trailer("transfer-encoding", "chunked"),
        verify("pseudo-header fields in the trailers", Malformed).trailer(":path", "/"),
        // Bodies that nothing reads.
        RequestCase::new("an unread body", "POST", "/auth", Status(200)).token().body("ten bytes."),
        RequestCase::new("an unread body of 100 KiB", "POST", "/auth", Status(401))
            .body("x".repeat(100 * 1024)),
        RequestCase::new("an unread body with its length", "POST", "/auth", Status(200))
            .token()
            .line("content-length", "10")
            .body("ten bytes."),
    ]
}

/// A server with HTTP/1 and 2 in cleartext, and one with HTTP/3.
fn with_servers(sections: &str, test: impl FnOnce(&Server<'_>, &dyn Fn() -> QuicClient)) {
    let (plain, quic, authority) = (Sandbox::new(), Sandbox::new(), Authority::root("ours"));
    authority.server().write(quic.path());
    let tls = tls::TlsClient::new(
        &authority,
        &TlsClientOptions { protocols: &["h3"], ..TlsClientOptions::default() },
    );
    let plain = plain.serve(&format!("{SIGNING}{sections}[listen]\nprotocols=http/1.1, h2\n"));
    let files = "[server]\nssl_cert_file=tls.crt\nssl_key_file=tls.key\n";
    let quic =
        quic.serve(&format!("{SIGNING}{sections}{files}[listen]\nprotocols=http/1.1, h2, h3\n"));
    test(&plain, &|| QuicClient::connect(&tls, quic.address).unwrap());
}

#[test]
fn requests_have_equal_answers_in_every_version() {
    with_servers("", |plain, connect| {
        for case in cases() {
            let http3 = case.over_http3(&connect());
            let http1 = if case.is_in_http1 { case.over_http1(plain) } else { case.answer };
            let answers = [http1, case.over_http2(plain), http3];
            assert_eq!(answers, [case.answer; 3], "{}", case.name);
        }
    });
}

#[test]
fn limits_of_heads_are_options_in_every_version() {
    let low = "[limits]\nmax_head=8192\nmax_header_lines=16\n";
    let high = "[limits]\nmax_head=262144\nmax_header_lines=1000\n";
    let get = RequestCase::get;
    for (limits, cases) in [
        (
            low,
            [
                get("16 lines", Status(401)).lines(15, "x", "y"),
                get("17 lines", Status(431)).lines(16, "x", "y"),
                get("7 KiB", Status(401)).line("x", "y".repeat(7 * 1024)),
                get("9 KiB", Status(431)).line("x", "y".repeat(9 * 1024)),
            ],
        ),
        (
            high,
            [
                get("1000 lines", Status(401)).lines(999, "x", "y"),
                get("1001 lines", Status(431)).lines(1000, "x", "y"),
                get("250 KiB", Status(401)).lines(5, "x", &"y".repeat(50 * 1024)),
                get("300 KiB", Status(431)).lines(6, "x", &"y".repeat(50 * 1024)),
            ],
        ),
    ] {
        with_servers(limits, |plain, connect| {
            for case in cases {
                let answers =
                    [case.over_http1(plain), case.over_http2(plain), case.over_http3(&connect())];
                assert_eq!(answers, [case.answer; 3], "{}", case.name);
            }
        });
    }
}

/// A client that sends all of its request before it reads, such as httpx.
#[test]
fn upload_that_is_answered_early_is_drained() {
    let body = vec![b'x'; 16 * 1024];
    with_servers("", |plain, connect| {
        let head = RequestCase::new("", "POST", "/auth", Status(401)).body("").frames(1).remove(0);
        let mut raw = RawConnection::open(plain.address, &[]);
        raw.send(&[head]);
        assert_eq!(raw.receive_status(1), 401);
        // The initial window is 64 KiB, and the server grants more.
        for sent in 1..=12 {
            raw.send(&[Frame::new(kind::DATA, flag::NONE, 1, &body[..])]);
            if sent % 2 == 0 {
                let granted = raw.receive_frame(kind::WINDOW_UPDATE, 1);
                assert_eq!(granted.payload, (32 * 1024_u32).to_be_bytes());
            }
        }
        raw.send(&[Frame::new(kind::DATA, flag::END_STREAM, 1, &body[..])]);
        raw.send(&[Frame::request(3, &RequestCase::get("", Status(401)).fields())]);
        let mut frames = std::iter::from_fn(|| raw.receive());
        let last = frames.find(|frame| frame.kind == kind::HEADERS || frame.stream == 1).unwrap();
        assert_eq!(last.stream, 3, "no reset of a stream that has ended: {last:?}");

        let client = connect();
        let (mut send, mut receive) = client.open(&quic::request("POST", "/auth", &[]));
        assert_eq!(client.receive_response(&mut receive).unwrap().status, 401);
        for _ in 0..12 {
            client.wait(send.write_all(&quic::frame(0, &body))).unwrap();
        }
        send.finish().unwrap();
        assert_eq!(client.wait(send.stopped()).unwrap(), None, "all of it was received");
    });
}

#[test]
fn drain_of_an_upload_is_bounded() {
    let body = vec![b'x'; 16 * 1024];
    let head = |stream| {
        RequestCase::new("", "POST", "/auth", Status(401)).body("").frames(stream).remove(0)
    };
    with_servers("", |plain, connect| {
        // By bytes.
        let mut raw = RawConnection::open(plain.address, &[]);
        raw.send(&[head(1)]);
        for _ in 0..16 {
            raw.send(&[Frame::new(kind::DATA, flag::NONE, 1, &body[..])]);
        }
        let reset = raw.receive_frame(kind::RST_STREAM, 1);
        assert_eq!(reset.code(), Http2ErrorCode::NoError.number());
        // By time.
        raw.send(&[head(3)]);
        let reset = raw.receive_frame(kind::RST_STREAM, 3);
        assert_eq!(reset.code(), Http2ErrorCode::NoError.number());
        // By number: each counts as a concurrent stream.
        let heads: Vec<_> = (0..129).map(|number| head(5 + 2 * number)).collect();
        raw.send(&heads);
        let refused = raw.receive_frame(kind::RST_STREAM, 5 + 2 * 128);
        assert_eq!(refused.code(), Http2ErrorCode::RefusedStream.number());

        let client = connect();
        let stopped = Some(error_code(Http3ErrorCode::NoError));
        let (mut send, _receive) = client.open(&quic::request("POST", "/auth", &[]));
        let piece = quic::frame(0, &body);
        while client.wait(send.write_all(&piece)).is_ok() {}
        assert_eq!(client.wait(send.stopped()).unwrap(), stopped, "by bytes");
        let (send, _receive) = client.open(&quic::request("POST", "/auth", &[]));
        assert_eq!(client.wait(send.stopped()).unwrap(), stopped, "by time");
    });
}

/// Trailers are checked after the response, too.
#[test]
fn drained_upload_is_still_checked() {
    with_servers("", |plain, connect| {
        let frames =
            RequestCase::new("", "POST", "/auth", Status(401)).body("x").trailer("x", "\u{1}");
        let mut raw = RawConnection::open(plain.address, &[]);
        raw.send(&frames.frames(1));
        assert_eq!(raw.receive_status(1), 401);
        let reset = raw.receive_frame(kind::RST_STREAM, 1);
        assert_eq!(reset.code(), Http2ErrorCode::ProtocolError.number());

        let client = connect();
        let (mut send, mut receive) = client.open(&quic::request("POST", "/auth", &[]));
        let mut first = [0; 1];
        client.wait(receive.read_exact(&mut first)).unwrap();
        client.wait(send.write_all(&quic::headers(&[("x", "\u{1}")]))).unwrap();
        let stopped = client.wait(send.stopped()).unwrap();
        assert_eq!(stopped, Some(error_code(Http3ErrorCode::MessageError)));
    });
}

/// A head over HTTP/1 may arrive in any number of pieces.
#[test]
fn long_head_is_read_in_pieces() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&format!("{SIGNING}[limits]\nmax_head=262144\n"));
    let line = format!("X: {}\r\n", "y".repeat(50_000));
    let head = format!("GET /auth HTTP/1.1\r\nHost: t\r\n{}\r\n", line.repeat(5));
    let mut connection = Connection::open(server.address);
    for piece in head.as_bytes().chunks(1000) {
        connection.send_raw(piece);
    }
    assert_eq!(connection.receive(false).status, 401);
    connection.send_raw(b"GET /auth HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
    assert_eq!(connection.receive(false).status, 401);
    assert_eq!(connection.stream().read(&mut [0]).unwrap(), 0);
}
