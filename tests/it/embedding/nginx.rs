//! nginx with the module, in front of an application.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::Duration,
};

use countersign_tests::{
    binary::{self, Sandbox},
    eventually,
    http::{Connection, Request, Response},
    openssl::SigningKey,
    providers::{CannedResponse, JwksServer},
    proxies::{Application, DaemonProcess, free_address, shipped_config},
};
use serde_json::json;

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

/// nginx with the module, with the tier's configuration in `auth.cfg` of its directory.
pub(super) struct ModuleNginx {
    sandbox: Sandbox,
    address: SocketAddr,
    application: Application,
    running: DaemonProcess,
}

impl ModuleNginx {
    /// Starts it with a server of these locations. `APPLICATION` in them is that address.
    pub(super) fn start(configuration: &str, locations: &str) -> Self {
        Self::with_http(configuration, |address, _| {
            format!("countersign auth.cfg;\nserver {{\nlisten {address};\n{locations}\n}}")
        })
    }

    fn with_http(configuration: &str, http: impl FnOnce(SocketAddr, SocketAddr) -> String) -> Self {
        let (sandbox, address) = (Sandbox::new(), free_address());
        let application = Application::start();
        sandbox.file("auth.cfg", configuration);
        let http = http(address, application.address);
        let http = http.replace("APPLICATION", &application.address.to_string());
        let running = DaemonProcess::start(command(sandbox.path(), &http), sandbox.path(), address);
        Self { sandbox, address, application, running }
    }

    /// Sends a GET request with these header lines. Returns the response, and what the application
    /// received.
    fn get(&self, target: &str, lines: &str) -> (Response, Option<Request>) {
        let mut connection = Connection::open(self.address);
        connection.send_raw(get(target, lines).as_bytes());
        let response = connection.receive(false);
        (response, self.application.take().pop())
    }

    pub(super) fn status(&self, target: &str, lines: &str) -> u16 {
        self.get(target, lines).0.status
    }

    /// Replaces the workers.
    pub(super) fn reload(&self) {
        let pid = std::fs::read_to_string(self.sandbox.path().join("nginx.pid")).unwrap();
        assert!(Command::new("kill").args(["-HUP", pid.trim()]).status().unwrap().success());
    }

    /// Returns its log so far.
    pub(super) fn log(&self) -> String {
        self.running.log()
    }
}

fn get(target: &str, lines: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n{lines}\r\n")
}

pub(super) fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

#[test]
fn nginx_module_sets_the_identity_as_shipped() {
    let nginx = ModuleNginx::with_http(fixture::SIGNING, |address, application| {
        let replaced = [
            ("/etc/countersign/auth.cfg", "auth.cfg".to_owned()),
            ("127.0.0.1:8000", address.to_string()),
            ("127.0.0.1:8080", application.to_string()),
        ];
        replaced.iter().fold(shipped_config("nginx-module.conf"), |text, (word, replacement)| {
            assert!(text.contains(word), "{word}");
            text.replace(word, replacement)
        })
    });
    let good = bearer(&fixture::good_token());
    let forged = "X-Auth-User: root\r\nX_Auth_User: root\r\nX-Auth-Tenant: root\r\n";
    let (response, seen) = nginx.get("/page?x=1", &format!("{good}{forged}"));
    assert_eq!(response.status, 200);
    let seen = seen.unwrap();
    assert_eq!((seen.target.as_str(), seen.lines("x-auth-user")), ("/page?x=1", vec!["bob"]));
    for absent in ["authorization", "x_auth_user", "x-auth-tenant"] {
        assert_eq!(seen.header(absent), None, "{absent}");
    }
    let (response, seen) = nginx.get("/public/page", forged);
    let seen = seen.unwrap();
    assert_eq!((response.status, seen.header("x-auth-user")), (200, None));
    for (lines, status) in [
        (String::new(), 401),
        (bearer(&format!("{}x", fixture::good_token())), 401),
        (bearer("abc"), 401),
        ("Authorization: Basic Ym9iOngK\r\n".into(), 401),
        (good.repeat(2), 400),
    ] {
        let (response, seen) = nginx.get("/page", &lines);
        assert_eq!((response.status, seen.is_none()), (status, true), "{lines}");
        if status == 401 {
            assert!(response.header("www-authenticate").unwrap().starts_with("Bearer"));
            assert_eq!(response.header("cache-control"), Some("no-store"));
        }
    }
    let many: String = (0..90).map(|number| format!("x-{number}: v\r\n")).collect();
    assert_eq!(nginx.status("/page", &format!("{many}{good}")), 200);
}

#[test]
fn nginx_module_decides_by_location() {
    let configuration = format!(
        "{}[listener_routed]\nbind=127.0.0.1:1\nauthorization=routes\n[route_page]\n\
         match=GET /page\n",
        fixture::SIGNING
    );
    let nginx = ModuleNginx::start(
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
fn nginx_module_encodes_claims_for_headers() {
    let nginx = ModuleNginx::start(
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
fn nginx_module_waits_for_keys() {
    let [old, key] = ["old", "new"].map(|kid| SigningKey::generate("ES256", kid));
    let provider = JwksServer::start(&fixture::key_set(&[&old]));
    let options = format!("jwks_uri={}", provider.uri());
    let nginx = ModuleNginx::start(
        &fixture::with_idp("ES256", &options),
        "location / { countersign_check on; proxy_pass http://APPLICATION; }",
    );
    let (response, _) = nginx.get("/", &bearer(&old.token(&fixture::claims_of("https://idp/"))));
    assert_eq!(response.status, 200, "{response:?} {}", nginx.running.log());
    let slow = CannedResponse::json(&fixture::key_set(&[&old, &key]));
    let slow = slow.delayed(Duration::from_millis(700));
    provider.respond_with(slow);
    let token = bearer(&key.token(&fixture::claims_of("https://idp/")));
    // A client that leaves while its request waits, and others that stay.
    let mut leaving = Connection::open(nginx.address);
    leaving.send_raw(get("/", &token).as_bytes());
    drop(leaving);
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..8).map(|_| scope.spawn(|| nginx.status("/", &token))).collect();
        for status in waiting {
            assert_eq!(status.join().unwrap(), 200);
        }
    });
    assert_eq!(nginx.status("/", &token), 200);
    // A worker that is replaced answers what waits.
    let third = SigningKey::generate("ES256", "third");
    let slow = CannedResponse::json(&fixture::key_set(&[&third]));
    provider.respond_with(slow.delayed(Duration::from_millis(700)));
    let token = bearer(&third.token(&fixture::claims_of("https://idp/")));
    let mut waiting = Connection::open(nginx.address);
    waiting.send_raw(get("/", &token).as_bytes());
    let before = provider.requests();
    eventually(|| provider.requests() > before);
    let pid = std::fs::read_to_string(nginx.sandbox.path().join("nginx.pid")).unwrap();
    assert!(Command::new("kill").args(["-HUP", pid.trim()]).status().unwrap().success());
    assert_eq!(waiting.receive(false).status, 200);
    let log = nginx.running.log();
    assert!(!log.contains("[alert]") && !log.contains("signal 11"), "{log}");
}

#[test]
fn nginx_module_survives_reloads() {
    let nginx = ModuleNginx::start(
        fixture::SIGNING,
        "location / { countersign_check on; proxy_pass http://APPLICATION; }",
    );
    let good = bearer(&fixture::good_token());
    let pid = nginx.sandbox.path().join("nginx.pid");
    for _ in 0..3 {
        let pid = std::fs::read_to_string(&pid).unwrap();
        assert!(Command::new("kill").args(["-HUP", pid.trim()]).status().unwrap().success());
        for _ in 0..20 {
            assert_eq!(nginx.status("/", &good), 200);
        }
    }
    // A worker that is killed is replaced.
    let pid = std::fs::read_to_string(&pid).unwrap();
    drop(Command::new("pkill").args(["-KILL", "-P", pid.trim()]).status());
    eventually(|| {
        let mut connection = Connection::open(nginx.address);
        connection.send_raw(get("/", &good).as_bytes());
        String::from_utf8_lossy(&connection.receive_all()).starts_with("HTTP/1.1 200")
    });
    let log = nginx.running.log();
    assert!(!log.contains("open socket"), "{log}");
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
