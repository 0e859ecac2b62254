//! The identity headers of a tenant, formatted in a buffer that each thread uses again.

use std::{cell::RefCell, mem, str};

use serde::Serialize;

use super::tenant::{EVERY_TENANT, TenantAccess};

/// The values of the identity headers of a request: tenant, allowed tenants and user.
#[derive(Debug)]
pub struct TenantIdentity {
    /// All values, one after the other.
    text: Vec<u8>,
    /// The ends of the first two.
    ends: [usize; 2],
}

/// The names of a [`TenantIdentity`]. They contain no comma, as they are encoded.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct TenantNames<'i> {
    /// The tenant that owns what the request creates.
    pub tenant: &'i str,
    /// The tenants whose resources the request may read, one at least.
    pub allowed_tenants: Vec<&'i str>,
    /// The user, if there is one.
    pub username: Option<&'i str>,
}

thread_local! {
    static POOL: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}
/// Buffers that one thread keeps; further ones are freed.
const MAX_POOLED: usize = 16;

impl TenantIdentity {
    /// Formats the values. Allocates nothing once the thread has a buffer.
    #[must_use]
    pub fn new(access: &TenantAccess<'_>) -> Self {
        let mut text = POOL.with_borrow_mut(Vec::pop).unwrap_or_default();
        text.clear();
        text.extend_from_slice(access.tenant.as_bytes());
        let tenant_end = text.len();
        access.append_allowed_tenants(&mut text);
        let allowed_end = text.len();
        text.extend_from_slice(access.user.as_bytes());
        Self { text, ends: [tenant_end, allowed_end] }
    }

    /// The tenant that owns what the request creates.
    #[must_use]
    pub fn tenant(&self) -> &[u8] {
        self.part(0, self.ends[0])
    }

    /// The tenants whose resources the request may read, separated by commas. It is never empty.
    #[must_use]
    pub fn allowed_tenants(&self) -> &[u8] {
        self.part(self.ends[0], self.ends[1])
    }

    /// Whether the request may read the resources of every tenant.
    #[must_use]
    pub fn allows_all(&self) -> bool {
        self.allowed_tenants() == EVERY_TENANT.as_bytes()
    }

    /// The user; empty without one.
    #[must_use]
    pub fn user(&self) -> &[u8] {
        self.part(self.ends[1], self.text.len())
    }

    /// Returns the names, for JSON.
    #[must_use]
    pub fn names(&self) -> TenantNames<'_> {
        let text = |name| str::from_utf8(name).unwrap_or_default();
        TenantNames {
            tenant: text(self.tenant()),
            allowed_tenants: text(self.allowed_tenants()).split(',').collect(),
            username: Some(text(self.user())).filter(|user| !user.is_empty()),
        }
    }

    fn part(&self, start: usize, end: usize) -> &[u8] {
        self.text.get(start..end).unwrap_or_default()
    }
}

impl Drop for TenantIdentity {
    fn drop(&mut self) {
        let text = mem::take(&mut self.text);
        // A thread that is exiting has no pool any more; the buffer is then freed.
        let _ignored = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.len() < MAX_POOLED {
                pool.push(text);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenant_identity_lists_the_allowed_tenants() {
        let access = TenantAccess { tenant: "a:b".into(), allows_all: false, user: "bob".into() };
        for _ in 0..2 {
            let identity = TenantIdentity::new(&access);
            let other = TenantIdentity::new(&TenantAccess::PUBLIC);
            let shown = |identity: &TenantIdentity| {
                [identity.tenant(), identity.allowed_tenants(), identity.user()]
                    .map(|value| String::from_utf8_lossy(value).into_owned())
            };
            assert_eq!(shown(&identity), ["a:b", "_,a,a:b", "bob"]);
            assert_eq!(shown(&other), ["_", "_", ""]);
            let (tenant, allowed_tenants) = ("a:b", vec!["_", "a", "a:b"]);
            let names = TenantNames { tenant, allowed_tenants, username: Some("bob") };
            assert_eq!(identity.names(), names);
            assert_eq!(other.names().username, None);
        }
    }
}
