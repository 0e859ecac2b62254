use std::net::Ipv4Addr;

use countersign_front::{
    DuplicateHeader, only_line,
    spop::value::{put_integer, put_text},
};

use super::*;

type Arguments<'a> = Vec<(&'a str, SpopValue<'a>)>;

/// Encodes header lines as HAProxy does.
fn binary(lines: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in lines.iter().chain(&[("", "")]) {
        put_text(&mut out, name.as_bytes());
        put_text(&mut out, value.as_bytes());
    }
    out
}

fn message(name: &str, arguments: &[(&str, SpopValue<'_>)]) -> Vec<u8> {
    let mut out = Vec::new();
    put_text(&mut out, name.as_bytes());
    out.push(u8::try_from(arguments.len()).unwrap());
    for (name, value) in arguments {
        put_text(&mut out, name.as_bytes());
        value.put(&mut out);
    }
    out
}

/// The arguments of a request with these header lines.
fn usual(headers: &[u8]) -> Arguments<'_> {
    vec![
        ("id", SpopValue::Text(b"7")),
        ("method", SpopValue::Text(b"GET")),
        ("path", SpopValue::Text(b"/page?x=1")),
        ("scheme", SpopValue::Text(b"https")),
        ("src", SpopValue::Address(Ipv4Addr::LOCALHOST.into())),
        ("headers", SpopValue::Binary(headers)),
    ]
}

/// Whether a message is read, or else the reason.
fn reads(payload: &[u8]) -> Result<bool, &'static str> {
    match SpopRequest::read(payload) {
        Ok(request) => Ok(request.is_some()),
        Err(error) => Err(error.reason),
    }
}

#[test]
fn check_is_read_from_its_arguments() {
    let headers = binary(&[("host", "shop.example"), ("authorization", "x"), ("empty", "")]);
    let payload = message("check", &usual(&headers));
    let request = SpopRequest::read(&payload).ok().flatten().unwrap();
    let CheckArguments { id, method, path, scheme } = request.arguments;
    assert_eq!([id, method, path, scheme], [&b"7"[..], b"GET", b"/page?x=1", b"https"]);
    assert_eq!(request.source, Some(Ipv4Addr::LOCALHOST.into()));
    assert_eq!(only_line(&request.headers, &header::AUTHORIZATION), Ok(Some(&b"x"[..])));
    assert_eq!(request.headers.iter().len(), 3);
}

#[test]
fn e4_duplicate_header_is_detected_in_any_case() {
    for name in ["authorization", "Authorization", "AUTHORIZATION"] {
        let headers = binary(&[("authorization", "x"), ("a", "b"), (name, "x")]);
        let payload = message("check", &usual(&headers));
        let request = SpopRequest::read(&payload).ok().flatten().unwrap();
        assert_eq!(only_line(&request.headers, &header::AUTHORIZATION), Err(DuplicateHeader));
    }
}

#[test]
fn arguments_may_be_null_and_some_missing() {
    let headers = binary(&[]);
    let mut arguments = usual(&headers);
    arguments.retain(|(name, _)| !["id", "scheme"].contains(name));
    assert_eq!(reads(&message("check", &arguments)), Ok(true));
    for index in 0..arguments.len() {
        let (mut null, mut missing) = (arguments.clone(), arguments.clone());
        null[index].1 = SpopValue::Null;
        let is_headers = arguments[index].0 == "headers";
        assert_eq!(reads(&message("check", &null)), Ok(!is_headers), "{}", arguments[index].0);
        missing.remove(index);
        assert_eq!(reads(&message("check", &missing)), Err(INCOMPLETE.reason));
    }
}

#[test]
fn mistaken_messages_are_refused() {
    let headers = binary(&[("a", "b")]);
    let good = message("check", &usual(&headers));
    for length in 0..good.len() {
        assert!(reads(&good[..length]).is_err(), "{length} bytes");
    }
    let changed = |index: usize, argument| {
        let mut arguments = usual(&headers);
        arguments[index] = argument;
        reads(&message("check", &arguments))
    };
    assert!(changed(0, ("ID", SpopValue::Text(b"7"))).is_err(), "an unknown name");
    assert!(changed(0, ("method", SpopValue::Text(b"7"))).is_err(), "twice");
    assert!(changed(1, ("method", SpopValue::Binary(b"GET"))).is_err());
    assert!(changed(4, ("src", SpopValue::Text(b"127.0.0.1"))).is_err());
    assert!(changed(5, ("headers", SpopValue::Text(b"a: b\r\n\r\n"))).is_err());
    assert!(reads(&message("other", &usual(&headers))).is_err());
    assert!(reads(&[&good[..], &good].concat()).is_err(), "two messages");
    assert!(reads(b"").is_err());
}

#[test]
fn malformed_header_lines_are_refused() {
    let of = |headers: &[u8]| reads(&message("check", &usual(headers)));
    let good = binary(&[("a", "b"), ("c", "")]);
    assert_eq!(of(&good), Ok(true));
    for length in 0..good.len() {
        assert!(of(&good[..length]).is_err(), "{length} bytes");
    }
    assert!(of(&[&good[..], &binary(&[])].concat()).is_err(), "lines after the end");
    assert!(of(&binary(&[("", "b")])).is_err(), "a line without a name");
    let mut long = Vec::new();
    put_integer(&mut long, u64::MAX);
    assert!(of(&long).is_err(), "a name beyond the end");
}

#[test]
fn too_many_header_lines_are_not_read() {
    assert_eq!(reads(&message("check", &usual(&binary(&[("a", "b"); 1024])))), Ok(true));
    assert_eq!(reads(&message("check", &usual(&binary(&[("a", "b"); 1025])))), Ok(false));
}
