//! The rules of tenants: pure functions of the credential and of the names that a request asks for.
//!
//! | credential | `X-Tenant-ID` | tenant | allowed tenants |
//! |---|---|---|---|
//! | token of `foo` | none, `foo` | `foo` | `_`, `foo` |
//! | token of `a:b` | `a` | `a` | `_`, `a` |
//! | any | `_` | `_` | `_` |
//! | token of `*`, API key | none, `*` | `_` | `*` |
//! | token of `*`, API key | `a:b` | `a:b` | `_`, `a`, `a:b` |
//!
//! Every other combination is refused. Any `X-Tenant-ID` clears the user of a token, and only an
//! API key may name a user.

use std::{borrow::Cow, iter};

use countersign_engine::header_safe;
use memchr::memchr_iter;

use super::refusal::TenancyRefusal;

/// The tenant of resources that are shared by all.
pub const PUBLIC_TENANT: &str = "_";
/// In place of a tenant: all of them.
pub const EVERY_TENANT: &str = "*";

/// The credential of a request, as far as it determines the tenant. Names are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TenantCredential<'c> {
    /// A token with these names in its claim.
    Token {
        /// The tenant.
        tenant: &'c str,
        /// The user; empty if the claim names none.
        user: &'c str,
    },
    /// An API key.
    ApiKey,
}

impl<'c> TenantCredential<'c> {
    /// Returns the names of the tenant and of the user; that is empty without one.
    #[must_use]
    pub const fn names(self) -> (&'c str, &'c str) {
        match self {
            Self::ApiKey => (EVERY_TENANT, ""),
            Self::Token { tenant, user } => (tenant, user),
        }
    }
}

/// The names that a request asks for by its headers, as they were sent. An empty name counts as
/// absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TenantImpersonation<'h> {
    /// `X-Tenant-ID`.
    pub tenant: &'h [u8],
    /// `X-Username`.
    pub user: &'h [u8],
}

/// The tenants and the user that a request acts for. Names are encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantAccess<'c> {
    /// The tenant that owns what the request creates.
    pub tenant: Cow<'c, str>,
    /// Whether the request may read the resources of every tenant.
    pub allows_all: bool,
    /// The user; empty without one.
    pub user: Cow<'c, str>,
}

impl TenantAccess<'static> {
    /// Access to the resources of [`PUBLIC_TENANT`] only.
    pub const PUBLIC: Self =
        Self { tenant: Cow::Borrowed(PUBLIC_TENANT), allows_all: false, user: Cow::Borrowed("") };
}

impl<'c> TenantAccess<'c> {
    /// Applies the rules.
    ///
    /// # Errors
    /// The tenant or the user is not one that the credential may act for.
    pub fn of(
        credential: TenantCredential<'c>,
        asked: TenantImpersonation<'c>,
    ) -> Result<Self, TenancyRefusal> {
        let access = match encoded(asked.tenant) {
            Some(Cow::Borrowed("")) => Self::without_impersonation(credential)?,
            Some(tenant) => Self { user: "".into(), ..Self::of_other_tenant(credential, tenant)? },
            None => return Err(TenancyRefusal::tenant(asked.tenant)),
        };
        if asked.user.is_empty() {
            return Ok(access);
        }
        match encoded(asked.user) {
            Some(user)
                if credential == TenantCredential::ApiKey && user.len() <= MAX_NAME_BYTES =>
            {
                Ok(Self { user, ..access })
            }
            _ => Err(TenancyRefusal::user(asked.user)),
        }
    }

    fn without_impersonation(credential: TenantCredential<'c>) -> Result<Self, TenancyRefusal> {
        let (tenant, user) = credential.names();
        if tenant == EVERY_TENANT {
            let tenant = PUBLIC_TENANT.into();
            return Ok(Self { tenant, allows_all: true, user: user.into() });
        }
        if tenant.is_empty() {
            return Err(TenancyRefusal::EmptyTenant);
        }
        if !is_tenant_name(tenant) {
            return Err(TenancyRefusal::ClaimFormat);
        }
        Ok(Self { tenant: tenant.into(), allows_all: false, user: user.into() })
    }

    fn of_other_tenant(
        credential: TenantCredential<'c>,
        asked: Cow<'c, str>,
    ) -> Result<Self, TenancyRefusal> {
        let own = Self::without_impersonation(credential)?;
        let may_access = match &*asked {
            PUBLIC_TENANT => true,
            EVERY_TENANT if own.allows_all => return Ok(own),
            EVERY_TENANT => false,
            name if own.allows_all => is_tenant_name(name),
            name => levels(&own.tenant).any(|level| level == name),
        };
        if !may_access {
            return Err(TenancyRefusal::tenant(asked.as_bytes()));
        }
        Ok(Self { tenant: asked, allows_all: false, ..own })
    }

    /// Returns the tenants whose resources the request may read: the public one first, then the
    /// levels of the tenant, or `*` alone. It is never empty.
    pub fn allowed_tenants(&self) -> impl Iterator<Item = &str> {
        let first = if self.allows_all { EVERY_TENANT } else { PUBLIC_TENANT };
        let is_first = self.allows_all || self.tenant == PUBLIC_TENANT;
        let levels = levels(&self.tenant).filter(move |_| !is_first);
        iter::once(first).chain(levels)
    }

    /// Appends the [`allowed_tenants`](Self::allowed_tenants), separated by commas.
    #[inline]
    pub(super) fn append_allowed_tenants(&self, text: &mut Vec<u8>) {
        let tenant = self.tenant.as_bytes();
        // Most tenants are not nested.
        if !self.allows_all && self.tenant != PUBLIC_TENANT && !tenant.contains(&SEPARATOR) {
            text.extend_from_slice(b"_,");
            text.extend_from_slice(tenant);
            return;
        }
        for (index, tenant) in self.allowed_tenants().enumerate() {
            if index > 0 {
                text.push(b',');
            }
            text.extend_from_slice(tenant.as_bytes());
        }
    }
}

/// Maximum length of the name of a tenant or of a user, encoded.
const MAX_NAME_BYTES: usize = 512;
/// Maximum number of levels of a nested tenant. The list of allowed tenants grows with its square.
const MAX_LEVELS: usize = 16;
/// Separator of levels.
const SEPARATOR: u8 = b':';

/// Whether a text names one tenant: `_`, or levels that are neither empty nor reserved.
pub(super) fn is_tenant_name(name: &str) -> bool {
    let is_level = |level: &str| !["", PUBLIC_TENANT, EVERY_TENANT].contains(&level);
    if name.len() > MAX_NAME_BYTES {
        return false;
    }
    // Most tenants are not nested.
    if !name.as_bytes().contains(&SEPARATOR) {
        return name == PUBLIC_TENANT || is_level(name);
    }
    let levels = || name.split(char::from(SEPARATOR));
    levels().count() <= MAX_LEVELS && levels().all(is_level)
}

/// Returns the levels of a nested tenant from the outermost: `a`, `a:b` and `a:b:c` of `a:b:c`.
fn levels(name: &str) -> impl Iterator<Item = &str> {
    memchr_iter(SEPARATOR, name.as_bytes()).map(|end| &name[..end]).chain(iter::once(name))
}

/// Encodes a name as it was sent. `None` if it is not UTF-8.
fn encoded(name: &[u8]) -> Option<Cow<'_, str>> {
    let name = std::str::from_utf8(name).ok()?;
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'%' | b',');
    Some(if name.bytes().all(is_plain) { name.into() } else { header_safe(name).into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns `tenant; allowed tenants; user`, or the refusal. The credential is the tenant of a
    /// token, or `key` for an API key.
    fn access(credential: &str, tenant: &str, user: &str) -> String {
        let credential = match credential {
            "key" => TenantCredential::ApiKey,
            tenant => TenantCredential::Token { tenant, user: "alice" },
        };
        let asked = TenantImpersonation { tenant: tenant.as_bytes(), user: user.as_bytes() };
        match TenantAccess::of(credential, asked) {
            Ok(access) => {
                let allowed: Vec<_> = access.allowed_tenants().collect();
                format!("{}; {}; {}", access.tenant, allowed.join(","), access.user)
            }
            Err(refusal) => refusal.to_string(),
        }
    }

    #[test]
    fn tenant_of_a_token_is_its_own_or_an_outer_one() {
        for (own, asked, expected) in [
            ("foo", "", "foo; _,foo; alice"),
            ("foo", "foo", "foo; _,foo; "),
            ("foo", "_", "_; _; "),
            ("foo", "bar", r#"access to tenant "bar" forbidden"#),
            ("foo", "*", r#"access to tenant "*" forbidden"#),
            ("foo", "FOO", r#"access to tenant "FOO" forbidden"#),
            ("foo", "fo", r#"access to tenant "fo" forbidden"#),
            ("foo", "foo:bar", r#"access to tenant "foo:bar" forbidden"#),
            ("_", "", "_; _; alice"),
            ("_", "_", "_; _; "),
            ("_", "foo", r#"access to tenant "foo" forbidden"#),
            ("_", "*", r#"access to tenant "*" forbidden"#),
            ("a:b:c", "", "a:b:c; _,a,a:b,a:b:c; alice"),
            ("a:b:c", "a:b", "a:b; _,a,a:b; "),
            ("a:b", "a", "a; _,a; "),
            ("a:b", "a:c", r#"access to tenant "a:c" forbidden"#),
            ("a:b", "b", r#"access to tenant "b" forbidden"#),
            ("a:b", "a:", r#"access to tenant "a:" forbidden"#),
            ("a:b", "a:b:c", r#"access to tenant "a:b:c" forbidden"#),
        ] {
            assert_eq!(access(own, asked, ""), expected, "{own} x {asked}");
        }
    }

    #[test]
    fn wildcard_and_api_key_act_for_any_tenant() {
        for (own, user) in [("*", "alice"), ("key", "")] {
            for (asked, expected) in [
                ("", format!("_; *; {user}")),
                ("*", "_; *; ".into()),
                ("_", "_; _; ".into()),
                ("foo", "foo; _,foo; ".into()),
                ("a:b", "a:b; _,a,a:b; ".into()),
                ("a b,c", "a%20b%2Cc; _,a%20b%2Cc; ".into()),
                ("a%20b", "a%2520b; _,a%2520b; ".into()),
                ("a::b", r#"access to tenant "a::b" forbidden"#.into()),
                ("*:x", r#"access to tenant "*:x" forbidden"#.into()),
            ] {
                assert_eq!(access(own, asked, ""), expected, "{own} x {asked}");
            }
        }
    }

    #[test]
    fn only_an_api_key_names_a_user() {
        for (own, tenant, user, expected) in [
            ("key", "", "bob", "_; *; bob"),
            ("key", "foo", "bob", "foo; _,foo; bob"),
            ("key", "foo", "*", "foo; _,foo; *"),
            ("key", "", "b b", "_; *; b%20b"),
            ("foo", "", "alice", r#"access to username "alice" forbidden"#),
            ("foo", "foo", "bob", r#"access to username "bob" forbidden"#),
            ("*", "", "bob", r#"access to username "bob" forbidden"#),
            ("foo", "bar", "bob", r#"access to tenant "bar" forbidden"#),
        ] {
            assert_eq!(access(own, tenant, user), expected, "{own} x {tenant} x {user}");
        }
    }

    #[test]
    fn reserved_and_empty_levels_are_refused() {
        let deep = vec!["a"; MAX_LEVELS + 1].join(":");
        let long = "a".repeat(MAX_NAME_BYTES + 1);
        for name in ["a:", ":a", "a::b", ":", "*:x", "x:*", "_:x", "x:_", "a:*:b", &deep, &long] {
            let invalid = "could not get token claims: invalid custom claims format";
            for asked in ["", "_", "a", name] {
                assert_eq!(access(name, asked, ""), invalid, "{name} x {asked}");
            }
            assert!(access("key", name, "").starts_with("access to tenant"), "{name}");
        }
        assert!(access("key", "", &long).starts_with("access to username"));
        for name in ["a*", "_a", "a_:b*", "**", "a:b", &deep[2..]] {
            assert!(access(name, "", "").starts_with(&format!("{name}; _,")), "{name}");
        }
        assert_eq!(access("", "", ""), "empty tenant in Access Token");
        assert_eq!(access("", "_", ""), "empty tenant in Access Token");
    }

    #[test]
    fn names_that_are_not_text_are_refused() {
        let ask = |tenant, user| {
            TenantAccess::of(TenantCredential::ApiKey, TenantImpersonation { tenant, user })
        };
        assert!(ask(b"\xff", b"").is_err());
        assert!(ask(b"foo", b"\xff").is_err());
        assert!(ask("é".as_bytes(), b"").is_ok_and(|access| access.tenant == "%C3%A9"));
    }
}
