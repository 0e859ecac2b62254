use countersign_tests::{
    binary::Sandbox, client::Protocol, openssl::SigningKey, over_every_protocol,
};
use serde_json::{Value, json};

use super::{
    Api, ENVIRONMENT, PASSWORD, add_with_hash, assert_done, claims, configuration, data, in_file,
    names, refused, session_of, store,
};
use crate::fixture;

over_every_protocol!(
    login_returns_a_session,
    c45_wrong_password_and_unknown_user_are_alike,
    c52_c53_renewal_reflects_the_current_user,
    current_user_is_the_session_subject,
);

fn login_returns_a_session(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    Api::root(&server).add_user("bob");
    let answer = Api::anonymous(&server).log_in("bob", PASSWORD);
    let body = data(&answer);
    let token = body["token"].as_str().unwrap();
    let bob = json!({ "username": "bob", "auth_method": "database", "is_admin": false });
    assert_eq!(body, json!({ "token": token, "user": bob, "expires_in": 3600 }));
    assert_eq!(answer.header("authorization"), Some(&*format!("Bearer {token}")));
    let order = [
        "iss",
        "aud",
        "urn:inmanta:ct",
        "sub",
        "urn:inmanta:roles",
        "urn:inmanta:is_admin",
        "auth_time",
        "sid",
        "iat",
        "exp",
    ]
    .map(str::to_owned);
    assert_eq!(names(token), order);
    let mut token_claims = claims(token);
    let (issued, expires) = (
        token_claims["iat"].take().as_u64().unwrap(),
        token_claims["exp"].take().as_u64().unwrap(),
    );
    assert_eq!(expires - issued, 3600);
    assert_eq!(token_claims["auth_time"].take(), issued);
    assert!(token_claims["sid"].take().as_str().unwrap().len() >= 32);
    let expected = json!({
        "iss": fixture::ISSUER, "aud": [fixture::ISSUER], "urn:inmanta:ct": "api", "sub": "bob",
        "urn:inmanta:roles": {}, "urn:inmanta:is_admin": false, "auth_time": null, "sid": null,
        "iat": null, "exp": null,
    });
    assert_eq!(token_claims, expected);
    assert_eq!(server.auth(token).header("x-auth-subject"), Some("bob"));
}

fn c45_wrong_password_and_unknown_user_are_alike(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    Api::root(&server).add_user("bob");
    for (username, password) in
        [("bob", "correct horsf"), ("eve", PASSWORD), ("Bob", PASSWORD), ("", "")]
    {
        let answer = Api::anonymous(&server).log_in(username, password);
        refused(&answer, 401, "Invalid username or password");
        assert_eq!(answer.header("authorization"), None);
    }
}

#[test]
fn c48_invalid_hash_rejects_every_password() {
    let sandbox = Sandbox::new();
    let store = store(&sandbox);
    for (username, hash) in [("bob", "secret"), ("eve", "")] {
        add_with_hash(&store, username, hash);
    }
    let server = sandbox.serve(&configuration(&in_file(&sandbox)));
    for (username, password) in [("bob", "secret"), ("eve", "")] {
        refused(
            &Api::anonymous(&server).log_in(username, password),
            401,
            "Invalid username or password",
        );
    }
}

#[test]
fn c50_password_is_normalized_and_rehashed() {
    const COMPOSED: &str = "pass-caf\u{e9}";
    const DECOMPOSED: &str = "pass-cafe\u{301}";
    /// The hash of the decomposed form, made by another implementation of argon2.
    const OLD: &str = "$argon2id$v=19$m=65536,t=2,p=1$AAECAwQFBgcICQoLDA0ODw$D/9q9G7v4I2vNuwk20s36czRy0QyS0P49QYpt5olw2g";
    let sandbox = Sandbox::new();
    let store = store(&sandbox);
    add_with_hash(&store, "bob", OLD);
    let server = sandbox.serve(&configuration(&in_file(&sandbox)));
    let status = |password| Api::anonymous(&server).log_in("bob", password).status;
    assert_eq!(status(COMPOSED), 401, "the old hash is of the decomposed form");
    assert_eq!((status(DECOMPOSED), status(COMPOSED), status(DECOMPOSED)), (200, 200, 200));
    let hash = store.block_on(store.user("bob")).unwrap().unwrap().password_hash;
    assert!(
        hash != OLD && hash.starts_with("$argon2id$v=19$m=65536,t=2,p=1$") && hash.len() == 97,
        "{hash}"
    );
}

#[test]
fn c51_session_lifetime_is_configurable() {
    for (options, lifetime) in
        [("login_session_expire=60\n", Some(60)), ("login_session_expire=0\n", None)]
    {
        let sandbox = Sandbox::new();
        let server = sandbox.serve(&configuration(options));
        Api::root(&server).add_user("bob");
        let body = data(&Api::anonymous(&server).log_in("bob", PASSWORD));
        let claims = claims(body["token"].as_str().unwrap());
        assert_eq!(body.get("expires_in").and_then(Value::as_u64), lifetime);
        assert_eq!(
            claims["exp"].as_u64().map(|exp| exp - claims["iat"].as_u64().unwrap()),
            lifetime
        );
    }
}

fn c52_c53_renewal_reflects_the_current_user(protocol: Protocol) {
    let key = SigningKey::generate("ES256", "k");
    let sandbox = Sandbox::over(protocol);
    let idp = format!(
        "jwks_uri=file://{}",
        sandbox.file("jwks.json", fixture::key_set(&[&key])).display()
    );
    let server =
        sandbox.serve(&format!("{}[server]\nauth=true\n", fixture::with_idp("ES256", &idp)));
    let root = Api::root(&server);
    root.add_user("bob");
    root.add_environment(ENVIRONMENT);
    root.send("POST /role", json!({ "name": "noc" }));
    root.send("POST /role_assignment/bob", json!({ "environment": ENVIRONMENT, "role": "noc" }));
    assert_done(&root.send("PATCH /is_admin", json!({ "username": "bob", "is_admin": true })));
    // An earlier session: bob was not an administrator and had no role.
    let renew = |token: &str| Api::bearing(&server, token).ask("POST /login/renew");
    let answer = renew(&session_of("bob", false));
    let body = data(&answer);
    let token = body["token"].as_str().unwrap();
    assert_eq!(answer.header("authorization"), Some(&*format!("Bearer {token}")));
    assert_eq!((&body["user"]["is_admin"], &body["expires_in"]), (&json!(true), &json!(3600)));
    let claims = claims(token);
    assert_eq!(claims["urn:inmanta:is_admin"], true);
    assert_eq!(claims["urn:inmanta:roles"], json!({ ENVIRONMENT: ["noc"] }));
    assert_eq!(data(&renew(token))["user"]["username"], "bob");

    let mut of_idp = fixture::claims_of("https://idp/");
    of_idp["urn:inmanta:is_admin"] = json!(false);
    for token in [fixture::good_token(), key.token(&of_idp)] {
        refused(&renew(&token), 400, "Only login sessions issued by this server can be renewed.");
    }
    refused(
        &renew(&root.issue(ENVIRONMENT)),
        403,
        "The authorization token is scoped to a specific environment.",
    );
    refused(&renew(&session_of("ghost", false)), 401, "User account no longer exists.");
    // A session of another server with the same key, whose user may be another person.
    let mut foreign = super::claims(&session_of("bob", false));
    foreign.as_object_mut().unwrap().remove("sid");
    let foreign = fixture::token(&foreign);
    let text = "Only login sessions issued by this server can be renewed.";
    refused(&renew(&foreign), 400, text);
    let all = Api::bearing(&server, &foreign).send("POST /logout", json!({ "all": true }));
    let text = "Only a login session that began here can end all sessions of the user.";
    refused(&all, 400, text);
    assert_eq!(Api::bearing(&server, &foreign).ask("GET /current_user").status, 200);
    refused(
        &Api::anonymous(&server).ask("POST /login/renew"),
        401,
        "Access to this resource is unauthorized",
    );
}

fn current_user_is_the_session_subject(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let current = |token: &str| Api::bearing(&server, token).ask("GET /current_user");
    assert_eq!(data(&current(&session_of("b\u{f6}b", false))), json!({ "username": "b\u{f6}b" }));
    let without_subject = fixture::token(&fixture::claims(json!({ "sub": null })));
    refused(
        &current(&without_subject),
        404,
        "No current user found, probably an API token is used.",
    );
    refused(
        &Api::anonymous(&server).ask("GET /current_user"),
        401,
        "Access to this resource is unauthorized",
    );
}

#[test]
fn sessions_of_a_former_signing_section_are_ended() {
    const OTHER: &str = "[auth_jwt_next]\nalgorithm=HS256\nsign=true\nclient_types=api\nissuer=https://next/\nexpire=0\n\
                         key=eciwliGyqECVmXtIkNpfVrtBLutZiITZKSKYhogeHMM\n";
    let sandbox = Sandbox::new();
    let before = configuration(&in_file(&sandbox));
    let server = sandbox.serve(&before);
    Api::root(&server).add_user("bob");
    let session = Api::anonymous(&server).session("bob");
    sandbox.replace(
        "server.cfg",
        format!("{}{OTHER}", before.replace("sign=true", "sign=false\nadministers=true")),
    );
    server.reload();
    let next = Api::anonymous(&server).session("bob");
    assert_eq!(claims(&next)["iss"], "https://next/");
    assert_eq!((server.auth(&session).status, server.auth(&next).status), (200, 200));
    assert_done(&Api::root(&server).ask("DELETE /user/bob"));
    assert_eq!((server.auth(&session).status, server.auth(&next).status), (401, 401));
}
