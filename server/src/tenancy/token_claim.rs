//! The namespaced claim of a token: `{"<namespace>": {"tenant_id": "...", "username": "..."}}`.
//!
//! The claim and its members are exported with the claims for headers, so they are found in a
//! cached token without decoding it.

use std::sync::Arc;

use countersign_engine::{ClaimPath, ExportFormat, ExportedClaim, Identity};

use super::{refusal::TenancyRefusal, tenant::TenantCredential};

/// The claim with the tenant, as the issuers export it.
#[derive(Clone, Debug)]
pub struct TenantClaim {
    name: Box<str>,
    /// The claims that the issuers export: those for headers, and then ours.
    exported: Arc<[ExportedClaim]>,
}

/// The name that stands for every user.
const EVERY_USER: &str = "*";
/// Number of the exported values: the claim itself, the tenant and the user.
const VALUES: usize = 3;

/// The values are unknown for a token that was verified by the rules of another load of the
/// configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaleClaimsError;

impl TenantClaim {
    /// The claim with exactly this name. `others` are exported before it.
    #[must_use]
    pub fn new(namespace: &str, others: &[ExportedClaim]) -> Self {
        let members = [None, Some("tenant_id"), Some("username")];
        let own = members.map(|member| ExportedClaim {
            path: ClaimPath::of_names(namespace, member),
            format: ExportFormat::Typed,
        });
        let exported = others.iter().cloned().chain(own).collect();
        Self { name: namespace.into(), exported }
    }

    /// Returns the name of the claim.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns all claims that the issuers have to export.
    #[must_use]
    pub fn exported(&self) -> &Arc<[ExportedClaim]> {
        &self.exported
    }

    /// Reads the claim of a verified token.
    ///
    /// # Errors
    /// The claim is absent or malformed, or unknown because of a reload at this moment.
    #[inline]
    pub fn read<'v>(
        &self,
        identity: Identity<'v>,
    ) -> Result<Result<TenantCredential<'v>, TenancyRefusal>, StaleClaimsError> {
        let first = self.exported.len().saturating_sub(VALUES);
        if !Arc::ptr_eq(identity.exported_claims(), &self.exported) {
            return self.read_of_another_load(identity).map(credential);
        }
        let mut values = identity.exported_values().skip(first);
        let values = [(); VALUES].map(|()| values.next().unwrap_or_default());
        Ok(credential(values))
    }

    /// Finds the values for a token that was verified by the rules of another load of the
    /// configuration: a reload replaces the rules first, and the settings after them.
    #[cold]
    fn read_of_another_load<'v>(
        &self,
        identity: Identity<'v>,
    ) -> Result<[&'v [u8]; VALUES], StaleClaimsError> {
        let others = identity.exported_claims();
        let own = &self.exported[self.exported.len().saturating_sub(VALUES)..];
        let start =
            others.windows(VALUES).position(|other| other == own).ok_or(StaleClaimsError)?;
        let mut values = identity.exported_values().skip(start);
        Ok([(); VALUES].map(|()| values.next().unwrap_or_default()))
    }
}

/// Interprets the values, each of which starts with the letter of its type
/// ([`ExportFormat::Typed`]).
fn credential(
    [claim, tenant, user]: [&[u8]; VALUES],
) -> Result<TenantCredential<'_>, TenancyRefusal> {
    match claim.first() {
        Some(b'o') => {}
        None => return Err(TenancyRefusal::NoClaim),
        Some(b'n') => return Err(TenancyRefusal::NullClaim),
        Some(_) => return Err(TenancyRefusal::ClaimFormat),
    }
    let tenant = text_of(tenant).ok_or(TenancyRefusal::ClaimFormat)?;
    // Only an API key acts for every user.
    let user = text_of(user).filter(|user| *user != EVERY_USER);
    let user = user.ok_or(TenancyRefusal::ClaimFormat)?;
    if tenant.is_empty() {
        return Err(TenancyRefusal::EmptyTenant);
    }
    Ok(TenantCredential::Token { tenant, user })
}

/// Returns the text of a member, which is empty if it is absent or `null`; `None` if it is of
/// another type.
fn text_of(value: &[u8]) -> Option<&str> {
    match value.split_first() {
        None | Some((b'n', _)) => Some(""),
        Some((b's', text)) => std::str::from_utf8(text).ok(),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claim_values_are_interpreted_by_their_type() {
        let token = |tenant, user| Ok(TenantCredential::Token { tenant, user });
        for (values, expected) in [
            (["o", "sfoo", "salice"], token("foo", "alice")),
            (["o", "sfoo", ""], token("foo", "")),
            (["o", "sfoo", "n"], token("foo", "")),
            (["o", "s7", "s"], token("7", "")),
            (["", "", ""], Err(TenancyRefusal::NoClaim)),
            (["n", "", ""], Err(TenancyRefusal::NullClaim)),
            (["x", "", ""], Err(TenancyRefusal::ClaimFormat)),
            (["sfoo", "", ""], Err(TenancyRefusal::ClaimFormat)),
            (["o", "", "salice"], Err(TenancyRefusal::EmptyTenant)),
            (["o", "n", ""], Err(TenancyRefusal::EmptyTenant)),
            (["o", "s", ""], Err(TenancyRefusal::EmptyTenant)),
            (["o", "x", ""], Err(TenancyRefusal::ClaimFormat)),
            (["o", "o", ""], Err(TenancyRefusal::ClaimFormat)),
            (["o", "sfoo", "x"], Err(TenancyRefusal::ClaimFormat)),
            (["o", "sfoo", "s*"], Err(TenancyRefusal::ClaimFormat)),
        ] {
            assert_eq!(credential(values.map(str::as_bytes)), expected, "{values:?}");
        }
    }
}
