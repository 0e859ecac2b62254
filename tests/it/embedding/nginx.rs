//! nginx with the module, in front of an application.

/// The response to a refused request.
mod refusals;
/// Workers that replace others.
mod replaced_worker;
/// Files of the library and the module that change.
mod upgrade;

use std::{
    fmt::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    thread,
    time::Duration,
};

use countersign_tests::{
    binary::{self, Sandbox},
    eventually,
    http::Connection,
    openssl::SigningKey,
    process::{children, send_signal},
    providers::{CannedResponse, JwksServer},
    proxies::shipped_config,
};
use serde_json::json;

use super::{
    contract::{self, ModuleKind},
    late_key::LateKey,
    module_proxy::{ModuleProxy, bearer, get},
};
use crate::fixture;

const BUILD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../embed/nginx/build");

/// Builds the module once and returns its file.
fn module() -> &'static Path {
    static MODULE: OnceLock<PathBuf> = OnceLock::new();
    MODULE.get_or_init(|| {
        let library = binary::built_library("libcountersign.so");
        let output = library.join("nginx");
        let built = Command::new(BUILD).arg(&library).arg(&output).output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        output.join("ngx_http_countersign_module.so")
    })
}

/// Writes the configuration of nginx with these contents of its http block, and returns the command
/// that runs it.
fn command(directory: &Path, http: &str) -> Command {
    let root = directory.display();
    let mut text = format!(
        "load_module {};\nuser root;\ndaemon off;\nerror_log stderr;\npid {root}/nginx.pid;\n\
         worker_processes 2;\nevents {{}}\nhttp {{\naccess_log off;\n",
        module().display()
    );
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        writeln!(text, "{kind}_temp_path {root}/{kind};").unwrap();
    }
    let file = directory.join("nginx.conf");
    std::fs::write(&file, format!("{text}{http}\n}}\n")).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-e").arg("stderr").arg("-c").arg(file);
    command
}

/// Starts nginx with a server of these locations. `APPLICATION` in them is that address.
pub(super) fn start(configuration: &str, locations: &str) -> ModuleProxy {
    with_http(configuration, |address| {
        format!("countersign auth.cfg;\nserver {{\nlisten {address};\n{locations}\n}}")
    })
}

fn with_http(configuration: &str, http: impl FnOnce(SocketAddr) -> String) -> ModuleProxy {
    ModuleProxy::start(configuration, |directory, addresses| {
        let http = http(addresses.proxy);
        let http = http.replace("APPLICATION", &addresses.application.to_string());
        command(directory, &http.replace("HTTP2", &addresses.http2.to_string()))
    })
}

/// Makes nginx read its configuration again, and replace its workers.
pub(super) fn reload(nginx: &ModuleProxy) {
    nginx.running.signal("HUP");
}

/// Kills the workers of nginx, and waits for those that replace them.
pub(super) fn kill_workers(nginx: &ModuleProxy) {
    let master = nginx.running.process();
    let killed = children(master);
    killed.iter().for_each(|worker| send_signal(*worker, "KILL"));
    eventually(|| {
        let workers = children(master);
        workers.len() == killed.len() && !workers.iter().any(|worker| killed.contains(worker))
    });
}

/// Checks all requests.
pub(super) const CHECK_ALL: &str =
    "location / { countersign_check on; proxy_pass http://APPLICATION; }";

/// Starts nginx with the shipped configuration.
fn shipped(configuration: &str) -> ModuleProxy {
    with_http(configuration, |address| {
        let replaced = [
            ("/etc/countersign/auth.cfg", "auth.cfg".to_owned()),
            ("127.0.0.1:8000", address.to_string()),
            ("127.0.0.1:8080", "APPLICATION".to_owned()),
        ];
        replaced.iter().fold(shipped_config("nginx-module.conf"), |text, (word, replacement)| {
            assert!(text.contains(word), "{word}");
            text.replace(word, replacement)
        })
    })
}

/// Starts nginx with the routes of the contract.
fn routed(configuration: &str) -> ModuleProxy {
    with_http(configuration, |address| {
        format!(
            "countersign auth.cfg;
            server {{
                listen {address};
                listen HTTP2 http2;
                large_client_header_buffers 8 64k;
                location / {{ countersign_check on; proxy_pass http://APPLICATION; }}
                location /routed/ {{ countersign_check routed; proxy_pass http://APPLICATION; }}
                location /off {{
                    countersign_check off;
                    proxy_set_header X-Auth-User \"\";
                    proxy_pass http://APPLICATION;
                }}
            }}"
        )
    })
}

const KIND: ModuleKind = ModuleKind { shipped, routed };

#[test]
fn nginx_module_keeps_the_contract() {
    contract::check(&KIND);
}

#[test]
fn nginx_module_decides_by_location() {
    let configuration = format!(
        "{}[listener_routed]\nbind=127.0.0.1:1\nauthorization=routes\n[route_page]\n\
         match=GET /page\n",
        fixture::SIGNING
    );
    let nginx = start(
        &configuration,
        "countersign_check on;
        add_header X-User \"$countersign_user\" always;
        add_header X-Audience \"$countersign_claim_aud\" always;
        location / { proxy_pass http://APPLICATION; }
        location /off { countersign_check off; return 204; }
        location /routed/ { countersign_check routed; proxy_pass http://APPLICATION; }
        location /page { countersign_check routed; proxy_pass http://APPLICATION; }
        location /local { satisfy any; allow 127.0.0.0/8; deny all; proxy_pass http://APPLICATION; }
        location /known { satisfy any; deny all; proxy_pass http://APPLICATION; }
        location /moved { error_page 401 = @sign_in; proxy_pass http://APPLICATION; }
        location @sign_in { countersign_check off; return 302 /sign-in; }",
    );
    let good = bearer(&fixture::good_token());
    let (response, _) = nginx.get("/", &good);
    assert_eq!((response.status, response.header("x-user")), (200, Some("bob")));
    let audience = format!("[\"{}\"]", fixture::ISSUER);
    assert_eq!(response.header("x-audience"), Some(&*audience));
    let (response, _) = nginx.get("/off", &good);
    assert_eq!((response.status, response.header("x-user")), (204, None));
    for (target, lines, status) in [
        ("/routed/x", &*good, 403),
        ("/page", &good, 200),
        ("/page", "", 401),
        ("/local", "", 200),
        ("/known", "", 401),
        ("/known", &good, 200),
        ("/moved", &good, 200),
        ("/moved", "", 302),
    ] {
        assert_eq!(nginx.status(target, lines), status, "{target} {lines}");
    }
    let (response, _) = nginx.get("/local", "");
    assert_eq!(response.header("www-authenticate"), None);
}

#[test]
fn nginx_module_refuses_what_it_cannot_decide() {
    let key = SigningKey::generate("ES256", "k");
    let provider = JwksServer::start_with(CannedResponse::status("500 Oops"));
    let options = format!("jwks_uri={}", provider.uri());
    let nginx = start(
        &fixture::with_idp("ES256", &options),
        "countersign_check on;
        location / { proxy_pass http://APPLICATION; }
        location /local { satisfy any; allow 127.0.0.0/8; deny all; proxy_pass http://APPLICATION; }",
    );
    let undecided = bearer(&key.token(&fixture::claims_of("https://idp/")));
    for target in ["/", "/local"] {
        let (response, seen) = nginx.get(target, &undecided);
        assert_eq!((response.status, seen.is_none()), (503, true), "{target}");
        assert!(response.header("retry-after").is_some(), "{response:?}");
        assert_eq!(response.header("cache-control"), Some("no-store"));
    }
    // After any decision, the address is enough.
    for lines in ["", &*bearer("abc"), &*bearer(&fixture::good_token())] {
        let (response, _) = nginx.get("/local", lines);
        assert_eq!((response.status, response.header("retry-after")), (200, None), "{lines}");
    }
}

#[test]
fn nginx_module_shows_claims_of_any_name() {
    let nginx = with_http(fixture::SIGNING, |address| {
        format!(
            "countersign auth.cfg;
            countersign_claim $roles realmRoles;
            countersign_claim $Of_Url https://example.com/Name;
            server {{
                listen {address};
                countersign_check on;
                location / {{
                    proxy_set_header X-Roles $roles;
                    proxy_set_header X-Name $of_url;
                    proxy_pass http://APPLICATION;
                }}
            }}"
        )
    });
    let more = json!({ "realmRoles": ["a"], "realmroles": "b", "https://example.com/Name": "Zoë" });
    let (response, seen) = nginx.get("/", &bearer(&fixture::token(&fixture::claims(more))));
    let seen = seen.unwrap();
    assert_eq!((response.status, seen.header("x-roles")), (200, Some("[\"a\"]")));
    assert_eq!(seen.header("x-name"), Some("Zo%C3%AB"));
    let lines = format!("{}X-Roles: root\r\n", bearer(&fixture::good_token()));
    assert_eq!(nginx.get("/", &lines).1.unwrap().header("x-roles"), None);
}

#[test]
fn nginx_module_encodes_claims_for_headers() {
    let nginx = start(
        fixture::SIGNING,
        "location / { countersign_check on; proxy_pass http://APPLICATION;
            proxy_set_header X-Name $countersign_claim_name;
            proxy_set_header X-List $countersign_claim_list; }",
    );
    let name = "x\r\nX-Auth-User: root\r\n\r\nGET /other HTTP/1.1";
    let claims = fixture::claims(json!({ "name": name, "list": ["é\r\n", 1] }));
    let (response, seen) = nginx.get("/", &bearer(&fixture::token(&claims)));
    let seen = seen.unwrap();
    assert_eq!((response.status, seen.header("x-auth-user")), (200, None));
    let encoded = "x%0D%0AX-Auth-User:%20root%0D%0A%0D%0AGET%20/other%20HTTP/1.1";
    assert_eq!(seen.header("x-name"), Some(encoded));
    assert_eq!(seen.header("x-list"), Some(r#"["\u00e9\r\n",1]"#));
}

#[test]
fn nginx_module_answers_what_waits_at_a_reload() {
    let [old, key] = ["old", "new"].map(|kid| SigningKey::generate("ES256", kid));
    let provider = JwksServer::start(&fixture::key_set(&[&old]));
    let options = format!("jwks_uri={}\njwks_cool_down=1", provider.uri());
    let nginx = start(&fixture::with_idp("ES256", &options), CHECK_ALL);
    let (response, _) = nginx.get("/", &bearer(&old.token(&fixture::claims_of("https://idp/"))));
    assert_eq!(response.status, 200, "{response:?} {}", nginx.running.log());
    // A worker that is replaced answers what waits.
    let slow = CannedResponse::json(&fixture::key_set(&[&key]));
    provider.respond_with(slow.delayed(Duration::from_millis(700)));
    let token = bearer(&key.token(&fixture::claims_of("https://idp/")));
    let mut waiting = None;
    eventually(|| {
        // Refused at once if the provider was asked a moment ago, at the start.
        let (mut connection, before) = (Connection::open(nginx.address), provider.requests());
        connection.send_raw(get("/", &token).as_bytes());
        waiting = Some(connection);
        (0..6).any(|_| {
            thread::sleep(Duration::from_millis(50));
            provider.requests() > before
        })
    });
    reload(&nginx);
    assert_eq!(waiting.unwrap().receive(false).status, 200);
    let log = nginx.running.log();
    assert!(!log.contains("[alert]") && !log.contains("signal 11"), "{log}");
}

#[test]
fn nginx_module_survives_reloads() {
    let nginx = start(fixture::SIGNING, CHECK_ALL);
    let good = bearer(&fixture::good_token());
    for _ in 0..3 {
        reload(&nginx);
        for _ in 0..20 {
            assert_eq!(nginx.status("/", &good), 200);
        }
    }
    // A worker that is killed is replaced.
    children(nginx.running.process()).iter().for_each(|worker| send_signal(*worker, "KILL"));
    eventually(|| {
        let mut connection = Connection::open(nginx.address);
        connection.send_raw(get("/", &good).as_bytes());
        String::from_utf8_lossy(&connection.receive_all()).starts_with("HTTP/1.1 200")
    });
    let log = nginx.running.log();
    assert!(!log.contains("open socket"), "{log}");
}

#[test]
fn nginx_worker_is_killed_while_requests_wait() {
    let issuer = LateKey::start();
    let nginx = start(&issuer.configuration(), CHECK_ALL);
    let [old, late] = issuer.tokens();
    assert_eq!(nginx.status("/", &old), 200, "{}", nginx.running.log());
    let waiting = issuer.wait_at(nginx.address);
    let worker = children(nginx.running.process())[0];
    send_signal(worker, "KILL");
    for mut connection in waiting {
        // Only its own connections end.
        let answer = String::from_utf8(connection.receive_all()).unwrap();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    eventually(|| !children(nginx.running.process()).contains(&worker));
    eventually(|| children(nginx.running.process()).len() == 2);
    for _ in 0..8 {
        assert_eq!([nginx.status("/", &late), nginx.status("/", "")], [200, 401]);
    }
    let log = nginx.running.log();
    assert_eq!(log.matches("exited on signal").count(), 1, "{log}");
}

#[test]
fn nginx_module_mistakes_have_their_place() {
    let sandbox = Sandbox::new();
    sandbox.file("auth.cfg", fixture::SIGNING);
    sandbox.file("bad.cfg", "[auth_jwt_x]\nalgorithm=none\n");
    for (http, expected) in [
        ("server { countersign_check on; }", "needs a configuration: name its file"),
        ("countersign missing.cfg; server { countersign_check on; }", "missing.cfg"),
        ("countersign bad.cfg; server { countersign_check on; }", "bad.cfg:2"),
        (
            "countersign auth.cfg; server { countersign_check other; }",
            "has no section [listener_other]",
        ),
        ("countersign auth.cfg; countersign auth.cfg;", "is duplicate"),
        ("countersign_claim roles a;", "needs the name of a variable"),
        ("countersign_claim $a a; countersign_claim $a b;", "the duplicate \"a\" variable"),
    ] {
        let mut command = command(sandbox.path(), http);
        let output = command.arg("-t").current_dir(sandbox.path()).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && errors.contains(expected), "{http}: {errors}");
    }
    let mut good = command(sandbox.path(), "countersign auth.cfg; countersign_check on; server {}");
    let output = good.arg("-t").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
