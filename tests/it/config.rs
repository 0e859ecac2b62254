/// `[listen]`, `[listener_<name>]`, `[metrics]`, `[limits]` and `[log]`.
mod listeners;
/// Warnings, notes and the reference.
mod remarks;

use countersign_tests::{
    binary::{Output, Sandbox},
    openssl::{certificate, openssl},
};

use crate::fixture::{KEY, SIGNING};

pub(crate) fn check(sandbox: &Sandbox, name: &str, text: &str) -> Output {
    let config = sandbox.file(name, text);
    sandbox.run(["config", "check", "--config", config.to_str().unwrap()])
}

/// Checks that a `.cfg` is refused with each of these texts and exit code 2.
fn refused(text: &str, expected: &[&str]) {
    let output = check(&Sandbox::new(), "c.cfg", text);
    assert_eq!(output.code(), 2, "{text}\n{output:?}");
    for words in expected {
        assert!(output.stderr.contains(words), "{text}\nexpected {words:?} in\n{}", output.stderr);
    }
    assert!(!output.stderr.contains(KEY), "the key is shown: {}", output.stderr);
}

/// Returns the guide's section, [`SIGNING`], with one line replaced; an empty replacement removes
/// it.
fn with(option: &str, replacement: &str) -> String {
    let lines = SIGNING
        .lines()
        .map(|line| if line.starts_with(&format!("{option}=")) { replacement } else { line });
    lines.filter(|line| !line.is_empty()).map(|line| format!("{line}\n")).collect()
}

#[test]
fn unsupported_algorithm_is_named_as_such() {
    let list = |name| with("algorithm", &format!("algorithms={name}"));
    for name in ["Ed448", "ESP256"] {
        let registered = format!("{name} is registered for JWS or COSE, but not implemented");
        refused(&list(name), &[&format!("Algorithm {name} in auth_jwt_default"), &registered]);
    }
    refused(&list("EdDSA2"), &["Algorithm EdDSA2 in auth_jwt_default is not supported"]);
    let public = format!(
        "{SIGNING}[auth_jwt_ed]\nalgorithms=Ed25519\nclient_types=api\nissuer=https://idp/\njwks_uri=https://idp.invalid/keys\n"
    );
    assert_eq!(check(&Sandbox::new(), "c.cfg", &public).code(), 0);
}

#[test]
fn c36_c37_issuer_section_errors_have_real_texts() {
    refused(&with("algorithm", ""), &["algorithm is required in auth_jwt_default section"]);
    refused(
        &with("algorithm", "algorithm=ES256"),
        &["Algorithm ES256 in auth_jwt_default is not support \n"],
    );
    refused(&with("client_types", ""), &["client_types is a required option for auth_jwt_default"]);
    refused(
        &with("client_types", "client_types=api,robot"),
        &["invalid client_type robot in auth_jwt_default"],
    );
    refused(&with("key", ""), &["key is required in auth_jwt_default for algorithm HS256"]);
    refused(
        &with("key", "key=c2hvcnQ"),
        &["HS256 requires a key of 32 bytes (256 bits) or longer in auth_jwt_default"],
    );
    refused(&with("sign", "sign=maybe"), &["Not a boolean: maybe", "c.cfg:3"]);
    refused(&with("expire", "expire=soon"), &["expire in auth_jwt_default must be a number"]);
    let claim = format!("{SIGNING}jwt_username_claim=email\n");
    refused(&claim, &["auth config auth_jwt_default used for signing cannot use a custom claim."]);
    let rs256 = format!(
        "{SIGNING}[auth_jwt_oidc]\nalgorithm=RS256\nclient_types=api\nissuer=https://idp/\n"
    );
    refused(&rs256, &["jwks_uri is required for RS256 based providers in section auth_jwt_oidc"]);
    refused(
        &with("sign", "sign=true\nclaims=prod"),
        &["is not a claims expression", "<value> in <claim>"],
    );
}

#[test]
fn c34_c35_one_section_signs_and_issuers_differ() {
    let second = SIGNING
        .replace("auth_jwt_default", "auth_jwt_other")
        .replace("https://localhost:8888/", "https://other/");
    refused(
        &format!("{SIGNING}{second}"),
        &[
            "Only one auth_jwt section may have sign set to true, found 2 instances instead:",
            "auth_jwt_default -> sign=True\nauth_jwt_other -> sign=True\n",
        ],
    );
    refused(
        &format!("{}[server]\nauth=true\n", with("sign", "sign=false")),
        &["One auth_jwt section should have sign set to true:\nauth_jwt_default -> sign=False"],
    );
    let same_issuer =
        SIGNING.replace("auth_jwt_default", "auth_jwt_other").replace("sign=true", "sign=false");
    refused(
        &format!("{SIGNING}{same_issuer}"),
        &["Only one configuration per issuer is supported"],
    );
    let both_default = format!(
        "{}[auth_jwt_b]\nalgorithm=HS256\nclient_types=api\nkey={KEY}\n",
        with("issuer", "")
    );
    // A missing option is reported at its section's header line.
    refused(
        &both_default,
        &[
            "c.cfg:1: Only one configuration per issuer is supported",
            "auth_jwt_b also has the issuer https://localhost:8888/",
        ],
    );
    assert_eq!(
        check(&Sandbox::new(), "c.cfg", "[server]\nauth=true\n").code(),
        0,
        "a configuration without issuers is valid"
    );
}

#[test]
fn other_section_errors_name_the_option() {
    refused(
        "[server]\nauthorization-provider=opa\n",
        &[
            "Invalid value for config option server.authorization-provider: opa. Valid values: legacy or policy-engine",
        ],
    );
    refused(
        "[policy_engine]\nlog-level=warn\n",
        &["Invalid value warn. Valid values: ['debug', 'info', 'error']"],
    );
    refused("[server]\nauth=2\n", &["Not a boolean: 2"]);
    refused(
        "[server]\nbind-port=70000\n",
        &["bind_port in server must be a number from 0 to 65535"],
    );
    refused("[server]\nbind-address=here\n", &["\"here\" is not an IP address"]);
    refused("[server]\nauth_additional_header=a b\n", &["\"a b\" is not a valid header name"]);
    refused("[server]\nrejected_token_status=500\n", &["neither 401 nor 403"]);
    refused("[web-ui]\noidc_local_fallback=2\n", &["Not a boolean: 2"]);
    refused(
        "[agent_rest_transport]\nssl=perhaps\nport=x\n",
        &["Not a boolean: perhaps", "port in agent_rest_transport must be a number"],
    );
    refused(
        "[server]\nauth_additional_header=Authorization\n",
        &["auth_additional_header cannot be Authorization"],
    );
    refused("[identity_headers]\nuser=Content-Length\n", &["content-length is already in use"]);
    refused("[identity_headers]\nuser=X-Who\nsubject=x-who\n", &["x-who is already in use"]);
    refused("[ext_authz]\nforward_credentials=2\n", &["Not a boolean: 2"]);
    refused(
        "[ext_authz]\nmetadata_claims=sub,,sub\n",
        &["an empty name", "\"sub\" twice", "such as sub,groups"],
    );
    for (option, mistake) in [
        ("bad_signatures_per_core", "0"),
        ("bad_signatures_per_issuer", "101"),
        ("bad_signatures_per_source", "5%"),
        ("bad_signatures_per_source", "none"),
    ] {
        let message =
            format!("{option} in limits must be a number from 1 to 100 or off, not \"{mistake}\"");
        refused(
            &format!("[limits]\n{option}={mistake}\n"),
            &[&message, "a percentage of a core's time"],
        );
    }
    refused("[limits]\nsources=0\n", &["sources in limits must be a number from 8 to 1048576"]);
    let range = "max_staleness in revocation must be a number from 2 to 86400 or off";
    for mistake in ["1", "never", "86401"] {
        refused(&format!("[revocation]\nmax_staleness={mistake}\n"), &[range]);
    }
    refused(
        "[listen]\ntrusted_proxies=10.0.0.1, 10.1.0.0/8, proxy\n",
        &[
            "trusted_proxies in listen: \"10.1.0.0/8\"",
            "did you mean 10.0.0.0/8?",
            "trusted_proxies in listen: \"proxy\"",
            "2001:db8::/32",
        ],
    );
    refused("[listen]\nclient_address_header=a b\n", &["\"a b\" is not a valid header name"]);
    refused("[crypto]\nrsa=ring\n", &["rsa \"ring\" is unknown", "auto, aws-lc"]);
    refused("[listen]\nsurface=infical\n", &["surface \"infical\" is unknown", "generic, inmanta"]);
}

#[test]
fn check_names_the_trusted_proxies() {
    let sandbox = Sandbox::new();
    let listen = "[listen]\nclient_address_header = \"X-Real-IP\"\ntrusted_proxies = [\"10.0.0.0/8\", \"::1\"]\n";
    let limits = "[limits]\nbad_signatures_per_core = \"off\"\nbad_signatures_per_source = 100\nsources = 8\n";
    let output = check(&sandbox, "c.toml", &format!("{listen}{limits}"));
    assert!(
        output
            .text()
            .contains("takes a client's address from x-real-ip if 10.0.0.0/8 or ::1 sets it"),
        "{output:?}"
    );
    assert!(
        !check(&sandbox, "c.cfg", "[listen]\ntrusted_proxies=\n")
            .text()
            .contains("client's address")
    );
}

#[test]
fn all_errors_are_reported_at_once_with_lines() {
    refused(
        "[server]\nauth=perhaps\nbind-port=x\n[auth_jwt_a]\nclient_types=api\n",
        &[
            "c.cfg:2: Not a boolean: perhaps",
            "c.cfg:3: bind_port",
            "c.cfg:4: algorithm is required in auth_jwt_a section",
            "help:",
        ],
    );
}

#[test]
fn unusable_values_are_refused_by_the_check() {
    for option in ["issuer", "audience"] {
        refused(
            &with(option, &format!("{option}=")),
            &[&format!("{option} in auth_jwt_default is empty")],
        );
    }
    let oidc = |uri: &str| {
        format!(
            "{SIGNING}[auth_jwt_oidc]\nalgorithm=RS256\nclient_types=api\nissuer=https://idp/\njwks_uri={uri}\n"
        )
    };
    for uri in [
        "ftp://idp/keys",
        "https://",
        "idp/keys",
        "https://idp/a b",
        "file://keys.json",
        "file:///",
    ] {
        let output = check(&Sandbox::new(), "c.cfg", &oidc(uri));
        assert_eq!(
            output.code() == 2
                && output.stderr.contains("is not an https://, http:// or file:// URI"),
            uri != "file:///",
            "{uri}: {output:?}"
        );
    }
}

#[test]
fn error_messages_show_no_secret() {
    let forgotten = with("key", &format!("key {KEY}"));
    refused(&forgotten, &["c.cfg:5: a line in section auth_jwt_default has no value"]);
    refused(&format!("key = {KEY}\n"), &["c.cfg:1: this line is outside any [section]"]);
    refused(
        &with("key", &format!("  key={KEY}")),
        &["c.cfg:4: client_types in section auth_jwt_default spans several lines"],
    );
    let sandbox = Sandbox::new();
    let uri = "[auth_jwt_oidc]\nalgorithm=RS256\nclient_types=api\nissuer=https://idp/\njwks_uri=https://user:hunter2@idp/keys\n";
    let output = check(&sandbox, "c.cfg", &format!("{SIGNING}{uri}"));
    assert!(output.code() == 2 && output.stderr.contains("contains credentials"), "{output:?}");
    assert!(!format!("{output:?}").contains("hunter2"), "{output:?}");
}

#[test]
fn padded_key_loads_but_foreign_characters_fail() {
    let sandbox = Sandbox::new();
    assert_eq!(check(&sandbox, "c.cfg", &with("key", &format!("key={KEY}="))).code(), 0);
    for foreign in [
        "key=rID3kG4OwGpajIsxnGDhat4UFcMkyFZQc1y3oKQTPR!",
        "key=rID3 kG4OwGpajIsxnGDhat4UFcMkyFZQc1y3oKQTPRs",
    ] {
        let output = check(&sandbox, "c.cfg", &with("key", foreign));
        assert!(
            output.code() == 2
                && output.stderr.contains("key in auth_jwt_default is not urlsafe base64"),
            "{output:?}"
        );
        assert!(!output.stderr.contains("kG4OwGpajIsx"), "the key is shown: {}", output.stderr);
    }
}

#[test]
fn c80_unusable_tls_files_have_the_real_text() {
    const TEXT: &str = "Failed to load ssl certificate. Please check if you provided the correct certificate/key path and make sure that \
                        these files are not encrypted.";
    let sandbox = Sandbox::new();
    let (certificate, key) = certificate(sandbox.path());
    let tls = |certificate: &str, key: &str| {
        check(
            &sandbox,
            "c.cfg",
            &format!("[server]\nssl_cert_file={certificate}\nssl_key_file={key}\n"),
        )
    };
    let (certificate, key) = (certificate.to_str().unwrap(), key.to_str().unwrap());
    assert_eq!(tls(certificate, key).code(), 0);
    let encrypted = sandbox.path().join("encrypted.key");
    openssl(
        &[
            "pkey",
            "-in",
            key,
            "-aes256",
            "-passout",
            "pass:secret",
            "-out",
            encrypted.to_str().unwrap(),
        ],
        b"",
    );
    for (certificate, key) in [
        (certificate, encrypted.to_str().unwrap()),
        (certificate, "/nowhere"),
        ("/nowhere", key),
        (key, certificate),
    ] {
        let output = tls(certificate, key);
        assert!(output.code() == 2 && output.stderr.contains(TEXT), "{output:?}");
    }
    let half = check(&sandbox, "c.cfg", &format!("[server]\nssl_cert_file={certificate}\n"));
    assert!(
        half.code() == 2 && half.stderr.contains("ssl_cert_file is set but ssl_key_file is not"),
        "{half:?}"
    );
}

#[test]
fn toml_refuses_unknown_options() {
    let sandbox = Sandbox::new();
    let text = format!(
        "[server]\nauth = true\nbind-port = 8888\n[auth_jwt_default]\nalgorithm = \"HS256\"\nsign = true\nclient_types = [\"api\", \"agent\"]\nkey = \"{KEY}\"\n"
    );
    let output = check(&sandbox, "c.toml", &text);
    assert!(output.code() == 0 && output.stdout.contains("(api, agent)"), "{output:?}");
    let output = check(&sandbox, "c.toml", &text.replace("client_types", "client_type"));
    assert!(
        output.code() == 2 && output.stderr.contains("did you mean client_types?"),
        "{output:?}"
    );
    let output = check(&sandbox, "c.cfg", &SIGNING.replace("expire=", "expires="));
    assert!(
        output.code() == 0
            && output.stderr.contains("warning: ")
            && output.stderr.contains("did you mean expire?"),
        "{output:?}"
    );
}

#[test]
fn c40_environment_overrides_and_adds_sections() {
    let sandbox = Sandbox::new()
        .variable("INMANTA_AUTH_JWT_MY_CONFIG_ALGORITHM", "RS256")
        .variable("INMANTA_AUTH_JWT_MY_CONFIG_CLIENT_TYPES", "api")
        .variable("INMANTA_AUTH_JWT_MY_CONFIG_ISSUER", "https://idp/")
        .variable("INMANTA_AUTH_JWT_MY_CONFIG_JWKS_URI", "https://idp/keys")
        .variable("INMANTA_AUTH_JWT_DEFAULT_AUDIENCE", "somebody")
        .variable("INMANTA_AUTH_JWT_DEFAULT_COLOUR", "red")
        .variable("INMANTA_SERVER_BIND_PORT", "1234");
    let output = check(&sandbox, "c.cfg", SIGNING);
    assert_eq!(output.code(), 0, "{output:?}");
    assert!(
        output.stdout.contains("[auth_jwt_my_config] accepts RS256 tokens of https://idp/"),
        "{output:?}"
    );
    assert!(
        output.stdout.contains("for somebody") && output.stdout.contains("127.0.0.1:1234"),
        "{output:?}"
    );
    assert!(output.stderr.contains("INMANTA_AUTH_JWT_DEFAULT_COLOUR"), "{output:?}");
}

#[test]
fn environment_issuer_replaces_embedded_default() {
    let sandbox = Sandbox::new()
        .variable("INMANTA_AUTH_JWT_MAIN_ALGORITHM", "HS256")
        .variable("INMANTA_AUTH_JWT_MAIN_CLIENT_TYPES", "api")
        .variable("INMANTA_AUTH_JWT_MAIN_SIGN", "true")
        .variable("INMANTA_AUTH_JWT_MAIN_KEY", KEY);
    let output = sandbox.run(["config", "check"]);
    assert!(
        output.code() == 0
            && output.stdout.contains("[auth_jwt_main]")
            && !output.stdout.contains("auth_jwt_default"),
        "{output:?}"
    );
    assert!(!sandbox.path().join(".local").exists(), "no state directory is created");
}

#[test]
fn later_files_of_a_directory_win() {
    let sandbox = Sandbox::new();
    sandbox.file("d/20.cfg", "[server]\nbind-port=2222\n");
    sandbox.file("d/10.cfg", format!("{SIGNING}[server]\nbind-port=1111\n"));
    sandbox.file("d/readme.txt", "no configuration");
    let output = sandbox.run(["config", "check", "-c", sandbox.path().join("d").to_str().unwrap()]);
    assert!(output.code() == 0 && output.stdout.contains(":2222"), "{output:?}");
    sandbox.file("empty/readme.txt", "no configuration");
    let empty = sandbox.run(["config", "check", "-c", "empty"]);
    assert!(
        empty.code() == 2 && empty.stderr.contains("the directory contains no .cfg or .toml file"),
        "{empty:?}"
    );
    sandbox.file("bom.cfg", format!("\u{feff}{SIGNING}"));
    assert_eq!(sandbox.run(["config", "check", "-c", "bom.cfg"]).code(), 0);
    let missing = sandbox.run(["config", "check", "-c", "/nowhere.cfg"]);
    assert!(
        missing.code() == 2 && missing.stderr.contains("/nowhere.cfg: cannot read the file"),
        "{missing:?}"
    );
}
