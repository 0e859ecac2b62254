use countersign_engine::Reject;
use countersign_tests::{binary::Sandbox, openssl::SigningKey};
use serde_json::json;

use crate::fixture::{self, SIGNING};

#[test]
fn every_command_help_has_an_example() {
    let sandbox = Sandbox::new();
    for command in [
        "",
        "config check",
        "token sign",
        "token bootstrap",
        "token inspect",
        "token verify",
        "jws verify",
        "key generate",
        "token create",
        "token list",
        "token delete",
        "setup",
        "login",
        "logout",
        "cert self-signed",
        "serve",
        "user",
        "role",
        "environment",
        "identity",
        "client-config",
        "doctor",
    ] {
        let help = sandbox.run(command.split_whitespace().chain(["--help"]));
        assert_eq!(help.code(), 0, "{command}");
        assert!(help.stdout.contains("Example"), "{command}: {}", help.stdout);
    }
    let old = sandbox.run(["token", "sign", "--client-type", "api", "--env", "x"]);
    assert!(
        old.code() == 2 && old.stderr.contains("a similar argument exists: '--environment'"),
        "{old:?}"
    );
    let wrong = sandbox.run(["frobnicate"]);
    assert_eq!(wrong.code(), 2);
    assert!(wrong.stderr.contains("frobnicate"));
}

#[test]
fn generated_keys_are_valid_and_unique() {
    let sandbox = Sandbox::new();
    let (one, other) = (sandbox.run(["key", "generate"]), sandbox.run(["key", "generate"]));
    assert_eq!(one.text().len(), 43);
    assert!(
        one.text().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    );
    assert_ne!(one.text(), other.text());
    let section = SIGNING.replace(fixture::KEY, one.text());
    let config = sandbox.file("c.cfg", section);
    assert_eq!(sandbox.run(["config", "check", "-c", config.to_str().unwrap()]).code(), 0);
}

#[test]
fn signed_token_verifies_in_its_own_section() {
    let sandbox = Sandbox::new();
    let config = sandbox.file("c.cfg", SIGNING);
    let config = config.to_str().unwrap();
    let environment = "11111111-1111-1111-1111-111111111111";
    let token = sandbox.run([
        "token",
        "sign",
        "-c",
        config,
        "--client-type",
        "agent",
        "--client-type",
        "api",
        "--environment",
        environment,
        "--expire",
        "60",
    ]);
    let verify = |surface: &[&str]| {
        let arguments = [&["token", "verify", "-c", config], surface].concat();
        sandbox.run_with_input(arguments, token.stdout.as_bytes()).json_lines()
    };
    let claims = &verify(&[])[0]["claims"];
    assert_eq!(claims["exp"].as_u64(), claims["iat"].as_u64().map(|at| at + 60));
    assert_eq!(
        verify(&["--surface", "inmanta"]),
        [json!({
            "ok": true,
            "section": "auth_jwt_default",
            "username": null,
            "claims": { "iss": fixture::ISSUER, "aud": [fixture::ISSUER], "urn:inmanta:ct": ["agent", "api"], "urn:inmanta:env": environment },
        })]
    );
    let bootstrap = sandbox.run(["token", "bootstrap", "-c", config]);
    let inspected = sandbox.run(["token", "inspect", bootstrap.text()]);
    assert!(inspected.text().starts_with("NOT VERIFIED"));
    assert!(
        inspected.text().contains("\"api,compiler,agent\"")
            && inspected.text().contains("in 59 minutes")
            || inspected.text().contains("in 60 minutes"),
        "{}",
        inspected.text()
    );
}

#[test]
fn expire_argument_overrides_the_section() {
    let sandbox = Sandbox::new();
    let config = sandbox.file("c.cfg", SIGNING.replace("expire=0", "expire=100"));
    let lifetime = |arguments: &[&str]| {
        let sign = ["token", "sign", "-c", config.to_str().unwrap(), "--client-type", "api"];
        let token = sandbox.run(sign.iter().chain(arguments));
        let payload = token.text().split('.').nth(1).unwrap().to_owned();
        let claims: serde_json::Value = serde_json::from_slice(
            &base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, payload)
                .unwrap(),
        )
        .unwrap();
        (
            claims.get("iat").is_some(),
            claims["exp"].as_u64().map(|exp| exp - claims["iat"].as_u64().unwrap()),
        )
    };
    assert_eq!(lifetime(&[]), (true, Some(100)));
    assert_eq!(lifetime(&["--expire", "5"]), (true, Some(5)));
    assert_eq!(lifetime(&["--idempotent"]), (false, None));
    let sign = ["token", "sign", "-c", config.to_str().unwrap(), "--client-type", "api"];
    assert_eq!(sandbox.run(sign.iter().chain(&["--expire", "0"])).code(), 2);
    assert_eq!(sandbox.run(sign.iter().chain(&["--expire", "5", "--idempotent"])).code(), 2);
}

#[test]
fn c41_idempotent_tokens_match_the_real_system() {
    // Recorded from the real encoder with the key below.
    const HEADER: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";
    let sandbox = Sandbox::new();
    let config = sandbox.file(
        "c.cfg",
        SIGNING.replace(fixture::KEY, "eciwliGyqECVmXtIkNpfVrtBLutZiITZKSKYhogeHMM"),
    );
    let sign = |arguments: &[&str]| {
        let fixed = ["token", "sign", "--idempotent", "-c", config.to_str().unwrap()];
        sandbox.run(fixed.iter().chain(arguments)).text().to_owned()
    };
    let environment = "11111111-1111-1111-1111-111111111111";
    assert_eq!(
        sign(&["--client-type", "agent", "--environment", environment]),
        format!(
            "{HEADER}.eyJpc3MiOiJodHRwczovL2xvY2FsaG9zdDo4ODg4LyIsImF1ZCI6WyJodHRwczovL2xvY2FsaG9zdDo4ODg4LyJdLCJ1cm46aW5tYW50YTpjd\
             CI6ImFnZW50IiwidXJuOmlubWFudGE6ZW52IjoiMTExMTExMTEtMTExMS0xMTExLTExMTEtMTExMTExMTExMTExIn0.svk_jYha9sSC9jVMDAvc0oYXvPaBc\
             o2XjfqcGaytf1g"
        )
    );
    assert_eq!(
        sign(&[
            "--client-type",
            "api,compiler",
            "--environment",
            environment,
            "--claim",
            "urn:inmanta:created_by=admin"
        ]),
        format!(
            "{HEADER}.eyJpc3MiOiJodHRwczovL2xvY2FsaG9zdDo4ODg4LyIsImF1ZCI6WyJodHRwczovL2xvY2FsaG9zdDo4ODg4LyJdLCJ1cm46aW5tYW50YTpjd\
             CI6ImFwaSxjb21waWxlciIsInVybjppbm1hbnRhOmNyZWF0ZWRfYnkiOiJhZG1pbiIsInVybjppbm1hbnRhOmVudiI6IjExMTExMTExLTExMTEtMTExMS0xM\
             TExLTExMTExMTExMTExMSJ9.GRZOcKmZQRO9vXob4YS4s765533MikhjecA362nxHBE"
        )
    );
    assert_eq!(
        sign(&["--client-type", "api", "--claim", "urn:inmanta:created_by=\u{e9}ve"]),
        format!(
            "{HEADER}.eyJpc3MiOiJodHRwczovL2xvY2FsaG9zdDo4ODg4LyIsImF1ZCI6WyJodHRwczovL2xvY2FsaG9zdDo4ODg4LyJdLCJ1cm46aW5tYW50YTpjd\
             CI6ImFwaSIsInVybjppbm1hbnRhOmNyZWF0ZWRfYnkiOiJcdTAwZTl2ZSJ9.MyOl2-RtXh_uu-uDYO4PtzG6yMvPCjYr5LBgh9Rm_bI"
        )
    );
}

#[test]
fn client_type_outside_the_section_is_not_signed() {
    let sandbox = Sandbox::new();
    let config = sandbox.file("c.cfg", SIGNING.replace("agent,compiler,api", "agent,compiler"));
    let refused =
        sandbox.run(["token", "sign", "-c", config.to_str().unwrap(), "--client-type", "api"]);
    assert_eq!(refused.code(), 1);
    let text = "The signing config does not support the requested client type api. Only ['agent', 'compiler'] are allowed.";
    assert!(refused.stderr.contains(text), "{}", refused.stderr);
}

#[test]
fn claims_with_own_options_cannot_be_set_by_claim() {
    let sandbox = Sandbox::new();
    let config = sandbox.file("c.cfg", SIGNING);
    let sign = ["token", "sign", "-c", config.to_str().unwrap(), "--client-type", "api"];
    for claim in ["urn:inmanta:ct=agent", "iss=evil", "exp=1", "aud=x"] {
        let refused = sandbox.run(sign.iter().chain(&["--claim", claim]));
        assert!(
            refused.code() == 2
                && refused.stderr.contains("--client-type, --environment and --expire"),
            "{refused:?}"
        );
    }
    let twice = sandbox.run(sign.iter().chain(&["--claim", "sub=a", "--claim", "sub=b"]));
    assert!(
        twice.code() == 1 && twice.stderr.contains("the claim sub is given twice"),
        "{twice:?}"
    );
    let negative = sandbox.run(sign.iter().chain(&["--expire", "-5"]));
    assert!(negative.code() == 2 && negative.stderr.contains("-5 is not in 1.."), "{negative:?}");
    assert!(sandbox.run(["--version"]).text().starts_with("countersign 0."));
}

#[test]
fn token_verify_answers_each_line_untrimmed() {
    let sandbox = Sandbox::new();
    let config = sandbox.file("c.cfg", SIGNING);
    let good = fixture::good_token();
    let long = "a".repeat(100_000);
    let input = format!("{good}\n\n {good}\n{good} \n{good}\r\nabc\n{long}\n{good}");
    let verify = |surface: &str| {
        let arguments = ["token", "verify", "-c", config.to_str().unwrap(), "--surface", surface];
        sandbox.run_with_input(arguments, &input).json_lines()
    };
    let answers = verify("generic");
    let verdicts: Vec<_> = answers.iter().map(|answer| answer["ok"].as_bool().unwrap()).collect();
    assert_eq!(verdicts, [true, false, false, false, false, false, false, true]);
    assert_eq!(answers[0]["username"], "bob");
    assert_eq!(
        answers[1],
        json!({ "ok": false, "status": 401, "code": "segments", "message": Reject::Segments.to_string() })
    );
    assert_eq!(
        verify("inmanta")[1],
        json!({ "ok": false, "status": 403, "code": "segments", "message": "Access denied: Unable to decode provided JWT bearer token." })
    );
}

#[test]
fn token_verify_uses_the_given_time() {
    let sandbox = Sandbox::new();
    let config = sandbox.file("c.cfg", SIGNING);
    let token = fixture::token(&fixture::claims(json!({ "exp": 1_700_000_000 })));
    let at = |now: &str| {
        sandbox
            .run_with_input(
                ["token", "verify", "-c", config.to_str().unwrap(), "--now", now],
                &token,
            )
            .json_lines()
    };
    assert_eq!(at("1699999999")[0]["ok"], true);
    assert_eq!(at("1700000000")[0]["code"], "expired");
}

#[test]
fn jws_verify_accepts_any_payload() {
    let sandbox = Sandbox::new();
    let key = SigningKey::generate("ES256", "k1");
    let mut jwk = key.jwk();
    let jwks = sandbox.file("jwks.json", json!({ "keys": [jwk.clone()] }).to_string());
    let token = key.token(&json!("not an object"));
    let verify = |file: &std::path::Path, input: &str| {
        sandbox.run_with_input(["jws", "verify", "--jwks", file.to_str().unwrap()], input)
    };
    let answers = verify(&jwks, &format!("{token}\n{}\n\n", token.replace('.', ".A")));
    assert_eq!(
        answers.json_lines(),
        [
            json!({ "ok": true }),
            json!({ "ok": false, "code": "base64" }),
            json!({ "ok": false, "code": "segments" })
        ]
    );
    // A lone JWK is a set of one. A JWK without an algorithm verifies nothing.
    let single = sandbox.file("jwk.json", jwk.to_string());
    assert_eq!(verify(&single, &token).json_lines(), [json!({ "ok": true })]);
    jwk.as_object_mut().unwrap().remove("alg");
    let nameless = sandbox.file("nameless.json", json!({ "keys": [jwk] }).to_string());
    let refused = verify(&nameless, &token);
    assert_eq!(refused.json_lines(), [json!({ "ok": false, "code": "key_skipped" })]);
    assert!(refused.stderr.contains("names no algorithm"), "{}", refused.stderr);
    assert_eq!(verify(&sandbox.path().join("missing"), &token).code(), 1);
    let broken = sandbox.file("broken.json", "<html>");
    assert_eq!(
        verify(&broken, &token).json_lines(),
        [json!({ "ok": false, "code": "key_set_json" })]
    );
}

#[test]
fn inspect_flags_dangerous_headers() {
    let sandbox = Sandbox::new();
    let token = fixture::token_with_header(
        &json!({ "alg": "none", "jku": "https://evil.example/" }),
        &json!({ "exp": 1 }),
    );
    let shown = sandbox.run_with_input(["token", "inspect"], format!("{token}\n"));
    for words in [
        "algorithm not supported by Countersign",
        "never used",
        "expires Thu, 01 Jan 1970 00:00:01 GMT",
    ] {
        assert!(shown.text().contains(words), "{}", shown.text());
    }
    let refused = sandbox.run(["token", "inspect", "a.b"]);
    assert_eq!(refused.code(), 1);
    assert!(refused.stderr.contains("three segments"), "{}", refused.stderr);
}
