//! The options of a configuration for people who look at it: without secrets.

use std::collections::BTreeMap;

use super::{
    options::{self, API_CLIENTS_SECTION, OptionKind},
    raw::looks_like_a_name,
    setting::{Section, Setting, is_claim_option},
};
use crate::base::redacted::{is_key_text, is_token_text, may_be_secret, without_query};

/// Stands for a value that is not shown.
pub(crate) const HIDDEN: &str = "(not shown)";
/// Longest shown value, in characters.
const MAX_CHARACTERS: usize = 1000;

/// Returns sections in which [`HIDDEN`] stands for values that are secrets, or may be.
pub(crate) fn without_secrets(sections: &BTreeMap<String, Section>) -> BTreeMap<String, Section> {
    let shown_section = |(name, section): (&String, &Section)| {
        let settings = section.settings.iter().map(|(option, setting)| {
            let text = shown(name, option, &setting.text);
            let place = setting.place.clone();
            (shown_option(name, option), Setting { text, place })
        });
        let settings = settings.collect();
        (name.clone(), Section { settings, ..section.clone() })
    };
    sections.iter().map(shown_section).collect()
}

/// Returns the name of an option. A line of a key can look like an unknown option.
fn shown_option(section: &str, option: &str) -> String {
    let spec = options::section(section);
    let is_known = spec.is_some_and(|spec| spec.option(option).is_some());
    let is_name = section == API_CLIENTS_SECTION || is_claim_option(section, option);
    if is_known || is_name || looks_like_a_name(option) { option.into() } else { HIDDEN.into() }
}

/// Returns a value without what may be secret in it.
fn shown(section: &str, option: &str, text: &str) -> String {
    let spec = options::section(section).and_then(|spec| spec.option(option));
    let is_secret = match spec {
        _ if text.trim().is_empty() => false,
        _ if section == API_CLIENTS_SECTION => true,
        Some(spec) => {
            spec.is_secret
                || spec.kind == OptionKind::Ignored
                || is_key_text(text)
                || is_token_text(text)
        }
        // It may be a misspelt name of a secret, or the password of another program.
        None => !is_claim_option(section, option) || may_be_secret(text),
    };
    if is_secret {
        return HIDDEN.into();
    }
    // A query may contain commas.
    let text = match text.split_once('?') {
        Some((before, _)) if before.contains("://") => &format!("{before}?…"),
        _ => text,
    };
    let text = text.split(',').map(shown_item).collect::<Vec<_>>().join(",");
    match text.char_indices().nth(MAX_CHARACTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Returns an item of a list. A URI is shown without its user, and without its query, which may be
/// the key of an API.
fn shown_item(item: &str) -> String {
    let Some((_, rest)) = item.split_once("://") else { return item.into() };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') { HIDDEN.into() } else { without_query(item) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_a_configuration_are_not_shown() {
        for (section, option, text) in [
            ("auth_jwt_a", "key", "rID3kG4OwGpajIsxnGDhat4UFcMkyFZQc1y3oKQTPRs"),
            ("database", "url", "postgres://user:secret@db/countersign"),
            ("api_clients", "deployer", "sha256:5e884898da28047151d0e56f8dc62927"),
            ("multi_tenancy", "api_key", "short"),
            ("cmdline_rest_transport", "token", "eyJhbGciOiJIUzI1NiJ9.e30.c2ln"),
            ("auth_jwt_a", "issuer", "-----BEGIN PRIVATE KEY-----"),
            ("auth_jwt_a", "jwks_uri", "https://user:secret@idp/keys"),
            ("server", "misspelt_key", "rID3kG4OwGpajIsxnGDhat4UFcMkyFZQc1y3oKQTPRs"),
            ("database", "passwort", "hunter2"),
            ("influxdb", "password", "hunter2"),
        ] {
            assert_eq!(shown(section, option, text), HIDDEN, "{section} {option}");
        }
    }

    #[test]
    fn other_values_of_a_configuration_are_shown() {
        for (section, option, text, expected) in [
            ("auth_jwt_a", "audience", "api://orders, api://stock", "api://orders, api://stock"),
            ("auth_jwt_a", "jwks_uri", "https://idp/keys?api_key=1", "https://idp/keys?…"),
            ("auth_jwt_a", "jwks_uri", "https://idp/keys?a=1,secret", "https://idp/keys?…"),
            ("database", "url", "sqlite:/var/lib/users.db", HIDDEN),
            ("database", "url", "postgres://user@db/countersign", HIDDEN),
            ("server", "auth", "true", "true"),
            ("auth_jwt_a", "key", "", ""),
        ] {
            assert_eq!(shown(section, option, text), expected, "{section} {option}");
        }
        let long = "a".repeat(2000);
        assert_eq!(shown("server", "realm", &long).chars().count(), MAX_CHARACTERS + 1);
    }

    #[test]
    fn line_of_a_key_is_not_shown_as_an_option() {
        let line = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj";
        assert_eq!(shown_option("auth_jwt_a", line), HIDDEN);
        assert_eq!(shown_option("auth_jwt_a", "audience"), "audience");
        assert_eq!(shown_option("api_clients", "Deployer-1"), "Deployer-1");
    }
}
