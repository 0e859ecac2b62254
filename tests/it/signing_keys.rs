//! Rotation of the key that signs: `next_key`, `previous_keys`, `countersign keys rotate`.

/// Several servers on one database.
mod nodes;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_server::keys::secret_id::secret_id;
use countersign_tests::{
    binary::{Output, Sandbox, Server},
    engine::sign_with,
    eventually,
};
use serde_json::json;

use crate::{
    fixture::{self, KEY},
    users::{Api, ENVIRONMENT, configuration, data, session_of},
};

pub(crate) const NEXT: &str = "PrLokZEHOyk1LdKzWQ1VCSnL7xdjeF2UUWy3RsMA82g";
pub(crate) const LATER: &str = "NYR2LtAsKSs7TuY0D8ZIqmMaLcICC3lf_ur4FGlLUcQ";

/// Returns the configuration of a server whose section that signs has these lines instead of `key`.
pub(crate) fn with_keys(lines: &str, options: &str) -> String {
    configuration(options)
        .replace(&format!("key={KEY}\nexpire=0"), &format!("{lines}\nexpire=3600"))
}

/// Returns the lines of a configuration before, during and after a rotation.
pub(crate) fn before() -> String {
    format!("key={KEY}")
}

pub(crate) fn with_next() -> String {
    format!("key={KEY}\nnext_key={NEXT}")
}

pub(crate) fn moved() -> String {
    format!("key={NEXT}\nprevious_keys={KEY}")
}

pub(crate) fn rotate(sandbox: &Sandbox, arguments: &[&str]) -> Output {
    sandbox.run([&["keys", "rotate", "--config", "server.cfg"], arguments].concat())
}

pub(crate) fn id(key: &str) -> String {
    secret_id(&URL_SAFE_NO_PAD.decode(key).unwrap()).unwrap()
}

/// Returns a token of the section, signed by a key.
pub(crate) fn signed_by(key: &str) -> String {
    let claims = fixture::claims(json!({}));
    signed(key, &claims.to_string())
}

fn signed(key: &str, claims: &str) -> String {
    let parts = [r#"{"alg":"HS256","typ":"JWT"}"#, claims].map(|part| URL_SAFE_NO_PAD.encode(part));
    sign_with(&URL_SAFE_NO_PAD.decode(key).unwrap(), &parts.join("."))
}

/// Returns which key has signed a token.
pub(crate) fn signer(token: &str) -> &'static str {
    let (input, _) = token.rsplit_once('.').unwrap();
    let signs = |key: &str| sign_with(&URL_SAFE_NO_PAD.decode(key).unwrap(), input) == token;
    [KEY, NEXT, LATER].into_iter().find(|key| signs(key)).expect("one of the keys has signed")
}

/// Returns which key signs a new session.
pub(crate) fn session_signer(server: &Server<'_>) -> &'static str {
    signer(&Api::anonymous(server).session("bob"))
}

pub(crate) fn apply(sandbox: &Sandbox, server: &Server<'_>, configuration: &str) {
    sandbox.replace("server.cfg", configuration);
    let line = server.reload();
    assert!(line.contains("configuration reloaded"), "{line}");
}

#[test]
fn next_key_verifies_at_once_and_signs_later() {
    let sandbox = Sandbox::new();
    let configured = |lines: &str| with_keys(lines, "");
    let (old, new) = (signed_by(KEY), signed_by(NEXT));
    let statuses = |server: &Server<'_>| [&old, &new].map(|token| server.auth(token).status);
    {
        let server = sandbox.serve(&configured(&before()));
        Api::root(&server).add_user("bob");
        assert_eq!((statuses(&server), session_signer(&server)), ([200, 401], KEY));
        apply(&sandbox, &server, &configured(&with_next()));
        assert_eq!((statuses(&server), session_signer(&server)), ([200, 200], KEY));
        let rotated = rotate(&sandbox, &[]);
        assert!(rotated.text().contains(&format!("{} (next_key) signs from now on", id(NEXT))));
        eventually(|| session_signer(&server) == NEXT);
        assert_eq!(statuses(&server), [200, 200]);
        let again = rotate(&sandbox, &[]);
        assert!(again.text().contains("already signs, since"), "{again:?}");
        apply(&sandbox, &server, &configured(&with_next()));
        assert_eq!(session_signer(&server), NEXT, "after a reload, too");
        server.stop("TERM");
    }
    let server = sandbox.serve(&configured(&with_next()));
    assert_eq!((statuses(&server), session_signer(&server)), ([200, 200], NEXT), "first session");
    apply(&sandbox, &server, &configured(&moved()));
    assert_eq!((statuses(&server), session_signer(&server)), ([200, 200], NEXT));
    apply(&sandbox, &server, &configured(&format!("key={NEXT}")));
    assert_eq!((statuses(&server), session_signer(&server)), ([401, 200], NEXT));
    let audit = sandbox.run(["audit", "--config", "server.cfg"]);
    assert_eq!(audit.text().matches("signing_key.rotate").count(), 1, "{audit:?}");
    for secret in [KEY, NEXT] {
        assert!(!server.log().contains(secret) && !audit.text().contains(secret));
    }
}

#[test]
fn renewed_session_continues_with_the_next_key() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&with_keys(&with_next(), "login_session_expire=600\n"));
    Api::root(&server).add_user("bob");
    let session = Api::anonymous(&server).session("bob");
    assert!(rotate(&sandbox, &[]).status.success());
    eventually(|| session_signer(&server) == NEXT);
    let renew = || data(&Api::bearing(&server, &session).ask("POST /login/renew"))["token"].clone();
    let renewed = renew();
    assert_eq!(signer(renewed.as_str().unwrap()), NEXT);
    assert_eq!(server.auth(renewed.as_str().unwrap()).status, 200);
    assert_eq!(renew(), renewed, "the same successor");
}

#[test]
fn token_of_the_registry_survives_the_rotation() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&with_keys(&with_next(), "login_session_expire=600\n"));
    let root = Api::root(&server);
    root.add_environment(ENVIRONMENT);
    let token = root.issue(ENVIRONMENT);
    let rotated = rotate(&sandbox, &[]);
    let ends = "Remove the old key from previous_keys after ";
    assert!(rotated.text().contains(ends), "{rotated:?}");
    apply(&sandbox, &server, &with_keys(&moved(), ""));
    let called = || Api::bearing(&server, &token).within(ENVIRONMENT).ask("GET /environment_auth");
    assert_eq!((server.auth(&token).status, called().status), (200, 200));
    let jti = crate::users::claims(&token)["jti"].as_str().unwrap().to_owned();
    assert_eq!(
        root.within(ENVIRONMENT).ask(&format!("DELETE /environment_auth/{jti}")).status,
        200
    );
    assert_eq!(server.auth(&token).status, 401, "it is revoked as before");
}

#[test]
fn endless_tokens_keep_the_old_key() {
    let sandbox = Sandbox::new();
    let endless =
        configuration("login_session_expire=0\n").replace(&format!("key={KEY}"), &with_next());
    let server = sandbox.serve(&endless);
    Api::root(&server).add_environment(ENVIRONMENT);
    Api::root(&server).issue(ENVIRONMENT);
    let rotated = rotate(&sandbox, &["--section", "auth_jwt_default"]);
    for text in
        ["cannot be removed", "1 token of the registry", "sessions, as login_session_expire"]
    {
        assert!(rotated.text().contains(text), "{rotated:?}");
    }
}

#[test]
fn rotation_without_a_next_key_is_refused() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&with_keys(&before(), ""));
    let refused = |arguments: &[&str], text: &str| {
        let output = rotate(&sandbox, arguments);
        assert!(output.code() == 1 && output.stderr.contains(text), "{output:?}");
    };
    refused(&[], "next_key is not set in [auth_jwt_default]");
    refused(&["--section", "auth_jwt_oidc"], "[auth_jwt_oidc] does not sign tokens");
    drop(server);
}

#[test]
fn command_signs_with_the_key_in_force() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&with_keys(&with_next(), ""));
    let sign = || {
        let arguments = ["token", "sign", "--client-type", "api", "--config", "server.cfg"];
        sandbox.run(arguments).text().to_owned()
    };
    assert_eq!(signer(&sign()), KEY);
    assert!(rotate(&sandbox, &[]).status.success());
    assert_eq!(signer(&sign()), NEXT);
    assert_eq!(server.auth(&sign()).status, 200);
}

#[test]
fn key_in_force_that_is_missing_is_reported() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&with_keys(&with_next(), ""));
    Api::root(&server).add_user("bob");
    let known = || server.metric("countersign_signing_key_known{section=\"auth_jwt_default\"}");
    assert!(rotate(&sandbox, &[]).status.success());
    eventually(|| session_signer(&server) == NEXT);
    assert_eq!(known(), 1);
    // Another key without a rotation: the one in force is gone.
    apply(&sandbox, &server, &with_keys(&format!("key={LATER}\nprevious_keys={KEY}"), ""));
    assert_eq!((known(), session_signer(&server)), (0, LATER));
    assert!(server.log().contains(&format!("the key in force, {}, is not configured", id(NEXT))));
    eventually(|| rotate(&sandbox, &[]).status.success());
    eventually(|| known() == 1);
    assert_eq!(session_signer(&server), LATER);
    // A key that was in force and was moved to previous_keys continues to sign, with a warning.
    apply(&sandbox, &server, &with_keys(&format!("key={NEXT}\nprevious_keys={LATER},{KEY}"), ""));
    assert_eq!((known(), session_signer(&server)), (1, LATER));
    assert!(server.log().contains("is one of previous_keys"), "{}", server.log());
}

#[test]
fn keys_of_files_rotate_as_those_of_options() {
    let sandbox = Sandbox::new();
    for (name, key) in [("key", KEY), ("next", NEXT)] {
        sandbox.file(name, key);
    }
    let path = |name: &str| sandbox.path().join(name).display().to_string();
    let lines = format!("key_file={}\nnext_key_file={}", path("key"), path("next"));
    let server = sandbox.serve(&with_keys(&lines, ""));
    assert_eq!(server.auth(&signed_by(NEXT)).status, 200);
    // The files are watched as that of the signing key is.
    server.reload_after(|| drop(sandbox.replace("next", LATER)));
    assert_eq!([NEXT, LATER].map(|key| server.auth(&signed_by(key)).status), [401, 200]);
    let lines = format!("key_file={}\nprevious_key_files={}", path("next"), path("key"));
    apply(&sandbox, &server, &with_keys(&lines, ""));
    assert_eq!([KEY, LATER].map(|key| server.auth(&signed_by(key)).status), [200, 200]);
}

#[test]
fn mistakes_in_rotating_keys_are_explained() {
    let sandbox = Sandbox::new();
    let check = |lines: &str, expected: &[&str]| {
        sandbox.file("wrong.cfg", with_keys(lines, ""));
        let output = sandbox.run(["config", "check", "--config", "wrong.cfg"]);
        let text = format!("{}{}", output.stdout, output.stderr);
        assert_eq!(output.code(), 2, "{output:?}");
        for expected in expected {
            assert!(text.contains(expected), "{expected}: {text}");
        }
        for key in [KEY, NEXT, LATER, "c2hvcnQ"] {
            assert!(!text.contains(key), "{text}");
        }
    };
    let fourth = "oZq3mS1vX8yTfRkLwP0dGhJcBnUe5Ai2sVtQ7rYxKl4";
    let fifth = "1mZx7QvTt9LpRk3WcYb5HsJgDnFe0Ua8iOqVw2BzXyM";
    check(&format!("key={KEY}\nnext_key={KEY}"), &["next_key", "is the same key as key"]);
    check(
        &format!("key={KEY}\nnext_key={NEXT}\nprevious_keys={LATER}, {NEXT}"),
        &["key 2 of previous_keys in auth_jwt_default is the same key as next_key"],
    );
    check(
        &format!("key={KEY}\nprevious_keys=c2hvcnQ"),
        &["32 bytes", "key 1 of previous_keys has 5"],
    );
    check(
        &format!("key={KEY}\nprevious_keys=%%%"),
        &["key 1 of previous_keys", "not urlsafe base64"],
    );
    check(
        &format!("key={KEY}\nnext_key={NEXT}\nprevious_keys={LATER},{fourth},{fifth}"),
        &["has 5 keys, but at most 4", "whose last token has expired"],
    );
    check(
        &format!("key={KEY}\nnext_key={}", "A".repeat(43)),
        &["could be guessed", "key generate"],
    );
    check(&format!("key={KEY}\nnext_key={NEXT}\nnext_key_file=x"), &["two sources of keys"]);
    let other = fixture::issuer_section(
        "partner",
        "HS256",
        "https://p/",
        &format!("key={NEXT}\nprevious_keys={LATER}\n"),
    );
    check(
        &format!("key={KEY}\nissuer=https://localhost:8888/\n{other}"),
        &["previous_keys in auth_jwt_partner needs sign = true"],
    );
}

#[test]
fn forged_token_is_refused_by_each_of_four_keys() {
    let fourth = "oZq3mS1vX8yTfRkLwP0dGhJcBnUe5Ai2sVtQ7rYxKl4";
    let sandbox = Sandbox::new();
    let lines = format!("key={KEY}\nnext_key={NEXT}\nprevious_keys={LATER},{fourth}");
    let server = sandbox.serve(&with_keys(&lines, ""));
    for key in [KEY, NEXT, LATER, fourth] {
        for _ in 0..2 {
            assert_eq!(server.auth(&signed_by(key)).status, 200);
        }
    }
    for _ in 0..2 {
        assert_eq!(
            server.auth(&signed_by("1mZx7QvTt9LpRk3WcYb5HsJgDnFe0Ua8iOqVw2BzXyM")).status,
            401
        );
    }
    assert_eq!(server.auth(&session_of("root", true)).status, 200);
}
