//! The names of an issuer: the values of `iss` in its tokens.
//!
//! An issuer has one name and any number of aliases. A name with [`TENANT`] in it stands for one
//! name for each tenant of the issuer, as in the metadata of Entra ID. All tenants share the keys
//! of the issuer.

use super::IssuerConfig;

/// The place of the tenant in the name of an issuer.
pub const TENANT: &str = "{tenantid}";

/// The tenants whose tokens are accepted, for names with [`TENANT`] in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IssuerTenants {
    /// These tenants.
    Listed(Box<[Box<str>]>),
    /// Every tenant of the provider: tokens that its other customers get are accepted too.
    Any,
}

impl Default for IssuerTenants {
    /// No tenant, so that no token has a name with a tenant.
    fn default() -> Self {
        Self::Listed(Box::default())
    }
}

/// A name of an issuer: a text, or a text before and one after the tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NamePattern<'c> {
    before: &'c str,
    /// `None` for a name without a tenant.
    after: Option<&'c str>,
    tenants: &'c IssuerTenants,
}

impl IssuerConfig {
    /// The name and the aliases.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        [&self.name].into_iter().chain(&self.aliases).map(|name| &**name)
    }

    /// Whether a token with this `iss` is one of the issuer.
    #[must_use]
    pub fn is_named(&self, name: &str) -> bool {
        self.match_name(name).is_some()
    }

    /// Whether a token could be one of both issuers.
    #[must_use]
    pub fn shares_name_with(&self, other: &Self) -> bool {
        self.patterns().any(|pattern| other.patterns().any(|one| pattern.overlaps(&one)))
    }

    /// Returns the other names that the tokens of `name` have or may get: its aliases, with the
    /// same tenant; for a name without a tenant, all names, with each listed tenant. Empty if
    /// `name` is not one of the issuer.
    #[must_use]
    pub fn names_beside(&self, name: &str) -> Vec<String> {
        let tenants: &[Box<str>] = match &self.tenants {
            IssuerTenants::Listed(tenants) => tenants,
            IssuerTenants::Any => &[],
        };
        let in_tenant = |tenant: &str| {
            let with = |one: &str| one.contains(TENANT).then(|| one.replace(TENANT, tenant));
            self.names().filter_map(with).collect::<Vec<_>>()
        };
        let mut names = match self.match_name(name) {
            Some(Some(tenant)) => in_tenant(tenant),
            None if self.names().all(|one| one != name) => Vec::new(),
            _ => {
                let of_tenants = tenants.iter().flat_map(|tenant| in_tenant(tenant));
                self.names().map(str::to_owned).chain(of_tenants).collect()
            }
        };
        names.retain(|one| one != name);
        names
    }

    /// Whether the names contain a tenant.
    #[must_use]
    pub fn has_tenants(&self) -> bool {
        self.names().any(|name| name.contains(TENANT))
    }

    pub(crate) fn patterns(&self) -> impl Iterator<Item = NamePattern<'_>> {
        self.names().map(|name| NamePattern::new(name, &self.tenants))
    }

    /// Returns the tenant in an `iss` that matches one of the names: `Some(None)` for a name
    /// without a tenant.
    pub(crate) fn match_name<'n>(&self, name: &'n str) -> Option<Option<&'n str>> {
        self.patterns().find_map(|pattern| pattern.matched(name))
    }

    /// Returns the one name of all aliases, with this tenant. It is in `buffer` if there is a
    /// tenant.
    pub(crate) fn canonical_name<'r>(
        &'r self,
        tenant: Option<&str>,
        buffer: &'r mut String,
    ) -> &'r str {
        let Some((tenant, (before, after))) = tenant.zip(self.name.split_once(TENANT)) else {
            return &self.name;
        };
        buffer.clear();
        [before, tenant, after].into_iter().for_each(|part| buffer.push_str(part));
        buffer
    }
}

/// The issuer of a token.
#[derive(Clone, Copy)]
pub(crate) struct TokenIssuer<'t> {
    pub(crate) config: &'t IssuerConfig,
    /// The tenant in `iss`, if the issuer has tenants.
    pub(crate) tenant: Option<&'t str>,
}

impl<'t> TokenIssuer<'t> {
    /// Returns all names under which the token can be revoked, each in three parts: the name and
    /// the aliases, as they are configured and with the tenant of the token.
    pub(crate) fn names(self) -> impl Iterator<Item = [&'t str; 3]> {
        self.config.names().flat_map(move |name| {
            let parts = self.tenant.zip(name.split_once(TENANT));
            let of_tenant = parts.map(|(tenant, (before, after))| [before, tenant, after]);
            [Some([name, "", ""]), of_tenant].into_iter().flatten()
        })
    }
}

impl<'c> NamePattern<'c> {
    fn new(name: &'c str, tenants: &'c IssuerTenants) -> Self {
        match name.split_once(TENANT) {
            Some((before, after)) => Self { before, after: Some(after), tenants },
            None => Self { before: name, after: None, tenants },
        }
    }

    /// Whether each token has exactly this name.
    pub(crate) fn exact(&self) -> Option<&'c str> {
        self.after.is_none().then_some(self.before)
    }

    /// Returns the tenant in a name that matches: `Some(None)` for a name without a tenant.
    fn matched<'n>(&self, name: &'n str) -> Option<Option<&'n str>> {
        let Some(after) = self.after else { return (name == self.before).then_some(None) };
        let tenant = name.strip_prefix(self.before)?.strip_suffix(after)?;
        self.accepts(tenant).then_some(Some(tenant))
    }

    fn accepts(&self, tenant: &str) -> bool {
        match self.tenants {
            IssuerTenants::Listed(tenants) => tenants.iter().any(|one| **one == *tenant),
            IssuerTenants::Any => is_tenant(tenant),
        }
    }

    /// Whether a token could match both patterns. `true` may be wrong for patterns of any tenant.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        match (self.listed_names(), other.listed_names()) {
            (Some(mut names), _) => names.any(|name| other.matched(&name).is_some()),
            (None, Some(mut names)) => names.any(|name| self.matched(&name).is_some()),
            (None, None) => {
                let start = |one: &Self, other: &Self| one.before.starts_with(other.before);
                let (end, other_end) = (self.after.unwrap_or(""), other.after.unwrap_or(""));
                (start(self, other) || start(other, self))
                    && (end.ends_with(other_end) || other_end.ends_with(end))
            }
        }
    }

    /// The names of a pattern that matches a limited number of names.
    fn listed_names(&self) -> Option<impl Iterator<Item = String>> {
        let tenants: &[Box<str>] = match (self.after, self.tenants) {
            (Some(_), IssuerTenants::Any) => return None,
            (Some(_), IssuerTenants::Listed(tenants)) => tenants,
            (None, _) => &[],
        };
        let after = self.after.unwrap_or_default();
        let exact = self.exact().map(str::to_owned);
        let with = move |tenant| [self.before, tenant, after].concat();
        Some(exact.into_iter().chain(tenants.iter().map(|tenant| &**tenant).map(with)))
    }
}

/// Whether a text could be a tenant: a UUID, a domain or a similar name, and never a part of a
/// path.
#[must_use]
pub fn is_tenant(text: &str) -> bool {
    const MAX_BYTES: usize = 128;
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    !text.is_empty()
        && text.len() <= MAX_BYTES
        && text.bytes().all(is_allowed)
        && !text.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithm::Algorithm;

    fn issuer(names: &[&str], tenants: IssuerTenants) -> IssuerConfig {
        let usual = IssuerConfig::new(names[0], "us", [Algorithm::Es256]);
        IssuerConfig {
            aliases: names[1..].iter().map(|one| (*one).into()).collect(),
            tenants,
            ..usual
        }
    }

    fn listed(tenants: &[&str]) -> IssuerTenants {
        IssuerTenants::Listed(tenants.iter().map(|one| (*one).into()).collect())
    }

    #[test]
    fn alias_and_tenant_match_the_issuer() {
        let config = issuer(
            &["https://idp/{tenantid}/v2.0", "https://sts/{tenantid}/", "https://plain"],
            listed(&["a", "b-c"]),
        );
        for (name, tenant) in [
            ("https://idp/a/v2.0", Some(Some("a"))),
            ("https://sts/b-c/", Some(Some("b-c"))),
            ("https://plain", Some(None)),
            ("https://idp/d/v2.0", None),
            ("https://idp//v2.0", None),
            ("https://idp/{tenantid}/v2.0", None),
            ("https://idp/a/v2.0/", None),
            ("https://plain/", None),
            ("https://idp/v2.0", None),
        ] {
            assert_eq!(config.match_name(name), tenant, "{name}");
        }
        let mut buffer = String::new();
        assert_eq!(config.canonical_name(Some("b-c"), &mut buffer), "https://idp/b-c/v2.0");
        assert_eq!(config.canonical_name(None, &mut buffer), "https://idp/{tenantid}/v2.0");
    }

    #[test]
    fn names_beside_are_those_of_the_same_tokens() {
        let config = issuer(&["i/{tenantid}", "s/{tenantid}", "plain"], listed(&["a", "b"]));
        assert_eq!(config.names_beside("i/a"), ["s/a"]);
        assert_eq!(
            config.names_beside("plain"),
            ["i/{tenantid}", "s/{tenantid}", "i/a", "s/a", "i/b", "s/b"]
        );
        assert_eq!(config.names_beside("i/{tenantid}").len(), 6);
        assert!(config.names_beside("i/c").is_empty());
        assert!(issuer(&["only"], IssuerTenants::Any).names_beside("only").is_empty());
    }

    #[test]
    fn any_tenant_is_one_path_segment() {
        let config = issuer(&["https://idp/{tenantid}/"], IssuerTenants::Any);
        for (tenant, is_one) in [
            ("11111111-1111-1111-1111-111111111111", true),
            ("contoso.example", true),
            ("", false),
            (".", false),
            ("..", false),
            ("a/b", false),
            ("a?b", false),
            ("{tenantid}", false),
            ("é", false),
        ] {
            let name = format!("https://idp/{tenant}/");
            assert_eq!(config.match_name(&name), is_one.then_some(Some(tenant)), "{tenant}");
        }
        let long = format!("https://idp/{}/", "a".repeat(129));
        assert_eq!(config.match_name(&long), None);
    }

    #[test]
    fn patterns_overlap_if_one_name_matches_both() {
        let overlap = |one: (&str, IssuerTenants), other: (&str, IssuerTenants)| {
            let (one, other) = (issuer(&[one.0], one.1), issuer(&[other.0], other.1));
            assert_eq!(one.shares_name_with(&other), other.shares_name_with(&one));
            one.shares_name_with(&other)
        };
        assert!(overlap(("x", IssuerTenants::Any), ("x", IssuerTenants::Any)));
        assert!(!overlap(("x", IssuerTenants::Any), ("y", IssuerTenants::Any)));
        assert!(overlap(("i/{tenantid}", IssuerTenants::Any), ("i/t", IssuerTenants::Any)));
        assert!(!overlap(("i/{tenantid}", listed(&["u"])), ("i/t", IssuerTenants::Any)));
        assert!(overlap(("i/{tenantid}", listed(&["u", "t"])), ("i/{tenantid}", listed(&["t"]))));
        assert!(!overlap(("i/{tenantid}", listed(&["u"])), ("i/{tenantid}", listed(&["t"]))));
        assert!(overlap(("i/{tenantid}", IssuerTenants::Any), ("{tenantid}", IssuerTenants::Any)));
        assert!(!overlap(
            ("i/{tenantid}/a", IssuerTenants::Any),
            ("i/{tenantid}/b", IssuerTenants::Any)
        ));
    }
}
