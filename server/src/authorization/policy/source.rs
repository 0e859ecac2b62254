//! A pass over the text of a policy before it is compiled: `print` is removed, and calls of
//! functions that policies cannot have are refused, with their places.

use std::ops::Range;

use regorus::{
    Source,
    unstable::{BUILTINS, Lexer, Token, TokenKind},
};

use super::{built_ins, error::PolicyError};

/// Maximum size of a policy in bytes.
pub(super) const MAX_POLICY_BYTES: usize = 1 << 20;

/// The text of a policy, ready to be compiled.
pub(super) struct PolicySource {
    /// The text. Lines and columns are those of the file.
    pub(super) text: String,
    /// Whether calls of `print` were removed from it. The register machine has no `print`.
    pub(super) has_print: bool,
}

/// Prepares the text of a policy: a [`PolicySource`].
///
/// # Errors
/// The text is too large, or calls a function that is not available.
pub(super) fn prepare(path: &str, text: &str) -> Result<PolicySource, PolicyError> {
    if text.len() > MAX_POLICY_BYTES {
        let text = format!("the policy has more than {MAX_POLICY_BYTES} bytes");
        return Err(PolicyError::new(path, text).help("split it, or check that this is a policy"));
    }
    // The parser reports errors of the lexer with the same place.
    let tokens = tokens(path, text).unwrap_or_default();
    let calls = calls(&tokens);
    let is_defined = |name: &str| calls.iter().any(|call| call.is_definition && call.name == name);
    let mut prepared = PolicySource { text: text.into(), has_print: false };
    for call in calls.iter().filter(|call| !is_defined(&call.name)) {
        if call.name == "print" {
            prepared.has_print = true;
            blank(&mut prepared.text, call.range.clone());
        } else if is_unavailable(&call.name) {
            let place = format!("{path}:{}:{}", call.line, call.column);
            let text = format!("the function {} is not available in access policies", call.name);
            return Err(PolicyError::new(place, text).help(built_ins::alternative(&call.name)));
        }
    }
    Ok(prepared)
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
        assert!(prepared.has_print);
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
