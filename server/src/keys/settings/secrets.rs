//! `key` and `key_file` of a section with shared secrets.

use std::path::Path;

use countersign_engine::jwks::Origin;

use super::{
    KeyContext, KeyLocation, KeySource, SigningSecret, fetching, public, read_file, read_regular,
    reject_two_sources, rotation,
};
use crate::{
    config::reader::SectionReader,
    keys::{
        secret_encoding::{SecretEncoding, looks_like_text},
        static_keys,
    },
};

/// Reads `key` or `key_file` of a section with shared secrets.
pub(super) fn read(reader: &mut SectionReader<'_>, context: KeyContext) -> Option<KeySource> {
    match (reader.text("key"), reader.text("key_file")) {
        (Some(_), Some(_)) => reject_two_sources(reader, "key", "key_file"),
        (Some(text), None)
            if static_keys::is_jwk_text(text.as_bytes(), read_encoding(reader))
                && !context.sign =>
        {
            public::read_static_keys(reader, text, context)
        }
        (Some(text), None) => {
            let place = SecretPlace { option: "key", name: "key" };
            let secret = read_secret(reader, place, text.as_bytes(), context)?;
            with_rotation(reader, SigningSecret::new(secret, None), context)
        }
        (None, Some(path)) => {
            reader.warn_if_readable_by_all("key_file", Path::new(path));
            read_secret_file(reader, path, context)
        }
        (None, None) => {
            let longest = context.algorithms.iter().max()?;
            let text = format!("key is required in {} for algorithm {longest}", reader.section);
            reader.error("key", text, "create one with countersign key generate");
            None
        }
    }
}

fn read_secret_file(
    reader: &mut SectionReader<'_>,
    path: &str,
    context: KeyContext,
) -> Option<KeySource> {
    if !context.sign {
        hint_at_text_in_file(reader, Path::new(path), context);
        let encoding = Some(read_encoding(reader));
        let location = KeyLocation::File { path: path.into(), origin: Origin::Static, encoding };
        return Some(fetching::refreshed_keys(reader, location));
    }
    // Read with the configuration, which is loaded again when the file changes.
    let text = read_file(reader, "key_file", Path::new(path))?;
    let place = SecretPlace { option: "key_file", name: "key_file" };
    let secret = read_secret(reader, place, &text, context)?;
    with_rotation(reader, SigningSecret::new(secret, Some(path.into())), context)
}

/// Adds the keys that a section which signs rotates with.
fn with_rotation(
    reader: &mut SectionReader<'_>,
    key: SigningSecret,
    context: KeyContext,
) -> Option<KeySource> {
    if context.sign {
        return rotation::read(reader, key, context);
    }
    Some(KeySource::Secret(key.into()))
}

/// The place of a secret in a section.
#[derive(Clone, Copy)]
pub(super) struct SecretPlace<'p> {
    /// The option.
    pub(super) option: &'p str,
    /// A name for errors: that of the option, or one within its list.
    pub(super) name: &'p str,
}

/// Decodes and checks a secret.
pub(super) fn read_secret(
    reader: &mut SectionReader<'_>,
    SecretPlace { option, name: place }: SecretPlace<'_>,
    text: &[u8],
    context: KeyContext,
) -> Option<Vec<u8>> {
    // The longest hash requires the longest key.
    let longest = context.algorithms.iter().max()?;
    let bytes = longest.min_secret_bytes()?;
    let encoding = read_encoding(reader);
    let text = static_keys::without_byte_order_mark(text);
    let others = encoding.alternatives(text, bytes);
    let others: Vec<_> =
        others.iter().map(|other| format!("key_encoding = {}", other.name())).collect();
    // Messages do not contain the key, because they may be logged.
    let Some(secret) = encoding.decode(text) else {
        let name = match encoding {
            SecretEncoding::Base64Url => "urlsafe base64",
            SecretEncoding::Text => "UTF-8 text",
            encoding => encoding.name(),
        };
        let help = if text.trim_ascii().starts_with(b"{") {
            "a section that signs does not accept a JWK: write the value of its member \"k\"".into()
        } else if others.is_empty() {
            "use A-Z a-z 0-9 - and _ only, or create a key with countersign key generate".into()
        } else {
            let others = others.join(" or ");
            format!(
                "if it is in another encoding, write {others}; or create a key with countersign \
                     key generate"
            )
        };
        reader.error(option, format!("{place} in {} is not {name}", reader.section), &help);
        return None;
    };
    if static_keys::is_public_key(text) || static_keys::is_public_key(&secret) {
        let text = format!("{place} in {}: {}", reader.section, static_keys::PUBLIC_KEY_ERROR);
        let help = "for tokens that are signed with the private key, write algorithms = RS256 or \
                    another algorithm of public keys";
        reader.error(option, text, help);
        return None;
    }
    if secret.len() < bytes {
        let mut text = format!(
            "{longest} requires a key of {bytes} bytes ({} bits) or longer in {}",
            bytes * 8,
            reader.section
        );
        if !matches!(place, "key" | "key_file") {
            text += &format!(", but {place} has {}", secret.len());
        }
        let mut help = "create one with countersign key generate".to_owned();
        if !others.is_empty() {
            help += &format!("; if it is in another encoding, write {}", others.join(" or "));
        }
        reader.error(option, text, &help);
        return None;
    }
    hint_at_text(reader, option, text, context);
    Some(secret)
}

/// Reads `key_encoding`.
fn read_encoding(reader: &mut SectionReader<'_>) -> SecretEncoding {
    reader.choice("key_encoding", &SecretEncoding::ALL, SecretEncoding::name)
}

/// Notes a secret in the default encoding that looks like a text. The key of the section that signs
/// is left alone: another encoding would be another key.
fn hint_at_text(reader: &mut SectionReader<'_>, option: &str, text: &[u8], context: KeyContext) {
    let is_default = reader.text("key_encoding").is_none() && !context.sign;
    let Some(kind) = str::from_utf8(text).ok().filter(|_| is_default).and_then(looks_like_text)
    else {
        return;
    };
    let text =
        format!("{option} in {} is read as base64url, and looks like {kind}", reader.section);
    let help = "if its issuer signs with the bytes of the text itself, write key_encoding = text, \
                and with those of hexadecimal digits, hex; key_encoding = base64url confirms it";
    reader.note(option, text, help);
}

/// Does the same for a file, which need not exist yet.
fn hint_at_text_in_file(reader: &mut SectionReader<'_>, path: &Path, context: KeyContext) {
    if let Ok(text) = read_regular(path)
        && !static_keys::is_jwk_text(&text, SecretEncoding::default())
    {
        hint_at_text(reader, "key_file", &text, context);
    }
}
