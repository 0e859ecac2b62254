//! [`InspectedToken`]: what the inspectors of the console and the Admin API show of a token.

use std::collections::BTreeMap;

use countersign_engine::{Presentation, Reject, UnixTime, jws::UnverifiedToken};

use super::{TokenMember, TokenReport, claim_members, damage::damages, header_members};
use crate::{auth::Authenticator, config::setting::Section};

/// A token with all of its checks. Nothing of it is kept.
#[derive(Debug)]
pub struct InspectedToken {
    /// Its header and payload; `None` if they cannot be decoded.
    pub parts: Option<DecodedParts>,
    /// Its checks, or the reason why it cannot be read.
    pub report: Result<TokenReport, Reject>,
    /// Where its text is damaged, if it cannot be read.
    pub damages: Vec<String>,
}

/// The decoded parts of a token.
#[derive(Debug)]
pub struct DecodedParts {
    /// The header.
    pub header: DecodedPart,
    /// The payload.
    pub payload: DecodedPart,
}

/// A decoded part of a token.
#[derive(Debug)]
pub struct DecodedPart {
    /// Its members; `None` if it is not a JSON object.
    pub members: Option<Vec<TokenMember>>,
    /// Its length in bytes.
    pub length: usize,
}

impl InspectedToken {
    /// Inspects a [bare token](bare_token). `sections` are the configuration as written.
    #[must_use]
    pub fn of(
        authenticator: &Authenticator,
        (token, now): (&str, UnixTime),
        sections: &BTreeMap<String, Section>,
    ) -> Self {
        let presented = (token.as_bytes(), now);
        let report = TokenReport::of(authenticator, presented, Presentation::default(), sections);
        let damages = if report.is_err() { damages(token) } else { Vec::new() };
        Self { parts: DecodedParts::of(token), report, damages }
    }

    /// Returns why the token is refused; `None` if the rules of its issuer accept it.
    #[must_use]
    pub fn reject(&self) -> Option<Reject> {
        match &self.report {
            Ok(report) => report.first_reject(),
            Err(reject) => Some(*reject),
        }
    }
}

impl DecodedParts {
    fn of(token: &str) -> Option<Self> {
        let parts = UnverifiedToken::decode(token.as_bytes()).ok()?;
        let (header, payload) = (&parts.header, &parts.payload);
        Some(Self {
            header: DecodedPart { members: header_members(header), length: header.len() },
            payload: DecodedPart { members: claim_members(payload), length: payload.len() },
        })
    }
}

/// Returns a token without the spaces and the words of a header that are often copied with it.
#[must_use]
pub fn bare_token(text: &str) -> &str {
    let text = text.trim();
    let text = strip_prefix(text, "authorization:").trim_start();
    strip_prefix(text, "bearer ").trim_start()
}

fn strip_prefix<'t>(text: &'t str, prefix: &str) -> &'t str {
    match text.split_at_checked(prefix.len()) {
        Some((start, rest)) if start.eq_ignore_ascii_case(prefix) => rest,
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_is_taken_out_of_its_header() {
        for text in
            ["a.b.c", " a.b.c\n", "Bearer a.b.c", "authorization: bearer  a.b.c", "BEARER a.b.c"]
        {
            assert_eq!(bare_token(text), "a.b.c", "{text}");
        }
        assert_eq!(bare_token("bear"), "bear");
    }
}
