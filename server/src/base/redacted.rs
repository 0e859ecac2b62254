//! Values in messages: no message quotes an input that may be a secret.
//!
//! Keys, tokens and passwords end up in the wrong option or file. Parsers of libraries quote their
//! input in their errors, and messages are stored in logs and served to monitoring. Messages
//! therefore name the place of a mistake and show its value only if it cannot be a key or a token.

use std::{borrow::Cow, path::Path};

use rustls::pki_types::pem::{self, PemObject};
use serde_json::error::Category;

/// Returns a value in quotation marks for a message, or its length if it may be a secret.
#[must_use]
pub fn quoted(text: &str) -> String {
    match text {
        _ if may_be_secret(text) => not_shown(text),
        _ => format!("{text:?}"),
    }
}

/// Like [`quoted`], for Inmanta's messages, which have no quotation marks.
#[must_use]
pub fn shown(text: &str) -> Cow<'_, str> {
    if may_be_secret(text) { not_shown(text).into() } else { text.into() }
}

/// Returns a description of a value that is not shown.
#[must_use]
pub fn not_shown(text: &str) -> String {
    format!("(a value of {} characters, not shown)", text.chars().count())
}

/// Whether a value may be a key, a token or a part of one: it is too long for a name or a number,
/// is the text of a key, or has a long run of characters of base64.
#[must_use]
pub fn may_be_secret(text: &str) -> bool {
    /// Shorter than any key: a secret of 16 bytes has 22 characters in base64.
    const MAX_RUN: usize = 20;
    const MAX_CHARS: usize = 100;
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/-_=\\".contains(&byte);
    text.chars().count() > MAX_CHARS
        || is_key_text(text)
        || text.as_bytes().split(|byte| !is_base64(*byte)).any(|run| run.len() > MAX_RUN)
}

/// Whether a value is the text of a key or certificate: PEM or a JWK.
#[must_use]
pub fn is_key_text(text: &str) -> bool {
    text.contains("-----") || text.contains("\"kty\"")
}

/// Whether a value looks like a token: three segments, of which the first is a JSON object.
#[must_use]
pub fn is_token_text(text: &str) -> bool {
    text.trim_start().starts_with("eyJ") && text.matches('.').count() >= 2
}

/// Whether a value can be the path of a file, rather than a key. Messages contain such a path.
///
/// A long path is plausible if its file or directory exists. Otherwise it must have a file name
/// extension, or short names in lower case: keys in base64 have neither.
#[must_use]
pub fn is_plausible_path(text: &str) -> bool {
    const MAX_EXTENSION_CHARS: usize = 8;
    const MAX_NAME_CHARS: usize = 30;
    let path = Path::new(text);
    let is_in_directory = || {
        let root_or_none = |parent: &Path| parent.parent().is_none();
        path.parent().is_some_and(|parent| !root_or_none(parent) && parent.is_dir())
    };
    let has_extension = || {
        path.extension().and_then(|extension| extension.to_str()).is_some_and(|extension| {
            extension.len() <= MAX_EXTENSION_CHARS
                && extension.bytes().all(|byte| byte.is_ascii_alphanumeric())
        })
    };
    let is_lower_case = || {
        let is_short_name = |name: &str| name.len() <= MAX_NAME_CHARS;
        !text.contains(char::is_uppercase) && text.split('/').all(is_short_name)
    };
    let is_long_path = || is_lower_case() || has_extension() || path.exists() || is_in_directory();
    !is_key_text(text)
        && !text.contains(char::is_control)
        && (!may_be_secret(text) || is_long_path())
}

/// Returns scheme, host and port of a URI for a message. Credentials, path and query may contain a
/// secret.
#[must_use]
pub fn uri_origin(uri: &str) -> String {
    let (scheme, rest) = uri.split_once("://").unwrap_or_default();
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if scheme.is_empty() || authority.contains('@') || may_be_secret(authority) {
        return if uri.contains('@') { not_shown(uri) } else { quoted(uri) };
    }
    format!("\"{scheme}://{authority}{}\"", if rest == authority { "" } else { "/…" })
}

/// Returns a URI without the value of its query, which may be the secret of an API.
#[must_use]
pub fn without_query(uri: &str) -> String {
    match uri.split_once('?') {
        Some((location, _)) => format!("{location}?…"),
        None => uri.into(),
    }
}

/// Parses the PEM sections of one kind.
///
/// # Errors
/// A description of the damage, without any part of the text.
pub fn pem_sections<T: PemObject>(text: &[u8]) -> Result<Vec<T>, &'static str> {
    #[expect(clippy::disallowed_methods, reason = "its errors do not leave this function")]
    T::pem_slice_iter(text).collect::<Result<_, _>>().map_err(|error| match error {
        pem::Error::MissingSectionEnd { .. } => "it is damaged: a section has no end",
        pem::Error::IllegalSectionStart { .. } => {
            "it is damaged: a line that begins a section does not end as it should"
        }
        pem::Error::Base64Decode(_) => "it is damaged: a section is not base64",
        _ => "it is damaged",
    })
}

/// Returns the description of an error in JSON, by its line and column. The parser's own message
/// quotes values.
#[must_use]
pub fn json_error(error: &serde_json::Error) -> String {
    let place = format!("line {} column {}", error.line(), error.column());
    match (member_error(error), error.classify()) {
        (Some(text), _) => format!("{text} at {place}"),
        (None, Category::Data) => format!("unexpected value at {place}"),
        (None, Category::Eof) => format!("the JSON text ends early, at {place}"),
        (None, Category::Syntax | Category::Io) => format!("not JSON at {place}"),
    }
}

/// Returns the part of a message of serde that names a member. An unknown name is only part of it
/// if it cannot be a secret.
#[must_use]
pub fn member_error(error: &impl ToString) -> Option<String> {
    const KINDS: [&str; 3] = ["missing field", "duplicate field", "unknown field"];
    let text = error.to_string();
    let (kind, rest) = text.split_once(" `")?;
    let name = rest.split('`').next().filter(|_| KINDS.contains(&kind))?;
    Some(format!("{kind} `{}`", shown(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_values_are_quoted_and_keys_are_not() {
        for shown in ["maybe", "10.0.0.0/33", "[2001:db8::1]:99999", "a b", "https://server"] {
            assert_eq!(quoted(shown), format!("{shown:?}"));
        }
        for secret in [
            "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
            "-----BEGIN X",
            "-----BEGIN PRIVATE KEY-----\\nMIIE\\n",
            "{\"kty\":\"EC\",\"d\":\"x\"}",
            "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJodHRwczovL2lkcC8ifQ.c2ln",
        ] {
            let shown = quoted(secret);
            assert!(shown.ends_with("characters, not shown)"), "{shown}");
        }
    }

    #[test]
    fn path_is_distinguished_from_a_key() {
        for path in
            ["k", "/", "/Missing/directory/of/many/keys.pem", "/var/lib/missing/revocations"]
        {
            assert!(is_plausible_path(path), "{path}");
        }
        let existing = std::env::current_dir().unwrap().join("a-name-without-an-extension-here");
        assert!(is_plausible_path(existing.to_str().unwrap()));
        for key in [
            "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
            "/AECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
            "-----BEGIN PRIVATE KEY-----",
            "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJodHRwczovL2lkcC8ifQ.c2lnbmF0dXJl",
        ] {
            assert!(!is_plausible_path(key), "{key}");
        }
    }

    #[test]
    fn uri_is_shown_without_its_secrets() {
        assert_eq!(uri_origin("ftp://idp.example/keys?key=1"), "\"ftp://idp.example/…\"");
        assert_eq!(uri_origin("https://"), "\"https://\"");
        assert_eq!(uri_origin("user:secret@idp"), "(a value of 15 characters, not shown)");
        assert_eq!(uri_origin("x://user:secret@idp"), "(a value of 19 characters, not shown)");
        assert_eq!(without_query("https://idp/keys?api_key=1"), "https://idp/keys?…");
    }

    #[test]
    fn json_error_quotes_no_value() {
        #[derive(Debug, serde::Deserialize)]
        struct Wanted {
            #[expect(dead_code, reason = "only parsed")]
            member: u8,
        }
        for (json, expected) in [
            ("{\"member\":\"secret\"}", "unexpected value at line 1 column 1"),
            ("{}", "missing field `member` at line 1 column 2"),
            ("{\"member\":1,\"member\":2}", "duplicate field `member` at line 1 column 2"),
            ("{secret", "not JSON at line 1 column 2"),
            ("{", "the JSON text ends early, at line 1 column 1"),
        ] {
            let error = serde_json::from_str::<Wanted>(json).unwrap_err();
            // The last digit of the column depends on the features of the parser.
            assert!(json_error(&error).starts_with(expected), "{}", json_error(&error));
        }
    }
}
