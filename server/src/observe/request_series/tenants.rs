//! The tenants with a label of their own.

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;

use crate::base::tenant_label::TenantLabel;

/// The label of all other requests.
pub(super) const OTHER_TENANTS: &str = "_";

/// The tenants that have a label of their own: the first ones that occur.
pub(super) struct TenantLabels {
    max: usize,
    labels: ArcSwap<HashMap<Box<[u8]>, TenantLabel>>,
}

impl TenantLabels {
    /// No tenants so far, and this many at most.
    pub(super) fn new(max: usize) -> Self {
        Self { max, labels: ArcSwap::default() }
    }

    /// Returns the label of a tenant, which is that of others if there are too many.
    pub(super) fn label(&self, tenant: &[u8]) -> TenantLabel {
        if self.max == 0 || tenant == OTHER_TENANTS.as_bytes() {
            return TenantLabel::default();
        }
        let labels = self.labels.load();
        match labels.get(tenant) {
            Some(label) => *label,
            None if labels.len() >= self.max => TenantLabel::default(),
            None => self.add(tenant),
        }
    }

    #[cold]
    fn add(&self, tenant: &[u8]) -> TenantLabel {
        self.labels.rcu(|labels| {
            let mut labels = HashMap::clone(labels);
            if labels.len() < self.max && !labels.contains_key(tenant) {
                let label = u16::try_from(labels.len() + 1).unwrap_or_default();
                labels.insert(tenant.into(), TenantLabel(label));
            }
            Arc::new(labels)
        });
        self.labels.load().get(tenant).copied().unwrap_or_default()
    }

    /// Returns the name of each label that was assigned.
    pub(super) fn names(&self) -> HashMap<TenantLabel, String> {
        let name = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        self.labels.load().iter().map(|(of, label)| (*label, name(of))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_beyond_the_limit_share_a_label() {
        let tenants = TenantLabels::new(2);
        let labels = ["a", "b", "a", "c", "_"].map(|name| tenants.label(name.as_bytes()).0);
        assert_eq!(labels, [1, 2, 1, 0, 0]);
        let mut names: Vec<_> = tenants.names().into_values().collect();
        names.sort_unstable();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(TenantLabels::new(0).label(b"a"), TenantLabel::default());
    }
}
