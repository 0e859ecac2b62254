use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use countersign_engine::{Reject, Revocation, RevocationTarget, UnixTime};
use countersign_server::revocation::store::RevocationStore;
use countersign_tests::{
    answers::{assert_refused, invalid_token},
    binary::{Sandbox, Server},
    client::Protocol,
    eventually,
    http::{self, Response},
    openssl::{SigningKey, signing_input},
    over_every_protocol,
};
use serde_json::{Value, json};

use crate::fixture::{self, ISSUER, SIGNING};

over_every_protocol!(
    revoked_token_is_refused_and_no_other,
    token_without_jti_is_revoked_by_signing_input,
    subjects_and_old_tokens_can_be_revoked,
    key_is_revoked_by_its_kid,
    implied_moment_is_the_end_of_the_second,
    unverified_tokens_share_a_small_quota,
    revocation_requires_client_authentication,
    ambiguous_revocations_are_refused,
    damaged_revocations_fail_closed,
    exhausted_capacity_is_reported,
    revocation_covers_other_signatures_of_the_token,
    token_can_be_revoked_before_its_key_is_known,
    printed_api_client_works_as_is,
);

/// A secret as printed by `countersign key client`.
const SECRET: &str = "7WwzQW1fTBQnJ2zq0hD1Y8sU5u2cBf0n3kq9nq2mJ6E";

pub(crate) fn configuration() -> String {
    format!("{SIGNING}[api_clients]\nCI-bot = sha256:{}\n", sha256(SECRET))
}

fn sha256(text: &str) -> String {
    digest(&SHA256, text.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn basic(name: &str, secret: &str) -> String {
    format!("Authorization: Basic {}\r\n", STANDARD.encode(format!("{name}:{secret}")))
}

fn post(server: &Server<'_>, lines: &str, body: &str) -> Response {
    server.send(&format!("POST /v1/revoke HTTP/1.1\r\n{lines}"), body.as_bytes())
}

pub(crate) fn revoke(server: &Server<'_>, body: &str) -> Response {
    post(server, &basic("CI-bot", SECRET), body)
}

pub(crate) fn token(changes: Value) -> String {
    fixture::token(&fixture::claims(changes))
}

fn revoked_token_is_refused_and_no_other(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration());
    let (leaked, other) = (token(json!({ "jti": "1" })), token(json!({ "jti": "2" })));
    assert_eq!((server.auth(&leaked).status, server.auth(&other).status), (200, 200));
    let revoked = revoke(&server, &format!("token={leaked}&token_type_hint=access_token"));
    assert_eq!(
        (revoked.status, revoked.body.as_str(), revoked.header("cache-control")),
        (200, "", Some("no-store"))
    );
    assert_refused(&server.auth(&leaked), &invalid_token(Reject::Revoked));
    assert_eq!(server.auth(&other).status, 200);
    assert_eq!(
        revoke(&server, &format!("token={leaked}")).status,
        200,
        "revoking twice is harmless"
    );
    assert_eq!(
        server.operations("/ready").json()["revocations"],
        json!({ "known": true, "count": 1, "fault": null })
    );
}

fn token_without_jti_is_revoked_by_signing_input(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration());
    let eternal = token(json!({ "exp": null, "sub": "eternal" }));
    assert_eq!(revoke(&server, &format!("token={eternal}")).status, 200);
    assert_eq!(server.auth(&eternal).status, 401);
    assert_eq!(server.auth(&token(json!({ "exp": null, "sub": "another" }))).status, 200);
    let (input, _) = eternal.rsplit_once('.').unwrap();
    let hash = digest(&SHA256, input.as_bytes()).as_ref().try_into().unwrap();
    let expected = Revocation { target: RevocationTarget::SigningInput(hash), until: None };
    assert_eq!(stored(&sandbox).read_new().unwrap().unwrap(), [expected]);
}

fn revocations_file(sandbox: &Sandbox) -> std::path::PathBuf {
    sandbox.path().join(".local/state/countersign/revocations")
}

/// Opens the stored revocations as another process.
pub(crate) fn stored(sandbox: &Sandbox) -> RevocationStore {
    RevocationStore::in_file(revocations_file(sandbox)).unwrap()
}

fn subjects_and_old_tokens_can_be_revoked(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration());
    let (before, after) = (fixture::now() - 100, fixture::now() - 10);
    let of = |subject: &str, issued_at: u64| token(json!({ "sub": subject, "iat": issued_at }));
    let status = |token: &str| server.auth(token).status;

    let body = json!({ "issuer": ISSUER, "subject": "bob", "issued_before": fixture::now() - 50 })
        .to_string();
    assert_eq!(revoke(&server, &body).status, 200);
    assert_eq!(status(&of("bob", before)), 401);
    assert_eq!(
        status(&token(json!({ "sub": "bob" }))),
        401,
        "a token without iat counts as the oldest"
    );
    assert_eq!((status(&of("bob", after)), status(&of("eve", before))), (200, 200));

    assert_eq!(revoke(&server, &format!("issuer={ISSUER}&subject=eve")).status, 200);
    assert_eq!(status(&of("eve", after)), 401, "the default of issued_before is now");

    assert_eq!(revoke(&server, &format!("issued_before={}", fixture::now() - 50)).status, 200);
    assert_eq!((status(&of("carol", before)), status(&of("carol", after))), (401, 200));
}

/// Returns the [`configuration`] with an issuer whose keys are in a file.
fn with_keys(sandbox: &Sandbox, keys: &[&SigningKey]) -> String {
    let file = sandbox.file("jwks.json", fixture::key_set(keys));
    let section = "[auth_jwt_idp]\nalgorithms=ES256\nclient_types=api\nissuer=https://idp/\naudience=a\nleeway=60\n";
    format!("{}{section}jwks_uri=file://{}\n", configuration(), file.display())
}

fn of_idp(changes: Value) -> Value {
    let mut claims =
        json!({ "iss": "https://idp/", "aud": "a", "sub": "bob", "exp": 4_102_444_800u64 });
    claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    claims
}

fn key_is_revoked_by_its_kid(protocol: Protocol) {
    let (leaked, other) =
        (SigningKey::generate("ES256", "leaked"), SigningKey::generate("ES256", "other"));
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&with_keys(&sandbox, &[&leaked, &other]));
    let [of_leaked, of_other] = [&leaked, &other].map(|key| key.token(&of_idp(json!({}))));
    assert_eq!((server.auth(&of_leaked).status, server.auth(&of_other).status), (200, 200));
    assert_eq!(revoke(&server, "issuer=https://idp/&kid=leaked").status, 200);
    assert_eq!((server.auth(&of_leaked).status, server.auth(&of_other).status), (401, 200));
    // The holder of a key without a kid can put any kid into tokens.
    let refused = revoke(&server, &format!("issuer={ISSUER}&kid=leaked"));
    assert_eq!(refused.status, 400);
    assert!(
        refused.json()["error_description"].as_str().unwrap().contains("replace the key"),
        "{refused:?}"
    );
}

fn implied_moment_is_the_end_of_the_second(protocol: Protocol) {
    let key = SigningKey::generate("ES256", "k");
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&with_keys(&sandbox, &[&key]));
    let issued_at = |at: u64| key.token(&of_idp(json!({ "iat": at })));
    // Within the leeway.
    let ahead = fixture::now() + 30;
    assert_eq!(server.auth(&issued_at(ahead)).status, 200);
    let before = fixture::now();
    let revoked = revoke(&server, "issuer=https://idp/&subject=bob");
    assert_eq!(revoked.status, 200, "{revoked:?}");
    let first = revoked.json()["tokens_valid_from"].as_u64().unwrap();
    assert!((before + 1..=fixture::now() + 1).contains(&first), "{before} {first}");
    let statuses = || [first - 1, first, ahead].map(|at| server.auth(&issued_at(at)).status);
    assert_eq!(statuses(), [401, 200, 200]);
    // An explicit moment is taken as it is.
    let explicit = format!("issuer=https://idp/&subject=bob&issued_before={}", ahead + 1);
    assert_eq!(revoke(&server, &explicit).json(), json!({ "tokens_valid_from": ahead + 1 }));
    assert_eq!(statuses(), [401, 401, 401]);
}

#[test]
fn token_with_an_empty_jti_can_be_revoked() {
    let sandbox = Sandbox::new();
    let (odd, other) = (token(json!({ "jti": "" })), token(json!({ "jti": "", "sub": "eve" })));
    {
        let server = sandbox.serve(&configuration());
        assert_eq!(revoke(&server, &format!("token={odd}")).status, 200);
    }
    let server = sandbox.serve(&configuration());
    assert_eq!((server.auth(&odd).status, server.auth(&other).status), (401, 200));
}

fn unverified_tokens_share_a_small_quota(protocol: Protocol) {
    let key = SigningKey::generate("ES256", "k");
    let sandbox = Sandbox::over(protocol);
    let server =
        sandbox.serve(&format!("{}[revocation]\ncapacity=300\n", with_keys(&sandbox, &[&key])));
    let forged = |number: usize| {
        let input = signing_input(
            &json!({ "alg": "ES256", "kid": "nobody's" }),
            &of_idp(json!({ "jti": number.to_string() })),
        );
        format!("token={input}.{}", "A".repeat(86))
    };
    let statuses: Vec<_> = (0..5).map(|number| revoke(&server, &forged(number)).status).collect();
    assert_eq!(statuses, [200, 200, 200, 503, 503]);
    assert_eq!(
        revoke(&server, &format!("token={}", key.token(&of_idp(json!({ "jti": "real" }))))).status,
        200
    );
    // Revocations of forged tokens get an end that the tokens cannot choose.
    let stored = stored(&sandbox).read_new().unwrap().unwrap();
    let unproven = stored.iter().filter(|one| {
        matches!(one.target, RevocationTarget::SigningInput(_)) && one.until.is_some()
    });
    assert_eq!(unproven.count(), 3, "{stored:?}");
}

#[test]
fn expired_revocations_make_room_at_startup() {
    let sandbox = Sandbox::new();
    {
        let server = sandbox.serve(&configuration());
        assert_eq!(revoke(&server, &format!("issuer={ISSUER}&jti=alive")).status, 200);
    }
    let aged = UnixTime(fixture::now() - 2 * 86_400);
    let old = |id: usize| {
        let token_id = format!("old-{id}").into();
        let target = RevocationTarget::TokenId { issuer: ISSUER.into(), token_id };
        Revocation { target, until: Some(aged) }
    };
    stored(&sandbox).append(&(0..20).map(old).collect::<Vec<_>>()).unwrap();
    let server = sandbox.serve(&format!("{}[revocation]\ncapacity=2\n", configuration()));
    assert_eq!(
        server.operations("/ready").json()["revocations"],
        json!({ "known": true, "count": 1, "fault": null })
    );
    assert_eq!(server.auth(&token(json!({ "jti": "alive" }))).status, 401);
}

fn revocation_requires_client_authentication(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration());
    let leaked = token(json!({ "jti": "1" }));
    let body = format!("token={leaked}");
    for lines in [
        String::new(),
        basic("CI-bot", "wrong"),
        basic("ci-bot", SECRET),
        basic("", ""),
        format!("Authorization: Bearer {leaked}\r\n"),
        basic("CI-bot", SECRET).repeat(2),
        "Authorization: Basic %%%\r\n".into(),
    ] {
        let refused = post(&server, &lines, &body);
        assert_eq!(
            (refused.status, &refused.json()["error"]),
            (401, &json!("invalid_client")),
            "{lines}"
        );
        assert!(refused.header("www-authenticate").unwrap().starts_with("Basic "));
    }
    let both = format!("{body}&client_id=CI-bot&client_secret={SECRET}");
    assert_eq!(
        post(&server, &basic("CI-bot", SECRET), &both).status,
        401,
        "RFC 6749 section 2.3: only one method per request"
    );
    assert_eq!(server.auth(&leaked).status, 200);
    assert_eq!(post(&server, "", &both).status, 200);
    assert_eq!(server.auth(&leaked).status, 401);
    assert!(!server.log().contains(SECRET) && !server.log().contains(&leaked));
    assert_eq!(server.request("GET /v1/revoke HTTP/1.1\r\n").status, 405);
}

fn ambiguous_revocations_are_refused(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration());
    for (body, expected) in [
        ("", "say what to revoke"),
        ("token_type_hint=access_token", "say what to revoke"),
        ("token=", "say what to revoke"),
        ("issued_before=99999999999", "not milliseconds"),
        ("token=a.b.c&jti=1", "token excludes all other parameters"),
        ("token=a&token=b", "duplicate field"),
        (r#"{"token":"a","token":"b"}"#, "duplicate field"),
        (r#"{"token":5}"#, "unexpected value at line 1 column 10"),
        ("{", "cannot parse the parameters"),
        ("issuer=https://unknown/&subject=bob", "is not configured"),
        ("issuer=https://localhost:8888/&subjct=bob&issued_before=1", "unknown field"),
        ("issuer=https://localhost:8888/", "say what to revoke"),
        ("jti=1", "issuer is missing"),
        ("issued_before=soon", "a parameter has an invalid value"),
    ] {
        let refused = revoke(&server, body);
        assert_eq!(
            (refused.status, &refused.json()["error"]),
            (400, &json!("invalid_request")),
            "{body}"
        );
        assert!(
            refused.json()["error_description"].as_str().unwrap().contains(expected),
            "{body}: {refused:?}"
        );
    }
    // RFC 7009 section 2.2: an invalid token needs no revocation.
    let forged = format!("{}x", token(json!({ "jti": "1" })));
    let expired = token(json!({ "jti": "1", "exp": 1 }));
    for worthless in ["abc", &forged, &expired] {
        assert_eq!(revoke(&server, &format!("token={worthless}")).status, 200, "{worthless}");
    }
    assert_eq!(server.operations("/ready").json()["revocations"]["count"], 0);
}

#[test]
fn servers_of_one_file_share_revocations() {
    let (sandbox, file) = (Sandbox::new(), "[revocation]\nfile=shared.db\n");
    let config = format!("{}{file}", configuration());
    let (one, other) = (sandbox.serve(&config), sandbox.serve(&config));
    for (id, here, there) in [("1", &one, &other), ("2", &other, &one), ("3", &one, &other)] {
        let leaked = token(json!({ "jti": id }));
        assert_eq!((here.auth(&leaked).status, there.auth(&leaked).status), (200, 200));
        assert_eq!(revoke(here, &format!("token={leaked}")).status, 200);
        assert_eq!(here.auth(&leaked).status, 401);
        eventually(|| there.auth(&leaked).status == 401);
    }
    assert!(sandbox.path().join("shared.db").exists() && !revocations_file(&sandbox).exists());
}

#[test]
fn journal_is_imported_at_startup() {
    let sandbox = Sandbox::new();
    let journal = "countersign-revocations 1\n\
                   5101c4723af7acb8 {\"issuer\":\"https://localhost:8888/\",\"jti\":\"leaked\"}\n";
    std::fs::create_dir_all(revocations_file(&sandbox).parent().unwrap()).unwrap();
    std::fs::write(revocations_file(&sandbox), journal).unwrap();
    for is_first in [true, false] {
        let server = sandbox.serve(&configuration());
        assert_eq!(server.auth(&token(json!({ "jti": "leaked" }))).status, 401);
        assert_eq!(server.auth(&fixture::good_token()).status, 200);
        let log = server.log();
        let expected = "imported 1 revocations from the journal, which is kept as ";
        assert_eq!(log.contains(expected) && log.contains("revocations.imported"), is_first);
    }
    let kept = revocations_file(&sandbox).with_extension("imported");
    assert_eq!(std::fs::read_to_string(kept).unwrap(), journal);
}

#[test]
fn missing_file_is_written_again_from_memory() {
    let sandbox = Sandbox::new();
    let leaked = token(json!({ "jti": "1" }));
    {
        let server = sandbox.serve(&configuration());
        assert_eq!(revoke(&server, &format!("token={leaked}")).status, 200);
        std::fs::remove_file(revocations_file(&sandbox)).unwrap();
        eventually(|| revocations_file(&sandbox).exists());
        eventually(|| server.log().contains("was missing while this server runs: wrote 1 revoc"));
        let statuses = || [&leaked, &fixture::good_token()].map(|token| server.auth(token).status);
        assert_eq!(statuses(), [401, 200]);
        assert_eq!(revoke(&server, &format!("issuer={ISSUER}&jti=2")).status, 200);
        // The directory with everything in it.
        std::fs::remove_dir_all(revocations_file(&sandbox).parent().unwrap()).unwrap();
        eventually(|| revocations_file(&sandbox).exists());
        server.wait_until_ready();
        assert_eq!(revoke(&server, &format!("issuer={ISSUER}&jti=3")).status, 200);
        server.stop("TERM");
    }
    let server = sandbox.serve(&configuration());
    let of = |jti: &str| token(json!({ "jti": jti }));
    assert_eq!(["1", "2", "3"].map(|jti| server.auth(&of(jti)).status), [401; 3]);
    assert_eq!(server.auth(&fixture::good_token()).status, 200);
    assert!(!server.log().contains("this server knew"), "{}", server.log());
}

#[test]
fn missing_file_that_cannot_be_written_warns_of_a_restart() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration());
    let leaked = token(json!({ "jti": "1" }));
    assert_eq!(revoke(&server, &format!("token={leaked}")).status, 200);
    let file = revocations_file(&sandbox);
    // No directory can be created in /proc, not by root either.
    std::os::unix::fs::symlink("/proc/missing/revocations", file.with_extension("link")).unwrap();
    std::fs::rename(file.with_extension("link"), &file).unwrap();
    eventually(|| server.operations("/ready").status == 503);
    let fault = server.operations("/ready").json()["revocations"]["fault"].to_string();
    let expected = "do not restart: 1 revocations are only in memory; make ";
    assert!(fault.contains(expected) && !fault.contains("or restart"), "{fault}");
    let statuses = || [&leaked, &fixture::good_token()].map(|token| server.auth(token).status);
    assert_eq!(statuses(), [401, 200], "with the last known set");
    let refused = revoke(&server, &format!("issuer={ISSUER}&jti=2"));
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.body.contains("is missing; put it back"), "{refused:?}");
    std::fs::remove_file(&file).unwrap();
    server.wait_until_ready();
    assert_eq!(statuses(), [401, 200]);
    assert_eq!(revoke(&server, &format!("issuer={ISSUER}&jti=2")).status, 200);
}

#[test]
fn revocations_survive_a_kill() {
    let sandbox = Sandbox::new();
    let tokens: Vec<_> = (0..8).map(|id| token(json!({ "jti": id.to_string() }))).collect();
    for (round, token) in tokens.iter().enumerate() {
        let server = sandbox.serve(&configuration());
        for earlier in &tokens[..round] {
            assert_eq!(server.auth(earlier).status, 401, "round {round}");
        }
        assert_eq!(server.auth(token).status, 200);
        assert_eq!(revoke(&server, &format!("token={token}")).status, 200);
        // Killed during the next revocation, which was not acknowledged and may be lost.
        let mut connection = http::Connection::open(server.address);
        let body = format!("issuer={ISSUER}&jti=unanswered-{round}");
        connection.send(
            &format!("POST /v1/revoke HTTP/1.1\r\n{}", basic("CI-bot", SECRET)),
            body.as_bytes(),
        );
        server.stop("KILL");
    }
}

fn damaged_revocations_fail_closed(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let leaked = token(json!({ "jti": "1" }));
    {
        let server = sandbox.serve(&configuration());
        assert_eq!(revoke(&server, &format!("token={leaked}")).status, 200);
    }
    let stored = std::fs::read(revocations_file(&sandbox)).unwrap();
    std::fs::write(revocations_file(&sandbox), [b"x", &stored[1..]].concat()).unwrap();
    let server = sandbox.listen(&configuration());
    let unavailable = server.auth(&fixture::good_token());
    assert_eq!((unavailable.status, unavailable.body.as_str()), (503, ""));
    assert_eq!(unavailable.header("x-auth-error"), Some("revocations_unavailable"));
    let ready = server.operations("/ready");
    assert_eq!((ready.status, &ready.json()["revocations"]["known"]), (503, &json!(false)));
    let fault = ready.json()["revocations"]["fault"].as_str().unwrap().to_owned();
    assert!(fault.contains("/revocations: ") && fault.contains("move it away"), "{fault}");
    let refused = revoke(&server, &format!("token={}", fixture::good_token()));
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")));
    // Repairing the file takes effect without a restart.
    std::fs::write(revocations_file(&sandbox), stored).unwrap();
    server.wait_until_ready();
    assert_eq!(
        (server.auth(&fixture::good_token()).status, server.auth(&leaked).status),
        (200, 401)
    );
}

fn exhausted_capacity_is_reported(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&format!("{}[revocation]\ncapacity=2\n", configuration()));
    for (id, status) in [("1", 200), ("2", 200), ("3", 503), ("2", 200)] {
        assert_eq!(revoke(&server, &format!("issuer={ISSUER}&jti={id}")).status, status, "{id}");
    }
    assert_eq!(
        server.auth(&token(json!({ "jti": "3" }))).status,
        200,
        "a revocation above the capacity is not applied"
    );
    assert!(
        server
            .log()
            .contains("the revocation table is full (2 entries): raise capacity in [revocation]"),
        "{}",
        server.log()
    );
    let metrics = server.operations("/metrics").body;
    for line in [
        "countersign_revocations 2",
        "countersign_revocations_capacity 2",
        "countersign_revocations_known 1",
    ] {
        assert!(metrics.lines().any(|one| one == line), "{line}\n{metrics}");
    }
    drop(server);
    // A capacity below the stored count drops nothing and accepts no more.
    let server = sandbox.serve(&format!("{}[revocation]\ncapacity=1\n", configuration()));
    let statuses = ["1", "2", "3"].map(|id| server.auth(&token(json!({ "jti": id }))).status);
    assert_eq!(statuses, [401, 401, 200]);
    assert_eq!(revoke(&server, &format!("issuer={ISSUER}&jti=3")).status, 503);
    assert!(server.log().contains("exceeds the capacity"), "{}", server.log());
}

#[test]
fn cli_revocations_reach_the_running_server() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration());
    let config = sandbox.path().join("server.cfg");
    let run = |arguments: &[&str]| {
        sandbox.run(
            ["token", "revoke", "--config", config.to_str().unwrap()]
                .iter()
                .chain(arguments)
                .copied(),
        )
    };
    let leaked = token(json!({ "jti": "1" }));
    assert_eq!(server.auth(&leaked).status, 200);
    let output = run(&[&leaked]);
    assert!(output.text().starts_with("Revoked."), "{output:?}");
    eventually(|| server.auth(&leaked).status == 401);
    let before = fixture::now();
    let output = run(&["--issuer", ISSUER, "--subject", "bob"]);
    let (_, first) = output.text().split_once("\nTokens issued from ").unwrap();
    let (first, _) = first.split_once(' ').unwrap();
    assert!((before + 1..=fixture::now() + 1).contains(&first.parse().unwrap()), "{output:?}");
    eventually(|| server.auth(&token(json!({ "iat": 5 }))).status == 401);
    // Revocations made by the server in the meantime are kept.
    assert_eq!(revoke(&server, &format!("issuer={ISSUER}&jti=2")).status, 200);
    assert!(run(&["--issuer", ISSUER, "--jti", "3"]).status.success());
    eventually(|| server.operations("/ready").json()["revocations"]["count"] == 4);

    let verified = sandbox.run_with_input(
        ["token", "verify", "--config", config.to_str().unwrap()],
        leaked.as_bytes(),
    );
    assert_eq!(verified.json_lines()[0]["code"], "revoked");
    for (arguments, expected) in [
        (&["--issuer", "https://unknown/", "--jti", "1"][..], "is not configured"),
        (&["--jti", "1"], "issuer is missing"),
        (&[], "say what to revoke"),
        (&["abc"], "no configured issuer accepts the token"),
    ] {
        let output = run(arguments);
        assert_eq!(output.code(), 1);
        assert!(output.stderr.contains(expected), "{arguments:?}: {output:?}");
    }
}

fn revocation_covers_other_signatures_of_the_token(protocol: Protocol) {
    let key = SigningKey::generate("ES256", "k");
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&with_keys(&sandbox, &[&key]));
    let claims = of_idp(json!({}));
    // ECDSA signatures are randomized: two tokens share one signing input.
    let (one, other) = (key.token(&claims), key.token(&claims));
    assert_ne!(one, other);
    assert_eq!((server.auth(&one).status, server.auth(&other).status), (200, 200));
    assert_eq!(revoke(&server, &format!("token={one}")).status, 200);
    assert_eq!((server.auth(&one).status, server.auth(&other).status), (401, 401));
}

fn token_can_be_revoked_before_its_key_is_known(protocol: Protocol) {
    let key = SigningKey::generate("ES256", "later");
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&with_keys(&sandbox, &[]));
    let named = |id: &str| key.token(&of_idp(json!({ "jti": id })));
    let (leaked, other) = (named("1"), named("2"));
    assert_eq!(server.auth(&leaked).status, 503);
    assert_eq!(revoke(&server, &format!("token={leaked}")).status, 200);
    sandbox.file("jwks.json", fixture::key_set(&[&key]));
    eventually(|| server.auth(&other).status == 200);
    assert_eq!(server.auth(&leaked).status, 401);
    // A token that was not verified revokes only itself.
    assert_eq!(server.auth(&key.token(&of_idp(json!({ "jti": "1", "sub": "eve" })))).status, 200);
}

fn printed_api_client_works_as_is(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let printed = sandbox.run(["key", "client", "deployer"]).text().to_owned();
    let line = |start: &str| {
        printed.lines().skip_while(move |line| !line.starts_with(start)).nth(2).unwrap()
    };
    let (cfg, toml) =
        printed.split_once("(.cfg):\n").unwrap().1.split_once("The same in TOML:\n").unwrap();
    let secret = line("The secret");
    let toml = sandbox.file("clients.toml", toml);
    assert_eq!(sandbox.run(["config", "check", "--config", toml.to_str().unwrap()]).code(), 0);
    let server = sandbox.serve(&format!("{SIGNING}{cfg}\n"));
    assert_eq!(
        post(&server, &basic("deployer", secret), &format!("issuer={ISSUER}&jti=1")).status,
        200
    );
}

#[test]
fn unhashed_api_secret_is_refused_and_not_shown() {
    let sandbox = Sandbox::new();
    let config = sandbox.file("c.cfg", format!("{SIGNING}[api_clients]\nci = {SECRET}\n"));
    let output = sandbox.run(["config", "check", "--config", config.to_str().unwrap()]);
    assert_eq!(output.code(), 2);
    assert!(
        output.stderr.contains("countersign key client") && !output.stderr.contains(SECRET),
        "{output:?}"
    );
}
