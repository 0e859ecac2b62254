use http::{Method, header};

use super::*;
use crate::{KeptHead, RequestLimits, fields::section::SectionBuffer, http3::qpack};

/// Encodes a field section.
fn section(lines: &[(&str, &str)]) -> Vec<u8> {
    let mut out = vec![0, 0];
    for (name, value) in lines {
        qpack::field(&mut out, name, value.as_bytes());
    }
    out
}

/// Interprets a field section: the request as text, or `MALFORMED`.
fn read(lines: &[(&str, &str)]) -> String {
    let (mut buffer, payload) = (SectionBuffer::default(), section(lines));
    match DecodedHead::read(
        qpack::read(&mut buffer, &payload, &RequestLimits::default()).unwrap(),
        Version::HTTP_3,
    ) {
        Ok(head) => {
            let length =
                head.content_length.map_or_else(String::new, |length| format!(" {length}"));
            format!(
                "{} {} {} {}{length}",
                head.method(),
                head.scheme.unwrap_or("-"),
                head.authority,
                head.target()
            )
        }
        Err(_) => MALFORMED.into(),
    }
}

const MALFORMED: &str = "malformed";
const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "https"), (":authority", "a.example"), (":path", "/auth")];
const VALID: &str = "GET https a.example /auth";

/// Interprets a valid request with further field lines.
fn read_with(lines: &[(&str, &str)]) -> String {
    read(&[&GET, lines].concat())
}

#[test]
fn pseudo_header_fields_come_once_and_first() {
    assert_eq!(read(&GET), VALID);
    for missing in [0, 1, 2, 3] {
        let mut lines = GET.to_vec();
        let line = lines.remove(missing);
        assert_eq!(read(&lines), MALFORMED, "without {line:?}");
        lines.extend([("x-one", "1"), line]);
        assert_eq!(read(&lines), MALFORMED, "{line:?} after a regular field");
        assert_eq!(read_with(&[line]), MALFORMED, "{line:?} twice");
    }
    let mut reversed = GET;
    reversed.reverse();
    assert_eq!(read(&reversed), VALID);
    assert_eq!(read(&[]), MALFORMED);
    for line in
        [(":status", "200"), (":protocol", "websocket"), (":", ""), (":Method", "GET"), ("", "")]
    {
        assert_eq!(read_with(&[line]), MALFORMED, "{line:?}");
    }
}

#[test]
fn method_is_a_token() {
    let read = |method| read(&[&[(":method", method)], &GET[1..]].concat());
    assert_eq!(read("PURGE"), VALID.replace("GET", "PURGE"));
    assert_eq!(read("get"), VALID.replace("GET", "get"));
    for method in ["", "G ET", "GET\r", "G\u{e9}T", "GET/"] {
        assert_eq!(read(method), MALFORMED, "{method:?}");
    }
}

#[test]
fn scheme_is_validated() {
    let read = |scheme| read(&[&GET[..1], &[(":scheme", scheme)], &GET[2..]].concat());
    assert_eq!(read("http"), VALID.replace("https", "http"));
    for scheme in ["", "1http", "ht tp", "http:"] {
        assert_eq!(read(scheme), MALFORMED, "{scheme:?}");
    }
}

#[test]
fn path_is_validated() {
    let read = |path| read(&[&GET[..3], &[(":path", path)]].concat());
    for path in ["/", "/a?b=%20'\"<>[]{}|\\^`", "//a", "/?"] {
        assert_eq!(read(path), VALID.replace("/auth", path));
    }
    for path in [
        "",
        "*",
        "a",
        "?",
        "https://a.example/",
        "/a b",
        "/a#b",
        "/\t",
        "/\r\n",
        "/\0",
        "/\x7f",
        "/\u{e9}",
    ] {
        assert_eq!(read(path), MALFORMED, "{path:?}");
    }
}

#[test]
fn asterisk_form_is_only_for_options() {
    let lines = |method| [(":method", method), GET[1], GET[2], (":path", "*")];
    assert_eq!(read(&lines("OPTIONS")), "OPTIONS https a.example *");
    assert_eq!(read(&lines("HEAD")), MALFORMED);
}

#[test]
fn connect_has_no_scheme_and_no_path() {
    let connect = (":method", "CONNECT");
    assert_eq!(
        read(&[connect, (":authority", "a.example:443")]),
        "CONNECT - a.example:443 a.example:443"
    );
    assert_eq!(read(&[connect, GET[1], GET[2]]), MALFORMED);
    assert_eq!(read(&[connect, GET[2], GET[3]]), MALFORMED);
    assert_eq!(read(&[connect, GET[1], GET[2], GET[3]]), MALFORMED);
    assert_eq!(read(&[connect, ("host", "a.example")]), MALFORMED);
}

#[test]
fn authority_and_host_have_to_agree() {
    let without = [GET[0], GET[1], GET[3]];
    assert_eq!(read(&[&without[..], &[("host", "a.example")]].concat()), VALID);
    assert_eq!(read_with(&[("host", "a.example")]), VALID);
    assert_eq!(read_with(&[("host", "A.EXAMPLE")]), VALID);
    for host in ["", "b.example", "a.example:443"] {
        assert_eq!(read_with(&[("host", host)]), MALFORMED, "{host:?}");
    }
    assert_eq!(read_with(&[("host", "a.example"), ("host", "a.example")]), MALFORMED);
    for host in ["", "a, b", "a b", "user@a", "a/b", "a\\b", "a?b", "a\t", "\u{e9}"] {
        assert_eq!(read(&[&without[..], &[("host", host)]].concat()), MALFORMED, "{host:?}");
        assert_eq!(read(&[&[(":authority", host)], &without[..]].concat()), MALFORMED, "{host:?}");
    }
}

#[test]
fn field_names_are_lower_case_tokens() {
    assert_eq!(read_with(&[("a!#$%&'*+-.^_`|~09", "")]), VALID);
    for name in ["Accept", "x-A", "a b", "a:", "a\0", "a\u{e9}", "a(", "a,", "a\n"] {
        assert_eq!(read_with(&[(name, "")]), MALFORMED, "{name:?}");
    }
}

#[test]
fn field_values_are_validated() {
    for value in ["", "a", "a b\tc", "\u{e9}", "~"] {
        assert_eq!(read_with(&[("x-one", value)]), VALID, "{value:?}");
    }
    for value in
        [" ", "\t", " a", "a ", "\ta", "a\t", "a\0", "a\rb", "a\nb", "\r\n", "\x01", "a\x7fb"]
    {
        assert_eq!(read_with(&[("x-one", value)]), MALFORMED, "{value:?}");
    }
    let long = "a".repeat(100);
    for at in 0..=long.len() {
        let (before, after) = long.split_at(at);
        assert_eq!(read_with(&[("x-one", &format!("{before}\x1f{after}"))]), MALFORMED, "at {at}");
    }
}

#[test]
fn every_byte_of_a_field_value_is_judged_by_rfc_9110() {
    for byte in 0..=u8::MAX {
        let is_allowed = byte == b'\t' || byte >= b' ' && byte != 0x7f;
        for length in [3, 40] {
            let mut value = vec![b'a'; length];
            value[length / 2] = byte;
            assert_eq!(is_field_value(&value), is_allowed, "{byte:#04x}");
        }
    }
}

#[test]
fn connection_specific_fields_are_malformed() {
    for name in ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"] {
        assert_eq!(read_with(&[(name, "close")]), MALFORMED, "{name}");
        assert_eq!(
            read_with(&[(&format!("x{}", &name[1..]), "close")]),
            VALID,
            "another name of the same length"
        );
    }
    assert_eq!(read_with(&[("te", "trailers")]), VALID);
    for te in ["", "gzip", "trailers, gzip", "trailers;q=1"] {
        assert_eq!(read_with(&[("te", te)]), MALFORMED, "{te:?}");
    }
}

#[test]
fn content_length_is_single_and_in_digits() {
    for length in ["0", "12", "0012", "18446744073709551615"] {
        let number: u64 = length.parse().unwrap();
        assert_eq!(read_with(&[("content-length", length)]), format!("{VALID} {number}"));
    }
    for length in ["", "+1", "-1", "1, 1", "0x1", "1.0", "18446744073709551616"] {
        assert_eq!(read_with(&[("content-length", length)]), MALFORMED, "{length:?}");
    }
    assert_eq!(read_with(&[("content-length", "1"), ("content-length", "1")]), MALFORMED);
}

#[test]
fn field_lines_are_found_from_the_end() {
    let payload =
        section(&[&GET[..], &[("cookie", "a"), ("x-one", "1"), ("cookie", "b")]].concat());
    let mut buffer = SectionBuffer::default();
    let head = DecodedHead::read(
        qpack::read(&mut buffer, &payload, &RequestLimits::default()).unwrap(),
        Version::HTTP_3,
    )
    .unwrap();
    let line = |name, nth| head.line(&name, nth);
    assert_eq!([0, 1, 2].map(|nth| line(header::COOKIE, nth)), [Some(&b"b"[..]), Some(b"a"), None]);
    assert_eq!(line(HeaderName::from_static("x-one"), 0), Some(&b"1"[..]));
    assert_eq!(line(header::ACCEPT, 0), None);
}

#[test]
fn head_converts_to_an_http_request() {
    let payload = section(
        &[
            &GET[..3],
            &[(":path", "/auth?a=b"), ("cookie", "a"), ("accept", "*/*"), ("cookie", "b")],
        ]
        .concat(),
    );
    let mut buffer = SectionBuffer::default();
    let head = DecodedHead::read(
        qpack::read(&mut buffer, &payload, &RequestLimits::default()).unwrap(),
        Version::HTTP_3,
    )
    .unwrap();
    let kept = KeptHead::new(&head, head.target(), |_| true).unwrap();
    let request = kept.into_request(()).unwrap();
    assert_eq!((request.method(), request.version()), (&Method::GET, Version::HTTP_3));
    assert_eq!(request.uri(), "/auth?a=b");
    let lines: Vec<_> =
        request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    assert_eq!(lines, [("cookie", &b"a"[..]), ("cookie", b"b"), ("accept", b"*/*")]);
}

#[test]
fn target_that_is_not_a_uri_fails_conversion() {
    let payload = section(&[&GET[..3], &[(":path", "/<>")]].concat());
    let mut buffer = SectionBuffer::default();
    let head = DecodedHead::read(
        qpack::read(&mut buffer, &payload, &RequestLimits::default()).unwrap(),
        Version::HTTP_3,
    )
    .unwrap();
    assert_eq!(
        KeptHead::new(&head, head.target(), |_| true)
            .and_then(|kept| kept.check_target())
            .map_err(|bad_request| bad_request.code),
        Err("request_target")
    );
}
