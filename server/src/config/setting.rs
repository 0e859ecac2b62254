//! Options and sections as written, and the normal form of their names.

use std::{collections::BTreeMap, fmt};

use super::options::{API_CLIENTS_SECTION, CLAIM_PREFIX, IDENTITY_HEADERS_SECTION, ISSUER_PREFIX};

/// Unvalidated value of one option.
#[derive(Clone)]
pub struct Setting {
    /// The value. List elements are joined by commas.
    pub text: String,
    /// `file:line` or the name of an environment variable.
    pub place: String,
}

impl fmt::Debug for Setting {
    /// Prints the place but not the value, which may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Setting({})", self.place)
    }
}

/// One section: [`Setting`]s by name, with `_` for every `-`.
#[derive(Clone, Debug, Default)]
pub struct Section {
    /// `file:line` of its header. Empty for a section from environment variables.
    pub place: String,
    /// Its position among all sections, in the order in which they first appear.
    pub order: usize,
    /// Its options.
    pub settings: BTreeMap<String, Setting>,
}

/// Returns the normal form of an option name. Inmanta treats `_` and `-` alike. Client
/// names in `[api_clients]` and the names of claims are not changed.
pub(crate) fn normal_option(section: &str, name: &str) -> String {
    if section == API_CLIENTS_SECTION || is_claim_option(section, name) {
        name.into()
    } else {
        name.to_lowercase().replace('-', "_")
    }
}

/// Whether an option names a claim: `claim.<path>` in `[identity_headers]`.
pub(crate) fn is_claim_option(section: &str, name: &str) -> bool {
    section == IDENTITY_HEADERS_SECTION && name.starts_with(CLAIM_PREFIX)
}

/// Returns the normal form of a section name. Issuer ids are lower-case. Other names are
/// not changed.
pub(crate) fn normal_section(name: &str) -> String {
    match name.strip_prefix(ISSUER_PREFIX) {
        Some(id) => format!("{ISSUER_PREFIX}{}", id.to_lowercase()),
        None => name.into(),
    }
}
