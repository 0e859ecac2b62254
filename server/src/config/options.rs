//! The table of all sections and options: name, type, default, description and example.
//!
//! The [`SectionReader`](super::reader) takes types and defaults from this table. So do the
//! suggestions for unknown names and the [reference](super::reference), so that the code and the
//! documentation cannot differ.

mod authorization;
mod certificates;
mod clients;
mod console;
mod identities;
mod issuer;
mod limits;
mod listeners;
mod server;
mod storage;
mod tenancy;

pub use authorization::{ROUTE_PREFIX, ROUTES_SECTION};

/// Prefix of issuer sections.
pub const ISSUER_PREFIX: &str = "auth_jwt_";
/// Prefix of the sections of additional listeners.
pub const LISTENER_PREFIX: &str = "listener_";
/// The section whose option names are the names of clients.
pub const API_CLIENTS_SECTION: &str = "api_clients";
/// The section with the names of the identity headers.
pub const IDENTITY_HEADERS_SECTION: &str = "identity_headers";
/// Prefix of its options that name a claim.
pub const CLAIM_PREFIX: &str = "claim.";
/// The section of multi-tenancy.
pub const MULTI_TENANCY_SECTION: &str = "multi_tenancy";
/// The section of logins with client certificates.
pub const TLS_CERT_AUTH_SECTION: &str = "tls_cert_auth";
/// The value of `surface` for multi-tenancy.
pub const ORCHESTRATE_SURFACE: &str = "orchestrate";
/// The section of the console.
pub const CONSOLE_SECTION: &str = "console";
/// The section of machine identities.
pub const IDENTITIES_SECTION: &str = "identities";

/// One section of the configuration.
#[derive(Debug)]
pub struct SectionSpec {
    /// Its name, or the prefix of its name.
    pub name: &'static str,
    /// Placeholder for the rest of the name after a prefix. Empty for a section with a fixed name.
    pub variable: &'static str,
    /// Description for the reference.
    pub about: &'static str,
    /// Its options, in groups that sections may share.
    pub groups: &'static [&'static [OptionSpec]],
}

/// One option of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct OptionSpec {
    /// Its name, with `_` for every `-`.
    pub name: &'static str,
    /// Type of its value.
    pub kind: OptionKind,
    /// Value used if the option is not set.
    pub default: DefaultValue,
    /// Description: one or a few sentences.
    pub about: &'static str,
    /// A valid value.
    pub example: &'static str,
    /// Whether the value is a secret.
    pub is_secret: bool,
    /// Whether a change takes effect at the next start, and not at a reload.
    pub needs_restart: bool,
}

/// Type of an option's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OptionKind {
    /// `true` or `false`, and Inmanta's other spellings.
    Flag,
    /// A whole number.
    Number {
        /// Smallest valid number.
        min: u64,
        /// Largest valid number.
        max: u64,
    },
    /// A whole number, or `off`.
    NumberOrOff {
        /// Smallest valid number.
        min: u64,
        /// Largest valid number.
        max: u64,
    },
    /// A decimal number.
    Decimal {
        /// Smallest valid number.
        min: f64,
        /// Largest valid number.
        max: f64,
    },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Text of this kind, such as a path.
    Text(&'static str),
    /// A comma-separated list of texts of this kind.
    List(&'static str),
    /// An option of the Inmanta server that has no meaning here. Its value is not checked.
    Ignored,
}

/// Value of an option that is not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultValue {
    /// This value, as it would be written.
    Value(&'static str),
    /// No fixed value. The text describes the behaviour.
    Described(&'static str),
    /// The option must be set.
    Required,
}

/// All sections, in the order of the reference.
pub const SECTIONS: &[SectionSpec] = &[
    issuer::ISSUER,
    server::SERVER,
    listeners::LISTEN,
    listeners::LISTENER,
    listeners::METRICS,
    listeners::QUIC,
    server::IDENTITY_HEADERS,
    server::EXT_AUTHZ,
    tenancy::MULTI_TENANCY,
    certificates::TLS_CERT_AUTH,
    identities::IDENTITIES,
    authorization::ENDPOINTS,
    server::POLICY_ENGINE,
    authorization::ROUTES,
    authorization::ROUTE,
    storage::DATABASE,
    storage::REVOCATION,
    storage::FEED,
    storage::AUDIT,
    storage::CACHE,
    storage::CRYPTO,
    limits::LIMITS,
    limits::LOGIN,
    limits::LOG,
    server::API_CLIENTS,
    clients::CLIENT_TRANSPORT,
    clients::COMMAND_LINE_TRANSPORT,
    clients::AGENT_TRANSPORT,
    clients::COMPILER_TRANSPORT,
    console::CONSOLE,
    clients::WEB_UI,
    clients::DASHBOARD,
];

/// Sections in which an unknown option is an error in every format: one that is misspelt would let
/// more requests through, and the Inmanta server has none of these sections.
pub(super) const STRICT_SECTIONS: &[&str] = &[
    "listen",
    LISTENER_PREFIX,
    "endpoints",
    ROUTES_SECTION,
    ROUTE_PREFIX,
    MULTI_TENANCY_SECTION,
    TLS_CERT_AUTH_SECTION,
    IDENTITIES_SECTION,
    CONSOLE_SECTION,
    "feed",
];

/// Inmanta's sections without a meaning here. Their options are not checked.
pub const FOREIGN_SECTIONS: &[&str] = &[
    "agent",
    "compiler",
    "config",
    "deploy",
    "influxdb",
    "license",
    "logging",
    "lsm",
    "tracing",
    "unknown_handler",
];

impl SectionSpec {
    /// A section with a fixed name.
    const fn new(
        name: &'static str,
        about: &'static str,
        groups: &'static [&'static [OptionSpec]],
    ) -> Self {
        Self { name, variable: "", about, groups }
    }

    /// Returns its options.
    pub fn options(&self) -> impl Iterator<Item = &'static OptionSpec> + use<> {
        self.groups.iter().copied().flatten()
    }

    /// Returns one of its options.
    #[must_use]
    pub fn option(&self, name: &str) -> Option<&'static OptionSpec> {
        self.options().find(|option| option.name == name)
    }

    fn matches(&self, section: &str) -> bool {
        if self.variable.is_empty() { section == self.name } else { section.starts_with(self.name) }
    }
}

impl OptionSpec {
    const fn new(name: &'static str, kind: OptionKind, default: DefaultValue) -> Self {
        Self { name, kind, default, about: "", example: "", is_secret: false, needs_restart: false }
    }

    const fn about(self, about: &'static str, example: &'static str) -> Self {
        Self { about, example, ..self }
    }

    const fn secret(self) -> Self {
        Self { is_secret: true, ..self }
    }

    const fn restart(self) -> Self {
        Self { needs_restart: true, ..self }
    }
}

const fn flag(name: &'static str, default: &'static str) -> OptionSpec {
    OptionSpec::new(name, OptionKind::Flag, DefaultValue::Value(default))
}

const fn number(name: &'static str, min: u64, max: u64, default: &'static str) -> OptionSpec {
    OptionSpec::new(name, OptionKind::Number { min, max }, DefaultValue::Value(default))
}

const fn number_or_off(
    name: &'static str,
    min: u64,
    max: u64,
    default: &'static str,
) -> OptionSpec {
    OptionSpec::new(name, OptionKind::NumberOrOff { min, max }, DefaultValue::Value(default))
}

const fn decimal(name: &'static str, min: f64, max: f64, default: &'static str) -> OptionSpec {
    OptionSpec::new(name, OptionKind::Decimal { min, max }, DefaultValue::Value(default))
}

const fn choice(
    name: &'static str,
    choices: &'static [&'static str],
    default: &'static str,
) -> OptionSpec {
    OptionSpec::new(name, OptionKind::Choice(choices), DefaultValue::Value(default))
}

const fn text(name: &'static str, kind: &'static str, default: &'static str) -> OptionSpec {
    OptionSpec::new(name, OptionKind::Text(kind), DefaultValue::Value(default))
}

const fn list(name: &'static str, kind: &'static str, default: &'static str) -> OptionSpec {
    OptionSpec::new(name, OptionKind::List(kind), DefaultValue::Value(default))
}

const fn ignored(name: &'static str) -> OptionSpec {
    OptionSpec::new(name, OptionKind::Ignored, DefaultValue::Described("ignored"))
}

impl OptionSpec {
    /// Replaces the default value with a description.
    const fn unset(self, described: &'static str) -> Self {
        Self { default: DefaultValue::Described(described), ..self }
    }

    const fn required(self) -> Self {
        Self { default: DefaultValue::Required, ..self }
    }
}

/// Returns the specification of a section. `None` for an unknown section.
#[must_use]
pub fn section(name: &str) -> Option<&'static SectionSpec> {
    SECTIONS.iter().find(|spec| spec.matches(name))
}

/// Returns the other sections that have this option.
pub(crate) fn sections_with(option: &str) -> impl Iterator<Item = &'static SectionSpec> {
    SECTIONS.iter().filter(move |spec| {
        spec.option(option).is_some_and(|option| option.kind != OptionKind::Ignored)
    })
}

/// Returns the candidate most similar to `word`, if it is close enough to be a typing error.
#[must_use]
pub fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    const CLOSE: f64 = 0.75;
    let scored = candidates
        .into_iter()
        .map(|candidate| (strsim::normalized_damerau_levenshtein(word, candidate), candidate));
    let best = scored.max_by(|one, other| one.0.total_cmp(&other.0))?;
    (best.0 >= CLOSE).then_some(best.1)
}

#[cfg(test)]
mod tests;
