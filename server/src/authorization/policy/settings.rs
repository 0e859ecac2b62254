//! Settings of the policy engine: `[policy_engine]`.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde_json::Value as Json;

use super::{MAX_POLICY_BYTES, Policy, PolicyError, log::PolicyLogLevel};
use crate::{
    base::{
        redacted::{is_plausible_path, shown},
        watched_file::read_text,
    },
    config::{problem::Problems, reader::SectionReader, setting::Section},
};

/// Settings of the policy engine.
#[derive(Debug, Default)]
pub struct PolicySettings {
    /// The policy. `None` if no listener uses the policy engine.
    pub policy: Option<Arc<Policy>>,
    /// Entries that are written to the log.
    pub log_level: PolicyLogLevel,
    /// Number of decisions that each thread keeps. 0 for none.
    cached_decisions: usize,
    /// File of the log.
    pub log_file: PathBuf,
}

impl PolicySettings {
    /// Reads the options. The policy is compiled for these endpoints if it is used.
    pub fn read(
        sections: &BTreeMap<String, Section>,
        endpoints: &Json,
        is_used: bool,
        problems: &mut Problems,
    ) -> Self {
        let mut reader = SectionReader::new(sections, "policy_engine", problems);
        let log_level = read_log_level(&mut reader);
        let log_file = read_log_file(sections, &reader);
        let max_time = Duration::from_millis(reader.number("max_time"));
        let mut policy = None;
        if is_used {
            check_executable(&mut reader);
            policy = load(&mut reader, &log_file, endpoints);
        }
        let policy = policy.map(|policy| Arc::new(policy.with_max_time(max_time)));
        Self { policy, log_level, cached_decisions: reader.number("cached_decisions"), log_file }
    }

    /// Whether every evaluated request is logged.
    #[must_use]
    pub fn logs_requests(&self) -> bool {
        self.log_level >= PolicyLogLevel::Info
    }

    /// Returns the number of decisions that each thread keeps: none if the policy may decide
    /// differently about equal requests.
    #[must_use]
    pub fn cached_decisions(&self) -> usize {
        let is_deterministic = self.policy.as_ref().is_some_and(|policy| policy.is_deterministic());
        if is_deterministic { self.cached_decisions } else { 0 }
    }
}

/// Returns the file of the log of a configuration.
pub(crate) fn log_file(sections: &BTreeMap<String, Section>) -> PathBuf {
    let mut problems = Problems::default();
    read_log_file(sections, &SectionReader::new(sections, "policy_engine", &mut problems))
}

fn read_log_file(sections: &BTreeMap<String, Section>, reader: &SectionReader<'_>) -> PathBuf {
    const DEFAULT_LOG_DIR: &str = "/var/log/inmanta";
    if let Some(path) = reader.given("log_file") {
        return path.into();
    }
    let log_dir = sections.get("config").and_then(|config| config.settings.get("log_dir"));
    let log_dir = log_dir.map_or(DEFAULT_LOG_DIR, |setting| setting.text.trim());
    Path::new(log_dir).join("policy_engine.log")
}

/// Reads the log level, with the message of the Inmanta server.
pub(crate) fn read_log_level(reader: &mut SectionReader<'_>) -> PolicyLogLevel {
    match reader.text_or_default("log_level") {
        "debug" => PolicyLogLevel::Debug,
        "info" => PolicyLogLevel::Info,
        "error" => PolicyLogLevel::Error,
        level => {
            let (level, levels) = (shown(level), reader.choices("log_level").join("', '"));
            let text = format!("Invalid value {level}. Valid values: ['{levels}']");
            reader.error("log_level", text, "");
            PolicyLogLevel::Error
        }
    }
}

/// Checks the program of the policy engine, with the messages of the Inmanta server. It is not run.
fn check_executable(reader: &mut SectionReader<'_>) {
    const REMEDY: &str = "remove the line: the policy engine is built in";
    let Some(text) = reader.text("executable") else { return };
    if text.trim().is_empty() {
        let text = "Config option policy_engine.executable was not set.";
        reader.error("executable", text, REMEDY);
    } else if !Path::new(text.trim()).is_file() {
        let path = shown_path(text.trim());
        let text =
            format!("Config option policy_engine.executable doesn't point to a file: {path}.");
        reader.error("executable", text, REMEDY);
    } else {
        reader.note("executable", "the policy engine is built in: no program is run", REMEDY);
    }
}

/// Returns a path for a message, unless it may be a key.
fn shown_path(text: &str) -> Cow<'_, str> {
    if is_plausible_path(text) { text.into() } else { shown(text) }
}

/// Loads the policy. Its errors name the log, as those of the Inmanta server do.
fn load(reader: &mut SectionReader<'_>, log_file: &Path, endpoints: &Json) -> Option<Policy> {
    let file = Path::new(reader.text_or_default("policy_file").trim());
    let text = match read_text(file, MAX_POLICY_BYTES) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let text =
                format!("Access policy file {} not found.", shown_path(&file.to_string_lossy()));
            reader.error("policy_file", text, NOT_FOUND_REMEDY);
            return None;
        }
        Err(error) => {
            let file = file.display();
            reader.error(
                "policy_file",
                format!("cannot read the access policy {file}: {error}"),
                "",
            );
            return None;
        }
    };
    match Policy::compile(file, &text, endpoints) {
        Ok(policy) => Some(policy),
        Err(PolicyError { place, text, help }) => {
            let log_file = log_file.display();
            let text = format!("{FAILED_START}: {place}: {text}; its log file is {log_file}");
            reader.error("policy_file", text, &help);
            None
        }
    }
}

const NOT_FOUND_REMEDY: &str = "set policy_file in [policy_engine], or create the file with the default policy: countersign \
     policy print-default";

/// Start of the error about a policy that cannot be used.
pub(crate) const FAILED_START: &str = "the policy engine failed to start";
