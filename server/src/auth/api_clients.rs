//! `[api_clients]`: clients that may revoke tokens and have keys fetched, by name and hashed secret.

use std::{collections::BTreeMap, fmt};

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{SHA256, digest},
};

use crate::{
    base::{
        hex::{from_hex, to_hex},
        redacted::may_be_secret,
    },
    config::{
        options::API_CLIENTS_SECTION,
        problem::{Problem, Problems},
        setting::Section,
    },
};

/// The configured clients and the SHA-256 of their secrets.
#[derive(Clone, Default)]
pub struct ApiClients(BTreeMap<String, [u8; 32]>);

impl fmt::Debug for ApiClients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl ApiClients {
    pub(crate) fn read(sections: &BTreeMap<String, Section>, problems: &mut Problems) -> Self {
        let mut clients = Self::default();
        for (name, setting) in
            sections.get(API_CLIENTS_SECTION).into_iter().flat_map(|section| &section.settings)
        {
            match setting.text.strip_prefix("sha256:").map(from_hex) {
                Some(Ok(hash)) => drop(clients.0.insert(name.clone(), hash)),
                // The message does not contain the value, which may be the secret itself.
                // Nor a name that may be one, because the two were exchanged.
                _ => {
                    let name = if may_be_secret(name) { "the hash of a client" } else { name };
                    let text = format!(
                        "{API_CLIENTS_SECTION}: {name} must be sha256: and 64 hexadecimal digits"
                    );
                    let help = "generate a secret and its line with countersign key client";
                    problems.push(Problem::error(&setting.place, text).help(help));
                }
            }
        }
        clients
    }

    /// Whether no client is configured.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `secret` is the secret of the client `name`.
    ///
    /// Constant time: wrong secrets and unknown names take as long as the right secret.
    #[must_use]
    pub fn accept(&self, name: &str, secret: &[u8]) -> bool {
        let presented = digest(&SHA256, secret);
        let expected = self.0.get(name);
        let equal =
            verify_slices_are_equal(presented.as_ref(), expected.unwrap_or(&[0; 32])).is_ok();
        equal && expected.is_some()
    }
}

/// Returns the hash of a secret as written in the configuration.
///
/// A plain hash is enough. The secrets are random, so dictionary attacks do not apply.
#[must_use]
pub fn hash_secret(secret: &str) -> String {
    format!("sha256:{}", to_hex(digest(&SHA256, secret.as_bytes()).as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::setting::Setting;

    #[test]
    fn api_client_accepts_only_its_own_secret() {
        let mut problems = Problems::default();
        let setting = |text: &str| Setting { text: text.into(), place: "f:1".into() };
        let settings = [("ci", setting(&hash_secret("s3cret"))), ("odd", setting("s3cret"))];
        let section = Section {
            settings: settings.map(|(name, setting)| (name.into(), setting)).into(),
            ..Section::default()
        };
        let clients =
            ApiClients::read(&[(API_CLIENTS_SECTION.into(), section)].into(), &mut problems);
        assert!(clients.accept("ci", b"s3cret"));
        for (name, secret) in [
            ("ci", "s3cret "),
            ("ci", ""),
            ("CI", "s3cret"),
            ("", ""),
            ("odd", "s3cret"),
            ("x", "s3cret"),
        ] {
            assert!(!clients.accept(name, secret.as_bytes()), "{name} {secret}");
        }
        assert_eq!(problems.0.len(), 1);
        assert!(!problems.to_string().contains("s3cret"));
        assert_eq!(format!("{clients:?}"), "{\"ci\"}");
    }
}
