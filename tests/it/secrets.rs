use std::{collections::HashSet, fmt::Write as _};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use countersign_server::config::options::{OptionKind, OptionSpec, SECTIONS, SectionSpec};
use countersign_tests::{
    binary::{Output, Sandbox},
    certificates,
    openssl::{SigningKey, openssl},
};
use serde_json::json;

use crate::fixture::{KEY, SIGNING};

/// A private key in one of the forms in which operators put it into the wrong place.
struct KeyForm {
    name: &'static str,
    text: String,
    /// Whether the text has the mark of a key. Only then can it be distinguished from a name.
    is_marked: bool,
}

/// A private key, the shapes that it is given in, and all that must not be shown of it.
struct SampleSecret {
    shapes: Vec<KeyForm>,
    /// The windows of 8 bytes of it and of its encodings, as bytes and in hexadecimal.
    windows: HashSet<Vec<u8>>,
}

impl SampleSecret {
    fn generate() -> Self {
        let key = SigningKey::generate("ES256", "k");
        let pem = std::fs::read_to_string(key.path()).unwrap();
        let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let der = STANDARD.decode(&body).unwrap();
        let sec1 = openssl(&["ec", "-in", key.path().to_str().unwrap()], b"");
        let sec1 = String::from_utf8(sec1).unwrap();
        let d = URL_SAFE_NO_PAD.encode(&der[36..68]);
        let mut jwk = key.jwk();
        jwk["d"] = json!(d);
        let (_, rest) = pem.split_once('\n').unwrap();
        let shape = |name, text: String, is_marked| KeyForm { name, text, is_marked };
        let shapes = vec![
            shape("PEM", pem.clone(), true),
            shape("CRLF", pem.replace('\n', "\r\n"), true),
            shape("escaped newlines", pem.trim_end().replace('\n', "\\n"), true),
            shape("one line", pem.trim_end().replace('\n', " "), true),
            shape("wrong label", pem.replace("PRIVATE KEY", "PUBLIC KEY"), true),
            shape("odd label", pem.replace("PRIVATE KEY", "SECRET"), true),
            shape("truncated", pem[..pem.len() / 2].into(), true),
            shape("without an end", pem.lines().take(3).collect::<Vec<_>>().join("\n"), true),
            shape("without a beginning", rest.into(), true),
            shape("broken base64", pem.replacen("MI", "M!", 1), true),
            shape("text around", format!("Here is the key:\n{pem}Regards\n"), true),
            shape("SEC 1", sec1.clone(), true),
            shape("JWK", jwk.to_string(), true),
            shape(
                "JWK Set over several lines",
                serde_json::to_string_pretty(&json!({ "keys": [jwk] })).unwrap(),
                true,
            ),
            shape("PEM in JSON", json!({ "private_key": pem }).to_string(), true),
            shape("list in JSON", json!([pem]).to_string(), true),
            shape("base64 of PEM", STANDARD.encode(&pem), false),
            shape("base64 of DER", STANDARD.encode(&der), false),
            shape(
                "lines of base64",
                body.as_bytes()
                    .chunks(64)
                    .map(|line| str::from_utf8(line).unwrap())
                    .collect::<Vec<_>>()
                    .join("\n"),
                false,
            ),
            shape("urlsafe base64", URL_SAFE_NO_PAD.encode(&der), false),
            shape("shared secret", d.clone(), false),
            shape("URI with the secret", format!("https://user:{d}@idp/keys?api_key={d}"), false),
            shape("URI without a scheme", format!("user:{d}@idp"), false),
        ];
        let sec1_body: String = sec1.lines().filter(|line| !line.starts_with("-----")).collect();
        let parts = [
            STANDARD.encode(&pem).into_bytes(),
            URL_SAFE_NO_PAD.encode(&der).into_bytes(),
            body.into_bytes(),
            sec1_body.into_bytes(),
            d.into_bytes(),
            der,
        ];
        let windows = parts.iter().flat_map(|part| part.windows(8));
        let windows = windows.flat_map(|window| [window.to_vec(), hex(window)]).collect();
        Self { shapes, windows }
    }

    /// Returns the first part of the secret that `output` shows: as it is, in hexadecimal, or as
    /// the decimal values of its bytes, and with line ends as `\n` or removed.
    fn shown_in(&self, output: &str) -> Option<String> {
        let joined = output.replace("\\n", "").replace("\\r", "").replace(['\n', '\r'], "");
        let numbers: Vec<u8> = output
            .split(|character: char| !character.is_ascii_digit())
            .filter_map(|digits| digits.parse().ok())
            .collect();
        [output.as_bytes(), joined.as_bytes(), &numbers].into_iter().find_map(|text| {
            let shown = [8, 16].into_iter().flat_map(|length| text.windows(length));
            shown
                .into_iter()
                .find(|window| self.windows.contains(*window))
                .map(|window| String::from_utf8_lossy(window).into_owned())
        })
    }

    #[track_caller]
    fn assert_hidden(&self, output: &str, context: &str) {
        if let Some(part) = self.shown_in(output) {
            panic!("{context} shows {part} in\n{output}");
        }
    }
}

fn hex(bytes: &[u8]) -> Vec<u8> {
    bytes
        .iter()
        .fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
        .into_bytes()
}

#[test]
fn every_form_of_a_shown_secret_is_found() {
    let secret = SampleSecret::generate();
    for KeyForm { name, text, .. } in &secret.shapes {
        for shown in [
            text.clone(),
            format!("{text:?}"),
            format!("{:?}", text.as_bytes()),
            String::from_utf8(hex(text.as_bytes())).unwrap(),
        ] {
            assert!(secret.shown_in(&shown).is_some(), "{name}: {shown}");
        }
    }
    assert_eq!(secret.shown_in(SIGNING), None);
}

/// How an option is written.
#[derive(Clone, Copy, Debug, PartialEq)]
enum ConfigNotation {
    /// In a `.cfg`, with further lines indented.
    Cfg,
    /// In a `.cfg`, with further lines as they are.
    CfgUnindented,
    /// In a `.toml`, as a string.
    Toml,
    /// In a `.toml`, without quotation marks.
    TomlUnquoted,
    /// As an environment variable.
    Variable,
}

const NOTATIONS: [ConfigNotation; 5] = [
    ConfigNotation::Cfg,
    ConfigNotation::CfgUnindented,
    ConfigNotation::Toml,
    ConfigNotation::TomlUnquoted,
    ConfigNotation::Variable,
];

/// Whether the value of an option is a public name. Messages and the report of `config check` show
/// it, and a secret without the mark of a key cannot be distinguished from it.
fn is_name(option: &OptionSpec) -> bool {
    let is_header = option.kind == OptionKind::Text("header name");
    let names = ["issuer", "audience", "jwt_username_claim", "auth_additional_header"];
    is_header || names.contains(&option.name)
}

/// Returns the name of a section of this kind: prefixes get one for each kind of key.
fn sections_of(spec: &SectionSpec) -> Vec<String> {
    match spec.name {
        "auth_jwt_" => ["public", "secret"].map(|id| format!("auth_jwt_{id}")).to_vec(),
        _ if spec.variable.is_empty() => vec![spec.name.into()],
        prefix => vec![format!("{prefix}x")],
    }
}

/// Options without which the value of `option` would not be read.
fn companions(section: &str, option: &str) -> String {
    const SOURCES: [&str; 4] = ["key", "key_file", "jwks_uri", "discovery_uri"];
    let certificate = "ssl_cert_file=tls.crt\nssl_key_file=tls.key\n";
    let clients = "client_certificates=required\nclient_ca_file=tls.crt\n";
    let text = match section {
        "auth_jwt_public" => format!(
            "algorithms=ES256\nclient_types=api\nissuer=https://public/\naudience=a\n{}",
            if SOURCES.contains(&option) { "" } else { "jwks_uri=https://127.0.0.1:9/keys\n" }
        ),
        "auth_jwt_secret" => format!(
            "algorithms=HS256\nclient_types=api\nissuer=https://secret/\naudience=a\n{}",
            if SOURCES.contains(&option) { String::new() } else { format!("key={KEY}\n") }
        ),
        "server" => format!("bind_port=0\n{certificate}"),
        "metrics" => "bind_port=0\n".into(),
        "listen" => clients.into(),
        "listener_x" => format!("bind=127.0.0.1:0\n{certificate}{clients}"),
        "web-ui" if option != "oidc_authority" && option != "oidc_auth_url" => {
            "oidc_authority=https://idp\noidc_client_id=c\n".into()
        }
        _ => String::new(),
    };
    text.lines()
        .filter(|line| !line.starts_with(&format!("{option}=")))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// Whether an option is tried in a notation. Readers get the same value from each, so that the
/// others are for the options for keys and their files, and for the parsers themselves.
fn is_read(notation: ConfigNotation, option: &OptionSpec) -> bool {
    match notation {
        ConfigNotation::Cfg => option.kind != OptionKind::Ignored,
        _ => option.is_secret || is_path(option),
    }
}

fn is_path(option: &OptionSpec) -> bool {
    matches!(option.kind, OptionKind::Text("path") | OptionKind::List("path"))
}

/// Runs `config check` with `value` in one option of each section.
fn check(
    sandbox: &Sandbox,
    notation: ConfigNotation,
    number: usize,
    value: &str,
    is_marked: bool,
) -> Output {
    let mut text = SIGNING.to_owned();
    let mut further = String::new();
    let mut variables = Vec::new();
    for spec in SECTIONS {
        let Some(option) = spec.options().nth(number).filter(|one| is_read(notation, one)) else {
            continue;
        };
        if !is_marked && is_name(option) {
            continue;
        }
        for section in sections_of(spec) {
            let name = option.name;
            write!(text, "[{section}]\n{}", companions(&section, name)).unwrap();
            let toml = |value: &str| format!("[{section}]\n{name} = {value}\n");
            match notation {
                ConfigNotation::Cfg => {
                    writeln!(text, "{name} = {}", value.trim_end().replace('\n', "\n    ")).unwrap()
                }
                ConfigNotation::CfgUnindented => writeln!(text, "{name} = {value}").unwrap(),
                ConfigNotation::Toml => further += &toml(&serde_json::to_string(value).unwrap()),
                ConfigNotation::TomlUnquoted => further += &toml(value),
                ConfigNotation::Variable => {
                    let section = section.to_uppercase().replace('-', "_");
                    variables.push((format!("INMANTA_{section}_{}", name.to_uppercase()), value));
                }
            }
        }
    }
    let (cfg, toml) = (sandbox.file("c.cfg", text), sandbox.file("d.toml", further));
    let arguments = ["config", "check", "-c", cfg.to_str().unwrap(), "-c", toml.to_str().unwrap()];
    sandbox.run_with_variables(arguments, &variables)
}

#[test]
fn no_option_shows_a_key_in_its_messages() {
    let (secret, sandbox) = (SampleSecret::generate(), Sandbox::new());
    certificates::ours().1.write(sandbox.path());
    let most = SECTIONS.iter().map(|spec| spec.options().count()).max().unwrap();
    let mut leaks = Vec::new();
    for KeyForm { name, text, is_marked } in &secret.shapes {
        for (notation, number) in
            NOTATIONS.into_iter().flat_map(|one| (0..most).map(move |number| (one, number)))
        {
            let tried = |spec: &SectionSpec| {
                spec.options().nth(number).is_some_and(|option| is_read(notation, option))
            };
            if !SECTIONS.iter().any(tried) {
                continue;
            }
            let output = check(&sandbox, notation, number, text, *is_marked);
            let text = output.stdout + &output.stderr;
            // The line that shows it names the option.
            let line = text.lines().find(|line| secret.shown_in(line).is_some());
            if secret.shown_in(&text).is_some() {
                leaks.push(format!("{name}, {notation:?}, options number {number}: {line:?}"));
            }
        }
    }
    assert!(leaks.is_empty(), "{}", leaks.join("\n"));
}

#[test]
fn no_option_shows_the_contents_of_its_file() {
    let (secret, sandbox) = (SampleSecret::generate(), Sandbox::new());
    certificates::ours().1.write(sandbox.path());
    for KeyForm { name, text, .. } in &secret.shapes {
        let file = sandbox.file("given.pem", text);
        for spec in SECTIONS {
            for option in spec.options().filter(|option| is_path(option)) {
                let mut text = SIGNING.to_owned();
                for section in sections_of(spec) {
                    let (companions, file) = (companions(&section, option.name), file.display());
                    write!(text, "[{section}]\n{companions}{} = {file}\n", option.name).unwrap();
                }
                let config = sandbox.file("c.cfg", text);
                let output = sandbox.run(["config", "check", "-c", config.to_str().unwrap()]);
                let context = format!("{name} in {} of {}", option.name, spec.name);
                secret.assert_hidden(&format!("{}{}", output.stdout, output.stderr), &context);
            }
        }
    }
}

/// Sections with every shape as their file of keys.
fn sections_with_files(sandbox: &Sandbox, secret: &SampleSecret) -> String {
    let mut text = String::new();
    for (number, shape) in secret.shapes.iter().enumerate() {
        let file = sandbox.file(&format!("{number}.pem"), &shape.text);
        let file = file.display();
        for (id, algorithm, source) in [
            ("static", "ES256", format!("key_file={file}")),
            ("shared", "HS256", format!("key_file={file}")),
            ("published", "ES256", format!("jwks_uri=file://{file}")),
        ] {
            writeln!(
                text,
                "[auth_jwt_{id}{number}]\nalgorithms={algorithm}\nclient_types=api\n\
                 issuer=https://{id}/{number}\naudience=a\n{source}"
            )
            .unwrap();
        }
    }
    text
}

#[test]
fn running_server_shows_no_key() {
    let (secret, sandbox) = (SampleSecret::generate(), Sandbox::new());
    certificates::ours().1.write(sandbox.path());
    let configuration = format!("{SIGNING}{}", sections_with_files(&sandbox, &secret));
    let server = sandbox.listen(&configuration);
    server.wait_until_ready();
    let configs = ["server.cfg", "ports.cfg"].map(|name| sandbox.path().join(name));
    let [main, ports] = configs.each_ref().map(|path| path.to_str().unwrap());
    let url = format!("http://{}/keys", server.metrics);
    let mut outputs: Vec<_> = ["/keys", "/metrics", "/ready", "/readyz", "/health"]
        .into_iter()
        .map(|path| (path.to_owned(), server.operations(path).body))
        .collect();
    assert!(outputs[0].1.contains("last_failure"), "{outputs:?}");
    for arguments in [
        &["keys", "status", "--url", &url][..],
        &["keys", "status", "--json", "--url", &url],
        &["config", "check", "-c", main, "-c", ports],
        &["doctor", "-c", main, "-c", ports],
    ] {
        let Output { stdout, stderr, .. } = sandbox.run(arguments);
        outputs.push((arguments.join(" "), stdout + &stderr));
    }
    for shape in &secret.shapes {
        let key = shape.text.trim_end().replace('\n', "\n    ");
        let section = format!(
            "[auth_jwt_reloaded]\nalgorithms=ES256\nclient_types=api\nissuer=https://r/\naudience=a\nkey={key}\n"
        );
        sandbox.replace("server.cfg", format!("{configuration}{section}"));
        let reloaded = server.reload();
        assert!(reloaded.contains("not reloaded"), "{}: {reloaded}", shape.name);
    }
    outputs.push(("log".into(), server.log()));
    for (context, output) in outputs {
        secret.assert_hidden(&output, &context);
    }
}

#[test]
fn command_line_errors_show_no_secret() {
    let (secret, sandbox) = (SampleSecret::generate(), Sandbox::new());
    for shape in &secret.shapes {
        let text = &*shape.text;
        for arguments in [
            &["token", "verify", text][..],
            &["token", text],
            &[text],
            &["user", "list", "--server", text],
            &["user", "list", "--port", text],
            &["serve", "--threads", text],
            &["token", "sign", "--client-type", text],
            &["token", "sign", "--client-type", "api", "--expire", text],
            &["token", "revoke", "--signing-input-sha256", text],
            &["token", "inspect", text],
            &["token", "revoke", text],
            &["client-config", "--api", "--local", "-e", text],
            &["jws", "verify", "--jwks", text],
        ] {
            let Output { stdout, stderr, .. } = sandbox.run(arguments);
            let command = arguments[..arguments.len() - 1].join(" ");
            let context = format!("{}, {command}", shape.name);
            assert!(!stderr.is_empty() || !stdout.is_empty(), "{context}");
            secret.assert_hidden(&(stdout + &stderr), &context);
        }
    }
}
