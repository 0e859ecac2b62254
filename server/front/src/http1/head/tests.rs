use http::{HeaderValue, Method};

use super::*;
use crate::{DuplicateHeader, KeptHead, only_line};

const LIMITS: RequestLimits = RequestLimits { head_bytes: MAX_HEAD_BYTES, header_lines: 20 };
const MAX_HEAD_BYTES: usize = 32 * 1024;

/// Describes the parse result as text: the parsed head, `partial`, or status and code of the
/// error.
fn read(bytes: &[u8]) -> String {
    read_after(bytes, 0)
}

fn read_after(bytes: &[u8], scanned: usize) -> String {
    let mut slots = [const { MaybeUninit::uninit() }; COMMON_HEADER_LINES];
    match parse(bytes, scanned, &LIMITS, &mut slots) {
        ParseStatus::Partial => "partial".into(),
        ParseStatus::TooFewSlots => "too few slots".into(),
        ParseStatus::Invalid(BadRequest { status, code, .. }) => {
            format!("{} {code}", status.as_u16())
        }
        ParseStatus::Complete(head) => {
            assert!(
                bytes[..head.length].ends_with(HEAD_END)
                    && memmem::find_iter(&bytes[..head.length], HEAD_END).count() == 1
            );
            let expects = if head.expects_continue { " expects" } else { "" };
            format!(
                "{} {} {:?} {:?}{expects}",
                head.method, head.target, head.framing, head.persistence
            )
        }
    }
}

/// Describes the parse result of a request with these lines, given without line ends.
fn read_lines(lines: &[&str]) -> String {
    read(format!("POST / HTTP/1.1\r\n{}\r\n\r\n", lines.join("\r\n")).as_bytes())
}

#[track_caller]
fn assert_lines(cases: &[(&[&str], &str)]) {
    for (lines, expected) in cases {
        assert_eq!(read_lines(lines), *expected, "{lines:?}");
    }
}

/// Expected errors in the tables below.
const HOST: &str = "400 host";
const LENGTH: &str = "400 content_length";
const CODING: &str = "400 transfer_encoding";
const UNKNOWN_CODING: &str = "501 transfer_encoding";
const BARE_LF: &str = "400 line_ending";
const HEAD: &str = "400 head";

#[test]
fn host_must_be_single_and_valid() {
    const FINE: &str = "POST / Empty Keep";
    assert_lines(&[
        (&["Host: a.example"], FINE),
        (&["HOST:a.example:8080"], FINE),
        (&["host: \t[2001:db8::1]:8080 \t"], FINE),
        // For a target without an authority (RFC 9112 section 3.2).
        (&["Host:"], FINE),
        (&["Accept: */*"], HOST),
        (&["Host: a", "Host: a"], HOST),
        (&["Host: a", "host: b"], HOST),
        (&["Host: a, b"], HOST),
        (&["Host: a b"], HOST),
        (&["Host: a\tb"], HOST),
        (&["Host: a/b"], HOST),
        (&["Host: a\\b"], HOST),
        (&["Host: a?b"], HOST),
        (&["Host: a#b"], HOST),
        (&["Host: user@a"], HOST),
        (&["Host: \u{e4}"], HOST),
        (&["Host: a:"], FINE),
        (&["Host: a:65535"], FINE),
        (&["Host: a%20b"], FINE),
        (&["Host: [::ffff:192.0.2.1]"], FINE),
        (&["Host: a:65536"], HOST),
        (&["Host: a:99999999999999999999"], HOST),
        (&["Host: a:8x"], HOST),
        (&["Host: a:+8"], HOST),
        (&["Host: a:8:8"], HOST),
        (&["Host: :80"], HOST),
        (&["Host: 2001:db8::1"], HOST),
        (&["Host: [a]"], HOST),
        (&["Host: []"], HOST),
        (&["Host: [::1"], HOST),
        (&["Host: ::1]"], HOST),
        (&["Host: [::1]80"], HOST),
        (&["Host: a]"], HOST),
        (&["Host: a%2"], HOST),
        (&["Host: a%zz"], HOST),
        (&["Host: a%"], HOST),
        // Other names of the same length.
        (&["Most: a"], HOST),
        (&["Host_: a"], HOST),
    ]);
    assert_eq!(read(b"GET / HTTP/1.0\r\n\r\n"), "GET / Empty Close", "HTTP/1.0 needs no Host");
    assert_eq!(read(b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"), HOST);
    assert_eq!(read(b"GET http://a/ HTTP/1.1\r\n\r\n"), HOST, "a host in the target is not enough");
}

#[test]
fn smuggling_by_lengths_is_rejected() {
    let host = "Host: a";
    assert_lines(&[
        (&[host, "Content-Length: 5"], "POST / Length(5) Keep"),
        (&[host, "content-length:\t 0005 "], "POST / Length(5) Keep"),
        (&[host, "Content-Length: 0"], "POST / Empty Keep"),
        (
            &[host, "Content-Length: 18446744073709551615"],
            "POST / Length(18446744073709551615) Keep",
        ),
        (&[host, "Content-Length: 18446744073709551616"], LENGTH),
        (&[host, "Content-Length: 99999999999999999999999999999999"], LENGTH),
        (&[host, "Content-Length: 5", "Content-Length: 5"], LENGTH),
        (&[host, "Content-Length: 5", "Content-Length: 6"], LENGTH),
        (&[host, "Content-Length: 0", "Content-Length: 0"], LENGTH),
        (&[host, "Content-Length: 0", "content-length: 5"], LENGTH),
        (&[host, "Content-Length: 5, 5"], LENGTH),
        (&[host, "Content-Length: 5,"], LENGTH),
        (&[host, "Content-Length: 5 5"], LENGTH),
        (&[host, "Content-Length: 5;x"], LENGTH),
        (&[host, "Content-Length: +5"], LENGTH),
        (&[host, "Content-Length: -0"], LENGTH),
        (&[host, "Content-Length: 0x5"], LENGTH),
        (&[host, "Content-Length: 5h"], LENGTH),
        (&[host, "Content-Length: 5.0"], LENGTH),
        (&[host, "Content-Length: 5e0"], LENGTH),
        (&[host, "Content-Length: \"5\""], LENGTH),
        (&[host, "Content-Length: \u{665}"], LENGTH),
        (&[host, "Content-Length:"], LENGTH),
        (&[host, "Content-Length: 5", "Transfer-Encoding: chunked"], LENGTH),
        (&[host, "Transfer-Encoding: chunked", "Content-Length: 5"], LENGTH),
        (&[host, "Transfer-Encoding: chunked", "Content-Length: 0"], LENGTH),
        // Different names, which must not be read as Content-Length.
        (&[host, "Content_Length: 5"], "POST / Empty Keep"),
        (&[host, "X-Content-Length: 5"], "POST / Empty Keep"),
    ]);
}

#[test]
fn smuggling_by_transfer_codings_is_rejected() {
    let host = "Host: a";
    assert_lines(&[
        (&[host, "Transfer-Encoding: chunked"], "POST / Chunked Keep"),
        (&[host, "transfer-ENCODING:\tChunked\t "], "POST / Chunked Keep"),
        (&[host, "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"], CODING),
        (&[host, "Transfer-Encoding: chunked", "Transfer-Encoding: identity"], CODING),
        (&[host, "Transfer-Encoding: chunked", "Transfer-Encoding:"], CODING),
        (&[host, "Transfer-Encoding: chunked, chunked"], UNKNOWN_CODING),
        (&[host, "Transfer-Encoding: gzip, chunked"], UNKNOWN_CODING),
        (&[host, "Transfer-Encoding: chunked, gzip"], UNKNOWN_CODING),
        (&[host, "Transfer-Encoding: gzip", "Transfer-Encoding: chunked"], UNKNOWN_CODING),
        (&[host, "Transfer-Encoding: identity"], UNKNOWN_CODING),
        (&[host, "Transfer-Encoding: xchunked"], UNKNOWN_CODING),
        (&[host, "Transfer-Encoding: chunkedx"], UNKNOWN_CODING),
        (&[host, "Transfer-Encoding: chunk ed"], UNKNOWN_CODING),
        (&[host, "Transfer-Encoding: chunked;q=1"], UNKNOWN_CODING),
        (&[host, "Transfer-Encoding: chunked,"], UNKNOWN_CODING),
        (&[host, "Transfer-Encoding: ,chunked"], UNKNOWN_CODING),
        (&[host, "Transfer-Encoding: \"chunked\""], UNKNOWN_CODING),
        (&[host, "Transfer-Encoding: chun\u{212a}ed"], UNKNOWN_CODING),
        (&[host, "Transfer-Encoding:"], UNKNOWN_CODING),
        (&[host, "Transfer-Encoding: \x0bchunked"], HEAD),
        (&[host, "Transfer-Encoding: chunked\x0b"], HEAD),
        (&[host, "Transfer-Encoding: chunked\x0c"], HEAD),
        (&[host, "Transfer-Encoding: chunked\0"], HEAD),
        (&[host, "Transfer-Encoding : chunked"], HEAD),
        (&[host, "Transfer-Encoding\t: chunked"], HEAD),
        (&[host, "Transfer-Encoding:", " chunked"], HEAD),
        (&[host, "X: y\rTransfer-Encoding: chunked"], HEAD),
        (&[host, "Transfer_Encoding: chunked"], "POST / Empty Keep"),
    ]);
    for line in ["chunked", "identity", "gzip, chunked", ""] {
        let request = format!("POST / HTTP/1.0\r\nTransfer-Encoding: {line}\r\n\r\n");
        assert_eq!(read(request.as_bytes()), CODING, "HTTP/1.0 has no transfer codings: {line:?}");
    }
}

/// A request with every kind of line end.
const REQUEST: &[u8] = b"GET /a HTTP/1.1\r\nHost: a\r\nX:\r\nY: z\r\n\r\n";

#[test]
fn line_end_must_be_crlf() {
    assert_eq!(read(REQUEST), "GET /a Empty Keep");
    let ends: Vec<_> = memmem::find_iter(REQUEST, b"\r\n").collect();
    assert_eq!(ends.len(), 5);
    for end in &ends {
        let without = |place: usize| [&REQUEST[..place], &REQUEST[place + 1..]].concat();
        assert_eq!(read(&without(*end)), BARE_LF, "LF alone at {end}");
        // Lenient parsers would end the head here and read a second request after it.
        assert_eq!(read(&[&without(*end)[..], REQUEST].concat()), BARE_LF, "LF alone at {end}");
        let bare = without(end + 1);
        assert!(["partial", HEAD].contains(&&*read(&bare)), "CR alone at {end}");
        assert_eq!(read(&[&bare[..], b"\r\n\r\n"].concat()), HEAD, "CR alone at {end}");
    }
    for place in 0..=REQUEST.len() - HEAD_END.len() {
        let with = |bytes: &[u8]| [&REQUEST[..place], bytes, &REQUEST[place..]].concat();
        if place > 0 && !ends.contains(&(place - 1)) {
            assert_eq!(read(&with(b"\n")), BARE_LF, "LF at {place}");
        }
        let refused = read(&with(b"\r"));
        assert!([HEAD, "505 version"].contains(&&*refused), "CR at {place}: {refused}");
    }
    for all_bare in [
        &b"GET / HTTP/1.1\nHost: a\n\n"[..],
        b"\n",
        b"\nGET /",
        b"\r\n\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\n",
    ] {
        assert_eq!(read(all_bare), BARE_LF, "{all_bare:?}");
    }
}

#[test]
fn at_most_one_empty_line_precedes_a_request() {
    assert_eq!(read(&[b"\r\n", REQUEST].concat()), "GET /a Empty Keep");
    assert_eq!(read(&[b"\r\n\r\n", REQUEST].concat()), HEAD);
    for partial in [&b""[..], b"\r", b"\r\n", b"\r\n\r", b"\r\nG"] {
        assert_eq!(read(partial), "partial", "{partial:?}");
    }
}

#[test]
fn header_line_grammar_is_strict() {
    let host = "Host: a";
    assert_lines(&[
        (&[host, "X: y", " folded"], HEAD),
        (&[host, "X: y", "\tfolded"], HEAD),
        (&[" X: y", host], HEAD),
        (&[host, "X : y"], HEAD),
        (&[host, "X\t: y"], HEAD),
        (&[host, ": y"], HEAD),
        (&[host, ":"], HEAD),
        (&[host, "X"], HEAD),
        (&[host, "X y: z"], HEAD),
        (&[host, "X(y): z"], HEAD),
        (&[host, "\u{e4}: y"], HEAD),
        (&[host, "X:y"], "POST / Empty Keep"),
        (&[host, "X:: y"], "POST / Empty Keep"),
    ]);
    let tokens = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    for byte in (0..=u8::MAX).filter(|byte| !b"\r\n".contains(byte)) {
        let with = |before: &[u8], behind: &[u8]| {
            read(&[before, &[byte], behind].concat()) == "GET / Empty Keep"
        };
        let is_text = byte == b'\t' || !byte.is_ascii_control();
        assert_eq!(
            with(b"GET / HTTP/1.1\r\nHost: a\r\nX: a", b"b\r\n\r\n"),
            is_text,
            "{byte:#x} in a value"
        );
        assert_eq!(
            with(b"GET / HTTP/1.1\r\nHost: a\r\na", b"b: x\r\n\r\n"),
            tokens(byte) || byte == b':',
            "{byte:#x} in a name"
        );
        let method = read(&[b"G", &[byte][..], b"T / HTTP/1.1\r\nHost: a\r\n\r\n"].concat());
        assert_eq!(method.ends_with(" / Empty Keep"), tokens(byte), "{byte:#x} in a method");
    }
}

#[test]
fn target_has_no_blank_and_no_fragment() {
    let read = |target: &[u8]| read(&[b"GET ", target, b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat());
    for target in [
        "*",
        "/",
        "//",
        "/a?b?c",
        "a.example:443",
        "http://a/b",
        "HTTP://a",
        "/..",
        "/%00%0d%0a",
        "/%",
        "/\u{e4}",
        "/|{}\"<>`\\^",
    ] {
        assert_eq!(read(target.as_bytes()), format!("GET {target} Empty Keep"));
    }
    for (target, expected) in [
        (&b""[..], HEAD),
        (b"/a b", "505 version"),
        (b" /", HEAD),
        (b"/ ", "505 version"),
        (b"/\t", HEAD),
        (b"/\0", HEAD),
        (b"/\x7f", HEAD),
        (b"/\x0b", HEAD),
        (b"/\r", HEAD),
        (b"/\xff", HEAD),
        (b"/\xc3", HEAD),
        (b"/#", "400 request_target"),
        (b"/a?b#c", "400 request_target"),
        (b"#", "400 request_target"),
    ] {
        assert_eq!(read(target), expected, "{target:?}");
    }
}

#[test]
fn authority_of_an_absolute_target_replaces_host() {
    let host = |target: &str| {
        let bytes = format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n\r\n");
        let mut slots = [const { MaybeUninit::uninit() }; COMMON_HEADER_LINES];
        match parse(bytes.as_bytes(), 0, &LIMITS, &mut slots) {
            ParseStatus::Complete(head) => Ok(head.host().to_owned()),
            ParseStatus::Invalid(error) => Err(error.code),
            _ => panic!("{target}"),
        }
    };
    for (target, expected) in [
        ("/http://b/", "a.example"),
        ("*", "a.example"),
        ("ftp://b/", "a.example"),
        ("http://b.example:80/auth", "b.example:80"),
        ("HTTPS://B?x", "B"),
        ("hTTp://[::1]:8080", "[::1]:8080"),
        ("http://a.example/?x=http://c@d/", "a.example"),
    ] {
        assert_eq!(host(target).as_deref(), Ok(expected), "{target}");
    }
    for authority in
        ["", "u:p@a", "@a", "a\"b", "a,b", "a:99999999", "a:b", ":80", "a\\b", "[::1", "a%", "a|b"]
    {
        for target in [format!("http://{authority}/auth"), format!("HTTPS://{authority}?x")] {
            assert_eq!(host(&target), Err("request_target"), "{target}");
        }
    }
}

#[test]
fn invalid_uri_cannot_become_a_request() {
    let to_request = |target: &str| {
        let bytes =
            format!("GET {target} HTTP/1.1\r\nHost: a\r\nX: 1\r\nY: 2\r\nx: \u{e4}\r\n\r\n");
        let mut slots = [const { MaybeUninit::uninit() }; COMMON_HEADER_LINES];
        let ParseStatus::Complete(head) = parse(bytes.as_bytes(), 0, &LIMITS, &mut slots) else {
            panic!("{target}")
        };
        let kept = KeptHead::new(&head, head.target, |_| true).map_err(|error| error.code)?;
        kept.into_request(()).map_err(|error| error.code)
    };
    for target in ["*", "/", "/a?b", "a.example:443", "http://a/b", "/%", "/\u{e4}"] {
        let request = to_request(target).unwrap();
        assert_eq!((request.method(), request.uri().to_string().as_str()), (&Method::GET, target));
        let values: Vec<_> =
            request.headers().get_all("x").iter().map(HeaderValue::as_bytes).collect();
        assert_eq!(values, [b"1", "\u{e4}".as_bytes()]);
    }
    for target in ["/<", "/>", "/`", "http://a/<", "x/y", "://"] {
        assert_eq!(to_request(target).unwrap_err(), "request_target", "{target}");
    }
}

#[test]
fn only_http10_and_http11_are_accepted() {
    let read = |version: &str| read(format!("GET / {version}\r\nHost: a\r\n\r\n").as_bytes());
    assert_eq!(read("HTTP/1.1"), "GET / Empty Keep");
    assert_eq!(read("HTTP/1.0"), "GET / Empty Close");
    for version in [
        "HTTP/1.2", "HTTP/0.9", "HTTP/2.0", "HTTP/2", "http/1.1", "HTTP/1,1", "HTTP/11", "HTTP1.1",
        "x", "",
    ] {
        assert_eq!(read(version), "505 version", "{version:?}");
    }
    for version in ["HTTP/1.1 ", "HTTP/1.10", "HTTP/1.1\t", "HTTP/1.1\0"] {
        assert_eq!(read(version), HEAD, "{version:?}");
    }
    assert_eq!(self::read(b"GET /\r\n\r\n"), HEAD, "an HTTP/0.9 request");
}

#[test]
fn other_protocols_are_rejected_early() {
    for (bytes, expected) in [
        (&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], HEAD),
        (b"\x80\x2e\x01\x00\x02", HEAD),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", HEAD),
        (b"\r\n\x16", HEAD),
        (b"\0", HEAD),
        (b" GET", HEAD),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505 version"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "505 version"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "partial"),
        (b"SSH-2.0-OpenSSH_9.9\r\n\r\n", HEAD),
        (b"EHLO\n", BARE_LF),
    ] {
        assert_eq!(read(bytes), expected, "{bytes:?}");
    }
}

#[test]
fn persistence_follows_version_and_connection_line() {
    for (version, line, expected) in [
        ("1.1", "", Persistence::Keep),
        ("1.1", "Connection: close\r\n", Persistence::Close),
        ("1.1", "Connection: keep-alive\r\n", Persistence::Keep),
        ("1.1", "Connection: Keep-Alive, CLOSE\r\n", Persistence::Close),
        ("1.1", "Connection: close\r\nConnection: keep-alive\r\n", Persistence::Close),
        ("1.1", "Connection: keep-alive\r\nConnection: x ,\tclose , y\r\n", Persistence::Close),
        ("1.1", "Connection: closed, xclose\r\n", Persistence::Keep),
        ("1.1", "Connection: upgrade\r\nUpgrade: h2c\r\n", Persistence::Keep),
        ("1.0", "", Persistence::Close),
        ("1.0", "Connection: keep-alive\r\n", Persistence::KeepExplicit),
        ("1.0", "Connection: KEEP-ALIVE\r\n", Persistence::KeepExplicit),
        ("1.0", "Connection: keep-alive, close\r\n", Persistence::Close),
        ("1.0", "Proxy-Connection: keep-alive\r\n", Persistence::Close),
    ] {
        let read = read(format!("GET / HTTP/{version}\r\nHost: a\r\n{line}\r\n").as_bytes());
        assert_eq!(read, format!("GET / Empty {expected:?}"), "{version} {line:?}");
    }
}

#[test]
fn only_100_continue_is_an_expectation() {
    for (version, value, expected) in [
        ("1.1", "100-continue", true),
        ("1.1", "100-Continue", true),
        ("1.1", "x", false),
        ("1.0", "100-continue", false),
    ] {
        let read =
            read(format!("PUT / HTTP/{version}\r\nHost: a\r\nExpect: {value}\r\n\r\n").as_bytes());
        assert_eq!(read.ends_with(" expects"), expected, "{version} {value}");
    }
}

/// Returns a request whose head has this many bytes.
fn long(head: usize, line: &str) -> Vec<u8> {
    let rest = REQUEST.len() + line.len() + "Z: \r\n".len();
    let (start, end) = REQUEST.split_at(REQUEST.len() - 2);
    [start, line.as_bytes(), b"Z: ", &vec![b'z'; head - rest], b"\r\n", end].concat()
}

#[test]
fn head_limit_is_exact() {
    assert_eq!(long(MAX_HEAD_BYTES, "").len(), MAX_HEAD_BYTES);
    assert_eq!(read(&long(MAX_HEAD_BYTES, "")), "GET /a Empty Keep");
    assert_eq!(read(&long(MAX_HEAD_BYTES + 1, "")), "431 head_too_large");
    assert_eq!(read(&long(MAX_HEAD_BYTES, "")[..MAX_HEAD_BYTES - 1]), "partial");
    assert_eq!(read(&long(MAX_HEAD_BYTES + 1, "")[..MAX_HEAD_BYTES - 1]), "partial");
    assert_eq!(read(&long(MAX_HEAD_BYTES + 1, "")[..MAX_HEAD_BYTES]), "431 head_too_large");
    let behind = [long(MAX_HEAD_BYTES, ""), vec![b'x'; MAX_HEAD_BYTES]].concat();
    assert_eq!(read(&behind), "GET /a Empty Keep", "bytes after the head do not count");
}

#[test]
fn target_that_fills_the_head_is_414() {
    let target = |length: usize| {
        [b"GET /", &vec![b'a'; length][..], b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat()
    };
    let longest = MAX_HEAD_BYTES - target(0).len();
    assert!(read(&target(longest)).ends_with(" Empty Keep"));
    assert_eq!(read(&target(longest + 1)), "431 head_too_large");
    for length in [MAX_HEAD_BYTES, 50_000] {
        let bytes = target(length);
        for arrived in [MAX_HEAD_BYTES, MAX_HEAD_BYTES + 1, bytes.len()] {
            assert_eq!(read(&bytes[..arrived]), "414 uri_too_long", "{arrived} of {length}");
        }
    }
}

#[test]
fn line_limit_is_exact_whatever_the_slots() {
    let with = |lines: usize, limits: RequestLimits, slots: usize| {
        let more = "x: y\r\n".repeat(lines - 1);
        let bytes = format!("GET / HTTP/1.1\r\nHost: a\r\n{more}\r\n");
        let mut slots = vec![MaybeUninit::uninit(); slots];
        match parse(bytes.as_bytes(), 0, &limits, &mut slots) {
            ParseStatus::Complete(head) => format!("{} lines", head.lines.len()),
            ParseStatus::TooFewSlots => "too few slots".into(),
            ParseStatus::Invalid(error) => error.detail.into(),
            ParseStatus::Partial => "partial".into(),
        }
    };
    let many = RequestLimits { header_lines: 300, ..LIMITS };
    assert_eq!(with(20, LIMITS, 100), "20 lines");
    assert_eq!(with(21, LIMITS, 100), "a request is limited to 20 header lines (max_header_lines)");
    assert_eq!(with(100, many, 100), "100 lines");
    assert_eq!(with(101, many, 100), "too few slots");
    assert_eq!(with(300, many, 300), "300 lines");
    assert_eq!(with(301, many, 300), "a request is limited to 300 header lines (max_header_lines)");
}

#[test]
fn head_result_does_not_depend_on_pieces() {
    let long_target = [b"GET /", &vec![b'a'; MAX_HEAD_BYTES][..]].concat();
    let cases = [
        REQUEST.to_vec(),
        [b"\r\n", REQUEST].concat(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
            .to_vec(),
        b"GET / HTTP/1.1\r\nHost: a\r\nX: y\n\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n".to_vec(),
        b"GET / HTTP/3.0\r\n\r\n".to_vec(),
        b"\r\n\r\nGET / HTTP/1.1\r\n\r\n".to_vec(),
        b"\r\n\x16\x03\x01\n\r\n\r\n".to_vec(),
        b"\x16\x03\n\r\n\r\n".to_vec(),
        b"\r\r\n\r\n".to_vec(),
    ];
    let long_cases = [
        (long(MAX_HEAD_BYTES, ""), 4093),
        (long(MAX_HEAD_BYTES + 1, ""), 4093),
        ([&long(MAX_HEAD_BYTES + 2, "")[..], b"\n"].concat(), 16_384),
        ([&long(MAX_HEAD_BYTES, "")[..MAX_HEAD_BYTES - 2], b"\n\r\n\r\n"].concat(), 16_384),
        ([&long_target[..], b"\n\r\n\r\n"].concat(), 1000),
        ([b"\x16", &long_target[..], b"\r\n\r\n"].concat(), 1000),
    ];
    let short = cases
        .into_iter()
        .flat_map(|bytes| (1..=bytes.len()).map(move |piece| (bytes.clone(), piece)));
    for (bytes, piece) in short.chain(long_cases) {
        let (whole, mut scanned) = (read(&bytes), 0);
        let steps = (piece..bytes.len()).step_by(piece).chain([bytes.len()]);
        let mut results = steps
            .map(|arrived| read_after(&bytes[..arrived], std::mem::replace(&mut scanned, arrived)));
        let last = results.find(|result| result != "partial");
        assert_eq!(
            last.as_deref(),
            Some(&*whole),
            "{:.40} in pieces of {piece}",
            bytes.escape_ascii().to_string()
        );
    }
}

#[test]
fn field_lines_are_counted_from_the_last() {
    let bytes = b"GET / HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nx-a:2\r\nX-AB: 3\r\nX_A: 4\r\n\r\n";
    let mut slots = [const { MaybeUninit::uninit() }; COMMON_HEADER_LINES];
    let ParseStatus::Complete(head) = parse(bytes, 0, &LIMITS, &mut slots) else { panic!() };
    let name = HeaderName::from_static("x-a");
    assert_eq!([0, 1, 2].map(|nth| head.line(&name, nth)), [Some(&b"2"[..]), Some(b"1"), None]);
    assert_eq!(only_line(&head, &name), Err(DuplicateHeader));
}
