//! Warnings and notes, all mistakes in one run, and the reference.

use std::{
    fs::{Permissions, read_to_string, set_permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use countersign_tests::binary::{Output, Sandbox};

use super::check;
use crate::fixture::{self, KEY, SIGNING};

fn has_all(output: &Output, code: i32, expected: &[&str]) {
    assert_eq!(output.code(), code, "{output:?}");
    for words in expected {
        assert!(output.stderr.contains(words), "{words:?} is not in {}", output.stderr);
    }
}

#[test]
fn errors_do_not_hide_warnings() {
    let text = format!("[server]\nauht=true\nbind_port=http\n{SIGNING}");
    let output = check(&Sandbox::new(), "c.cfg", &text);
    let expected = [
        "error: ",
        "c.cfg:3: bind_port in server must be a number from 0 to 65535, not \"http\"",
        "warning: ",
        "c.cfg:2: unknown option auht in section server\n  help: did you mean auth?",
    ];
    has_all(&output, 2, &expected);
}

#[test]
fn mistakes_of_every_stage_are_reported_in_one_run() {
    let sandbox = Sandbox::new();
    let text = "[server\nauth=true\n[listen]\nrubbish\nthreads=none\n\
                [auth_jwt_a]\nsign=true\nalgorithm=HS256\n[auth_jwt_b]\nsign=true\n";
    let (file, missing) = (sandbox.file("c.cfg", text), sandbox.path().join("missing.cfg"));
    let toml = sandbox.file("d.toml", "[cache]\nmegabytes = \n[quic]\nretry_abov = 1\n");
    let mut arguments = vec!["config", "check"];
    for path in [&file, &missing, &toml] {
        arguments.extend(["--config", path.to_str().unwrap()]);
    }
    let output = sandbox.run(arguments);
    let expected = [
        "c.cfg:1: ",
        "c.cfg:4: a line in section listen has no value",
        "threads in listen must be a number from 1 to 1024",
        "client_types is a required option for auth_jwt_a",
        "algorithm is required in auth_jwt_b section",
        "Only one auth_jwt section may have sign set to true, found 2 instances instead:",
        "Only one configuration per issuer is supported",
        "missing.cfg: cannot read the file",
        "d.toml:2: ",
        "d.toml:4: unknown option retry_abov in section quic\n  help: did you mean retry_above?",
    ];
    has_all(&output, 2, &expected);
}

#[test]
fn option_of_another_section_is_located() {
    let output = check(&Sandbox::new(), "c.toml", "[server]\ntrusted_proxies = \"unix\"\n");
    let help = "trusted_proxies belongs into [listen] or [listener_<name>]";
    has_all(&output, 2, &["c.toml:2: unknown option trusted_proxies in section server", help]);
}

#[test]
fn misspelt_option_of_a_listener_is_an_error() {
    for (text, expected) in [
        ("[listen]\nauthorisation=routes\n", "did you mean authorization?"),
        ("[listener_a]\nopen_path=/x\n", "did you mean open_paths?"),
        ("[endpoints]\nfiles=x.json\n", "did you mean file?"),
        ("[routes]\ndefaults=deny\n", "did you mean default?"),
    ] {
        has_all(&check(&Sandbox::new(), "c.cfg", text), 2, &["c.cfg:2: unknown option", expected]);
    }
}

fn set_mode(file: &Path, mode: u32) {
    set_permissions(file, Permissions::from_mode(mode)).unwrap();
}

/// Checks that a configuration is valid, without a warning on standard error, and returns the
/// warnings in the report.
fn risks(output: &Output) -> Vec<&str> {
    assert_eq!((output.code(), &*output.stderr), (0, ""));
    assert!(!output.stdout.contains(KEY));
    output.stdout.lines().filter_map(|line| line.strip_prefix("warning: ")).collect()
}

#[test]
fn secrets_readable_by_all_are_warned_about() {
    let sandbox = Sandbox::new();
    let signing = sandbox.file("c.cfg", SIGNING);
    let check = |file: &Path| sandbox.run(["config", "check", "--config", file.to_str().unwrap()]);
    set_mode(&signing, 0o640);
    assert_eq!(risks(&check(&signing)), [""; 0]);
    set_mode(&signing, 0o644);
    let output = check(&signing);
    let expected = format!(
        "{}: mode 644 lets other users read key in section auth_jwt_default",
        signing.display()
    );
    assert_eq!(risks(&output), [expected]);
    assert!(output.stdout.contains(&format!("  help: chmod o-r {}\n", signing.display())));
    let public = sandbox.file("d.cfg", "[database]\nurl=postgres://u@db/n\n[listen]\nthreads=1\n");
    set_mode(&public, 0o644);
    assert_eq!(risks(&check(&public)), [""; 0], "the file has no secret");
    let secret = sandbox.file("e.cfg", "[database]\nurl=postgres://u:p@db/n\n");
    set_mode(&secret, 0o644);
    assert_eq!(risks(&check(&secret)).len(), 1);
}

#[test]
fn key_files_readable_by_all_are_warned_about() {
    let sandbox = Sandbox::new();
    let key_file = sandbox.file("secret", KEY);
    let by_file = format!("key_file={}", key_file.display());
    let text = SIGNING.replace(&format!("key={KEY}"), &by_file);
    set_mode(&key_file, 0o600);
    assert_eq!(risks(&check(&sandbox, "c.cfg", &text)), [""; 0]);
    set_mode(&key_file, 0o444);
    let expected = format!("mode 444 lets other users read the secret in {}", key_file.display());
    let output = check(&sandbox, "c.cfg", &text);
    assert!(risks(&output)[0].ends_with(&expected), "{output:?}");
}

#[test]
fn proxies_without_trusted_proxies_are_warned_about() {
    let sandbox = Sandbox::new();
    let risks = |text: &str| {
        let file = sandbox.file("c.cfg", text);
        set_mode(&file, 0o600);
        let output = sandbox.run(["config", "check", "--config", file.to_str().unwrap()]);
        risks(&output).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    for (options, reason) in [
        ("bind=unix:/run/c.sock\n", "listener edge binds only Unix sockets"),
        ("bind=127.0.0.1:9000\nserves=auth\n", "listener edge serves only /auth"),
    ] {
        let text = format!("{SIGNING}[listener_edge]\n{options}");
        assert!(risks(&text)[0].contains(reason));
        assert_eq!(risks(&format!("{text}trusted_proxies=unix, ::1\n")), [""; 0], "{options}");
    }
    let header = format!("{SIGNING}[server]\nauth_additional_header=Cf-Access-Jwt-Assertion\n");
    assert!(risks(&header)[0].contains("a proxy seems to add cf-access-jwt-assertion"));
    assert_eq!(risks(&format!("{header}[listen]\ntrusted_proxies=::1\n")), [""; 0]);
}

#[test]
fn cookie_without_methods_over_http_is_warned_about() {
    let sandbox = Sandbox::new();
    let check = |listen: &str| {
        let text = format!("{SIGNING}[server]\ntoken_cookie=t\n[listen]\n{listen}");
        let file = sandbox.file("c.cfg", &text);
        set_mode(&file, 0o600);
        sandbox.run(["config", "check", "--config", file.to_str().unwrap()])
    };
    for listen in ["", "protocols=http/1.1, h2\ntrusted_proxies=::1\n"] {
        let output = check(listen);
        let text = "does not know the methods of requests with the cookie t over HTTP: there, it \
                    refuses those of other sites";
        assert!(risks(&output)[0].contains(text), "{listen}: {output:?}");
        assert!(
            output.stdout.contains("dialect unless the proxies ask by gRPC only"),
            "{output:?}"
        );
    }
    assert_eq!(risks(&check("dialect=nginx\ntrusted_proxies=::1\n")), [""; 0]);
}

#[test]
fn legacy_provider_beside_another_issuer_is_noted() {
    const OTHER: &str = "[auth_jwt_oidc]\nalgorithm=RS256\nclient_types=api\n\
                         issuer=https://idp/\njwks_uri=https://idp/keys\nusername_prefix=idp:\n";
    const JWT: &str = "[server]\nauth_method=jwt\n";
    let sandbox = Sandbox::new();
    let output = check(&sandbox, "c.cfg", &format!("{JWT}{SIGNING}{OTHER}"));
    assert_eq!((output.code(), &*output.stderr), (0, ""));
    let note = "authorization_provider is legacy, which ignores roles: tokens of \
                [auth_jwt_oidc] may make every call of /api/v2";
    assert!(output.stdout.contains(note), "{}", output.stdout);
    let engine = fixture::policy_engine(fixture::DEFAULT_POLICY);
    let by_policy = format!("{JWT}authorization_provider=policy-engine\n{engine}");
    let without_right = format!("{SIGNING}{OTHER}");
    for text in [SIGNING.to_owned(), format!("{by_policy}{SIGNING}{OTHER}"), without_right] {
        let output = check(&sandbox, "c.cfg", &text);
        assert!(!output.stdout.contains("note: "), "{}", output.stdout);
    }
}

#[test]
fn sections_that_can_give_one_username_are_noted() {
    let section = |name: &str, prefix: &str| {
        format!(
            "[auth_jwt_{name}]\nalgorithm=RS256\nclient_types=api\nissuer=https://{name}/\n\
             jwks_uri=https://{name}/keys\n{prefix}\n"
        )
    };
    let sandbox = Sandbox::new();
    let notes_with = |options: &str, sections: &[String]| {
        let engine = fixture::policy_engine(fixture::DEFAULT_POLICY);
        let text =
            format!("[server]\nauthorization_provider=policy-engine\n{options}\n{engine}{SIGNING}");
        let output = check(&sandbox, "c.cfg", &format!("{text}{}", sections.concat()));
        assert_eq!((output.code(), &*output.stderr), (0, ""));
        let lines = output.stdout.lines().filter(|line| line.starts_with("note: "));
        (lines.map(str::to_owned).collect::<Vec<_>>(), output.stdout)
    };
    let notes = |sections: &[String]| notes_with("", sections);
    let (found, report) = notes(&[section("a", ""), section("b", "")]);
    assert_eq!(found.len(), 2, "{report}");
    assert!(found[0].ends_with(
        "[auth_jwt_a] and [auth_jwt_default] can give the same username to different users"
    ));
    assert!(found[1].contains("[auth_jwt_b] and [auth_jwt_default] and [auth_jwt_a] can"));
    assert!(report.contains("\n  help: write username_prefix = a: in [auth_jwt_a]\n"), "{report}");
    for (first, second, expected) in [
        ("username_prefix=a:", "username_prefix=b:", 0),
        ("username_prefix=a:", "", 1),
        ("username_prefix=a:", "username_prefix=a:", 1),
        ("username_prefix=a:", "username_prefix=a:b:", 1),
    ] {
        let (found, report) = notes(&[section("a", first), section("b", second)]);
        assert_eq!(found.len(), expected, "{first} {second}: {report}");
    }
    let (found, report) = notes_with("auth_method=jwt", &[section("a", "")]);
    assert_eq!(found.len(), 0, "the users of the console are ours: {report}");
}

#[test]
fn reference_page_is_that_of_the_program() {
    let printed = Sandbox::new().run(["config", "reference"]);
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/configuration.md");
    assert_eq!(
        printed.stdout,
        read_to_string(page).unwrap(),
        "run: countersign config reference > docs/reference/configuration.md"
    );
}

#[test]
fn reference_prints_one_section() {
    let sandbox = Sandbox::new();
    let quic = sandbox.run(["config", "reference", "quic"]);
    assert!(quic.text().starts_with("## `[quic]`\n") && quic.stdout.contains("`retry_above`"));
    assert!(sandbox.run(["config", "reference", "listener_edge"]).text().contains("`bind`"));
    let unknown = sandbox.run(["config", "reference", "lisen"]);
    assert!(unknown.code() == 1 && unknown.stderr.contains("did you mean listen?"), "{unknown:?}");
}

#[test]
fn missing_header_for_bound_tokens_is_noted() {
    let check = |options: &str| {
        let text = format!(
            "{SIGNING}[identities]\nenabled=true\nbind_certificates=true\n[listen]\n{options}\n"
        );
        let output = check(&Sandbox::new(), "c.cfg", &text);
        assert_eq!(output.code(), 0, "{output:?}");
        output.stdout.contains("listener main has no client_certificate_header")
    };
    assert!(check("trusted_proxies=127.0.0.1"));
    assert!(!check("trusted_proxies=127.0.0.1\nclient_certificate_header=Client-Cert"));
    assert!(!check("client_certificates=off"));
}
