//! `countersign policy explain`: the rule that decided about an input, or what each rule lacks.
//!
//! Each rule for `allow` is evaluated with its first expression alone, then with its first two, and
//! so on. The first expression without which it held is the one that did not hold.

use regorus::{
    Engine, Value,
    unstable::{Query, Rule, RuleHead, Span},
};
use serde_json::Value as Json;

use super::{PolicyFile, endpoints, eval::for_each_input};
use crate::{
    authorization::policy::{ALLOW, Policy, PolicyError, data},
    cli::{CommandError, arguments::PolicyInputArgs, print},
};

pub(super) fn run(args: &PolicyInputArgs) -> Result<(), CommandError> {
    let (file, endpoints) = (PolicyFile::read(args.policy.as_deref())?, endpoints(args)?);
    let policy = file.compile(&endpoints)?;
    let explainer = Explainer { engine: engine(&file, &endpoints)?, file, endpoints, policy };
    let mut failure = None;
    for_each_input(|input, _| {
        match input.and_then(|input| explainer.explain(&input)) {
            Ok(text) => print(text)?,
            Err(error) => {
                failure.get_or_insert_with(|| error.clone());
                print(format_args!("error: {error}"))?;
            }
        }
        Ok(())
    })?;
    failure.map_or(Ok(()), |error| Err(CommandError::failed(error)))
}

/// Creates an [interpreter](Engine) with the policy.
fn engine(file: &PolicyFile, endpoints: &Json) -> Result<Engine, CommandError> {
    let path = file.path.display().to_string();
    let failed = |report: String| CommandError::failed(PolicyError::from_report(&path, &report));
    let mut engine = Engine::new();
    let added = engine.add_policy(path.clone(), file.text.clone());
    added.map_err(|error| failed(error.to_string()))?;
    engine.add_data(data(endpoints)).map_err(CommandError::failed)?;
    engine.set_gather_prints(true);
    Ok(engine)
}

/// Explains decisions of a [`Policy`].
struct Explainer {
    file: PolicyFile,
    endpoints: Json,
    policy: Policy,
    engine: Engine,
}

/// One way in which `allow` can be true.
struct AllowRule {
    line: u32,
    /// The comment before it.
    comment: String,
    /// Its expressions, each with its line.
    expressions: Vec<(u32, String)>,
}

impl Explainer {
    fn explain(&self, input: &Json) -> Result<String, String> {
        let is_allowed = self.policy.allows_document(input).map_err(|error| error.to_string())?;
        let mut engine = self.engine.clone();
        let mut lines = Vec::new();
        for rule in allow_rules(&mut engine) {
            match self.first_failure(&rule, input) {
                None => lines.push(self.line(rule.line, "holds", &rule.comment)),
                Some((line, expression)) if !is_allowed => {
                    lines.push(self.line(rule.line, "does not hold", &rule.comment));
                    let words: Vec<_> = expression.split_whitespace().collect();
                    lines.push(format!("    line {line}: {}", words.join(" ")));
                }
                Some(_) => {}
            }
        }
        let prints = printed(&mut engine, input);
        lines.extend(prints.into_iter().map(|line| format!("  print: {line}")));
        let decision = if is_allowed { "allowed" } else { "denied" };
        let endpoint_id = input["request"]["endpoint_id"].as_str().unwrap_or_default();
        lines.insert(0, format!("{decision}: {endpoint_id:?}"));
        if !self.endpoints.as_object().is_some_and(|known| known.contains_key(endpoint_id)) {
            lines.insert(1, "  the endpoint is not in data.endpoints".into());
        }
        Ok(lines.join("\n"))
    }

    fn line(&self, line: u32, outcome: &str, comment: &str) -> String {
        let place = format!("  {}:{line}: {outcome}", self.file.path.display());
        if comment.is_empty() { place } else { format!("{place}: {comment}") }
    }

    /// Returns the first expression of a rule that does not hold, with its line.
    fn first_failure<'r>(&self, rule: &'r AllowRule, input: &Json) -> Option<&'r (u32, String)> {
        (1..=rule.expressions.len()).find_map(|count| {
            let expressions = &rule.expressions[..count];
            let holds = self.holds(expressions, input);
            (holds == Some(false)).then(|| &expressions[count - 1])
        })
    }

    /// Whether expressions hold together. `None` if they cannot be evaluated without later ones.
    fn holds(&self, expressions: &[(u32, String)], input: &Json) -> Option<bool> {
        const RULE: &str = "countersign_explained";
        let body = expressions.iter().map(|(_, text)| format!("\t{text}\n"));
        let body: String = body.collect();
        // A single expression in braces could be a set.
        let text = format!("{}\n{RULE} if {{\n\ttrue\n{body}}}\n", self.file.text);
        let path = format!("data.policy.{RULE}");
        let policy = Policy::compile_rule(&self.file.path, &text, &self.endpoints, &path).ok()?;
        policy.allows_document(input).ok()
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
