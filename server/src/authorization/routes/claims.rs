//! The expressions of `claims`: `PATH is VALUE` and `PATH has VALUE`, with alternatives.

use countersign_engine::Constraint;

use crate::base::redacted::quoted;

/// Alternatives, of which a token must meet one.
pub(super) type Alternatives = Vec<Constraint>;

/// Parses conditions separated by commas or line ends. Each has alternatives separated by `or`. An
/// alternative that is only a value has the claim and the operator of the one before it.
///
/// # Errors
/// The mistake.
pub(super) fn parse(text: &str) -> Result<Vec<Alternatives>, String> {
    let mut conditions = Vec::new();
    let tokens = tokenize(text)?;
    for element in tokens.split(|token| *token == ConditionToken::Comma) {
        let lines = element.split(|token| *token == ConditionToken::LineEnd);
        let written: Vec<_> = lines.filter(|condition| !condition.is_empty()).collect();
        if written.is_empty() && !tokens.is_empty() {
            return Err("a condition is empty".into());
        }
        for condition in written {
            conditions.push(parse_condition(condition)?);
        }
    }
    Ok(conditions)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConditionToken<'t> {
    /// A comma.
    Comma,
    /// A line end.
    LineEnd,
    /// A word without quotes.
    Word(&'t str),
    /// A text in quotes.
    Quoted(&'t str),
}

impl<'t> ConditionToken<'t> {
    fn text(self) -> &'t str {
        match self {
            Self::Comma | Self::LineEnd => "",
            Self::Word(text) | Self::Quoted(text) => text,
        }
    }
}

fn tokenize(text: &str) -> Result<Vec<ConditionToken<'_>>, String> {
    let (mut tokens, mut rest) = (Vec::new(), text);
    while let Some(first) = rest.chars().next() {
        let after = &rest[first.len_utf8()..];
        rest = match first {
            ',' => {
                tokens.push(ConditionToken::Comma);
                after
            }
            '\n' => {
                tokens.push(ConditionToken::LineEnd);
                after
            }
            quote @ ('"' | '\'') => {
                let (quoted, after) =
                    after.split_once(quote).ok_or("a quotation mark has no end")?;
                tokens.push(ConditionToken::Quoted(quoted));
                after
            }
            space if space.is_whitespace() => after,
            _ => {
                let is_end = |character: char| character == ',' || character.is_whitespace();
                let (word, after) = rest.split_at(rest.find(is_end).unwrap_or(rest.len()));
                tokens.push(ConditionToken::Word(word));
                after
            }
        };
    }
    Ok(tokens)
}

fn parse_condition(tokens: &[ConditionToken<'_>]) -> Result<Alternatives, String> {
    let mut alternatives: Alternatives = Vec::new();
    for alternative in tokens.split(|token| *token == ConditionToken::Word("or")) {
        let constraint = match (alternative, alternatives.last()) {
            ([claim, ConditionToken::Word("is"), value], _) => {
                Constraint::Is { claim: claim.text().into(), value: value.text().into() }
            }
            ([claim, ConditionToken::Word("has"), value], _) => {
                Constraint::Contains { claim: claim.text().into(), value: value.text().into() }
            }
            ([value], Some(Constraint::Is { claim, .. })) => {
                Constraint::Is { claim: claim.clone(), value: value.text().into() }
            }
            ([value], Some(Constraint::Contains { claim, .. })) => {
                Constraint::Contains { claim: claim.clone(), value: value.text().into() }
            }
            _ => {
                let words: Vec<_> = tokens.iter().map(|token| token.text()).collect();
                return Err(format!("{} is not a condition", quoted(&words.join(" "))));
            }
        };
        if constraint.claim().as_str().is_empty() {
            return Err("a condition names no claim".into());
        }
        alternatives.push(constraint);
    }
    Ok(alternatives)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(claim: &str, value: &str) -> Constraint {
        Constraint::Is { claim: claim.into(), value: value.into() }
    }

    fn has(claim: &str, value: &str) -> Constraint {
        Constraint::Contains { claim: claim.into(), value: value.into() }
    }

    #[test]
    fn claims_expressions_are_read() {
        for (text, expected) in [
            ("groups has admins", vec![vec![has("groups", "admins")]]),
            ("email_verified is true", vec![vec![is("email_verified", "true")]]),
            ("a is b, c has d", vec![vec![is("a", "b")], vec![has("c", "d")]]),
            ("a is b\n  c has d\n", vec![vec![is("a", "b")], vec![has("c", "d")]]),
            ("a is b or c has d", vec![vec![is("a", "b"), has("c", "d")]]),
            ("a has b or c or d", vec![vec![has("a", "b"), has("a", "c"), has("a", "d")]]),
            ("a is b or c, d is e", vec![vec![is("a", "b"), is("a", "c")], vec![is("d", "e")]]),
            ("user.name is x", vec![vec![is("user.name", "x")]]),
            ("/user/name is x", vec![vec![is("/user/name", "x")]]),
            ("urn:inmanta:is_admin is true", vec![vec![is("urn:inmanta:is_admin", "true")]]),
            ("name is \"O'Brien, Jr.\"", vec![vec![is("name", "O'Brien, Jr.")]]),
            ("name is O'Brien", vec![vec![is("name", "O'Brien")]]),
            ("'my claim' has 'or'", vec![vec![has("my claim", "or")]]),
            ("a is \"is\" or 'has'", vec![vec![is("a", "is"), is("a", "has")]]),
            ("a is ''", vec![vec![is("a", "")]]),
            ("", vec![]),
            ("a is b,\n\n  c has d\n", vec![vec![is("a", "b")], vec![has("c", "d")]]),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text:?}");
        }
    }

    #[test]
    fn other_claims_expressions_are_mistakes() {
        for text in [
            "groups",
            "groups admins",
            "groups in admins",
            "groups has",
            "has admins",
            "groups has my admins",
            "a is b or",
            "or a is b",
            "a is b or or c",
            "a or b is c",
            "a is \"b",
            "'' is a",
            "a is b c is d",
            "a is b and c is d",
            ",",
            " , \n",
            "a is b,",
            ",a is b",
            "a is b,,c is d",
        ] {
            assert!(parse(text).is_err(), "{text:?} gave {:?}", parse(text));
        }
    }
}
