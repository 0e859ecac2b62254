//! `[api_clients]`: clients that may revoke tokens and have keys fetched, by name and hashed secret.

use std::{collections::BTreeMap, fmt};

use aws_lc_rs::constant_time::verify_slices_are_equal;

use crate::{
    base::{redacted::may_be_secret, secret_hash},
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
            match secret_hash::parse(&setting.text) {
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
        let presented = secret_hash::hash(secret);
        let expected = self.0.get(name);
        let equal = verify_slices_are_equal(&presented, expected.unwrap_or(&[0; 32])).is_ok();
        equal && expected.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{base::secret_hash::hash_text, config::setting::Setting};

    #[test]
    fn api_client_accepts_only_its_own_secret() {
        let mut problems = Problems::default();
        let setting = |text: &str| Setting { text: text.into(), place: "f:1".into() };
        let settings = [("ci", setting(&hash_text("s3cret"))), ("odd", setting("s3cret"))];
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
