//! The console in Chromium, over real HTTPS.

/// The script of the pages: keys, and figures that update themselves.
mod script;

use std::{fs, path::Path};

use countersign_tests::{
    binary::{Sandbox, Server},
    certificates::ours,
    client::Protocol,
    eventually,
    openssl::openssl,
    webdriver::ChromiumBrowser,
};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::pki_types::{SubjectPublicKeyInfoDer, pem::PemObject as _};
use serde_json::{Value, json};

use super::serve;
use crate::{
    fixture::{claims, good_token, token},
    users::{Api, ENVIRONMENT, PASSWORD},
};

const LAPTOP: (u32, u32) = (1280, 800);
const PHONE: (u32, u32) = (390, 844);
/// The pages.
const PAGES: [&str; 16] = [
    "/console",
    "/console/issuers",
    "/console/inspect",
    "/console/tokens",
    "/console/users",
    "/console/identities",
    "/console/tenants",
    "/console/policy",
    "/console/audit",
    "/console/configuration",
    "/console/cluster",
    "/console/confirm",
    "/console/reference",
    "/console/users?sort=user",
    "/console/danger/set-password?user=ann",
    "/console/danger/revoke-subject?section=auth_jwt_default&subject=%3Cb%3E",
];

/// A user of the console in a browser.
struct ChromiumOperator {
    browser: ChromiumBrowser,
    origin: String,
}

impl ChromiumOperator {
    /// Starts a browser for a server, which it reaches by these arguments.
    fn start(sandbox: &Sandbox, server: &Server<'_>, arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir_in(sandbox.path()).unwrap().keep();
        let browser = ChromiumBrowser::start(&directory, arguments);
        browser.show_as(LAPTOP, false);
        Self { browser, origin: format!("https://127.0.0.1:{}", server.address.port()) }
    }

    #[track_caller]
    fn open(&self, path: &str) {
        self.browser.open(&format!("{}{path}", self.origin));
    }

    /// Signs in from a page that needs it, and returns to it.
    #[track_caller]
    fn sign_in(&self, username: &str) {
        self.browser.type_into("[name=username]", username);
        self.browser.type_into("[name=password]", PASSWORD);
        self.browser.click("main form button");
        self.browser.text("header .user");
    }

    /// Pastes a token on the page of the inspector.
    #[track_caller]
    fn inspect(&self, token: &str) {
        self.browser.type_into("textarea", token);
        self.browser.click("main form button");
        eventually(|| self.text().contains("expiry"));
    }

    #[track_caller]
    fn text(&self) -> String {
        self.browser.text("body")
    }
}

#[test]
fn first_sign_in_leads_to_a_token_that_works() {
    let sandbox = Sandbox::over(Protocol::Http2);
    let server = serve(&sandbox, "");
    Api::root(&server).add_environment(ENVIRONMENT);
    let operator = ChromiumOperator::start(&sandbox, &server, &[]);
    let browser = &operator.browser;
    operator.open("/console/tokens");
    assert!(browser.url().contains("/console/sign-in"), "{}", browser.url());
    operator.sign_in("ann");
    assert!(browser.url().contains("/console/tokens"), "{}", browser.url());
    browser.click("form[action='/console/tokens/create'] button");
    let token = browser.text("[role=status] code");
    assert_eq!(server.auth(&token).status, 200);
    let cookies = browser.script("return document.cookie");
    assert_eq!(cookies, "", "scripts do not see the cookie");
    browser.click("header .user button");
    eventually(|| browser.url().contains("/console/sign-in"));
    operator.open("/console/tokens");
    assert!(browser.url().contains("/console/sign-in"), "{}", browser.url());
}

#[test]
fn console_works_over_http_3() {
    let sandbox = Sandbox::over(Protocol::Http3);
    let server = serve(&sandbox, "");
    let key = openssl(&["x509", "-inform", "DER", "-pubkey", "-noout"], &ours().1.chain[0]);
    let key = SubjectPublicKeyInfoDer::from_pem_slice(&key).unwrap();
    let trusted = STANDARD.encode(digest(&SHA256, &key));
    let trusted = format!("--ignore-certificate-errors-spki-list={trusted}");
    let quic = format!("--origin-to-force-quic-on=127.0.0.1:{}", server.address.port());
    let operator = ChromiumOperator::start(&sandbox, &server, &[&trusted, &quic]);
    operator.open("/console");
    operator.sign_in("ann");
    let script = "return performance.getEntriesByType('navigation')[0].nextHopProtocol";
    assert_eq!(operator.browser.script(script), "h3");
    eventually(|| operator.browser.text(".sentence").starts_with("The issuer"));
}

/// Most bytes of the first page: its document, its files and its first figures, with their headers.
const MAX_FIRST_PAGE_BYTES: u64 = 50 << 10;

#[test]
fn first_page_is_small() {
    let sandbox = Sandbox::over(Protocol::Http2);
    let server = populated(&sandbox);
    let operator = ChromiumOperator::start(&sandbox, &server, &[]);
    let browser = &operator.browser;
    operator.open("/console");
    operator.sign_in("ann");
    // The sign-in has the same files.
    browser.command("Network.clearBrowserCache", &json!({}));
    operator.open("/console");
    let transferred = "return ['navigation', 'resource']
        .flatMap((kind) => performance.getEntriesByType(kind))
        .map((one) => [new URL(one.name).pathname, one.transferSize])";
    let mut sizes = Value::Null;
    eventually(|| {
        sizes = browser.script(transferred);
        sizes.as_array().unwrap().len() > 3
    });
    let size = |entry: &Value| entry[1].as_u64().unwrap();
    let all: Vec<_> = sizes.as_array().unwrap().iter().take(4).map(size).collect();
    assert!(all.iter().all(|size| *size > 300), "nothing is cached: {sizes}");
    // The lines of the charts have their full length after five minutes, twice here.
    let lines = 2 * 4 * 150 * "150,32 ".len() as u64;
    let total = all.iter().sum::<u64>() + lines;
    assert!(total <= MAX_FIRST_PAGE_BYTES, "{total}: {sizes}");
}

#[test]
fn names_are_never_markup() {
    const NAME: &str = "\"'><img src=x onerror=attacked=1><script>attacked=1</script>";
    let sandbox = Sandbox::over(Protocol::Http2);
    let server = serve(&sandbox, "");
    let root = Api::root(&server);
    root.add_user(NAME);
    root.send("POST /role", json!({ "name": NAME }));
    root.add_environment(ENVIRONMENT);
    let rename = json!({ "name": NAME });
    root.send(&format!("POST /environment/{ENVIRONMENT}"), rename);
    let operator = ChromiumOperator::start(&sandbox, &server, &[]);
    operator.open("/console");
    operator.sign_in("ann");
    for path in PAGES {
        operator.open(path);
        let attacked = operator.browser.script(
            "return [typeof attacked, document.querySelectorAll('img, main script').length]",
        );
        assert_eq!(attacked, json!(["undefined", 0]), "{path}");
    }
}

#[test]
fn lost_role_ends_what_another_browser_may_do() {
    let sandbox = Sandbox::over(Protocol::Http2);
    let server = serve(&sandbox, "");
    let root = Api::root(&server);
    root.add_user("bob");
    let admin = json!({ "username": "bob", "is_admin": true });
    assert_eq!(root.send("PATCH /is_admin", admin).status, 200);
    let [ann, bob] = ["ann", "bob"].map(|name| {
        let operator = ChromiumOperator::start(&sandbox, &server, &[]);
        operator.open("/console/users");
        operator.sign_in(name);
        operator
    });
    ann.browser.press("/bob");
    ann.browser.script("document.activeElement.blur()");
    ann.browser.click("tbody tr:not([hidden]) summary");
    ann.browser.click("tbody tr:not([hidden]) a[href*=withdraw-admin]");
    ann.browser.type_into("[name=typed]", "bob");
    ann.browser.click("form.danger button");
    eventually(|| ann.browser.url().ends_with("done=admin"));
    bob.open("/console/users");
    let text = bob.text();
    let is_refused = text.contains("Sign in") || text.contains("not");
    assert!(is_refused && !text.contains("Add a user"), "{text}");
    ann.open("/console/users");
    assert!(ann.text().contains("Add a user"));
}

/// Returns the serious findings of axe-core about the page.
#[track_caller]
fn accessibility_findings(browser: &ChromiumBrowser) -> Value {
    let script =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("node/node_modules/axe-core/axe.min.js");
    let axe = fs::read_to_string(&script).unwrap_or_else(|error| {
        panic!("{}: {error} (npm ci --prefix tests/node)", script.display())
    });
    // The policy of the page admits no script but its own: this one is run by the driver.
    browser.script(&axe);
    browser.script_with_callback(
        "const done = arguments[arguments.length - 1];
         axe.run().then((result) => done(result.violations
             .filter((one) => ['serious', 'critical'].includes(one.impact))
             .map((one) => [one.id, one.help, ...one.nodes.map((node) => node.html)])))",
    )
}

#[test]
fn pages_are_accessible_in_both_colours() {
    let sandbox = Sandbox::over(Protocol::Http2);
    let server = populated(&sandbox);
    let operator = ChromiumOperator::start(&sandbox, &server, &[]);
    operator.open("/console");
    assert_eq!(accessibility_findings(&operator.browser), json!([]), "the sign-in");
    operator.browser.script("document.body.append(document.createElement('img'))");
    let finding = accessibility_findings(&operator.browser)[0][0].take();
    assert_eq!(finding, "image-alt", "an image without a text is found");
    operator.sign_in("ann");
    for (size, is_dark) in [(LAPTOP, false), (LAPTOP, true), (PHONE, false)] {
        operator.browser.show_as(size, is_dark);
        for path in PAGES {
            operator.open(path);
            let findings = accessibility_findings(&operator.browser);
            assert_eq!(findings, json!([]), "{path} {size:?} {is_dark}: {findings:#}");
            let width = "return document.documentElement.scrollWidth";
            assert!(operator.browser.script(width).as_u64().unwrap() <= size.0.into(), "{path}");
        }
    }
}

#[test]
fn long_names_do_not_widen_pages() {
    let sandbox = Sandbox::over(Protocol::Http2);
    let server = serve(&sandbox, "");
    let root = Api::root(&server);
    let name = "w".repeat(255);
    root.add_user(&name);
    root.send("PATCH /is_admin", json!({ "username": name, "is_admin": true }));
    root.send("POST /role", json!({ "name": name }));
    root.add_environment(ENVIRONMENT);
    root.send(&format!("POST /environment/{ENVIRONMENT}"), json!({ "name": name }));
    let role = json!({ "environment": ENVIRONMENT, "role": name });
    root.send(&format!("POST /role_assignment/{name}"), role);
    let operator = ChromiumOperator::start(&sandbox, &server, &[]);
    operator.open("/console");
    operator.sign_in(&name);
    for size in [PHONE, LAPTOP] {
        operator.browser.show_as(size, false);
        for path in PAGES {
            operator.open(path);
            let width = operator.browser.script("return document.documentElement.scrollWidth");
            assert!(width.as_u64().unwrap() <= size.0.into(), "{path} {size:?}: {width}");
        }
    }
}

/// Starts a server with what the pages show.
fn populated(sandbox: &Sandbox) -> Server<'_> {
    let server = serve(sandbox, "");
    let root = Api::root(&server);
    root.add_user("bob");
    root.add_environment(ENVIRONMENT);
    root.send("POST /role", json!({ "name": "operator" }));
    let role = json!({ "environment": ENVIRONMENT, "role": "operator" });
    root.send("POST /role_assignment/bob", role);
    server
}

/// The headings, titles of columns, labels and buttons of a page. They are what a picture is
/// compared by, as the figures and times in it differ.
const OUTLINE: &str = "return [...document.querySelectorAll('nav a, h1, h2, th, label, button')]
    .filter((one) => one.offsetParent)
    .map((one) => one.localName + ': ' + (one.firstChild?.textContent ?? '').trim())";

/// Pictures: name, page, size, and whether in dark colours.
const PICTURES: [(&str, &str, (u32, u32), bool); 6] = [
    ("overview", "/console", LAPTOP, false),
    ("overview-dark", "/console", LAPTOP, true),
    ("overview-phone", "/console", PHONE, false),
    ("inspector", "/console/inspect", LAPTOP, false),
    ("tokens", "/console/tokens", LAPTOP, false),
    ("users-dark", "/console/users", LAPTOP, true),
];

#[test]
fn pictures_show_the_pages_as_they_are() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("console/shots");
    let is_renewed = std::env::var_os("COUNTERSIGN_NEW_PICTURES").is_some();
    let sandbox = Sandbox::over(Protocol::Http2);
    let server = populated(&sandbox);
    let operator = ChromiumOperator::start(&sandbox, &server, &[]);
    operator.open("/console");
    operator.sign_in("ann");
    make_traffic(&server, &operator, if is_renewed { 9 } else { 2 });
    for (name, path, size, is_dark) in PICTURES {
        operator.browser.show_as(size, is_dark);
        operator.open(path);
        if path == "/console/inspect" {
            operator.inspect(&good_token());
        }
        let picture = operator.browser.picture();
        let outline = operator.browser.script(OUTLINE);
        let lines = outline.as_array().unwrap().iter().map(|line| line.as_str().unwrap());
        let outline = lines.collect::<Vec<_>>().join("\n") + "\n";
        let [file, text] = ["png", "txt"].map(|end| directory.join(format!("{name}.{end}")));
        if is_renewed {
            fs::create_dir_all(&directory).unwrap();
            fs::write(&file, &picture).unwrap();
            fs::write(&text, &outline).unwrap();
        }
        let kept = fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        assert!(kept.len() < MAX_PICTURE_BYTES, "{} has {}", file.display(), kept.len());
        assert_eq!(png_size(&kept), size, "{}", file.display());
        let known = fs::read_to_string(&text).unwrap();
        assert_eq!(known, outline, "{path} has changed: set COUNTERSIGN_NEW_PICTURES=1");
    }
}

/// Makes requests until the charts have this number of points, so that the overview shows what it
/// is for. Some are refused.
fn make_traffic(server: &Server<'_>, operator: &ChromiumOperator, points: usize) {
    let (good, expired) = (good_token(), token(&claims(json!({ "exp": 1_000_000_000 }))));
    let line = "return document.querySelector('[data-line=requests]').getAttribute('points')";
    let mut round = 0;
    eventually(|| {
        round += 1;
        for index in 0..40 + round * 7 % 50 {
            server.auth(if index % 20 == 0 { &expired } else { &good });
        }
        server.request("GET /auth HTTP/1.1\r\n");
        let text = operator.browser.script(line);
        text.as_str().unwrap().split(' ').count() >= points
    });
    eventually(|| operator.browser.text(".sentence").contains("of requests refused"));
}

/// Size of the largest picture.
const MAX_PICTURE_BYTES: usize = 150_000;

/// Returns the width and height in the header of a PNG (RFC 2083 section 4.1.1).
fn png_size(png: &[u8]) -> (u32, u32) {
    let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    (number(16), number(20))
}
