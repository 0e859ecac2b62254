//! The log of the policy engine, in the format of the Open Policy Agent.
//!
//! Requests do not wait for the disk: a thread writes the file, and entries that it has no room for
//! are dropped and counted.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender, bounded};
use serde_json::json;

use super::{error::EvaluationError, input::PolicyInput};

/// Entries that are written to the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum PolicyLogLevel {
    /// Failed evaluations.
    #[default]
    Error,
    /// All evaluations, with their input.
    Info,
    /// As [`Info`](Self::Info), and loaded policies.
    Debug,
}

/// The log of the policy engine.
#[derive(Debug)]
pub struct PolicyLog {
    entries: Sender<String>,
    counters: Arc<PolicyLogCounters>,
}

/// # Synchronization
/// The atomics are relaxed. Each is a counter of its own.
#[derive(Debug, Default)]
struct PolicyLogCounters {
    requests: AtomicU64,
    dropped: AtomicU64,
}

/// Maximum number of entries that wait for the disk.
const MAX_WAITING: usize = 1024;

impl PolicyLog {
    /// Opens the log and deletes its earlier entries. Without access to the file, the entries are
    /// written to the log of the server.
    ///
    /// # Errors
    /// The operating system cannot create a thread.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = create(path);
        if let Err(error) = &file {
            tracing::warn!(
                "cannot open the log of the policy engine, writing its entries to this log: {}: \
                 {error}; set log_file in [policy_engine]",
                path.display()
            );
        }
        let (entries, received) = bounded(MAX_WAITING);
        let counters = Arc::<PolicyLogCounters>::default();
        let writer = LogWriter { file: file.ok(), counters: Arc::clone(&counters) };
        thread::Builder::new().name("policy-log".into()).spawn(move || writer.run(&received))?;
        Ok(Self { entries, counters })
    }

    /// Logs an evaluation and its duration, if `level` includes it.
    pub fn record(
        &self,
        level: PolicyLogLevel,
        input: PolicyInput<'_>,
        result: &Result<bool, EvaluationError>,
        duration: Duration,
    ) {
        if level < PolicyLogLevel::Info && result.is_ok() {
            return;
        }
        let id = self.counters.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let mut text = String::new();
        if level >= PolicyLogLevel::Info {
            text.push_str(&received(id, input));
        }
        match result {
            Ok(allowed) => text.push_str(&sent(id, *allowed, duration)),
            Err(error) => text.push_str(&failed(id, input.endpoint_id, error)),
        }
        self.write(text);
    }

    /// Logs an error of a policy that was not loaded.
    pub fn record_error(&self, error: &str) {
        self.write(format!("[ERROR] Cannot load the policy.\n  err = {error:?}\n"));
    }

    /// Logs that a policy was loaded.
    pub fn record_load(&self, level: PolicyLogLevel, path: &str) {
        if level >= PolicyLogLevel::Debug {
            self.write(format!("[DEBUG] Loaded the policy.\n  path = {path:?}\n"));
        }
    }

    fn write(&self, entry: String) {
        if self.entries.try_send(entry).is_err() {
            self.counters.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Writes the error of a policy that kept the server from starting to the log, which is then the
/// only entry.
///
/// # Errors
/// The file cannot be written.
pub fn record_failed_start(path: &Path, error: &str) -> io::Result<()> {
    write!(create(path)?, "[ERROR] Cannot load the policy.\n  err = {error:?}\n")
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(path)
}

/// Path of the query in the interface of the Open Policy Agent.
const QUERY: &str = "/v1/data/policy/allow";

fn received(id: u64, input: PolicyInput<'_>) -> String {
    let body = indented(&json!({ "input": input.to_json() }));
    format!(
        "[INFO] Received request.\n  req_path = \"{QUERY}\"\n  req_body = |\n{body}  req_params = \
         {{}}\n  client_addr = \"@\"\n  req_id = {id}\n  req_method = \"POST\"\n"
    )
}

fn sent(id: u64, allowed: bool, duration: Duration) -> String {
    let body = json!({ "result": allowed });
    let (bytes, milliseconds) = (body.to_string().len(), duration.as_secs_f64() * 1000.0);
    format!(
        "[INFO] Sent response.\n  client_addr = \"@\"\n  req_id = {id}\n  req_method = \"POST\"\n  \
         req_path = \"{QUERY}\"\n  resp_body = |\n{}  resp_bytes = {bytes}\n  resp_duration = \
         {milliseconds:.6}\n  resp_status = 200\n",
        indented(&body)
    )
}

fn failed(id: u64, endpoint_id: &str, error: &EvaluationError) -> String {
    let error = error.to_string();
    format!(
        "[ERROR] Evaluation failed.\n  req_path = \"{QUERY}\"\n  endpoint_id = {endpoint_id:?}\n  \
         req_id = {id}\n  err = {error:?}\n"
    )
}

/// Returns a JSON value in lines below a key of an entry.
fn indented(value: &serde_json::Value) -> String {
    let text = format!("{value:#}");
    text.lines().map(|line| format!("      {line}\n")).collect()
}

/// The thread that writes the file of a [`PolicyLog`].
struct LogWriter {
    file: Option<File>,
    counters: Arc<PolicyLogCounters>,
}

impl LogWriter {
    fn run(mut self, entries: &Receiver<String>) {
        while let Ok(entry) = entries.recv() {
            let dropped = self.counters.dropped.swap(0, Ordering::Relaxed);
            if dropped > 0 {
                tracing::warn!("dropped {dropped} log entries of the policy engine");
                self.write(&format!("[ERROR] Dropped {dropped} entries: the disk is too slow.\n"));
            }
            self.write(&entry);
        }
    }

    fn write(&mut self, entry: &str) {
        let Some(file) = &mut self.file else {
            tracing::info!(target: "policy", "{}", entry.trim_end());
            return;
        };
        if let Err(error) = file.write_all(entry.as_bytes()) {
            tracing::warn!("cannot write the log of the policy engine: {error}");
            // The entries are in the log of the server from now on.
            self.file = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;

    fn input<'i>(
        parameters: &'i Map<String, serde_json::Value>,
        token: &'i Map<String, serde_json::Value>,
    ) -> PolicyInput<'i> {
        PolicyInput {
            endpoint_id: "GET /api/v2/project",
            parameters,
            token,
            issuer: None,
            tenant: None,
        }
    }

    fn object(value: serde_json::Value) -> Map<String, serde_json::Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn received_request_has_the_format_of_the_open_policy_agent() {
        let parameters = object(json!({ "environment_details": false }));
        let token =
            object(json!({ "iss": "https://a/", "aud": ["https://a/"], "urn:inmanta:roles": {} }));
        let expected = r#"[INFO] Received request.
  req_path = "/v1/data/policy/allow"
  req_body = |
      {
        "input": {
          "request": {
            "endpoint_id": "GET /api/v2/project",
            "parameters": {
              "environment_details": false
            }
          },
          "token": {
            "iss": "https://a/",
            "aud": [
              "https://a/"
            ],
            "urn:inmanta:roles": {}
          }
        }
      }
  req_params = {}
  client_addr = "@"
  req_id = 7
  req_method = "POST"
"#;
        assert_eq!(received(7, input(&parameters, &token)), expected);
    }

    #[test]
    fn secrets_in_parameters_are_not_logged() {
        let parameters = object(json!({
            "password": "hunter2", "Current-Password": "hunter2", "client_secret": ["hunter2"],
            "token": "hunter2", "nested": { "list": [{ "api_key": "hunter2" }] }, "name": "x",
        }));
        let text = received(1, input(&parameters, &Map::new()));
        assert!(!text.contains("hunter2"), "{text}");
        assert!(text.contains("**********") && text.contains("\"name\": \"x\""), "{text}");
    }
}
