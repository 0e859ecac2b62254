//! The tenant of a request in metrics.

/// The tenant of a request as a label of metrics: a number that the metrics assigned, or 0 for a
/// request without a tenant of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantLabel(pub u16);
