use super::*;

fn error(json: &str) -> Option<JsonError> {
    JsonBuffers::with_capacity(64).parse(json.as_bytes()).err()
}

#[test]
fn members_are_read_in_order_past_nested_values() {
    let mut buffers = JsonBuffers::with_capacity(64);
    let document =
        buffers.parse(br#"{"a":{"x":[1,{"y":2}]},"b":"\u00e9","c":[true,null],"d":1.5}"#).unwrap();
    let names: Vec<_> = document.members().map(|(name, _)| name).collect();
    assert_eq!(names, ["a", "b", "c", "d"]);
    assert_eq!(document.members().get("b").unwrap().as_str(), Some("é"));
    assert_eq!(document.members().get("c").unwrap().elements().unwrap().count(), 2);
    assert_eq!(document.members().get("d").unwrap().as_whole(10), Some(1));
    let inner = document.members().get("a").unwrap().members().unwrap().get("x").unwrap();
    assert_eq!(inner.elements().unwrap().count(), 2);
    assert!(document.members().get("x").is_none());
}

#[test]
fn json_buffers_are_reused_without_growing() {
    let mut buffers = JsonBuffers::with_capacity(256);
    drop(buffers.parse(br#"{"a":[1,2,3],"b":{"c":"d"}}"#));
    let nodes = buffers.tape.0.capacity();
    let text = buffers.text.as_ptr();
    assert!(nodes > 0, "the tape was returned");
    for _ in 0..100 {
        drop(buffers.parse(br#"{"a":[1,2,3],"b":{"c":"d"}}"#));
        drop(buffers.parse(br#"{"broken":"#));
    }
    assert_eq!((buffers.tape.0.capacity(), buffers.text.as_ptr()), (nodes, text));
}

#[test]
fn b4_duplicate_is_found_at_any_level_and_escaped() {
    for json in [
        r#"{"a":1,"a":1}"#,
        r#"{"a":{"b":{"c":1,"d":2,"c":3}}}"#,
        r#"{"l":[{"x":1},{"x":1,"x":2}]}"#,
        r#"{"a":1,"\u0061":2}"#,
        r#"{"":1,"":2}"#,
        r#"{"urn:inmanta:env":1,"b":2,"urn:inmanta:env":3}"#,
    ] {
        assert_eq!(error(json), Some(JsonError::DuplicateMember), "{json}");
    }
    assert_eq!(error(r#"{"a":{"a":{"a":1}},"A":1,"l":[{"a":1},{"a":1}]}"#), None);
}

#[test]
fn b9_depth_bound_is_exact() {
    let nested = |levels: usize| format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
    assert_eq!(error(&nested(16)), None);
    assert_eq!(error(&nested(17)), Some(JsonError::TooDeep));
    assert_eq!(error(&format!(r#"{{"a":{}{}}}"#, "[".repeat(15), "]".repeat(15))), None);
    assert_eq!(
        error(&format!(r#"{{"a":{}{}}}"#, "[".repeat(16), "]".repeat(16))),
        Some(JsonError::TooDeep)
    );
    assert_eq!(error(&format!(r#"{{"a":{}"#, "[".repeat(10_000))), Some(JsonError::TooDeep));
}

#[test]
fn b5_non_strict_json_is_refused() {
    for json in [
        "",
        " ",
        "null",
        "[]",
        "\"a\"",
        "1",
        "{}{}",
        "{} x",
        "{",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{a:1}",
        "{'a':1}",
        "\u{feff}{}",
        "{\"a\":\"\n\"}",
        "{\"a\":\"\\x\"}",
        "{\"a\":01}",
        "{\"a\":+1}",
        "{\"a\":.5}",
        "{\"a\":1.}",
        "{\"a\":NaN}",
        "{\"a\":\"\\ud800\"}",
        "{\"a\":\"\\udc00\\ud800\"}",
        "{\"a\":01e400}",
        "{\"a\":.1e400}",
        "{\"a\":+1e400}",
        "{\"a\":--1e400}",
        "{\"a\":1e4000null}",
        "{\"a\":1e4000 1}",
        "{\"a\":1e400,\"b\":tru}",
        "{\"a\":1e400",
        "[18446744073709551616]",
        "{\"a\":Infinity}",
        "{\"a\":tru}",
        "{\"a\":1 2}",
        "/**/{}",
        "{\"a\":\"\\u00\"}",
        "{\"a\":0x1}",
    ] {
        assert_eq!(error(json), Some(JsonError::NotAnObject), "{json:?}");
    }
    for bytes in [
        &b"{\"a\":\"\xff\"}"[..],
        b"{\"\xc0\xaf\":1}",
        b"\xff\xfe{\0}\0",
        b"{\"a\":\"\xed\xa0\x80\"}",
        b"{\"a\":\"\0\"}",
    ] {
        assert_eq!(
            JsonBuffers::with_capacity(64).parse(bytes).err(),
            Some(JsonError::NotAnObject),
            "{bytes:?}"
        );
    }
}

#[test]
fn number_out_of_range_is_no_integer_and_no_error() {
    let mut buffers = JsonBuffers::for_tokens();
    let capacities = |buffers: &JsonBuffers| {
        (buffers.text.capacity(), buffers.other_text.capacity(), buffers.tape.0.capacity())
    };
    let before = capacities(&buffers);
    let long = "9".repeat(16_000);
    for number in ["18446744073709551616", "1e400", "-1.5E+400", "-9223372036854775809", &long] {
        let json = format!(r#"{{"a":"\u00e9 1e400","n":{number},"l":[{{"x":5}}]}}"#);
        let document = buffers.parse(json.as_bytes()).unwrap();
        let member = |name| document.members().get(name).unwrap();
        let number = member("n");
        assert_eq!((number.as_integer(), number.as_whole(u64::MAX)), (None, None));
        assert_eq!((number.as_str(), number.is_null()), (None, false));
        assert_eq!(member("a").as_str(), Some("é 1e400"));
        assert_eq!(member("l").elements().unwrap().count(), 1);
    }
    assert_eq!(capacities(&buffers), before);
    let twice = buffers.parse(br#"{"n":1e400,"n":1e400}"#).err();
    assert_eq!(twice, Some(JsonError::DuplicateMember));
}

#[test]
fn written_number_is_found_for_its_value() {
    let json = r#"{"1":"2","a":-3.0,"b":[4,{"c":5e0,"6":"\"7"}],"d":123456789012345678901234}"#;
    let mut buffers = JsonBuffers::with_capacity(64);
    let document = buffers.parse(json.as_bytes()).unwrap();
    let mut written = WrittenNumbers::of(&document, json.as_bytes());
    let member = |name| document.members().get(name).unwrap();
    let list: Vec<_> = member("b").elements().unwrap().collect();
    let nested = list[1].members().unwrap().get("c").unwrap();
    let last = (member("d"), "123456789012345678901234");
    // In any order.
    for (value, text) in
        [(member("a"), "-3.0"), (list[0], "4"), (nested, "5e0"), last, (list[0], "4"), last]
    {
        assert_eq!(written.text(value), Some(text));
    }
    assert_eq!(written.text(member("1")), None, "not a number");
}

#[test]
fn c1_numeric_date_is_whole_seconds_in_range() {
    let whole = |text: &str| {
        let mut buffers = JsonBuffers::with_capacity(64);
        let document = buffers.parse(format!(r#"{{"n":{text}}}"#).as_bytes()).unwrap();
        document.members().get("n").unwrap().as_whole(limits::MAX_TIME)
    };
    for (text, value) in [
        ("0", 0),
        ("-0", 0),
        ("1700000000", 1_700_000_000),
        ("1.9", 1),
        ("1e3", 1000),
        ("9007199254740991", limits::MAX_TIME),
    ] {
        assert_eq!(whole(text), Some(value), "{text}");
    }
    for text in [
        "-1",
        "-0.5",
        "9007199254740992",
        "18446744073709551615",
        "18446744073709551616",
        "100000000000000000000000000000",
        "-9223372036854775809",
        "1e300",
        "1e400",
        "-1e400",
        "\"5\"",
        "null",
        "true",
        "[1]",
        "{}",
    ] {
        assert_eq!(whole(text), None, "{text}");
    }
}
