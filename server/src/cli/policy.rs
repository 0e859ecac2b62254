//! `countersign policy`: tools for access policies.

mod eval;
mod explain;
mod rule_tests;

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::{
    CommandError, ConfigSource,
    arguments::{PolicyCommand, PolicyInputArgs},
    endpoints::sorted_json,
    print,
};
use crate::{
    authorization::{
        endpoints::{EndpointTable, settings::MAX_FILE_BYTES},
        policy::{DEFAULT_POLICY, MAX_POLICY_BYTES, Policy},
    },
    base::watched_file::read_text,
};

pub(super) fn run(source: &ConfigSource, command: &PolicyCommand) -> Result<(), CommandError> {
    match command {
        PolicyCommand::Check { file } => check(file),
        PolicyCommand::Test { directory } => rule_tests::run(directory),
        PolicyCommand::Eval(args) => eval::run(args),
        PolicyCommand::Explain(args) => explain::run(args),
        PolicyCommand::PrintEndpointData => Ok(print(sorted_json(&endpoint_data(source)?)?)?),
        PolicyCommand::ExportDebug { policy, directory } => {
            export_debug(policy.as_deref(), &endpoint_data(source)?, directory)
        }
        PolicyCommand::PrintDefault => Ok(io::stdout().write_all(DEFAULT_POLICY.as_bytes())?),
    }
}

fn check(file: &Path) -> Result<(), CommandError> {
    let policy = PolicyFile::read(Some(file))?.compile(&own_endpoints())?;
    let list = |names: Vec<&str>| if names.is_empty() { "none".into() } else { names.join(", ") };
    print(format_args!("{}: valid", policy.path()))?;
    print(format_args!("  roles: {}", list(policy.roles().iter().map(String::as_str).collect())))?;
    print(format_args!("  built-in functions: {}", list(policy.built_ins().collect())))?;
    let cache = if policy.is_deterministic() {
        "decisions can be cached"
    } else {
        "decisions are not cached: the policy prints, or depends on more than its input"
    };
    Ok(print(format_args!("  {cache}"))?)
}

/// A policy that a command works with.
struct PolicyFile {
    path: PathBuf,
    text: String,
}

impl PolicyFile {
    /// Reads a policy: the default policy without a path.
    fn read(path: Option<&Path>) -> Result<Self, CommandError> {
        let Some(path) = path else {
            return Ok(Self { path: "default.rego".into(), text: DEFAULT_POLICY.into() });
        };
        let text = read_text(path, MAX_POLICY_BYTES).map_err(|error| failed_at(path, error))?;
        Ok(Self { path: path.into(), text })
    }

    fn compile(&self, endpoints: &Value) -> Result<Policy, CommandError> {
        Policy::compile(&self.path, &self.text, endpoints).map_err(CommandError::failed)
    }
}

fn failed_at(path: &Path, error: impl std::fmt::Display) -> CommandError {
    CommandError::failed(format_args!("{}: {error}", path.display()))
}

/// Returns `data.endpoints` of a command.
fn endpoints(args: &PolicyInputArgs) -> Result<Value, CommandError> {
    let Some(path) = &args.endpoints else { return Ok(own_endpoints()) };
    let mut data = read_json(path)?;
    Ok(match data.get_mut("endpoints") {
        Some(endpoints) => endpoints.take(),
        None => data,
    })
}

fn read_json(path: &Path) -> Result<Value, CommandError> {
    let text = read_text(path, MAX_FILE_BYTES).map_err(|error| failed_at(path, error))?;
    serde_json::from_str(&text).map_err(|error| failed_at(path, error))
}

/// Returns `data.endpoints` with the endpoints of this server.
fn own_endpoints() -> Value {
    EndpointTable::of_api().data()["endpoints"].take()
}

/// Returns the endpoint table of the configuration, if one is given, as `data` of policies.
fn endpoint_data(source: &ConfigSource) -> Result<Value, CommandError> {
    let table = if source.config.is_empty() {
        EndpointTable::of_api()
    } else {
        source.load()?.settings.auth.authorization.endpoints
    };
    Ok(table.data())
}

fn export_debug(policy: Option<&Path>, data: &Value, directory: &Path) -> Result<(), CommandError> {
    let policy = PolicyFile::read(policy)?;
    let input = json!({
        "request": { "endpoint_id": "GET /api/v2/environment", "parameters": {} },
        "token": { "sub": "alice", "urn:inmanta:ct": ["api"], "urn:inmanta:roles": {} },
    });
    let files = [
        ("policy/policy.rego", policy.text),
        ("data.json", sorted_json(data)? + "\n"),
        ("input.json", format!("{input:#}\n")),
    ];
    for (name, text) in files {
        let path = directory.join(name);
        create(&path, &text).map_err(|error| failed_at(&path, error))?;
        print(path.display())?;
    }
    Ok(())
}

/// Creates a file, and its directory.
fn create(path: &Path, text: &str) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        #[expect(clippy::disallowed_methods, reason = "the caller named this directory")]
        std::fs::create_dir_all(directory)?;
    }
    OpenOptions::new().write(true).create_new(true).open(path)?.write_all(text.as_bytes())
}
