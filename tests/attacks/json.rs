use countersign_engine::Reject;
use countersign_tests::{
    binary::Sandbox,
    client::Protocol,
    engine::{HEADER, claims, token},
    over_every_protocol,
};

use crate::fronts::Fronts;

over_every_protocol!(
    b4_duplicate_member_is_refused_at_every_level,
    b4_member_names_are_case_sensitive,
    b5_only_strict_json_is_accepted,
    b5_nothing_may_surround_the_object,
);

fn b4_duplicate_member_is_refused_at_every_level(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let fronts = Fronts::of_secret(&sandbox);
    fronts.accept(&token(HEADER, claims(r#""o":{"iss":1,"sub":{"iss":2}},"list":["iss","iss"]"#)));
    for members in [
        r#""sub":"root""#,
        r#""\u0073ub":"root""#,
        r#""iss":"https://evil/""#,
        r#""iss":"https://idp/""#,
        r#""aud":["us"]"#,
        r#""exp":1,"exp":4102444800"#,
        r#""exp":4102444800,"exp":null"#,
        r#""x":1,"y":2,"x":1"#,
        r#""":1,"":2"#,
        r#""é":1,"\u00e9":2"#,
        r#""o":{"a":1,"a":2}"#,
        r#""o":{"p":{"q":[{"a":1},{"b":1,"c":2,"b":3}]}}"#,
    ] {
        fronts.refuse(&token(HEADER, claims(members)), Reject::DuplicateMember);
    }
    for header in [
        r#"{"alg":"HS256","alg":"HS256"}"#,
        r#"{"alg":"none","alg":"HS256"}"#,
        r#"{"alg":"HS256","kid":"a","kid":"a"}"#,
        r#"{"alg":"HS256","b64":true,"b64":true}"#,
        r#"{"alg":"HS256","typ":"JWT","\u0074yp":"at+jwt"}"#,
        r#"{"alg":"HS256","jwk":{"kty":"oct","kty":"RSA"}}"#,
    ] {
        fronts.refuse(&token(header, claims("")), Reject::DuplicateMember);
    }
}

fn b4_member_names_are_case_sensitive(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let fronts = Fronts::of_secret(&sandbox);
    fronts.accept(&token(
        HEADER,
        claims(r#""ISS":"https://evil/","Aud":"them","EXP":1,"Nbf":4102444800,"SUB":5"#),
    ));
    fronts.accept(&token(
        r#"{"alg":"HS256","ALG":"none","Kid":5,"CRIT":["x"],"B64":false}"#,
        claims(""),
    ));
    for (payload, reject) in [
        (r#"{"ISS":"https://idp/","aud":"us"}"#, Reject::IssuerMissing),
        (r#"{"iss":"https://idp/","AUD":"us"}"#, Reject::AudienceMissing),
        (r#"{"iss":"https://idp/","aud\u0000":"us"}"#, Reject::AudienceMissing),
        (r#"{"iss":"https://idp/","aud ":"us"}"#, Reject::AudienceMissing),
        (r#"{"\u0456ss":"https://idp/","aud":"us"}"#, Reject::IssuerMissing),
    ] {
        fronts.refuse(&token(HEADER, payload), reject);
    }
}

/// Valid JSON values. The test uses each as the value of a member.
const GOOD: [&[u8]; 15] = [
    b"1e400",
    b"-1e400",
    b"1e99999999999",
    b"\"\"",
    b"\"\\u00e9\\n\\/\\\"\"",
    "\"é€😀\"".as_bytes(),
    b"\"\\ud83d\\ude00\"",
    b"0",
    b"-0",
    b"1.5e-3",
    b"1E+2",
    b"18446744073709551615",
    b"-9223372036854775808",
    b" \t\r\n null \n",
    b"{\"a\":[[],{}]}",
];

/// Invalid JSON values that some parsers accept. Many are based on cases of JSONTestSuite.
const BAD: [&[u8]; 59] = [
    b"",
    b"nul",
    b"nulll",
    b"True",
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"01",
    b"-01",
    b"+1",
    b"-",
    b"--1",
    b"- 1",
    b".5",
    b"1.",
    b"1.e1",
    b"1e",
    b"1e+",
    b"0e",
    b"1 2",
    b"1a",
    b"0x1",
    b"1_000",
    "１".as_bytes(),
    b"'a'",
    b"\"a",
    b"\"\\\"",
    b"\"\\",
    b"\"\\x41\"",
    b"\"\\a\"",
    b"\"\\u12\"",
    b"\"\\u12g4\"",
    b"\"\\U0041\"",
    // Surrogates that are not a pair.
    b"\"\\ud800\"",
    b"\"\\udc00\"",
    b"\"\\ud800\\u0041\"",
    b"\"\\udc00\\ud800\"",
    b"\"\\ud800\\ud800\"",
    b"\"\\ud83d\\u\"",
    // Invalid UTF-8: a lone byte, overlong, a surrogate, above U+10FFFF, truncated.
    b"\"\x80\"",
    b"\"\xff\"",
    b"\"\xc0\xaf\"",
    b"\"\xe0\x80\xaf\"",
    b"\"\xed\xa0\x80\"",
    b"\"\xf4\x90\x80\x80\"",
    b"\"\xe2\x82\"",
    // Control characters in a string.
    b"\"\0\"",
    b"\"\n\"",
    b"\"\x1f\"",
    b"[1,]",
    b"[,1]",
    b"[1 2]",
    b"[1",
    b"1]",
    b"{\"a\" 1}",
    b"{a:1}",
    b"{\"a\":1,}",
    b"/**/1",
    b"1//",
];

fn b5_only_strict_json_is_accepted(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let fronts = Fronts::of_secret(&sandbox);
    let payload =
        |value: &[u8]| [br#"{"iss":"https://idp/","aud":"us","x":"#, value, b"}"].concat();
    let header = |value: &[u8]| [br#"{"alg":"HS256","x":"#, value, b"}"].concat();
    for good in GOOD {
        fronts.accept(&token(HEADER, payload(good)));
        fronts.accept(&token(header(good), claims("")));
    }
    for bad in BAD {
        fronts.refuse(&token(HEADER, payload(bad)), Reject::ClaimsJson);
        fronts.refuse(&token(header(bad), claims("")), Reject::HeaderJson);
    }
}

fn b5_nothing_may_surround_the_object(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let fronts = Fronts::of_secret(&sandbox);
    let (header, payload) = (HEADER.as_bytes(), claims("").into_bytes());
    fronts
        .accept(&token([b"\r\n\t ", header, b" \n"].concat(), [b" ", &*payload, b"\r\n"].concat()));
    let utf16 = |text: &[u8], mark: &[u8]| {
        [mark, &text.iter().flat_map(|byte| [*byte, 0]).collect::<Vec<_>>()].concat()
    };
    let odd = |text: &[u8]| {
        vec![
            [b"\xef\xbb\xbf", text].concat(),
            utf16(text, b"\xff\xfe"),
            utf16(text, b""),
            [text, b"\0"].concat(),
            [b"\0", text].concat(),
            [text, b"{}"].concat(),
            [text, b","].concat(),
            [text, b"}"].concat(),
            [b"{", text].concat(),
            [text, b"//"].concat(),
            [text, b"#"].concat(),
            [b"\x0c", text].concat(),
            [text, "\u{a0}".as_bytes()].concat(),
            text[..text.len() - 1].to_vec(),
            text[1..].to_vec(),
        ]
    };
    for (header, payload) in odd(header).into_iter().zip(odd(&payload)) {
        fronts.refuse(&token(header, claims("")), Reject::HeaderJson);
        fronts.refuse(&token(HEADER, payload), Reject::ClaimsJson);
    }
}
