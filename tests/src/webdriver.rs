//! Chromium, driven by ChromeDriver (<https://www.w3.org/TR/webdriver2/>).
//!
//! The protocol is a dozen calls of JSON over HTTP/1.1. A library would add a second HTTP client,
//! and features to the crates that it shares with the server.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{eventually, http};

/// The member of a response that is the id of an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser with one window. It trusts every certificate, unless arguments state otherwise.
pub struct ChromiumBrowser {
    driver: Child,
    address: SocketAddr,
    session: String,
}

/// Starts ChromeDriver and returns its address. It has one port for IPv4 and IPv6, and ends if
/// another program uses one of the two.
fn start_driver(directory: &Path) -> Option<(Child, SocketAddr)> {
    let mut driver = Command::new("chromedriver")
        .arg("--port=0")
        .env("HOME", directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("chromedriver is missing (apt-get install chromium-driver)");
    let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
    let port: Option<u16> = lines.find_map(|line| {
        let line = line.unwrap();
        let (_, port) = line.split_once("started successfully on port ")?;
        port.trim_end_matches('.').parse().ok()
    });
    let Some(port) = port else {
        driver.wait().unwrap();
        return None;
    };
    // What it prints later is read, so that it never waits.
    std::thread::spawn(move || lines.for_each(drop));
    Some((driver, SocketAddr::from(([127, 0, 0, 1], port))))
}

impl ChromiumBrowser {
    /// Starts a browser with its data in this directory and further arguments.
    ///
    /// # Panics
    /// `chromedriver` or `chromium` is missing.
    pub fn start(directory: &Path, arguments: &[&str]) -> Self {
        const MAX_ATTEMPTS: usize = 5;
        let started = (0..MAX_ATTEMPTS).find_map(|_| start_driver(directory));
        let (driver, address) = started.expect("ChromeDriver listens");
        let mut browser = Self { driver, address, session: String::new() };
        let data = format!("--user-data-dir={}", directory.join("chromium").display());
        let fixed = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            &data,
        ];
        let arguments = [&fixed[..], arguments].concat();
        let options = json!({ "args": arguments });
        let capabilities = json!({ "acceptInsecureCerts": true, "goog:chromeOptions": options });
        let new = json!({ "capabilities": { "alwaysMatch": capabilities } });
        let session = browser.call("POST", "/session", &new);
        browser.session = session["sessionId"].as_str().unwrap().into();
        browser
    }

    #[track_caller]
    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        self.try_call(method, path, body).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Makes a call, and returns its value, or the error.
    fn try_call(&self, method: &str, path: &str, body: &Value) -> Result<Value, Value> {
        let path = match self.session.as_str() {
            "" => path.to_owned(),
            session => format!("/session/{session}{path}"),
        };
        let (kind, body) = match body {
            Value::Null => ("", String::new()),
            body => ("Content-Type: application/json\r\n", body.to_string()),
        };
        // ChromeDriver accepts calls for its own address only.
        let head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n{kind}");
        let response = http::request_to("127.0.0.1", self.address, &head, body.as_bytes());
        let value = response.json()["value"].take();
        if response.status == 200 { Ok(value) } else { Err(value) }
    }

    /// Opens a page and waits until it has loaded.
    #[track_caller]
    pub fn open(&self, url: &str) {
        self.call("POST", "/url", &json!({ "url": url }));
    }

    /// Returns the address of the page.
    #[track_caller]
    pub fn url(&self) -> String {
        self.call("GET", "/url", &Value::Null).as_str().unwrap().into()
    }

    /// Runs the body of a function in the page, and returns its result.
    #[track_caller]
    pub fn script(&self, script: &str) -> Value {
        self.call("POST", "/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Runs the body of a function that calls its last argument with a result.
    #[track_caller]
    pub fn script_with_callback(&self, script: &str) -> Value {
        self.call("POST", "/execute/async", &json!({ "script": script, "args": [] }))
    }

    /// Returns the id of the first element of a CSS selector, once there is one.
    #[track_caller]
    fn find(&self, selector: &str) -> String {
        let query = json!({ "using": "css selector", "value": selector });
        let mut found = Value::Null;
        eventually(|| {
            self.try_call("POST", "/element", &query).is_ok_and(|element| {
                found = element;
                true
            })
        });
        found[ELEMENT].as_str().unwrap().into()
    }

    /// Clicks the first element of a CSS selector.
    #[track_caller]
    pub fn click(&self, selector: &str) {
        let element = self.find(selector);
        self.call("POST", &format!("/element/{element}/click"), &json!({}));
    }

    /// Types into the first element of a CSS selector.
    #[track_caller]
    pub fn type_into(&self, selector: &str, text: &str) {
        let element = self.find(selector);
        self.call("POST", &format!("/element/{element}/value"), &json!({ "text": text }));
    }

    /// Returns the visible text of the first element of a CSS selector.
    #[track_caller]
    pub fn text(&self, selector: &str) -> String {
        for _ in 0..20 {
            let path = format!("/element/{}/text", self.find(selector));
            match self.try_call("GET", &path, &Value::Null) {
                Ok(text) => return text.as_str().unwrap().into(),
                // Another page has replaced that of the element.
                Err(error) if error["error"] == "stale element reference" => {}
                Err(error) => panic!("{selector}: {error}"),
            }
        }
        panic!("{selector} is replaced again and again");
    }

    /// Presses keys, one after the other.
    #[track_caller]
    pub fn press(&self, keys: &str) {
        let presses = keys
            .chars()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key })));
        let actions: Vec<_> = presses.collect();
        let keyboard = json!({ "type": "key", "id": "keyboard", "actions": actions });
        self.call("POST", "/actions", &json!({ "actions": [keyboard] }));
    }

    /// Shows pages as on a screen with this size in CSS pixels, in dark colours if `is_dark`.
    #[track_caller]
    pub fn show_as(&self, (width, height): (u32, u32), is_dark: bool) {
        let size = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500,
        });
        self.command("Emulation.setDeviceMetricsOverride", &size);
        let scheme = if is_dark { "dark" } else { "light" };
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.command("Emulation.setEmulatedMedia", &json!({ "features": features }));
    }

    /// Makes a call of the DevTools protocol.
    #[track_caller]
    pub fn command(&self, name: &str, parameters: &Value) -> Value {
        let call = json!({ "cmd": name, "params": parameters });
        self.call("POST", "/goog/cdp/execute", &call)
    }

    /// Returns a picture of the window, in PNG.
    #[track_caller]
    pub fn picture(&self) -> Vec<u8> {
        let encoded = self.call("GET", "/screenshot", &Value::Null);
        STANDARD.decode(encoded.as_str().unwrap()).unwrap()
    }
}

impl Drop for ChromiumBrowser {
    fn drop(&mut self) {
        // Also ends the browser.
        let _closed = self.try_call("DELETE", "", &Value::Null);
        let _stopped = self.driver.kill();
        let _reaped = self.driver.wait();
    }
}
