use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use countersign_tests::{
    binary::{Output, Sandbox},
    eventually,
    openssl::hs256,
};
use serde_json::{Value, json};

use crate::fixture::{self, KEY, SIGNING, claims_of, issuer_section};

const ISSUER: &str = "https://idp/";
/// A text that is also valid urlsafe base64.
const PHRASE: &str = "super-secret-jwt-token-with-at-least-32-characters-long";

fn section(options: &str) -> String {
    format!("{SIGNING}{}", issuer_section("idp", "HS256", ISSUER, options))
}

fn check(sandbox: &Sandbox, configuration: &str) -> Output {
    let config = sandbox.file("c.cfg", configuration);
    sandbox.run(["config", "check", "-c", config.to_str().unwrap()])
}

/// Returns whether `token verify` accepts a token that is signed with `secret`.
fn is_accepted(sandbox: &Sandbox, configuration: &str, secret: &[u8]) -> bool {
    let config = sandbox.file("c.cfg", configuration);
    let token = hs256(secret, &json!({ "alg": "HS256" }), &claims_of(ISSUER));
    let output = sandbox.run_with_input(["token", "verify", "-c", config.to_str().unwrap()], token);
    assert!(!output.stdout.is_empty(), "{output:?}");
    output.json_lines().remove(0)["ok"] == Value::Bool(true)
}

#[test]
fn secret_is_read_in_each_encoding() {
    let sandbox = Sandbox::new();
    let bytes = b"\xfb\xff\xfe a secret of more than thirty-two bytes";
    let hex: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    let base64 = STANDARD.encode(bytes);
    let folded = base64.split_at(40);
    let folded = format!("{}\n{}\n", folded.0, folded.1);
    for (encoding, text, file, secret) in [
        ("base64url", URL_SAFE_NO_PAD.encode(bytes), None, &bytes[..]),
        ("base64", base64, Some(folded), bytes),
        ("hex", hex.clone(), Some(hex.to_lowercase() + "\n"), bytes),
        ("text", PHRASE.into(), Some(format!("{PHRASE}\r\n")), PHRASE.as_bytes()),
        ("text", format!("{{{PHRASE}}}"), None, format!("{{{PHRASE}}}").as_bytes()),
    ] {
        let inline = section(&format!("key={text}\nkey_encoding={encoding}"));
        assert!(is_accepted(&sandbox, &inline, secret), "{encoding}");
        assert!(!is_accepted(&sandbox, &inline, b"another secret of thirty-two bytes"));
        let path = sandbox.file("secret", file.unwrap_or(text));
        let options = format!("key_file={}\nkey_encoding={encoding}", path.display());
        assert!(is_accepted(&sandbox, &section(&options), secret), "{encoding} in a file");
    }
    // White space belongs to a text, but for one line end.
    let path = sandbox.file("secret", format!("\u{feff} {PHRASE} \n"));
    let options = format!("key_file={}\nkey_encoding=text", path.display());
    assert!(is_accepted(&sandbox, &section(&options), format!(" {PHRASE} ").as_bytes()));
}

#[test]
fn signing_section_takes_an_encoding() {
    let sandbox = Sandbox::new();
    let own = SIGNING.replace(KEY, PHRASE) + "key_encoding=text\n";
    let server = sandbox.serve(&own);
    let token = hs256(PHRASE.as_bytes(), &json!({ "alg": "HS256" }), &fixture::claims(json!({})));
    assert_eq!(server.auth(&token).status, 200, "{}", server.log());
    let path = sandbox.file("own-secret", PHRASE.to_owned() + "\n");
    let own = own.replace(&format!("key={PHRASE}"), &format!("key_file={}", path.display()));
    sandbox.replace("server.cfg", own);
    assert!(server.reload().contains("in force"), "{}", server.log());
    assert_eq!(server.auth(&token).status, 200, "{}", server.log());
}

#[test]
fn changed_file_of_the_signing_key_is_read() {
    let sandbox = Sandbox::new();
    let [before, after] = [PHRASE.to_owned(), PHRASE.to_uppercase()];
    let path = sandbox.file("own-secret", &before);
    let own = SIGNING.replace(&format!("key={KEY}"), &format!("key_file={}", path.display()));
    let server = sandbox.serve(&(own + "key_encoding=text\n"));
    let [old, new] = [&before, &after]
        .map(|key| hs256(key.as_bytes(), &json!({ "alg": "HS256" }), &fixture::claims(json!({}))));
    assert_eq!([&old, &new].map(|token| server.auth(token).status), [200, 401]);
    sandbox.replace("own-secret", after);
    eventually(|| [&old, &new].map(|token| server.auth(token).status) == [401, 200]);
}

#[test]
fn secret_that_looks_like_a_text_is_noted() {
    let sandbox = Sandbox::new();
    let hex = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let path = sandbox.file("secret", format!("{PHRASE}\n"));
    for (options, option, kind) in [
        (format!("key={PHRASE}"), "key", "words"),
        (format!("key_file={}", path.display()), "key_file", "words"),
        (format!("key={hex}"), "key", "hexadecimal digits"),
    ] {
        let output = check(&sandbox, &section(&options));
        let note = format!("{option} in auth_jwt_idp is read as base64url, and looks like {kind}");
        assert!(
            output.code() == 0
                && output.stdout.contains(&note)
                && output.stdout.contains("write key_encoding = text")
                && !output.text().contains(PHRASE)
                && !output.text().contains(hex)
                && !output.stderr.contains("base64"),
            "{output:?}"
        );
    }
    let generated = sandbox.run(["key", "generate"]).stdout;
    for configuration in [
        section(&format!("key={PHRASE}\nkey_encoding=base64url")),
        section(&format!("key={PHRASE}\nkey_encoding=text")),
        section(&format!("key={}", generated.trim())),
        SIGNING.replace(KEY, PHRASE),
    ] {
        let output = check(&sandbox, &configuration);
        assert!(output.code() == 0 && !output.text().contains("looks like"), "{output:?}");
    }
}

#[test]
fn wrong_encoding_names_the_one_that_fits() {
    let sandbox = Sandbox::new();
    let base64 = STANDARD.encode([0xfb; 32]);
    let spaced = "a secret with spaces between its words, and a comma";
    let uuid = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6";
    for (options, error, help) in [
        (
            format!("key={base64}"),
            "key in auth_jwt_idp is not urlsafe base64",
            "write key_encoding = base64 or key_encoding = text",
        ),
        (format!("key={spaced}"), "is not urlsafe base64", "write key_encoding = text;"),
        (format!("key={uuid}"), "HS256 requires a key of 32 bytes", "write key_encoding = text"),
        (
            format!("key={uuid}\nkey_encoding=hex"),
            "key in auth_jwt_idp is not hex",
            "write key_encoding = text",
        ),
        (
            "key=abc\nkey_encoding=text".to_owned(),
            "HS256 requires a key of 32 bytes",
            "create one with countersign key generate",
        ),
        (
            format!("key={KEY}\nkey_encoding=ascii"),
            "key_encoding \"ascii\" is unknown",
            "choose one of base64url, base64, hex, text",
        ),
    ] {
        let output = check(&sandbox, &section(&options));
        assert!(
            output.code() == 2 && output.stderr.contains(error) && output.stderr.contains(help),
            "{options}: {output:?}"
        );
        for secret in [&*base64, spaced, uuid] {
            assert!(!output.stdout.contains(secret) && !output.stderr.contains(secret));
        }
    }
    let public = section("x=").replace(
        "HS256\nclient_types=api\nissuer=https://idp/",
        "ES256\n\
        client_types=api\nissuer=https://idp/\njwks_uri=https://idp/keys\nkey_encoding=text",
    );
    let output = check(&sandbox, &public);
    assert!(output.stderr.contains("key_encoding in auth_jwt_idp is ignored"), "{output:?}");
}
