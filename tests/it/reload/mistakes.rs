use countersign_tests::{binary::Sandbox, certificates::Authority};

use super::{SECOND, reload, second_token};
use crate::fixture::{self, KEY, SIGNING};

#[test]
fn invalid_reload_changes_nothing_and_is_explained() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(SIGNING);
    let changed = |from: &str, to: &str| format!("{}{SECOND}", SIGNING.replace(from, to));
    let twin = SECOND.replace("https://second/", "https://localhost:8888/");
    for (text, expected) in [
        (
            changed("expire=0", "expire"),
            [
                "server.cfg:6: a line in section auth_jwt_default has no value",
                "write option = value",
            ],
        ),
        (
            changed(KEY, "c2hvcnQ"),
            [
                "server.cfg:5: HS256 requires a key of 32 bytes",
                "create one with countersign key generate",
            ],
        ),
        (
            format!("{SIGNING}{twin}"),
            [
                "server.cfg:12: Only one configuration per issuer",
                "auth_jwt_default also has the issuer",
            ],
        ),
        (
            format!("{}[server]\nauth=true\n", changed("sign=true", "sign=false")),
            ["One auth_jwt section should have sign set to true", "set sign = true in exactly one"],
        ),
        (
            changed("sign=true", "sign=true\njwt_username_claim=email"),
            ["server.cfg:4: auth config auth_jwt_default", "remove"],
        ),
        (
            format!("{SIGNING}{SECOND}[log]\nrequests=some\n"),
            ["server.cfg:16: requests", "off, refused, all"],
        ),
    ] {
        let message = reload(&sandbox, &server, &text);
        assert!(
            message.contains("\"level\":\"ERROR\"")
                && message.contains("configuration not reloaded"),
            "{message}"
        );
        assert!(expected.iter().all(|words| message.contains(words)), "{expected:?} in {message}");
        assert_eq!(
            (server.auth(&fixture::good_token()).status, server.auth(&second_token()).status),
            (200, 401),
            "{text}"
        );
    }
    assert!(!server.log().contains(KEY), "the key is in the log");
    // Corrected, and reloaded without a signal.
    let message =
        server.reload_after(|| drop(sandbox.replace("server.cfg", format!("{SIGNING}{SECOND}"))));
    assert!(message.contains("in force"), "{message}");
    assert_eq!(server.auth(&second_token()).status, 200);
}

#[test]
fn unknown_toml_option_changes_nothing() {
    let sandbox = Sandbox::new();
    let text = format!(
        "[server]\nbind_port = 0\n[metrics]\nbind_port = 0\n[auth_jwt_default]\nalgorithm = \"HS256\"\nsign = true\n\
         client_types = [\"api\"]\nkey = \"{KEY}\"\naudience = \"https://localhost:8888/\"\n"
    );
    let config = sandbox.replace("server.toml", &text);
    let server = sandbox.start(["--config", config.to_str().unwrap()]);
    let token = fixture::good_token();
    assert_eq!(server.auth(&token).status, 200);
    let message = server.reload_after(|| {
        drop(sandbox.replace("server.toml", text.replace("audience", "audiance")))
    });
    assert!(
        message.contains("server.toml:10: unknown option audiance")
            && message.contains("did you mean audience?"),
        "{message}"
    );
    assert_eq!(server.auth(&token).status, 200);
    sandbox.replace("server.toml", text.replace("= true", "= tru"));
    let message = server.reload();
    assert!(
        message.contains("server.toml") && message.contains("configuration not reloaded"),
        "{message}"
    );
    let other = text.replace("\"https://localhost:8888/\"", "\"other\"");
    let message = server.reload_after(|| drop(sandbox.replace("server.toml", other)));
    assert!(message.contains("in force"), "{message}");
    assert_eq!(server.auth(&token).status, 401);
}

#[test]
fn corrected_referenced_file_triggers_the_reload() {
    let (sandbox, authority) = (Sandbox::new(), Authority::root("ours"));
    let server = sandbox.serve(SIGNING);
    let tls = "[server]\nssl_cert_file=tls.crt\nssl_key_file=tls.key\n";
    let message = reload(&sandbox, &server, &format!("{SIGNING}{SECOND}{tls}"));
    assert!(message.contains("Failed to load ssl certificate"), "{message}");
    assert_eq!(
        server.auth(&second_token()).status,
        401,
        "no part of an invalid configuration takes effect"
    );
    let message = server.reload_after(|| drop(authority.server().write(sandbox.path())));
    assert!(message.contains("in force"), "{message}");
    // The failed attempts in between are logged only once.
    assert_eq!(server.reloads(), 2, "{}", server.log());
}
