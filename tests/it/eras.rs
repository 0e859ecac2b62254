/// Configuration blocks quoted from the guides.
mod blocks;
/// Tokens and keys in the form of each provider in the guides.
mod providers;

use countersign_tests::{
    binary::{Output, Sandbox},
    openssl::certificate,
};

use crate::fixture::SIGNING;

/// Runs `config check` in a [`Sandbox`] on a directory with these files.
fn check(sandbox: &Sandbox, texts: &[&str]) -> Output {
    let directory = sandbox.path().join("inmanta.d");
    drop(std::fs::remove_dir_all(&directory));
    for (number, text) in texts.iter().enumerate() {
        sandbox.file(&format!("inmanta.d/{number}.cfg"), text);
    }
    sandbox.run(["config", "check", "--config", directory.to_str().unwrap()])
}

#[test]
fn current_guide_blocks_load_without_warnings() {
    let sandbox = Sandbox::new();
    let entra_v1 = blocks::ENTRA.replacen(blocks::ENTRA_ISSUERS[0], blocks::ENTRA_ISSUERS[1], 1);
    for texts in [
        &[SIGNING][..],
        &[blocks::DATABASE, blocks::GENERATED],
        &[SIGNING, blocks::KEYCLOAK],
        &[SIGNING, blocks::GENERIC],
        &[SIGNING, blocks::ENTRA],
        &[SIGNING, &entra_v1],
        &[SIGNING, blocks::AUTHENTIK],
        &[SIGNING, blocks::CLOUDFLARE, blocks::CLOUDFLARE_HEADER],
    ] {
        let output = check(&sandbox, texts);
        assert_eq!((output.code(), &*output.stderr), (0, ""), "{texts:?}");
    }
    let (certificate, key) = certificate(sandbox.path());
    let tls = blocks::TLS
        .replace("/etc/inmanta/server.crt", certificate.to_str().unwrap())
        .replace("/etc/inmanta/server.key.open", key.to_str().unwrap());
    let output = check(&sandbox, &[SIGNING, &tls]);
    assert!(
        output.code() == 0
            && output.stderr.is_empty()
            && output.stdout.contains("https://127.0.0.1:8888"),
        "{output:?}"
    );
}

#[test]
fn check_prints_the_web_console_login() {
    let sandbox = Sandbox::new();
    let output = check(&sandbox, &[SIGNING, blocks::ENTRA, "[web-ui]\noidc_local_fallback=yes\n"]);
    let line = "the web console logs in at https://login.microsoftonline.com/9b6d2b1e-5c0a-4a7e-9d41-0b8c2f6a7e11/v2.0 as \
                3f1c8a52-7b1d-4e7a-8a58-6d2f9c0b4e77 with scope openid profile email \
                api://3f1c8a52-7b1d-4e7a-8a58-6d2f9c0b4e77/access, or with a local password";
    assert!(output.text().contains(line), "{output:?}");
    let usual = check(&sandbox, &[SIGNING, blocks::AUTHENTIK]);
    assert!(
        usual.text().contains(" as x4kqZ1mVbY7cT0nPwLr8sDfGhJ2 with scope openid profile email\n"),
        "{usual:?}"
    );
}

#[test]
fn check_hints_at_the_other_entra_audience() {
    let sandbox = Sandbox::new();
    let hint = "aud = 3f1c8a52-7b1d-4e7a-8a58-6d2f9c0b4e77 (the bare client id)";
    assert_eq!(check(&sandbox, &[SIGNING, blocks::ENTRA]).text().matches(hint).count(), 1);
    let bare = blocks::ENTRA.replace("audience=api://", "audience=");
    let version_1 = blocks::ENTRA.replacen(blocks::ENTRA_ISSUERS[0], blocks::ENTRA_ISSUERS[1], 1);
    for text in [&*bare, &version_1, blocks::KEYCLOAK] {
        assert!(!check(&sandbox, &[SIGNING, text]).text().contains("bare client id"), "{text}");
    }
}

#[test]
fn legacy_keycloak_options_suggest_their_replacement() {
    let sandbox = Sandbox::new();
    let output = check(&sandbox, &[SIGNING, blocks::LEGACY_KEYCLOAK]);
    let line = "oidc_authority=http://keycloak.example.com:8080/realms/inmanta\n";
    assert!(
        output.code() == 0 && output.stderr.contains("1.cfg:4: oidc_auth_url and oidc_realm"),
        "{output:?}"
    );
    assert!(output.stderr.contains(line) && blocks::KEYCLOAK.contains(line), "{output:?}");
    // The suggested lines are those of the guide and have the same effect.
    assert_eq!(output.stdout, check(&sandbox, &[SIGNING, blocks::KEYCLOAK]).stdout);
    // The realm has a default and is percent-encoded.
    let realm = |line: &str| {
        check(&sandbox, &[SIGNING, &blocks::LEGACY_KEYCLOAK.replace("oidc_realm=inmanta\n", line)])
            .stderr
    };
    assert!(realm("").contains("/realms/inmanta\n"));
    assert!(realm("oidc_realm=my realm/2\n").contains("/realms/my%20realm%2F2\n"));
}

#[test]
fn older_guide_blocks_load_and_suggest_replacements() {
    let sandbox = Sandbox::new();
    let older = [blocks::OLDER_DEFAULT, blocks::OLDER_KEYCLOAK];
    let silent = check(&sandbox, &older);
    assert_eq!((silent.code(), &*silent.stderr), (0, ""));
    let output = check(&sandbox, &[&older[..], &[blocks::DASHBOARD]].concat());
    let lines = [
        "[web-ui]",
        "oidc_authority=http://localhost:8080/auth/realms/master",
        "oidc_client_id=inmanta",
    ];
    assert!(
        output.code() == 0
            && output.stderr.contains("2.cfg:1: [dashboard] is deprecated in favour of [web-ui]"),
        "{output:?}"
    );
    assert!(
        lines.iter().all(|line| output.stderr.contains(&format!("    {line}\n"))),
        "{output:?}"
    );
    let newer = check(&sandbox, &[&older[..], &[&lines.join("\n")]].concat());
    assert_eq!(
        (&*newer.stderr, newer.stdout),
        ("", output.stdout),
        "the suggested lines have the same effect"
    );
    let disabled = blocks::DASHBOARD.replace("enabled=true", "enabled=false");
    assert!(!check(&sandbox, &[SIGNING, &disabled]).text().contains("web console"));
    assert_eq!(
        check(&sandbox, &[SIGNING, "[dashboard]\nenabled=true\npath=/opt\n"]).stderr,
        "",
        "no replacement to suggest"
    );
}

#[test]
fn web_console_mistakes_are_reported_with_a_line() {
    let sandbox = Sandbox::new();
    let both = check(&sandbox, &[SIGNING, &format!("{}oidc_realm=inmanta\n", blocks::KEYCLOAK)]);
    assert!(
        both.code() == 0
            && both
                .stderr
                .contains("1.cfg:4: oidc_realm in web-ui is ignored beside oidc_authority"),
        "{both:?}"
    );
    let nameless = check(&sandbox, &[SIGNING, "[web-ui]\noidc_authority=https://idp.example/\n"]);
    assert!(nameless.code() == 0 && nameless.stderr.contains("no oidc_client_id"), "{nameless:?}");
    for (option, uri) in [
        ("oidc_authority", "idp.example"),
        ("oidc_auth_url", "ftp://idp/"),
        ("oidc_authority", "https://me:hunter2@idp/"),
    ] {
        let odd =
            check(&sandbox, &[SIGNING, &format!("[web-ui]\noidc_client_id=x\n{option}={uri}\n")]);
        let text = format!("1.cfg:3: {option} in web-ui is not an http:// or https:// URI");
        assert!(
            odd.code() == 2 && odd.stderr.contains(&text) && !odd.stderr.contains("hunter2"),
            "{odd:?}"
        );
    }
}
