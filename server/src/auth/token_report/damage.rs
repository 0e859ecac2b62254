//! Where the text of a token is damaged.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_engine::limits::MAX_TOKEN_BYTES;
use serde_json::{Map, Value};

use crate::base::redacted::json_error;

/// The parts of a token, which dots separate.
const PARTS: [&str; 3] = ["header", "payload", "signature"];
/// Parts of an encrypted token (RFC 7516 section 3.1).
const ENCRYPTED_PARTS: usize = 5;

/// Returns each damage of the text of a token, with its position, which is counted from 1.
pub(super) fn damages(token: &str) -> Vec<String> {
    let mut found = Vec::new();
    if token.len() > MAX_TOKEN_BYTES {
        let size = token.len();
        found.push(format!("It has {size} bytes; the longest token has {MAX_TOKEN_BYTES}."));
    }
    let parts: Vec<_> = token.split('.').collect();
    match parts.len() {
        3 => {}
        ENCRYPTED_PARTS => {
            found.push(
                "It has 5 parts, as an encrypted token (JWE) has. A signed one has 3.".into(),
            );
            return found;
        }
        count => found.push(format!("It has {count} parts; dots separate the 3 of a token.")),
    }
    let mut start = 1;
    for (name, part) in PARTS.into_iter().zip(&parts) {
        found.extend(damage_of(name, part, start));
        start += part.chars().count() + 1;
    }
    found
}

/// Returns the damage of a part that begins at the position `start`.
fn damage_of(name: &str, part: &str, start: usize) -> Option<String> {
    let is_base64url = |one: char| one.is_ascii_alphanumeric() || one == '-' || one == '_';
    if part.is_empty() {
        return Some(format!("The {name} is empty, at position {start}."));
    }
    if let Some((index, character)) = part.chars().enumerate().find(|(_, one)| !is_base64url(*one))
    {
        let position = start + index;
        return Some(format!(
            "The {name} has {character:?} at position {position}, which base64url does not have."
        ));
    }
    let Ok(bytes) = URL_SAFE_NO_PAD.decode(part) else {
        let end = start + part.len() - 1;
        return Some(format!("The {name} ends early or is damaged at its end, position {end}."));
    };
    if name == "signature" {
        return None;
    }
    let error = serde_json::from_slice::<Map<String, Value>>(&bytes).err()?;
    Some(format!("The {name}, decoded, is not a JSON object: {}.", json_error(&error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_has_its_position() {
        for (token, expected) in [
            ("e30.e30", "It has 2 parts; dots separate the 3 of a token."),
            ("a.b.c.d.e", "It has 5 parts, as an encrypted token (JWE) has. A signed one has 3."),
            ("e30.e+0.c2ln", "The payload has '+' at position 6, which base64url does not have."),
            ("e30..c2ln", "The payload is empty, at position 5."),
            ("e30.e30.c2lnX", "The signature ends early or is damaged at its end, position 13."),
            (
                "WzFd.e30.c2ln",
                "The header, decoded, is not a JSON object: unexpected value at line",
            ),
            ("é.e30.c2ln", "The header has 'é' at position 1, which base64url does not have."),
        ] {
            let found = damages(token);
            assert!(found.iter().any(|one| one.starts_with(expected)), "{token}: {found:?}");
        }
        assert_eq!(damages("e30.e30.c2ln"), [""; 0]);
        assert!(damages(&"a".repeat(MAX_TOKEN_BYTES + 1))[0].starts_with("It has 16385 bytes"));
    }
}
