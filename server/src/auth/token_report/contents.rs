//! The members of a token as they are spelled, with their meanings.

use countersign_engine::{Algorithm, UnixTime};
use serde_json::Value;

use crate::base::{
    clock::{LAST_DATE, date_of, distance},
    exact_json::{RawMembers, exact},
};

/// A member of the header or the payload of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenMember {
    /// Its name.
    pub name: String,
    /// Its value in JSON.
    pub value: String,
    /// Its meaning, if it has one here.
    pub meaning: Option<MemberMeaning>,
}

/// The meaning of a [`TokenMember`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberMeaning {
    /// This text.
    Words(&'static str),
    /// A time, and what happens then; `None` if the value is not a time.
    Time(&'static str, Option<UnixTime>),
}

impl TokenMember {
    /// Returns its meaning in words.
    #[must_use]
    pub fn note(&self, now: UnixTime) -> Option<String> {
        Some(match self.meaning? {
            MemberMeaning::Words(words) => words.to_owned(),
            MemberMeaning::Time(meaning, None) => format!("{meaning}: not a valid date"),
            MemberMeaning::Time(meaning, Some(at)) => {
                format!("{meaning} {}, {}", date_of(at.0), distance(at.0, now))
            }
        })
    }
}

/// Returns the members of a header; `None` if it is not a JSON object.
#[must_use]
pub fn header_members(json: &[u8]) -> Option<Vec<TokenMember>> {
    members(json, header_meaning)
}

/// Returns the claims of a payload; `None` if it is not a JSON object.
#[must_use]
pub fn claim_members(json: &[u8]) -> Option<Vec<TokenMember>> {
    members(json, claim_meaning)
}

fn members(
    json: &[u8],
    meaning: impl Fn(&str, &Value) -> Option<MemberMeaning>,
) -> Option<Vec<TokenMember>> {
    let RawMembers(members) = serde_json::from_slice(json).ok()?;
    let members = members.into_iter().map(|(name, raw)| {
        let value = exact(raw);
        let meaning = meaning(&name, &value);
        let value = match value {
            // A number beyond those of JSON libraries.
            Value::String(number) if !raw.get().starts_with('"') => number,
            value => value.to_string(),
        };
        TokenMember { name, value, meaning }
    });
    Some(members.collect())
}

fn header_meaning(name: &str, value: &Value) -> Option<MemberMeaning> {
    Some(MemberMeaning::Words(match name {
        "alg" if value.as_str().and_then(Algorithm::from_name).is_none() => {
            "algorithm not supported by Countersign"
        }
        "crit" => "requires extensions: Countersign refuses the token",
        "jku" | "jwk" | "x5u" | "x5c" => "key chosen by the token: never used",
        _ => return None,
    }))
}

fn claim_meaning(name: &str, value: &Value) -> Option<MemberMeaning> {
    let meaning = match name {
        "iss" => return Some(MemberMeaning::Words("issuer")),
        "sub" => return Some(MemberMeaning::Words("subject")),
        "aud" => return Some(MemberMeaning::Words("audience")),
        "jti" => return Some(MemberMeaning::Words("token id")),
        "urn:inmanta:ct" => return Some(MemberMeaning::Words("client types")),
        "urn:inmanta:env" => return Some(MemberMeaning::Words("scoped to this environment")),
        "exp" => "expires",
        "nbf" => "valid from",
        "iat" => "issued",
        _ => return None,
    };
    let at = value.as_u64().filter(|seconds| *seconds <= LAST_DATE);
    Some(MemberMeaning::Time(meaning, at.map(UnixTime)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_claims_are_dates_and_distances() {
        let note = |claims: &str| {
            let members = claim_members(claims.as_bytes()).unwrap();
            members[0].note(UnixTime(1_700_000_000))
        };
        assert_eq!(
            note(r#"{"exp":1700000060}"#).unwrap(),
            "expires Tue, 14 Nov 2023 22:14:20 GMT, in 60 seconds"
        );
        assert_eq!(
            note(r#"{"iat":1699996400}"#).unwrap(),
            "issued Tue, 14 Nov 2023 21:13:20 GMT, 60 minutes ago"
        );
        assert_eq!(note(r#"{"exp":"soon"}"#).unwrap(), "expires: not a valid date");
        assert_eq!(note(r#"{"exp":18446744073709551615}"#).unwrap(), "expires: not a valid date");
        assert_eq!(note(r#"{"colour":"red"}"#), None);
    }

    #[test]
    fn numbers_of_claims_are_as_they_are_spelled() {
        let members = claim_members(br#"{"n":123456789012345678901234567890,"s":"1"}"#).unwrap();
        let values: Vec<_> = members.iter().map(|member| &*member.value).collect();
        assert_eq!(values, ["123456789012345678901234567890", "\"1\""]);
        assert_eq!(claim_members(b"[]"), None);
    }
}
