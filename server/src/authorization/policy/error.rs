//! Errors of access policies: one that cannot be used, and one whose evaluation failed.

use std::{fmt, time::Duration};

use crate::config::problem::Problem;

/// An access policy that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyError {
    /// The file, with line and column if they are known: `FILE:12:5`.
    pub place: String,
    /// Description.
    pub text: String,
    /// Remedy. Empty if the description says it all.
    pub help: String,
}

impl PolicyError {
    /// Creates an error at `place`.
    pub(crate) fn new(place: impl Into<String>, text: impl Into<String>) -> Self {
        Self { place: place.into(), text: text.into(), help: String::new() }
    }

    /// Returns the error with a remedy.
    #[must_use]
    pub(crate) fn help(self, help: impl Into<String>) -> Self {
        Self { help: help.into(), ..self }
    }

    /// Parses an error of the parser or the compiler of policies.
    ///
    /// With a place, it is a drawing: a line `--> FILE:LINE:COLUMN`, the line of the policy with a
    /// mark below it, and `error: TEXT`.
    pub(crate) fn from_report(path: &str, report: &str) -> Self {
        let place = place_of(report);
        let text = report.lines().rev().find_map(|line| line.strip_prefix("error: "));
        let place = place.filter(|place| place.starts_with(path)).unwrap_or(path);
        let text = text.unwrap_or_else(|| report.trim()).trim_start_matches("Compilation error: ");
        Self::new(place, text).help(remedy(text))
    }

    /// Returns the error as a [`Problem`] of the configuration.
    #[must_use]
    pub fn to_problem(&self) -> Problem {
        Problem::error(&self.place, &self.text).help(&self.help)
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_problem().fmt(f)
    }
}

impl std::error::Error for PolicyError {}

/// Returns the remedy of a [`PolicyError`] by its text.
fn remedy(text: &str) -> &'static str {
    let remedies = [
        (
            "`if` keyword is required",
            "write the rule in the syntax of Rego version 1: allow if { ... }",
        ),
        ("`with` keyword", "move the expression to a _test.rego file, which may use `with`"),
        ("partial object rules", "write the object in one piece: name := {\"key\": value, ...}"),
        ("unary -", "write 0 - x instead of -x"),
        ("walk loops", "name the members of the input instead of walking through it"),
        ("Unknown function", "check the name; `countersign policy check` lists the functions used"),
        ("undefined variable", "define the name, or check its spelling"),
        ("recursion detected", RECURSION_REMEDY),
    ];
    remedies.iter().find(|(part, _)| text.contains(part)).map_or("", |(_, remedy)| remedy)
}

/// What to do about a rule that calls itself.
pub(super) const RECURSION_REMEDY: &str =
    "Rego has no recursion: let no rule depend on itself, directly or through others";

/// An evaluation that failed. It has no values of the input, which may be claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvaluationError {
    /// The reason.
    pub reason: String,
    /// The rule that was evaluated, such as `data.policy.allow`, and its place in the file. `None`
    /// if the evaluation did not begin.
    pub location: Option<RuleLocation>,
}

/// A place in a policy, and the rule that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleLocation {
    /// Path of the rule.
    pub rule: String,
    /// `FILE:LINE:COLUMN`.
    pub place: String,
}

impl EvaluationError {
    /// Creates an error of an evaluation that did not begin.
    pub(super) fn before(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), location: None }
    }
}

impl fmt::Display for EvaluationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(RuleLocation { rule, place }) = &self.location {
            write!(f, "{place}: rule {rule}: ")?;
        }
        f.write_str(&self.reason)
    }
}

impl std::error::Error for EvaluationError {}

/// Returns the place that a report of the library names.
pub(super) fn place_of(report: &str) -> Option<&str> {
    report.lines().find_map(|line| line.strip_prefix("--> "))
}

/// Describes the error of an evaluation by its report, which may contain values.
pub(super) fn reason_of(report: &str, max_time: Duration) -> String {
    let is = |part: &str| report.contains(part);
    if is("exceeded time limit") {
        format!("the evaluation takes longer than {} ms", max_time.as_millis())
    } else if is("exceeded memory limit") {
        "a built-in function is called with too large arguments, or too often".into()
    } else if is("regex exceeded size limit") {
        "a regular expression is too large".into()
    } else if is("recursion detected") {
        "a rule depends on itself".into()
    } else if is("multiple outputs") || is("value for key") {
        "a rule, a function or a key has more than one value".into()
    } else {
        "the policy engine failed".into()
    }
}
