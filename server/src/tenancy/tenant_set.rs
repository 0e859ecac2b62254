//! [`TenantSet`]: the tenants that a rule by route is about.

use std::{fmt, str};

use countersign_engine::header_safe;
use percent_encoding::percent_decode_str;

use super::{
    identity::TenantIdentity,
    tenant::{EVERY_TENANT, PUBLIC_TENANT, is_tenant_name},
};
use crate::base::redacted::quoted;

/// Tenants, as a list of names. It is compiled when the configuration is read.
#[derive(Debug, Default)]
pub struct TenantSet(Box<[TenantPattern]>);

/// One element of a [`TenantSet`].
#[derive(Debug, PartialEq, Eq)]
enum TenantPattern {
    /// `acme`, or `_`: this tenant alone.
    Exact(Box<str>),
    /// `acme:*`: every level below a tenant. Its name, with the separator.
    Below(Box<str>),
    /// `*`: access to every tenant.
    Every,
}

/// End of the name of a pattern for every level below a tenant, after its separator.
const BELOW: char = '*';

/// The reason why a text names no tenants.
#[derive(Debug, PartialEq, Eq)]
pub enum TenantSetError {
    /// The text is not the name of a tenant, nor one with `:*` behind it.
    Name(String),
    /// The name is not encoded as in the identity headers. Its encoding.
    Unencoded(String),
}

impl fmt::Display for TenantSetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(text) => write!(f, "{} is not a tenant", quoted(text)),
            Self::Unencoded(name) => {
                write!(f, "names are encoded as in the identity headers: write {name}")
            }
        }
    }
}

impl TenantSet {
    /// Compiles a list of names.
    ///
    /// # Errors
    /// The first text that names no tenants.
    pub fn parse<'t>(texts: impl IntoIterator<Item = &'t str>) -> Result<Self, TenantSetError> {
        texts.into_iter().map(TenantPattern::parse).collect::<Result<_, _>>().map(Self)
    }

    /// Whether a request that acts for this tenant is meant. Allocates nothing.
    #[must_use]
    pub fn contains(&self, acting: &TenantIdentity) -> bool {
        let tenant = acting.tenant();
        self.0.iter().any(|pattern| match pattern {
            TenantPattern::Exact(name) => name.as_bytes() == tenant,
            TenantPattern::Below(prefix) => tenant.starts_with(prefix.as_bytes()),
            TenantPattern::Every => acting.allows_all(),
        })
    }
}

impl TenantPattern {
    fn parse(text: &str) -> Result<Self, TenantSetError> {
        if text == EVERY_TENANT {
            return Ok(Self::Every);
        }
        let prefix = text.strip_suffix(BELOW).filter(|prefix| prefix.ends_with(':'));
        let name = prefix.map_or(text, |prefix| prefix.trim_end_matches(':'));
        let is_pattern = prefix.is_none_or(|prefix| prefix.len() == name.len() + 1);
        if !is_pattern || !is_tenant_name(name) || prefix.is_some() && name == PUBLIC_TENANT {
            return Err(TenantSetError::Name(text.to_owned()));
        }
        let decoded = percent_decode_str(name).decode_utf8();
        if decoded.is_ok_and(|decoded| header_safe(&decoded) == name) {
            Ok(prefix.map_or_else(|| Self::Exact(name.into()), |prefix| Self::Below(prefix.into())))
        } else {
            Err(TenantSetError::Unencoded(header_safe(name)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenancy::tenant::TenantAccess;

    fn identity(tenant: &str, allows_all: bool) -> TenantIdentity {
        TenantIdentity::new(&TenantAccess { tenant: tenant.into(), allows_all, user: "".into() })
    }

    #[test]
    fn tenant_set_has_names_and_levels_below_them() {
        let contains = |texts: &[&str], tenant: &str| {
            TenantSet::parse(texts.iter().copied()).unwrap().contains(&identity(tenant, false))
        };
        for (tenant, expected) in [
            ("acme", true),
            ("acme:a", false),
            ("b", false),
            ("b:a", true),
            ("b:a:c", true),
            ("ba", false),
            ("Z%C3%BCrich", true),
            ("Acme", false),
            ("_", false),
            ("c", false),
        ] {
            let texts = ["acme", "b:*", "Z%C3%BCrich", "*"];
            assert_eq!(contains(&texts, tenant), expected, "{tenant}");
        }
        assert!(contains(&["_"], "_") && !contains(&["_"], "a") && !contains(&[], "_"));
    }

    #[test]
    fn wildcard_is_access_to_every_tenant() {
        let set = |text| TenantSet::parse([text]).unwrap();
        for (text, expected) in [("*", true), ("_", true), ("a", false), ("a:*", false)] {
            assert_eq!(set(text).contains(&identity(PUBLIC_TENANT, true)), expected, "{text}");
        }
        assert!(!set("*").contains(&identity(PUBLIC_TENANT, false)));
        assert!(!set("*").contains(&identity("a", false)));
    }

    #[test]
    fn texts_that_name_no_tenant_are_refused() {
        for text in ["", ":*", "a::*", "a:", "*:*", "_:*", "a:*:b", "_:a", "**:_", "a:*:*"] {
            let expected = Err(TenantSetError::Name(text.into()));
            assert_eq!(TenantSet::parse([text]).map(drop), expected, "{text}");
        }
        for (text, encoded) in
            [("Zürich", "Z%C3%BCrich"), ("a b", "a%20b"), ("a%2fb", "a%252fb"), ("a%", "a%25")]
        {
            let expected = Err(TenantSetError::Unencoded(encoded.into()));
            assert_eq!(TenantSet::parse([text]).map(drop), expected, "{text}");
        }
        assert!(TenantSet::parse(["a*", "x:y*"]).is_ok(), "a star within a name is literal");
    }
}
