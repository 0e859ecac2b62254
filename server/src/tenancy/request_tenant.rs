//! [`RequestTenant`]: the tenants of a request with a token, as authorization sees them.

use super::{identity::TenantIdentity, tenant::TenantCredential};

/// The tenant of a credential, and the tenant that its request acts for. Names are encoded as in
/// the identity headers.
#[derive(Clone, Copy, Debug)]
pub struct RequestTenant<'r> {
    /// The credential.
    pub credential: TenantCredential<'r>,
    /// The tenant and the user after impersonation.
    pub acting: &'r TenantIdentity,
}
