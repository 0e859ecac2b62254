//! Which sections may administer: whose tokens may change users, roles and environments, and issue
//! tokens.
//!
//! That a token is genuine only proves that a trusted issuer vouches for its bearer. Whether the
//! users of that issuer manage this server is a decision of the operator, made here for each
//! section. The reasons are kept, since `config check` reports them.

use std::fmt;

use super::IssuerSection;

/// Whether tokens of a section may administer, with the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Administration {
    /// The section's `administers` is written.
    Written(bool),
    /// The section signs the tokens that this server issues.
    Signs,
    /// Its issuer is the OpenID provider of the web console.
    ConsoleProvider,
    /// It is the only external section, and the web console has an OpenID provider.
    OnlyProvider,
    /// It is the only external section, and `auth_method` is written with this value.
    AuthMethod(&'static str),
    /// Nothing gives it the right.
    Not {
        /// Whether writing `auth_method` would give it the right.
        would_follow_method: bool,
    },
}

impl Administration {
    /// Whether tokens of the section may administer.
    #[must_use]
    pub const fn is_granted(self) -> bool {
        !matches!(self, Self::Written(false) | Self::Not { .. })
    }

    /// Whether the section is that of the web console's login.
    #[must_use]
    pub const fn is_of_console(self) -> bool {
        matches!(self, Self::ConsoleProvider | Self::OnlyProvider | Self::AuthMethod(_))
    }
}

impl fmt::Display for Administration {
    /// Writes yes or no, with the reason.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Written(true) => f.write_str("yes, since administers is true"),
            Self::Written(false) => f.write_str("no, since administers is false"),
            Self::Signs => f.write_str("yes, since it signs the tokens of this server"),
            Self::ConsoleProvider => f.write_str("yes, since the web console logs in there"),
            Self::OnlyProvider => f.write_str(
                "yes, since the web console logs in with a provider and this is the only external \
                 section",
            ),
            Self::AuthMethod(method) => write!(
                f,
                "yes, since auth_method is {method} and this is the only external section"
            ),
            Self::Not { .. } => f.write_str("no, since no option gives it the right"),
        }
    }
}

/// How the web console logs in, as far as it decides about external sections.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConsoleLogin<'c> {
    /// Issuer of the console's OpenID provider.
    pub provider: Option<&'c str>,
    /// `auth_method`, if it is written and not `database`.
    pub written_method: Option<&'static str>,
}

/// Decides for each section whether its tokens may administer.
///
/// A section's own `administers` wins. Otherwise the signing section may, and at most one external
/// section: that of the provider of the web console, or the only one if `auth_method` is written as
/// `oidc` or `jwt`. The default value of `auth_method` grants nothing.
pub(crate) fn assign(sections: &mut [IssuerSection], console: ConsoleLogin<'_>) {
    let external = external_section(sections, console);
    let is_only_external = sections.iter().filter(|section| !section.sign).count() == 1;
    for (index, section) in sections.iter_mut().enumerate() {
        section.administration = match section.administers {
            Some(written) => Administration::Written(written),
            None if section.sign => Administration::Signs,
            None => match external {
                Some((granted, reason)) if granted == index => reason,
                _ => Administration::Not { would_follow_method: is_only_external },
            },
        };
    }
}

/// Returns the section that verifies the access tokens of the web console's provider, whatever its
/// `administers` is.
pub(crate) fn provider_section<'s>(
    sections: &'s [IssuerSection],
    console: ConsoleLogin<'_>,
) -> Option<&'s IssuerSection> {
    external_section(sections, console).and_then(|(index, _)| sections.get(index))
}

/// Finds the external section that the web console logs in with.
fn external_section(
    sections: &[IssuerSection],
    console: ConsoleLogin<'_>,
) -> Option<(usize, Administration)> {
    let external = || sections.iter().enumerate().filter(|(_, section)| !section.sign);
    let only = || {
        let mut all = external();
        all.next().filter(|_| all.next().is_none()).map(|(index, _)| index)
    };
    let Some(authority) = console.provider else {
        let method = console.written_method?;
        return Some((only()?, Administration::AuthMethod(method)));
    };
    // Two issuers may differ by the slash alone, so the exact name comes first.
    let without_slash = |issuer: &str| issuer.strip_suffix('/').unwrap_or(issuer).to_owned();
    let exact = external().find(|(_, section)| *section.issuer.name == *authority);
    let provider = exact.or_else(|| {
        external()
            .find(|(_, section)| without_slash(&section.issuer.name) == without_slash(authority))
    });
    match provider {
        Some((index, _)) => Some((index, Administration::ConsoleProvider)),
        None => Some((only()?, Administration::OnlyProvider)),
    }
}

/// Returns the line that would change the right of a section.
#[must_use]
pub fn changing_line(section: &IssuerSection) -> String {
    let granted = section.administration.is_granted();
    let line = format!("administers = {} in [{}]", !granted, section.section());
    match section.administration {
        Administration::Not { would_follow_method: true } => {
            format!("auth_method = jwt in [server], or {line}")
        }
        _ => line,
    }
}
