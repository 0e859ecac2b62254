//! `countersign token inspect`: the contents of a token, unverified.

use std::io::{self, Read as _};

use countersign_engine::{jws::UnverifiedToken, limits};

use crate::{
    auth::token_report::{TokenMember, claim_members, header_members},
    base::clock,
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
    show(&parts.header, header_members(&parts.header))?;
    print("\nclaims")?;
    show(&parts.payload, claim_members(&parts.payload))
}

pub(in crate::cli) fn read_input() -> io::Result<String> {
    let mut text = String::new();
    let most = u64::try_from(limits::MAX_TOKEN_BYTES).unwrap_or(u64::MAX).saturating_add(2);
    io::stdin().lock().take(most).read_to_string(&mut text)?;
    Ok(text.trim_end_matches(['\r', '\n']).into())
}

/// Prints the members of an object; `None` for another value.
fn show(json: &[u8], members: Option<Vec<TokenMember>>) -> Result<(), CommandError> {
    let Some(members) = members else {
        return Ok(print(format_args!("  {} bytes that are not a JSON object", json.len()))?);
    };
    let now = clock::now();
    let shown: Vec<_> = members
        .iter()
        .map(|member| (printable(&member.name), printable(&member.value), member.note(now)))
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
