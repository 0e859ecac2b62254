//! The further keys of the section that signs: `next_key` and `previous_keys`, or files with them.

use std::path::Path;

use super::{
    KeyContext, KeySource, SigningSecret, read_file, reject_two_sources,
    secrets::{SecretPlace, read_secret},
};
use crate::{
    config::reader::SectionReader,
    keys::{
        secret_id::secret_id,
        secret_keys::{MAX_SECRETS, SecretKeys},
    },
};

/// The options of this module.
const OPTIONS: [&str; 4] = ["next_key", "next_key_file", "previous_keys", "previous_key_files"];

/// Refuses the options in a section that does not sign.
pub(super) fn refuse(reader: &mut SectionReader<'_>) {
    for option in OPTIONS {
        if reader.given(option).is_some() {
            let text = format!("{option} in {} needs sign = true", reader.section);
            let help = "the keys of other issuers rotate in a JWK Set, or in a section with another \
                        issuer";
            reader.error(option, text, help);
        }
    }
}

/// Reads the further keys of a section that signs with `key`.
pub(super) fn read(
    reader: &mut SectionReader<'_>,
    key: SigningSecret,
    context: KeyContext,
) -> Option<KeySource> {
    let next = read_next(reader, context)?;
    let previous = read_previous(reader, context)?;
    let known = [("key".to_owned(), "key", &key)].into_iter();
    let known = known.chain(next.iter().map(|next| ("next_key".to_owned(), "next_key", next)));
    let known: Vec<_> = known
        .chain(previous.iter().map(|(name, option, secret)| (name.clone(), *option, secret)))
        .collect();
    for (index, (name, option, secret)) in known.iter().enumerate() {
        let same = known[..index].iter().find(|(_, _, other)| other.expose() == secret.expose());
        if let Some((other, ..)) = same {
            let text = format!("{name} in {} is the same key as {other}", reader.section);
            let help = "write each key once; create another with countersign key generate";
            reader.error(option, text, help);
            return None;
        }
    }
    if known.len() > MAX_SECRETS {
        let text = format!(
            "{} has {} keys, but at most {MAX_SECRETS} are tried for a token",
            reader.section,
            known.len()
        );
        let option = known.last().map_or("previous_keys", |(_, option, _)| option);
        reader.error(option, text, "remove the previous keys whose last token has expired");
        return None;
    }
    let previous = previous.into_iter().map(|(_, _, secret)| secret).collect();
    Some(KeySource::Secret(SecretKeys::new(key, next, previous)))
}

/// Reads `next_key` or `next_key_file`; the outer `None` after an error.
fn read_next(reader: &mut SectionReader<'_>, context: KeyContext) -> Option<Option<SigningSecret>> {
    let (option, secret) = match (reader.given("next_key"), reader.given("next_key_file")) {
        (None, None) => return Some(None),
        (Some(_), Some(_)) => {
            reject_two_sources(reader, "next_key", "next_key_file");
            return None;
        }
        (Some(text), None) => {
            let place = SecretPlace { option: "next_key", name: "next_key" };
            (
                "next_key",
                SigningSecret::new(read_secret(reader, place, text.as_bytes(), context)?, None),
            )
        }
        (None, Some(path)) => {
            ("next_key_file", read_secret_file(reader, "next_key_file", path, context)?)
        }
    };
    if secret_id(secret.expose()).is_none() {
        let text = format!("{option} in {} could be guessed, as it is not random", reader.section);
        reader.error(option, text, "create a key with countersign key generate");
        return None;
    }
    Some(Some(secret))
}

/// A name for errors, the option, and the secret.
type PreviousSecret = (String, &'static str, SigningSecret);

/// Reads `previous_keys` and `previous_key_files`; `None` after an error.
fn read_previous(
    reader: &mut SectionReader<'_>,
    context: KeyContext,
) -> Option<Vec<PreviousSecret>> {
    let mut previous = Vec::new();
    let option = "previous_keys";
    for (index, text) in reader.given_list(option).into_iter().enumerate() {
        let name = format!("key {} of {option}", index + 1);
        let place = SecretPlace { option, name: &name };
        let secret = read_secret(reader, place, text.as_bytes(), context)?;
        previous.push((name, option, SigningSecret::new(secret, None)));
    }
    let option = "previous_key_files";
    for path in reader.given_list(option) {
        let secret = read_secret_file(reader, option, path, context)?;
        previous.push((format!("{option} {path}"), option, secret));
    }
    Some(previous)
}

fn read_secret_file(
    reader: &mut SectionReader<'_>,
    option: &'static str,
    path: &str,
    context: KeyContext,
) -> Option<SigningSecret> {
    reader.warn_if_readable_by_all(option, Path::new(path));
    let text = read_file(reader, option, Path::new(path))?;
    let name = format!("{option} {path}");
    let secret = read_secret(reader, SecretPlace { option, name: &name }, &text, context)?;
    Some(SigningSecret::new(secret, Some(path.into())))
}
