//! The username of a token.

use core::fmt::Write as _;

use crate::{
    claim_path::ClaimPath,
    reject::Reject,
    token::{ClaimNodes, Value},
};

/// The username of a token: the claims that may hold it, and its form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsernameRule {
    /// The claims, in order. The first that is neither absent, `null` nor a blank string holds the
    /// username: a string.
    pub claims: Box<[ClaimPath]>,
    /// Whether a token without a username is refused.
    pub required: bool,
    /// Whether a whole number is a username too, in decimal digits.
    pub takes_numbers: bool,
    /// Put before every username, so that two issuers never name the same user.
    pub prefix: Box<str>,
}

impl UsernameRule {
    /// Returns the claim that holds the username. A blank string is returned only if no later claim
    /// takes its place.
    pub(super) fn find<'d, 'b>(&self, claims: &ClaimNodes<'d, 'b>) -> Option<Value<'d, 'b>> {
        let mut blank = None;
        for path in &self.claims {
            match path.find(claims).filter(|value| !value.is_null()) {
                Some(value) if value.as_str().is_some_and(is_blank) => {
                    blank = blank.or(Some(value))
                }
                Some(value) => return Some(value),
                None => {}
            }
        }
        blank
    }

    /// Checks the claim. If `optional`, it may be absent, but not of another type.
    pub(super) fn check(&self, claim: Option<Value<'_, '_>>, optional: bool) -> Result<(), Reject> {
        match claim {
            _ if !self.required => Ok(()),
            None if optional => Ok(()),
            Some(claim) if self.is_username(claim) => Ok(()),
            _ => Err(Reject::Username),
        }
    }

    fn is_username(&self, claim: Value<'_, '_>) -> bool {
        match claim.as_str() {
            Some(name) => !is_blank(name),
            None => self.takes_numbers && claim.as_integer().is_some(),
        }
    }

    /// Returns the username in the claim, with the prefix. It is in `buffer` unless the claim
    /// already has that form.
    pub(crate) fn read<'r>(
        &self,
        claim: Option<Value<'_, 'r>>,
        buffer: &'r mut String,
    ) -> Option<&'r str> {
        let claim = claim.filter(|claim| self.is_username(*claim))?;
        let name = claim.as_str();
        if let Some(name) = name.filter(|_| self.prefix.is_empty()) {
            return Some(name);
        }
        buffer.clear();
        buffer.push_str(&self.prefix);
        match (name, claim.as_integer()) {
            (Some(name), _) => buffer.push_str(name),
            (None, number) => write!(buffer, "{}", number?).ok()?,
        }
        Some(buffer)
    }
}

fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::JsonBuffers;

    fn rule(prefix: &str, takes_numbers: bool) -> UsernameRule {
        UsernameRule {
            claims: ["name".into()].into(),
            required: true,
            takes_numbers,
            prefix: prefix.into(),
        }
    }

    fn read(rule: &UsernameRule, claim: &str) -> Option<String> {
        let mut buffers = JsonBuffers::with_capacity(64);
        let document = buffers.parse(format!(r#"{{"name":{claim}}}"#).as_bytes()).unwrap();
        let claim = document.members().get("name");
        let name = rule.read(claim, &mut String::new()).map(str::to_owned);
        assert_eq!(rule.check(claim, false).is_ok(), name.is_some());
        assert_eq!(rule.check(claim, true).is_ok(), name.is_some(), "present, and unusable");
        name
    }

    #[test]
    fn username_is_a_text_or_a_whole_number() {
        for (claim, text, number) in [
            (r#""bob""#, Some("bob"), Some("bob")),
            (r#""7""#, Some("7"), Some("7")),
            (r#""""#, None, None),
            (r#"" ""#, None, None),
            ("7", None, Some("7")),
            ("0", None, Some("0")),
            ("-7", None, Some("-7")),
            ("18446744073709551615", None, Some("18446744073709551615")),
            // Numbers with several spellings would give one user several names.
            ("7.0", None, None),
            ("7e0", None, None),
            ("true", None, None),
            (r#"["bob"]"#, None, None),
            (r#"{"bob":1}"#, None, None),
        ] {
            assert_eq!(read(&rule("", false), claim).as_deref(), text, "{claim}");
            assert_eq!(read(&rule("", true), claim).as_deref(), number, "{claim}");
        }
    }

    #[test]
    fn first_claim_that_holds_a_value_is_the_username() {
        let find = |claims: &str| {
            let rule = UsernameRule {
                claims: ["email", "user.name", "azp"].map(ClaimPath::from).into(),
                ..rule("", false)
            };
            let mut buffers = JsonBuffers::with_capacity(64);
            let document = buffers.parse(claims.as_bytes()).unwrap();
            let claim = rule.find(&ClaimNodes::find(&document));
            rule.read(claim, &mut String::new()).map(str::to_owned)
        };
        assert_eq!(find(r#"{"azp":"app","email":"a@b"}"#).as_deref(), Some("a@b"));
        assert_eq!(find(r#"{"azp":"app","user":{"name":"bob"}}"#).as_deref(), Some("bob"));
        assert_eq!(find(r#"{"azp":"app","email":null,"user":{}}"#).as_deref(), Some("app"));
        assert_eq!(find(r#"{"azp":"app","email":" "}"#).as_deref(), Some("app"));
        assert_eq!(find(r#"{"azp":"app","email":7}"#), None, "another type is not an absent claim");
        assert_eq!(find("{}"), None);
    }

    #[test]
    fn prefix_precedes_every_username() {
        assert_eq!(read(&rule("idp:", true), r#""bob""#).as_deref(), Some("idp:bob"));
        assert_eq!(read(&rule("idp:", true), "7").as_deref(), Some("idp:7"));
        assert_eq!(read(&rule("idp:", true), r#""""#), None, "a prefix is not a name");
    }

    #[test]
    fn absent_username_is_refused_where_required() {
        let required = rule("", false);
        assert_eq!(required.check(None, false), Err(Reject::Username));
        assert_eq!(required.check(None, true), Ok(()));
        let free = UsernameRule { required: false, ..required };
        assert_eq!(free.check(None, false), Ok(()));
        assert_eq!(free.read(None, &mut String::new()), None);
    }
}
