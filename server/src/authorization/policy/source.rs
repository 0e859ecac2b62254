//! A pass over the text of a policy before it is compiled: `print` is removed, and calls of
//! functions that policies cannot have are refused, with their places.

use std::ops::Range;

use regorus::{
    Source,
    unstable::{BUILTINS, Lexer, Token, TokenKind},
};

use super::{built_ins, error::PolicyError};

/// Maximum size of a policy in bytes.
pub(crate) const MAX_POLICY_BYTES: u64 = 1 << 20;

/// The text of a policy, ready to be compiled.
pub(super) struct PolicySource {
    /// The text. Lines and columns are those of the file.
    pub(super) text: String,
    /// Whether equal inputs have equal results: it names no function whose result depends on
    /// anything else, and none that prints.
    pub(super) is_pure: bool,
}

/// Prepares the text of a policy: a [`PolicySource`].
///
/// # Errors
/// The text is too large, or calls a function that is not available.
pub(super) fn prepare(path: &str, text: &str) -> Result<PolicySource, PolicyError> {
    if text.len() as u64 > MAX_POLICY_BYTES {
        let text = format!("the policy has more than {MAX_POLICY_BYTES} bytes");
        return Err(PolicyError::new(path, text).help("split it, or check that this is a policy"));
    }
    // The parser reports errors of the lexer with the same place.
    let tokens = tokens(path, text).unwrap_or_default();
    let calls = calls(&tokens);
    let is_defined = |name: &str| calls.iter().any(|call| call.is_definition && call.name == name);
    check_tokens(path, &tokens)?;
    let is_impure = |token: &Token| IMPURE.contains(&token.1.text());
    let is_pure = !tokens.iter().any(is_impure);
    let mut prepared = PolicySource { text: text.into(), is_pure };
    for call in calls.iter().filter(|call| !is_defined(&call.name)) {
        if call.name == "print" {
            blank(&mut prepared.text, call.range.clone());
        } else if is_unavailable(&call.name) {
            let place = format!("{path}:{}:{}", call.line, call.column);
            let text = format!("the function {} is not available in access policies", call.name);
            return Err(PolicyError::new(place, text).help(built_ins::alternative(&call.name)));
        }
    }
    Ok(prepared)
}

/// Last words of the names of functions whose result depends on more than their arguments, or that
/// print. A policy that contains one is evaluated for every request.
const IMPURE: [&str; 7] = ["now_ns", "print", "trace", "intn", "rfc4122", "runtime", "send"];

/// Maximum depth of brackets: the parser takes twice as long for each level.
const MAX_NESTING: usize = 12;

/// Refuses a text that the parser cannot read in reasonable time, and two constructs that the
/// interpreter reads in another way than the Open Policy Agent: object patterns, and `not` before an
/// iteration with `_`, which is decided by any one element.
fn check_tokens(path: &str, tokens: &[Token]) -> Result<(), PolicyError> {
    let (mut depth, mut negated_line) = (0_usize, None);
    for (index, token) in tokens.iter().enumerate() {
        let span = &token.1;
        let refuse = |text: String, help: &str| {
            let place = format!("{path}:{}:{}", span.line, span.col);
            Err(PolicyError::new(place, text).help(help))
        };
        let follows = |offset: usize, text: &str| {
            tokens.get(index + offset).is_some_and(|token| token.1.text() == text)
        };
        match span.text() {
            "[" | "{" => depth += 1,
            "]" | "}" => depth = depth.saturating_sub(1),
            "not" => negated_line = Some(span.line),
            "|" | ";" => negated_line = None,
            _ => {}
        }
        if span.text() == "}" && (follows(1, ":=") || follows(1, "=")) {
            let text = "an object pattern also matches objects with further members";
            return refuse(text.into(), "read the member: role := input.token.role");
        }
        if depth > MAX_NESTING {
            let text = format!("more than {MAX_NESTING} brackets are nested");
            return refuse(text, "give the inner parts names of their own");
        }
        let is_iteration = span.text() == "[" && follows(1, "_") && follows(2, "]");
        if is_iteration && negated_line == Some(span.line) {
            let text = "`not` before [_] does not mean that no element is so";
            return refuse(text.into(), "write: not v in xs, or every x in xs { ... }");
        }
    }
    Ok(())
}

/// Returns the name of the rule whose head is the last one before this line.
pub(super) fn rule_at(text: &str, line: usize) -> Option<&str> {
    let is_head = |line: &&str| line.starts_with(|first: char| first.is_alphabetic());
    let head = text.lines().take(line).filter(is_head).last()?;
    let head = head.strip_prefix("default ").unwrap_or(head);
    head.split(|character: char| !character.is_alphanumeric() && character != '_').next()
}

/// Whether this is a built-in function of Rego that policies cannot have.
fn is_unavailable(name: &str) -> bool {
    !built_ins::is_available(name)
        && (BUILTINS.contains_key(name) || built_ins::is_known_elsewhere(name))
}

fn tokens(path: &str, text: &str) -> Option<Vec<Token>> {
    let source = Source::from_contents(path.into(), text.into()).ok()?;
    let mut lexer = Lexer::new(&source);
    let mut tokens = Vec::new();
    loop {
        let token = lexer.next_token().ok()?;
        if token.0 == TokenKind::Eof {
            return Some(tokens);
        }
        tokens.push(token);
    }
}

/// A call of a function, or the head of a rule that defines one.
struct FunctionCall {
    name: String,
    /// Bytes of the call, up to its closing parenthesis.
    range: Range<usize>,
    line: u32,
    column: u32,
    is_definition: bool,
}

fn calls(tokens: &[Token]) -> Vec<FunctionCall> {
    let opening = (0..tokens.len()).filter(|index| tokens[*index].1.text() == "(");
    opening.filter_map(|index| call_at(tokens, index)).collect()
}

/// Returns the call whose parenthesis is the token at `opening`.
fn call_at(tokens: &[Token], opening: usize) -> Option<FunctionCall> {
    let is_adjacent = |index: usize| tokens[index].1.end == tokens[index + 1].1.start;
    let mut first = opening.checked_sub(1).filter(|index| is_adjacent(*index))?;
    if tokens[first].0 != TokenKind::Ident {
        return None;
    }
    while first >= 2
        && tokens[first - 1].1.text() == "."
        && tokens[first - 2].0 == TokenKind::Ident
        && is_adjacent(first - 1)
        && is_adjacent(first - 2)
    {
        first -= 2;
    }
    let span = &tokens[first].1;
    let name = tokens[first..opening].iter().map(|token| token.1.text()).collect();
    let end = closing(tokens, opening)?.1.end;
    let range = span.start as usize..end as usize;
    Some(FunctionCall {
        name,
        range,
        line: span.line,
        column: span.col,
        is_definition: span.col == 1,
    })
}

/// Returns the parenthesis that closes the one at `opening`.
fn closing(tokens: &[Token], opening: usize) -> Option<&Token> {
    let mut depth = 0_usize;
    tokens[opening..].iter().find(|token| {
        match token.1.text() {
            "(" => depth += 1,
            ")" => depth -= 1,
            _ => {}
        }
        depth == 0
    })
}

/// Replaces a [`FunctionCall`] by `true` and white space. Lines stay as they are.
fn blank(text: &mut String, range: Range<usize>) {
    let line_feeds = text[range.clone()].matches('\n').count();
    let spaces = range.len().saturating_sub("true".len() + line_feeds);
    let replacement = format!("true{}{}", " ".repeat(spaces), "\n".repeat(line_feeds));
    text.replace_range(range, &replacement);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn print_is_removed_and_places_stay() {
        let text =
            "package policy\nallow if {\n\tprint(\"a)\",\n\tinput.x) # print(1)\n\tf(1)\n}\n";
        let prepared = prepare("p.rego", text).unwrap();
        assert!(!prepared.is_pure);
        assert_eq!(prepared.text.len(), text.len());
        assert_eq!(prepared.text.lines().count(), text.lines().count());
        assert!(prepared.text.contains("\ttrue"), "{}", prepared.text);
        assert!(prepared.text.contains("# print(1)\n\tf(1)\n"), "{}", prepared.text);
    }

    #[test]
    fn unavailable_functions_are_refused_with_their_place() {
        for (name, remedy) in [
            ("http.send", "network"),
            ("opa.runtime", "environment"),
            ("rand.intn", "random"),
            ("uuid.rfc4122", "random"),
            ("regex.template_match", "regex.match"),
            ("net.lookup_ip_addr", "network"),
        ] {
            let text =
                format!("package policy\n# {name}(1)\nunused if {{\n  {name}(\"x\") == 1\n}}");
            let error = prepare("/etc/p.rego", &text).err().unwrap();
            assert_eq!(error.place, "/etc/p.rego:4:3");
            assert!(error.text.contains(name) && error.help.contains(remedy), "{error}");
        }
        let own = "package policy\nhttp.send(x) := x\nallow if http.send(1) == 1";
        assert!(prepare("p.rego", own).is_ok(), "a function of the policy with that name");
    }
}
