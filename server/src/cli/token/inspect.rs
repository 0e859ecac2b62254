//! `countersign token inspect`: the contents of a token, unverified.

use std::{
    io::{self, Read as _},
    time::{Duration, SystemTime},
};

use countersign_engine::{Algorithm, UnixTime, jws::UnverifiedToken, limits};
use serde_json::Value;

use crate::{
    base::{
        clock,
        exact_json::{RawMembers, exact},
    },
    cli::{CommandError, print, printable},
};

pub(super) fn run(token: Option<String>) -> Result<(), CommandError> {
    let token = match token {
        Some(token) => token,
        None => read_input()?,
    };
    let parts = UnverifiedToken::decode(token.as_bytes()).map_err(|reject| {
        CommandError::failed(format_args!("not a JWT: {reject} ({})", reject.code()))
    })?;
    print("NOT VERIFIED: anyone could have written this token.")?;
    print("\nheader")?;
    show(&parts.header, header_note)?;
    print("\nclaims")?;
    show(&parts.payload, |name, value| claim_note(name, value, clock::now()))
}

pub(in crate::cli) fn read_input() -> io::Result<String> {
    let mut text = String::new();
    let most = u64::try_from(limits::MAX_TOKEN_BYTES).unwrap_or(u64::MAX).saturating_add(2);
    io::stdin().lock().take(most).read_to_string(&mut text)?;
    Ok(text.trim_end_matches(['\r', '\n']).into())
}

fn show(json: &[u8], note: impl Fn(&str, &Value) -> Option<String>) -> Result<(), CommandError> {
    let Ok(RawMembers(members)) = serde_json::from_slice(json) else {
        return Ok(print(format_args!("  {} bytes that are not a JSON object", json.len()))?);
    };
    let shown: Vec<_> = members
        .iter()
        .map(|(name, raw)| {
            let value = exact(raw);
            let text = match &value {
                // A number beyond those of JSON libraries.
                Value::String(number) if !raw.get().starts_with('"') => number.clone(),
                value => value.to_string(),
            };
            (printable(name), printable(&text), note(name, &value))
        })
        .collect();
    let width = shown.iter().map(|(name, ..)| name.chars().count()).max().unwrap_or(0);
    for (name, value, note) in shown {
        match note {
            Some(note) => print(format_args!("  {name:width$}  {value}  ({note})"))?,
            None => print(format_args!("  {name:width$}  {value}"))?,
        }
    }
    Ok(())
}

fn header_note(name: &str, value: &Value) -> Option<String> {
    Some(match name {
        "alg" if value.as_str().and_then(Algorithm::from_name).is_none() => {
            "algorithm not supported by Countersign".into()
        }
        "crit" => "requires extensions: Countersign refuses the token".into(),
        "jku" | "jwk" | "x5u" | "x5c" => "key chosen by the token: never used".into(),
        _ => return None,
    })
}

fn claim_note(name: &str, value: &Value, now: UnixTime) -> Option<String> {
    let meaning = match name {
        "iss" => return Some("issuer".into()),
        "sub" => return Some("subject".into()),
        "aud" => return Some("audience".into()),
        "jti" => return Some("token id".into()),
        "urn:inmanta:ct" => return Some("client types".into()),
        "urn:inmanta:env" => return Some("scoped to this environment".into()),
        "exp" => "expires",
        "nbf" => "valid from",
        "iat" => "issued",
        _ => return None,
    };
    match value.as_u64().filter(|seconds| *seconds <= LAST_DATE) {
        Some(seconds) => Some(format!("{meaning} {}, {}", date(seconds), distance(seconds, now))),
        None => Some(format!("{meaning}: not a valid date")),
    }
}

/// Last second of the year 9999.
const LAST_DATE: u64 = 253_402_300_799;

/// Formats a time; a number if it is beyond the last date.
pub(super) fn date_of(seconds: u64) -> String {
    if seconds > LAST_DATE { seconds.to_string() } else { date(seconds) }
}

fn date(seconds: u64) -> String {
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

/// Formats the distance of a time from now.
pub(in super::super) fn distance(seconds: u64, now: UnixTime) -> String {
    let apart = seconds.abs_diff(now.0);
    let (count, unit) = match apart {
        0..=119 => (apart, "seconds"),
        120..=7199 => (apart / 60, "minutes"),
        7200..=172_799 => (apart / 3600, "hours"),
        _ => (apart / 86_400, "days"),
    };
    if seconds > now.0 { format!("in {count} {unit}") } else { format!("{count} {unit} ago") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inspect_explains_dates() {
        let note = |name, value: Value| claim_note(name, &value, UnixTime(1_700_000_000));
        assert_eq!(
            note("exp", 1_700_000_060.into()).unwrap(),
            "expires Tue, 14 Nov 2023 22:14:20 GMT, in 60 seconds"
        );
        assert_eq!(
            note("iat", 1_699_996_400.into()).unwrap(),
            "issued Tue, 14 Nov 2023 21:13:20 GMT, 60 minutes ago"
        );
        assert_eq!(note("exp", "soon".into()).unwrap(), "expires: not a valid date");
        assert_eq!(note("exp", u64::MAX.into()).unwrap(), "expires: not a valid date");
        assert_eq!(note("colour", "red".into()), None);
    }
}
