//! Explanation of a decision of an access policy: the rule that allowed an input, or what each rule
//! lacks.
//!
//! Each rule for `allow` is evaluated with its first expression alone, then with its first two, and
//! so on. The first expression without which it held is the one that did not hold.

use std::{cell::Cell, fmt, path::Path, sync::Arc};

use regorus::{
    Engine, Value,
    unstable::{Query, Rule, RuleHead, Span},
};
use serde_json::Value as Json;

use super::{ALLOW, Policy, PolicyError, data};

/// Explains decisions of a [`Policy`].
pub struct PolicyExplainer {
    policy: Arc<Policy>,
    /// `data.endpoints`.
    endpoints: Json,
    /// An [interpreter](Engine) with the policy.
    engine: Engine,
}

/// The explanation of one decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyExplanation {
    /// The file of the policy.
    pub path: String,
    /// Whether the policy allows the input.
    pub is_allowed: bool,
    /// The endpoint in the input.
    pub endpoint_id: String,
    /// Whether `data.endpoints` has it.
    pub is_known_endpoint: bool,
    /// The rules that hold or, if none does, all of them with what they lack.
    pub rules: Vec<ExplainedRule>,
    /// Whether the explanation ended early, so that rules are missing.
    pub is_cut_off: bool,
    /// What the policy prints.
    pub prints: Vec<String>,
}

/// A rule for `allow`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainedRule {
    /// Its line in the policy.
    pub line: u32,
    /// The comment before it.
    pub comment: String,
    /// The first expression that does not hold, with its line; `None` if the rule holds.
    pub failure: Option<(u32, String)>,
}

/// One way in which `allow` can be true.
struct AllowRule {
    line: u32,
    /// The comment before it.
    comment: String,
    /// Its expressions, each with its line.
    expressions: Vec<(u32, String)>,
}

impl PolicyExplainer {
    /// Prepares explanations.
    ///
    /// # Errors
    /// The policy cannot be evaluated with these endpoints.
    pub fn new(policy: Arc<Policy>, endpoints: Json) -> Result<Self, PolicyError> {
        let path = policy.path().to_owned();
        let failed = |report: String| PolicyError::from_report(&path, &report);
        let mut engine = Engine::new();
        let added = engine.add_policy(path.clone(), policy.text.clone());
        added.map_err(|error| failed(error.to_string()))?;
        engine.add_data(data(&endpoints)).map_err(|error| failed(error.to_string()))?;
        engine.set_gather_prints(true);
        Ok(Self { policy, endpoints, engine })
    }

    /// Explains the decision about an input, by at most `limit` evaluations of parts of the policy.
    ///
    /// # Errors
    /// The policy fails for this input.
    pub fn explain(&self, input: &Json, limit: usize) -> Result<PolicyExplanation, String> {
        let is_allowed = self.policy.allows_document(input).map_err(|error| error.to_string())?;
        let mut engine = self.engine.clone();
        let left = Cell::new(limit);
        let mut rules = Vec::new();
        for AllowRule { line, comment, expressions } in allow_rules(&mut engine) {
            let failure = self.first_failure(&expressions, input, &left);
            if left.get() == 0 {
                break;
            }
            if failure.is_none() || !is_allowed {
                let failure = failure.map(|(line, expression)| {
                    let words: Vec<_> = expression.split_whitespace().collect();
                    (*line, words.join(" "))
                });
                rules.push(ExplainedRule { line, comment, failure });
            }
        }
        let endpoint_id = input["request"]["endpoint_id"].as_str().unwrap_or_default();
        let known = self.endpoints.as_object();
        Ok(PolicyExplanation {
            path: self.policy.path().to_owned(),
            is_allowed,
            endpoint_id: endpoint_id.to_owned(),
            is_known_endpoint: known.is_some_and(|known| known.contains_key(endpoint_id)),
            rules,
            is_cut_off: left.get() == 0,
            prints: printed(&mut engine, input),
        })
    }

    /// Returns the first expression of a rule that does not hold, with its line.
    fn first_failure<'r>(
        &self,
        expressions: &'r [(u32, String)],
        input: &Json,
        left: &Cell<usize>,
    ) -> Option<&'r (u32, String)> {
        (1..=expressions.len()).find_map(|count| {
            left.set(left.get().checked_sub(1)?);
            let tried = &expressions[..count];
            (self.holds(tried, input) == Some(false)).then(|| &expressions[count - 1])
        })
    }

    /// Whether expressions hold together. `None` if they cannot be evaluated without later ones.
    fn holds(&self, expressions: &[(u32, String)], input: &Json) -> Option<bool> {
        const RULE: &str = "countersign_explained";
        let body = expressions.iter().map(|(_, text)| format!("\t{text}\n"));
        let body: String = body.collect();
        // A single expression in braces could be a set.
        let text = format!("{}\n{RULE} if {{\n\ttrue\n{body}}}\n", self.policy.text);
        let rule = format!("data.policy.{RULE}");
        let path = Path::new(self.policy.path());
        let policy = Policy::compile_rule(path, &text, &self.endpoints, &rule).ok()?;
        policy.allows_document(input).ok()
    }
}

impl fmt::Display for PolicyExplanation {
    /// Writes the decision, then a line for each rule and for what it lacks.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decision = if self.is_allowed { "allowed" } else { "denied" };
        write!(f, "{decision}: {:?}", self.endpoint_id)?;
        if !self.is_known_endpoint {
            f.write_str("\n  the endpoint is not in data.endpoints")?;
        }
        for ExplainedRule { line, comment, failure } in &self.rules {
            let outcome = if failure.is_some() { "does not hold" } else { "holds" };
            write!(f, "\n  {}:{line}: {outcome}", self.path)?;
            if !comment.is_empty() {
                write!(f, ": {comment}")?;
            }
            if let Some((line, expression)) = failure {
                write!(f, "\n    line {line}: {expression}")?;
            }
        }
        self.prints.iter().try_for_each(|line| write!(f, "\n  print: {line}"))
    }
}

/// Returns the [rules](AllowRule) for `allow`, in the order of the file.
fn allow_rules(engine: &mut Engine) -> Vec<AllowRule> {
    let mut rules = Vec::new();
    for module in engine.get_modules() {
        for rule in &module.policy {
            let Rule::Spec { head: RuleHead::Compr { refr, .. }, bodies, span } = &**rule else {
                continue;
            };
            if refr.span().text() != "allow" {
                continue;
            }
            let comment = comment_before(span.source.contents(), span.line);
            rules.extend(bodies.iter().map(|body| AllowRule {
                line: span.line,
                comment: comment.clone(),
                expressions: expressions(&body.query),
            }));
        }
    }
    rules
}

fn expressions(query: &Query) -> Vec<(u32, String)> {
    query.stmts.iter().map(|one| (one.span.line, text_of(&one.span))).collect()
}

/// Returns the text of an expression. The [`Span`] of a string is that between its quotation marks.
fn text_of(span: &Span) -> String {
    let is_mark = |next: &char| matches!(next, '"' | '`');
    let contents = span.source.contents();
    let before = contents.get(..span.start as usize).unwrap_or_default();
    let after = contents.get(span.end as usize..).unwrap_or_default();
    let (opening, closing) = (before.chars().next_back(), after.chars().next());
    let marks = (opening.filter(is_mark), closing.filter(is_mark));
    marks.0.into_iter().chain(span.text().chars()).chain(marks.1).collect()
}

/// Returns the comment in the lines before a line.
fn comment_before(text: &str, line: u32) -> String {
    let before: Vec<_> = text.lines().take(line.saturating_sub(1) as usize).collect();
    let comment = before.iter().rev().map_while(|line| line.trim().strip_prefix('#'));
    let mut lines: Vec<_> = comment.map(str::trim).collect();
    lines.reverse();
    lines.join(" ")
}

/// Returns what `print` writes in an evaluation. A failed one prints, too.
fn printed(engine: &mut Engine, input: &Json) -> Vec<String> {
    engine.set_input(Value::from(input.clone()));
    let _result = engine.eval_rule(ALLOW.into());
    engine.take_prints().unwrap_or_default()
}
