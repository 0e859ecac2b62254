use std::{fs, path::Path};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use countersign_tests::{
    binary::{Output, Sandbox},
    eventually,
    openssl::{SigningKey, hs256, openssl},
};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use serde_json::{Value, json};

use crate::fixture::{self, claims_of, issuer_section, key_set};

const ISSUER: &str = "https://idp/";
const SECRET: &[u8] = b"a secret of thirty-two bytes, or more";

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

fn public_pem(key: &SigningKey) -> String {
    text(openssl(&["pkey", "-in", key.path().to_str().unwrap(), "-pubout"], b""))
}

fn certificate_pem(key: &SigningKey) -> String {
    let private = key.path();
    text(openssl(
        &[
            "req",
            "-x509",
            "-new",
            "-days",
            "30",
            "-subj",
            "/CN=signer",
            "-key",
            private.to_str().unwrap(),
        ],
        b"",
    ))
}

fn der_of(pem: &str) -> Vec<u8> {
    let lines = pem.lines().filter(|line| !line.starts_with("-----"));
    STANDARD.decode(lines.collect::<String>()).unwrap()
}

/// Returns a token signed with a secret such as [`SECRET`], without a kid.
fn token_by_secret(secret: &[u8], issuer: &str) -> String {
    hs256(secret, &json!({ "alg": "HS256" }), &claims_of(issuer))
}

/// Returns every form in which a public key can be configured.
fn forms(key: &SigningKey, other: &SigningKey) -> Vec<(&'static str, String)> {
    let (pem, certificate) = (public_pem(key), certificate_pem(key));
    let pretty = serde_json::to_string_pretty(&json!({ "keys": [key.jwk()] })).unwrap();
    vec![
        ("base64 of PEM", STANDARD.encode(&pem)),
        ("base64 of DER", STANDARD.encode(der_of(&pem))),
        ("base64 of a certificate in PEM", STANDARD.encode(&certificate)),
        ("base64 of a certificate in DER", STANDARD.encode(der_of(&certificate))),
        ("a JWK", key.jwk().to_string()),
        ("a JWK Set", key_set(&[key])),
        ("a JWK Set over several lines", pretty),
        ("PEM in one line with escapes", pem.replace('\n', "\\n")),
        ("a certificate in one line with CRLF escapes", certificate.replace('\n', "\\r\\n")),
        ("PEM in one line with spaces", pem.trim_end().replace('\n', " ")),
        ("PEM in one line", pem.replace('\n', "")),
        ("a certificate with an older label", certificate.replace(" CERT", " X509 CERT")),
        ("a map of PEM", json!({ "k": pem }).to_string()),
        (
            "a map of certificates",
            json!({ "other": public_pem(other), "k": certificate }).to_string(),
        ),
        ("PEM", pem),
        ("a certificate in PEM", certificate),
    ]
}

/// Returns the further forms of a file.
fn file_forms(key: &SigningKey) -> Vec<(&'static str, Vec<u8>)> {
    let (pem, certificate) = (public_pem(key), certificate_pem(key));
    vec![
        ("DER", der_of(&pem)),
        (
            "a certificate after text",
            format!("Bag Attributes\n    localKeyID: 01\n{certificate}").into_bytes(),
        ),
        ("a certificate in DER", der_of(&certificate)),
        ("PEM with CRLF", pem.replace('\n', "\r\n").into_bytes()),
        ("PEM after a byte order mark", format!("\u{feff}{pem}").into_bytes()),
        ("a JWK Set after a byte order mark", format!("\u{feff}{}", key_set(&[key])).into_bytes()),
        ("a certificate after Latin-1", [b"Subject: M\xfcller\n", certificate.as_bytes()].concat()),
    ]
}

/// Returns a value for a `.cfg`: lines after the first are indented.
fn continued(text: &str) -> String {
    text.trim_end().replace('\n', "\n    ")
}

fn check(sandbox: &Sandbox, configuration: &str) -> Output {
    let config = sandbox.file("c.cfg", configuration);
    sandbox.run(["config", "check", "-c", config.to_str().unwrap()])
}

/// Returns whether `token verify` accepts a token that is signed by `key` and names `kid`.
fn verdict(sandbox: &Sandbox, config: &Path, key: &SigningKey, kid: &str) -> Value {
    let token = key.token_with_header(&json!({ "alg": "ES256", "kid": kid }), &claims_of(ISSUER));
    let output = sandbox.run_with_input(["token", "verify", "-c", config.to_str().unwrap()], token);
    assert!(!output.stdout.is_empty(), "{output:?}");
    output.json_lines().remove(0)["ok"].take()
}

#[test]
fn key_option_accepts_every_form() {
    let (key, other) = (SigningKey::generate("ES256", "k"), SigningKey::generate("ES256", "k"));
    let sandbox = Sandbox::new();
    for (form, text) in forms(&key, &SigningKey::generate("ES256", "o")) {
        let cfg =
            sandbox.file("c.cfg", fixture::with_idp("ES256", &format!("key={}", continued(&text))));
        let section = format!(
            "algorithms=\"ES256\"\nclient_types=\"api\"\nissuer=\"{ISSUER}\"\naudience=\"inm\"\nkey='''\n{text}'''\n"
        );
        let signing = format!(
            "algorithm=\"HS256\"\nsign=true\nclient_types=\"api\"\nkey=\"{}\"\n",
            fixture::KEY
        );
        let toml = sandbox
            .file("c.toml", format!("[auth_jwt_default]\n{signing}[auth_jwt_oidc]\n{section}"));
        for config in [&cfg, &toml] {
            assert_eq!(verdict(&sandbox, config, &key, "k"), json!(true), "{form}");
            assert_eq!(verdict(&sandbox, config, &other, "k"), json!(false), "{form}");
        }
        // A key that is not a JWK has no kid and serves every kid.
        let serves_every_kid = !(form.starts_with("a JWK") || form.starts_with("a map"));
        assert_eq!(verdict(&sandbox, &cfg, &key, "any"), json!(serves_every_kid), "{form}");
    }
}

#[test]
fn private_key_is_refused_and_not_shown() {
    let key = SigningKey::generate("ES256", "k");
    let pkcs8 = fs::read_to_string(key.path()).unwrap();
    let sec1 = text(openssl(&["pkey", "-traditional", "-in", key.path().to_str().unwrap()], b""));
    let pkcs1 = text(openssl(&["genrsa", "-traditional", "2048"], b""));
    let der = openssl(&["pkey", "-in", key.path().to_str().unwrap(), "-outform", "DER"], b"");
    let mut jwk = key.jwk();
    jwk["d"] = json!("3BvtEtqh8hrSjSqe3LkeMyLFpTLdyGNlFjZgFmOmXpY");
    let forms =
        [pkcs8, sec1, pkcs1].into_iter().flat_map(|pem| [continued(&pem), STANDARD.encode(&pem)]);
    let sandbox = Sandbox::new();
    for form in
        forms.chain([STANDARD.encode(der), jwk.to_string(), json!({ "keys": [jwk] }).to_string()])
    {
        let output = check(&sandbox, &fixture::with_idp("ES256,RS256", &format!("key={form}")));
        assert!(
            output.code() == 2 && output.stderr.contains("it holds a private key"),
            "{output:?}"
        );
        assert!(output.stderr.contains("openssl pkey -in key.pem -pubout"), "{output:?}");
        let is_shown =
            |line: &str| output.stderr.contains(line.trim()) || output.stdout.contains(line.trim());
        assert!(!form.lines().any(is_shown), "{output:?}");
    }
}

#[test]
fn unsupported_forms_are_named_with_the_remedy() {
    let (sandbox, key) = (Sandbox::new(), SigningKey::generate("ES256", "k"));
    let pem = public_pem(&key);
    let private = key.path();
    let request = ["req", "-new", "-subj", "/CN=k", "-key", private.to_str().unwrap()];
    let request = text(openssl(&request, b""));
    let utf_16: Vec<_> = "\u{feff}key".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (form, reason) in [
        (request.as_bytes(), "it holds a certificate request: give its public key, by openssl req"),
        (pem.replace("PUBLIC KEY", "TRUSTED CERTIFICATE").as_bytes(), "openssl x509 -in"),
        (pem.replace("PUBLIC KEY", "CMS").as_bytes(), "it is neither a PUBLIC KEY nor a CERTIFICATE"),
        (b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGb9 me@host", "ssh-keygen -e -m PKCS8 -f key.pub"),
        (b"---- BEGIN SSH2 PUBLIC KEY ----\nAAAA\n---- END SSH2 PUBLIC KEY ----", "ssh-keygen -e"),
        (&utf_16, "it is UTF-16: save it as UTF-8"),
        (b"no key", "it is neither PEM, nor base64 of it, nor a JWK"),
        (
            json!({ "type": "service_account", "private_key": "-----BEGIN PRIVATE KEY-----\nMIIE\n" })
                .to_string()
                .as_bytes(),
            "it holds a private key: give the public one",
        ),
        (json!({ "k": "-----BEGIN EC PRIVATE KEY-----" }).to_string().as_bytes(), "a private key"),
        (
            json!({ "k": pem.replace("-----END", "?-----END") }).to_string().as_bytes(),
            "no usable key (key skipped: kid \"k\", in PEM: it is damaged: a section is not base64)",
        ),
        (json!({ "k": "text" }).to_string().as_bytes(), "has no array called"),
    ] {
        let file = sandbox.file("form", form);
        let options = format!("key_file={}", file.display());
        let output = check(&sandbox, &fixture::with_idp("ES256", &options));
        assert!(output.stderr.contains(reason), "{}: {output:?}", form.escape_ascii());
    }
}

#[test]
fn ambiguous_keys_are_refused() {
    let (one, other) = (SigningKey::generate("ES256", "k"), SigningKey::generate("ES256", "k"));
    let secret =
        json!({ "kty": "oct", "alg": "HS256", "kid": "s", "k": URL_SAFE_NO_PAD.encode(SECRET) });
    let mixed = json!({ "keys": [secret, one.jwk()] }).to_string();
    let (uri, discovery) = (
        "jwks_uri=https://idp/keys\n",
        "discovery_uri=https://idp/.well-known/openid-configuration\n",
    );
    let (first, second) = (public_pem(&one), public_pem(&other));
    let static_key = format!("key={}\n", STANDARD.encode(&first));
    let sandbox = Sandbox::new();
    for (algorithms, options, text) in [
        (
            "ES256",
            format!("key={}", continued(&(first.clone() + &second))),
            "it holds several keys",
        ),
        (
            "ES256",
            format!("key={}", continued(&(first + &certificate_pem(&one)))),
            "it holds several keys",
        ),
        ("ES256", format!("key={mixed}"), "mixes shared secrets (oct) with public keys"),
        ("HS256", format!("key={mixed}"), "mixes shared secrets (oct) with public keys"),
        (
            "ES256",
            format!("key={}", key_set(&[&one, &other])),
            "two keys of the set have the same kid",
        ),
        (
            "ES256",
            format!("{uri}{discovery}"),
            "has two sources of keys: jwks_uri and discovery_uri",
        ),
        ("ES256", format!("{uri}key_file=/keys"), "has two sources of keys: jwks_uri and key_file"),
        (
            "ES256",
            format!("{static_key}{discovery}"),
            "has two sources of keys: discovery_uri and key",
        ),
        (
            "ES256",
            format!("{static_key}key_file=/keys"),
            "has two sources of keys: key_file and key",
        ),
        (
            "HS256",
            format!("key={}\nkey_file=/keys", fixture::KEY),
            "has two sources of keys: key and key_file",
        ),
        ("ES256,HS256", uri.to_owned(), "mixes shared secrets (HS...) with public keys"),
    ] {
        let output = check(&sandbox, &fixture::with_idp(algorithms, &options));
        assert!(output.code() == 2 && output.stderr.contains(text), "{text}: {output:?}");
        assert!(!output.stderr.contains(&URL_SAFE_NO_PAD.encode(SECRET)), "{output:?}");
    }
    let output = check(&sandbox, &fixture::with_idp("ES256", &format!("{uri}{static_key}")));
    assert!(
        output.code() == 0 && output.stderr.contains("is ignored because jwks_uri is set"),
        "{output:?}"
    );
}

/// Returns the forms of PKCS#1 (RFC 8017 appendix A.1.1).
fn pkcs1_forms(key: &SigningKey) -> Vec<Vec<u8>> {
    let pem = openssl(&["rsa", "-in", key.path().to_str().unwrap(), "-RSAPublicKey_out"], b"");
    let pem = text(pem);
    assert!(pem.contains("-----BEGIN RSA PUBLIC KEY-----"));
    let der = der_of(&pem);
    // Some programs write either structure under the label of the other.
    let relabelled = pem.replace("RSA PUBLIC", "PUBLIC");
    let base64 = STANDARD.encode(&der);
    vec![pem.into_bytes(), der, base64.into_bytes(), relabelled.into_bytes()]
}

#[test]
fn key_file_accepts_every_form() {
    let kinds = ["RS256", "ES256", "ES384", "ES512", "EdDSA"];
    let keys: Vec<_> = kinds.iter().map(|kind| SigningKey::generate(kind, "k")).collect();
    let mut files: Vec<_> = kinds
        .into_iter()
        .zip(&keys)
        .map(|(kind, key)| (kind, key, public_pem(key).into_bytes()))
        .collect();
    files.push(("RS256", &keys[0], certificate_pem(&keys[0]).into_bytes()));
    files.extend(pkcs1_forms(&keys[0]).into_iter().map(|text| ("RS256", &keys[0], text)));
    let texts = forms(&keys[1], &keys[1]).into_iter().map(|(_, text)| text.into_bytes());
    let further = file_forms(&keys[1]).into_iter().map(|(_, bytes)| bytes);
    files.extend(texts.chain(further).map(|text| ("ES256", &keys[1], text)));
    let sandbox = Sandbox::new();
    let mut configuration = fixture::SIGNING.to_owned();
    for (place, (kind, _, text)) in files.iter().enumerate() {
        let file = sandbox.file(&format!("key-{place}"), text);
        let options = format!("key_file={}", file.display());
        configuration +=
            &issuer_section(&format!("n{place}"), kind, &format!("https://{place}/"), &options);
    }
    let secret = sandbox.file("secret", URL_SAFE_NO_PAD.encode(SECRET) + "\n");
    configuration += &issuer_section(
        "hs",
        "HS256",
        "https://hs/",
        &format!("sign=false\nkey_file={}", secret.display()),
    );
    let server = sandbox.serve(&configuration);
    for (place, (kind, key, text)) in files.iter().enumerate() {
        let (token, text) =
            (key.token(&claims_of(&format!("https://{place}/"))), text.escape_ascii());
        assert_eq!(server.auth(&token).status, 200, "{kind} {text} {}", server.log());
    }
    assert_eq!(
        server.auth(&token_by_secret(SECRET, "https://hs/")).status,
        200,
        "{}",
        server.log()
    );
    assert_eq!(server.auth(&fixture::good_token()).status, 200);
}

#[test]
fn secrets_of_two_issuers_are_kept_apart() {
    let theirs = format!("sign=false\nkey={}", URL_SAFE_NO_PAD.encode(SECRET));
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&fixture::with_idp("HS256", &theirs));
    assert_eq!(server.auth(&token_by_secret(SECRET, ISSUER)).status, 200);
    assert_eq!(server.auth(&fixture::good_token()).status, 200);
    assert_eq!(
        server.auth(&token_by_secret(SECRET, fixture::ISSUER)).status,
        401,
        "the other issuer's secret must not sign for ours"
    );
    let ours = URL_SAFE_NO_PAD.decode(fixture::KEY).unwrap();
    assert_eq!(
        server.auth(&token_by_secret(&ours, ISSUER)).status,
        401,
        "our secret must not sign for the other issuer"
    );
}

/// A way to replace the content of a file.
type Replace = fn(&Path, &str);

/// Writes a new file next to the old one and renames it.
fn rename_over(path: &Path, text: &str) {
    let draft = path.with_extension("draft");
    fs::write(&draft, text).unwrap();
    fs::rename(draft, path).unwrap();
}

fn rewrite(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
}

#[test]
fn key_file_is_reloaded_while_running() {
    let keys = ["old", "new"].map(|kid| SigningKey::generate("ES256", kid));
    let public = || keys.each_ref().map(public_pem);
    let jwks = keys.each_ref().map(|key| key_set(&[key]));
    let secrets = [SECRET, b"another secret of thirty-two bytes"];
    let sandbox = Sandbox::new();
    let ways: [(_, _, [String; 2], Replace); 5] = [
        ("renamed", "ES256", public(), rename_over),
        ("rewritten", "ES256", public(), rewrite),
        ("set", "ES256", jwks.clone(), rewrite),
        ("published", "ES256", jwks, rename_over),
        ("secret", "HS256", secrets.map(|secret| URL_SAFE_NO_PAD.encode(secret)), rename_over),
    ];
    let mut configuration = fixture::SIGNING.to_owned();
    let cases = ways.map(|(name, algorithm, texts, replace)| {
        let issuer = format!("https://{name}/");
        let file = sandbox.file(name, &texts[0]);
        let option = if name == "published" { "jwks_uri=file://" } else { "key_file=" };
        configuration +=
            &issuer_section(name, algorithm, &issuer, &format!("{option}{}", file.display()));
        let tokens: [String; 2] = match algorithm {
            "HS256" => secrets.map(|secret| token_by_secret(secret, &issuer)),
            _ => keys.each_ref().map(|key| key.token(&claims_of(&issuer))),
        };
        (file, texts, tokens, replace)
    });
    let server = sandbox.serve(&configuration);
    let statuses = |tokens: &[String; 2]| tokens.each_ref().map(|token| server.auth(token).status);
    for (file, texts, tokens, replace) in &cases {
        assert_eq!(statuses(tokens), [200, 401]);
        replace(file, &texts[1]);
    }
    for (.., tokens, _) in &cases {
        eventually(|| statuses(tokens) == [401, 200]);
    }
    // Unreadable and missing files leave the keys in use.
    for (place, (file, ..)) in cases.iter().enumerate() {
        if place == 0 { fs::remove_file(file).unwrap() } else { rewrite(file, "<broken>") }
    }
    for (file, _, tokens, _) in &cases {
        let message = format!("using the provided file {}. Got error: ", file.display());
        eventually(|| server.log().contains(&message));
        assert_eq!(statuses(tokens), [401, 200], "{}", server.log());
    }
    for (file, texts, _, replace) in &cases {
        replace(file, &texts[0]);
    }
    for (.., tokens, _) in &cases {
        eventually(|| statuses(tokens) == [200, 401]);
    }
}

#[test]
fn key_file_may_appear_later() {
    let key = SigningKey::generate("ES256", "k");
    let token = key.token(&claims_of(ISSUER));
    let sandbox = Sandbox::new();
    let file = sandbox.path().join("key.pem");
    let server =
        sandbox.serve(&fixture::with_idp("ES256", &format!("key_file={}", file.display())));
    assert_eq!(server.auth(&token).status, 503);
    let private = fs::read_to_string(key.path()).unwrap();
    rewrite(&file, &private);
    eventually(|| server.log().contains("it holds a private key"));
    assert_eq!(server.auth(&token).status, 503);
    assert!(!private.lines().any(|line| server.log().contains(line)));
    rewrite(&file, &public_pem(&key));
    eventually(|| server.auth(&token).status == 200);
}

#[test]
fn expired_certificate_is_named_and_used() {
    let key = SigningKey::generate("RS256", "k");
    for (last_year, warns) in [(2100, false), (2020, true)] {
        let sandbox = Sandbox::new();
        let mut parameters = CertificateParams::default();
        (parameters.not_before, parameters.not_after) =
            (date_time_ymd(2019, 1, 1), date_time_ymd(last_year, 1, 1));
        let pair = KeyPair::from_pem(&fs::read_to_string(key.path()).unwrap()).unwrap();
        let certificate = STANDARD.encode(parameters.self_signed(&pair).unwrap().der());
        let configuration = fixture::with_idp("RS256", &format!("key={certificate}\n"));
        let path = sandbox.file("a.cfg", &configuration);
        let output = sandbox.run(["config", "check", "--config", path.to_str().unwrap()]);
        assert_eq!(output.code(), 0, "{output:?}");
        let warning = "the certificate expired at ";
        assert_eq!(output.stderr.contains(warning), warns, "{output:?}");
        let server = sandbox.serve(&configuration);
        assert_eq!(server.auth(&key.token(&claims_of("https://idp/"))).status, 200);
    }
}
