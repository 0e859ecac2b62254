//! The web console, as a browser uses it.

/// Sign-in, sign-out, and forms of other sites.
mod sign_in;
/// How sessions are stored, and how they end.
mod sessions;
/// The pages, and what they change.
mod pages;
/// What a page has in place of data that it cannot get.
mod refusals;
/// Changes that cannot be undone.
mod danger;
/// What confirms such a change, and what does not.
mod confirmation;
/// Sorted tables, and where figures lead.
mod tables;
/// The token inspector.
mod inspector;
/// Routes and the access policy, and tests of requests.
mod policy;
/// Configuration, cluster, identities and tenants.
mod server_pages;
/// The console in a real browser.
mod chromium;
/// Where the console is served, and what every response has.
mod places;
/// Sign-in with an OpenID provider.
mod provider;

use std::path::Path;

use countersign_tests::{
    binary::{Sandbox, Server},
    client::Client,
    database::query_sqlite,
    http::Response,
};

use crate::users::{Api, PASSWORD, configuration, in_file};

/// A browser with its cookies, on the pages of one server.
pub(crate) struct ConsoleBrowser {
    client: Client,
    /// The cookie of the session, with its name.
    pub(crate) cookie: Option<String>,
    /// The cookie of a sign-in that has begun, with its name.
    pub(crate) sign_in_cookie: Option<String>,
    /// The value that the forms of the last page have.
    form_token: String,
    /// What the last page of a dangerous change has shown, as its form has it.
    shown: String,
}

impl ConsoleBrowser {
    pub(crate) fn new(server: &Server<'_>) -> Self {
        Self {
            client: server.client(),
            cookie: None,
            sign_in_cookie: None,
            form_token: String::new(),
            shown: String::new(),
        }
    }

    /// Opens a page.
    #[track_caller]
    pub(crate) fn get(&mut self, path: &str) -> Response {
        self.send(&format!("GET {path} HTTP/1.1\r\n"), "")
    }

    /// Opens a page that must exist.
    #[track_caller]
    pub(crate) fn page(&mut self, path: &str) -> String {
        let page = self.get(path);
        assert_eq!(page.status, 200, "{page:?}");
        assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
        page.body
    }

    /// Sends a form, with the token of the last page.
    #[track_caller]
    pub(crate) fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Response {
        self.post_from(path, fields, "Sec-Fetch-Site: same-origin\r\n")
    }

    /// Sends a form with these lines about the page that it is on.
    #[track_caller]
    pub(crate) fn post_from(
        &mut self,
        path: &str,
        fields: &[(&str, &str)],
        lines: &str,
    ) -> Response {
        let (token, shown) = (self.form_token.clone(), self.shown.clone());
        let mut fields = [fields, &[("form_token", token.as_str())]].concat();
        if path.starts_with("/console/danger/") {
            fields.push(("shown", &shown));
        }
        let pairs: Vec<_> =
            fields.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let head = format!(
            "POST {path} HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\n{lines}"
        );
        self.send(&head, &pairs.join("&"))
    }

    #[track_caller]
    fn send(&mut self, head: &str, body: &str) -> Response {
        let head = format!("{head}{}", self.cookie_lines());
        let response = self.client.request(&head, body.as_bytes());
        for (_, line) in response.headers.iter().filter(|(name, _)| name == "set-cookie") {
            let cookie = line.split(';').next().unwrap().to_owned();
            let is_of_sign_in = cookie.contains("countersign-sign-in=");
            let place = if is_of_sign_in { &mut self.sign_in_cookie } else { &mut self.cookie };
            *place = (!cookie.ends_with('=')).then_some(cookie);
        }
        for (name, place) in [("form_token", &mut self.form_token), ("shown", &mut self.shown)] {
            let field = format!("name=\"{name}\" value=\"");
            if let Some((_, rest)) = response.body.split_once(&field) {
                *place = rest.split('"').next().unwrap().to_owned();
            }
        }
        response
    }

    /// Returns the header lines with its cookies.
    fn cookie_lines(&self) -> String {
        let cookies = [&self.cookie, &self.sign_in_cookie].into_iter().flatten();
        cookies.map(|cookie| format!("Cookie: {cookie}\r\n")).collect()
    }

    #[track_caller]
    pub(crate) fn sign_in(&mut self, username: &str, password: &str) -> Response {
        self.post("/console/sign-in", &[("username", username), ("password", password)])
    }
}

/// Encodes a value of a form.
fn encoded(value: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        byte => format!("%{byte:02x}"),
    };
    value.bytes().map(encode).collect()
}

/// Starts a server with an administrator `ann`, whose database is a file.
fn serve<'s>(sandbox: &'s Sandbox, options: &str) -> Server<'s> {
    let server = sandbox.serve(&configuration(&format!("{options}{}", in_file(sandbox))));
    let root = Api::root(&server);
    root.add_user("ann");
    let admin = serde_json::json!({ "username": "ann", "is_admin": true });
    assert_eq!(root.send("PATCH /is_admin", admin).status, 200);
    server
}

/// Returns a browser in which `ann` is signed in.
#[track_caller]
fn signed_in(server: &Server<'_>) -> ConsoleBrowser {
    let mut browser = ConsoleBrowser::new(server);
    let answer = browser.sign_in("ann", PASSWORD);
    assert_eq!(answer.status, 303, "{answer:?}");
    browser.page("/console");
    browser
}

/// Executes statements in the database of a server that [`serve`] started.
fn query(sandbox: &Sandbox, statements: &str) -> String {
    query_sqlite(&database(sandbox.path()), statements)
}

fn database(directory: &Path) -> std::path::PathBuf {
    directory.join("users.db")
}

/// Checks that a response leads to a page.
#[track_caller]
fn leads_to(response: &Response, path: &str) {
    assert_eq!((response.status, response.header("location")), (303, Some(path)), "{response:?}");
}
