//! One option of a section as it was written, and how names are compared.

use std::{collections::BTreeMap, fmt};

use super::{clients, options::ISSUER_PREFIX};

/// One option as written.
#[derive(Clone)]
pub struct Setting {
    /// The value: of a list, the elements joined by commas.
    pub text: String,
    /// `file:line` or the name of an environment variable.
    pub place: String,
}

impl fmt::Debug for Setting {
    /// Shows where it stands, not what it says: it may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Setting({})", self.place)
    }
}

/// One section: its options by name, with `_` for every `-`.
#[derive(Clone, Debug, Default)]
pub struct Section {
    /// `file:line` of its header; empty for one made by environment variables.
    pub place: String,
    /// Its options.
    pub settings: BTreeMap<String, Setting>,
}

/// Inmanta's `_` and `-` are the same in the names of options; the names of
/// clients are exact.
pub(super) fn normal_option(section: &str, name: &str) -> String {
    if section == clients::SECTION { name.into() } else { name.to_lowercase().replace('-', "_") }
}

/// The ids of issuers are lower-case; the names of all other sections are exact.
pub(super) fn normal_section(name: &str) -> String {
    match name.strip_prefix(ISSUER_PREFIX) {
        Some(id) => format!("{ISSUER_PREFIX}{}", id.to_lowercase()),
        None => name.into(),
    }
}
