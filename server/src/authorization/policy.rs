//! The authorization provider `policy-engine`: an access policy in Rego decides.
//!
//! A [`Policy`] is compiled when it is loaded, and evaluated by the interpreter of the library
//! regorus in the thread of the request (`docs/decisions/038-policy-engine.md`). An evaluation is
//! bounded in time and in the size of its input. Each call of a built-in function is
//! bounded, too.

mod built_ins;
mod call_graph;
mod cost;
mod error;
pub mod explainer;
mod input;
mod interpreter;
pub mod log;
mod meter;
pub mod settings;
mod source;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

pub use error::{EvaluationError, PolicyError, RuleLocation};
pub use input::PolicyInput;
use regorus::{Engine, Value, languages::rego::compiler::Compiler, rvm::program::Program};
use serde_json::Value as Json;
pub(crate) use source::MAX_POLICY_BYTES;

/// The default policy of the Inmanta server.
pub const DEFAULT_POLICY: &str = include_str!("../../policies/inmanta.rego");

/// Default of the maximum time of an evaluation.
pub(crate) const DEFAULT_MAX_TIME: Duration = Duration::from_millis(50);

/// A compiled access policy.
#[derive(Debug)]
pub struct Policy {
    path: String,
    /// Identifies this policy among all of the process.
    generation: u64,
    /// The rule that decides.
    rule: String,
    /// The interpreter, of which each thread has a copy.
    engine: Engine,
    /// The names of the built-in functions that the rule depends on.
    built_ins: Vec<String>,
    /// The text, for the rules of places.
    text: String,
    /// `data`.
    data: Value,
    max_time: Duration,
    roles: Vec<String>,
    is_deterministic: bool,
}

impl Policy {
    /// Compiles the text of a policy from the file `path`. `data.endpoints` has `endpoints`.
    ///
    /// # Errors
    /// The first mistake in it, with its place.
    pub fn compile(path: &Path, text: &str, endpoints: &Json) -> Result<Self, PolicyError> {
        Self::compile_rule(path, text, endpoints, ALLOW)
    }

    /// Compiles a policy in which another rule takes the place of `allow`.
    ///
    /// # Errors
    /// The first mistake in it, with its place.
    pub(crate) fn compile_rule(
        path: &Path,
        text: &str,
        endpoints: &Json,
        rule: &str,
    ) -> Result<Self, PolicyError> {
        let path = path.display().to_string();
        let prepared = source::prepare(&path, text)?;
        let mut engine = Engine::new();
        // `print` is removed. What the interpreter prints all the same is not written anywhere.
        engine.set_gather_prints(true);
        for (name, arguments, function) in built_ins::metered_functions() {
            let added = engine.add_extension(name.into(), arguments, function);
            added.map_err(|error| PolicyError::new(&path, error.to_string()))?;
        }
        let failed = |report: String| PolicyError::from_report(&path, &report);
        let package = engine
            .add_policy(path.clone(), prepared.text)
            .map_err(|error| failed(error.to_string()))?;
        if package != PACKAGE {
            let place = format!("{path}:{}", package_line(text));
            let text = format!("the package is {}", package.trim_start_matches("data."));
            return Err(PolicyError::new(place, text).help("write: package policy"));
        }
        let defines = |rule: &str| engine.has_declared_rule_rooted_at(&path, rule).unwrap_or(false);
        if !defines("allow") {
            return Err(PolicyError::new(path, "the policy has no rule named allow")
                .help("write a rule that is true for permitted calls: allow if { ... }"));
        }
        let has_roles = defines("roles");
        let program = analyze(&mut engine, &path, rule)?;
        if has_roles {
            analyze(&mut engine, &path, ROLES)?;
        }
        let called = program.builtin_info_table.iter();
        let calls_pure = called.clone().all(|built_in| built_ins::is_pure(&built_in.name));
        let mut policy = Self {
            generation: next_generation(),
            rule: rule.into(),
            built_ins: called.map(|built_in| built_in.name.clone()).collect(),
            data: data(endpoints),
            max_time: DEFAULT_MAX_TIME,
            roles: Vec::new(),
            is_deterministic: prepared.is_pure && calls_pure,
            text: text.into(),
            path,
            engine,
        };
        if has_roles {
            policy.roles = policy.evaluate_roles()?;
        }
        Ok(policy)
    }

    /// Returns the policy with a maximum time for evaluations, instead of 50 ms.
    #[must_use]
    pub fn with_max_time(self, max_time: Duration) -> Self {
        Self { max_time, ..self }
    }

    /// Whether the policy allows a request: `data.policy.allow` is `true`.
    ///
    /// # Errors
    /// The evaluation failed or reached a limit. The request is not allowed.
    pub fn allows(&self, input: PolicyInput<'_>) -> Result<bool, EvaluationError> {
        Ok(interpreter::evaluate(self, |names| input.to_value(names))? == Value::Bool(true))
    }

    /// Whether the policy allows a request whose whole `input` is given.
    ///
    /// # Errors
    /// As of [`allows`](Self::allows).
    pub fn allows_document(&self, input: &Json) -> Result<bool, EvaluationError> {
        Ok(interpreter::evaluate(self, |_| input::document(input))? == Value::Bool(true))
    }

    /// Returns the file of the policy.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns a number that no other policy of this process has.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// Returns the roles that the policy defines: `data.policy.roles`, without repetitions.
    #[must_use]
    pub fn roles(&self) -> &[String] {
        &self.roles
    }

    /// Whether equal inputs have equal results: the policy calls no function whose result depends
    /// on anything else, such as the time.
    #[must_use]
    pub const fn is_deterministic(&self) -> bool {
        self.is_deterministic
    }

    /// Returns the names of the built-in functions that `allow` depends on.
    pub fn built_ins(&self) -> impl Iterator<Item = &str> {
        self.built_ins.iter().map(String::as_str)
    }

    fn evaluate_roles(&self) -> Result<Vec<String>, PolicyError> {
        let value = interpreter::evaluate_rule(self, ROLES)
            .map_err(|error| PolicyError::new(&self.path, format!("roles: {error}")))?;
        let names: Option<Vec<_>> = match &value {
            Value::Undefined => return Ok(Vec::new()),
            Value::Array(values) => values.iter().map(role_name).collect(),
            Value::Set(values) => values.iter().map(role_name).collect(),
            _ => None,
        };
        let mut names = names.ok_or_else(|| {
            PolicyError::new(&self.path, "roles is not a list or a set of names")
                .help("write the names of the roles as strings: roles := [\"operator\"]")
        })?;
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// Returns the place that the report of an error names, and the rule there.
    fn location_of(&self, report: &str) -> RuleLocation {
        let place = error::place_of(report).filter(|place| place.starts_with(&self.path));
        let line = place.and_then(|place| place.rsplit(':').nth(1)?.parse::<usize>().ok());
        let head = line.and_then(|line| source::rule_at(&self.text, line));
        let rule = head.map_or_else(|| self.rule.clone(), |name| format!("{PACKAGE}.{name}"));
        RuleLocation { rule, place: place.unwrap_or(&self.path).into() }
    }
}

/// Compiles a rule with all that it depends on, and checks the depth of its calls.
fn analyze(engine: &mut Engine, path: &str, rule: &str) -> Result<Arc<Program>, PolicyError> {
    let failed = |report: String| PolicyError::from_report(path, &report);
    let compiled =
        engine.compile_with_entrypoint(&rule.into()).map_err(|error| failed(error.to_string()))?;
    let program = Compiler::compile_from_policy(&compiled, &[rule])
        .map_err(|error| failed(error.to_string()))?;
    call_graph::check(&program).map_err(|error| error.in_program(&program))?;
    Ok(program)
}

/// The package of a policy.
const PACKAGE: &str = "data.policy";
/// The rule that decides.
pub(crate) const ALLOW: &str = "data.policy.allow";
const ROLES: &str = "data.policy.roles";

fn next_generation() -> u64 {
    /// Relaxed: the numbers have to be different, not in order.
    static GENERATION: AtomicU64 = AtomicU64::new(1);
    GENERATION.fetch_add(1, Ordering::Relaxed)
}

fn role_name(value: &Value) -> Option<String> {
    match value {
        Value::String(name) => Some((**name).to_owned()),
        _ => None,
    }
}

/// Returns `data` of a policy as a [`Value`]. Endpoints have both spellings of their parameters,
/// `<id>` and `{id}`.
pub(crate) fn data(endpoints: &Json) -> Value {
    let mut spelled = endpoints.clone();
    if let (Some(spelled), Some(endpoints)) = (spelled.as_object_mut(), endpoints.as_object()) {
        for (id, properties) in endpoints {
            for (from, to) in [(['<', '>'], ["{", "}"]), (['{', '}'], ["<", ">"])] {
                let other = id.replace(from[0], to[0]).replace(from[1], to[1]);
                spelled.entry(other).or_insert_with(|| properties.clone());
            }
        }
    }
    Value::from(serde_json::json!({ "endpoints": spelled }))
}

/// Returns the number of the line with the name of the package.
fn package_line(text: &str) -> usize {
    text.lines()
        .position(|line| line.trim_start().starts_with("package"))
        .map_or(1, |line| line + 1)
}
