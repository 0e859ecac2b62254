//! The sources of a section with public keys.

use std::{path::PathBuf, sync::Arc};

use countersign_engine::jwks::Origin;
use percent_encoding::percent_decode_str;

use super::{KeyContext, KeyLocation, KeySource, fetching, reject_two_sources};
use crate::{
    base::redacted::uri_origin,
    config::reader::SectionReader,
    keys::{published::default_discovery_uri, static_keys},
};

/// Reads the source of a section with public keys.
pub(super) fn read(reader: &mut SectionReader<'_>, context: KeyContext) -> Option<KeySource> {
    const SOURCES: [&str; 4] = ["jwks_uri", "discovery_uri", "key_file", "key"];
    let given: Vec<_> =
        SOURCES.into_iter().filter(|option| reader.text(option).is_some()).collect();
    match given[..] {
        [] => {
            if let Some(uri) = default_discovery_uri(reader) {
                return Some(fetching::refreshed_keys(reader, KeyLocation::Discovery(uri)));
            }
            let text = format!(
                "jwks_uri is required for RS256 based providers in section {}",
                reader.section
            );
            reader.error(
                "jwks_uri",
                text,
                "set jwks_uri or discovery_uri, or give the public key as key or key_file; for an \
                 https:// issuer whose keys are found by discovery, remove algorithm",
            );
            None
        }
        [option] => read_source(reader, option, context),
        // Inmanta ignores `key` beside a `jwks_uri`.
        ["jwks_uri", "key"] => {
            let text = format!("key in {} is ignored because jwks_uri is set", reader.section);
            reader.warn("key", text, "remove the line");
            read_source(reader, "jwks_uri", context)
        }
        [first, second, ..] => reject_two_sources(reader, first, second),
    }
}

fn read_source(
    reader: &mut SectionReader<'_>,
    option: &str,
    context: KeyContext,
) -> Option<KeySource> {
    let text = reader.text(option)?;
    let location = match option {
        "key" => return read_static_keys(reader, text, context),
        "key_file" => {
            KeyLocation::File { path: text.into(), origin: Origin::Static, encoding: None }
        }
        option => read_uri(reader, option, text)?,
    };
    if context.serves_tls && location.uri().is_some_and(|uri| uri.starts_with("http://")) {
        let text = format!(
            "{option} in {} is plain http: anyone on the network path can replace the keys",
            reader.section
        );
        reader.warn(option, text, "use https, as the main listener does");
    }
    Some(fetching::refreshed_keys(reader, location))
}

/// Reads `key`: static public keys, or secrets as JWKs.
pub(super) fn read_static_keys(
    reader: &mut SectionReader<'_>,
    text: &str,
    context: KeyContext,
) -> Option<KeySource> {
    match static_keys::parse_keys(text.as_bytes(), context.algorithms) {
        Ok((keys, remarks)) => {
            for remark in remarks {
                reader.warn("key", remark, "");
            }
            Some(KeySource::Static(Arc::new(keys)))
        }
        Err(error) => {
            let text = format!("key in {} cannot be used: {error}", reader.section);
            reader.error(
                "key",
                text,
                "write a public key or certificate as PEM, as base64 of its DER, or as a JWK",
            );
            None
        }
    }
}

fn read_uri(reader: &mut SectionReader<'_>, option: &str, uri: &str) -> Option<KeyLocation> {
    let (scheme, rest) = uri.split_once("://").unwrap_or_default();
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.contains('@') {
        // The URI contains a password, so the message must not.
        let text = format!("{option} in {} contains credentials", reader.section);
        reader.error(option, text, "key sets are public: write a URI without user and password");
        return None;
    }
    let is_file = scheme == "file" && option == "jwks_uri";
    let complete = if is_file {
        rest.starts_with('/') || rest.starts_with("localhost/")
    } else {
        !authority.is_empty()
    };
    if !(is_file || ["https", "http"].contains(&scheme))
        || !complete
        || uri.contains(char::is_whitespace)
    {
        let (schemes, example) = match option {
            "jwks_uri" => (
                "https://, http:// or file://",
                "https://idp.example/keys or file:///etc/countersign/keys.json",
            ),
            _ => ("https:// or http://", "https://idp.example/.well-known/openid-configuration"),
        };
        let text =
            format!("{option} {} in {} is not an {schemes} URI", uri_origin(uri), reader.section);
        reader.error(option, text, &format!("write one such as {example}"));
        return None;
    }
    Some(match option {
        "discovery_uri" => KeyLocation::Discovery(uri.into()),
        _ if is_file => {
            let path = percent_decode_str(rest.strip_prefix("localhost").unwrap_or(rest))
                .decode_utf8_lossy();
            KeyLocation::File {
                path: PathBuf::from(&*path),
                origin: Origin::Published,
                encoding: None,
            }
        }
        _ => KeyLocation::Jwks(uri.into()),
    })
}
