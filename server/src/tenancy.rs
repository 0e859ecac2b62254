//! Multi-tenancy as in Orchestrate: API keys for machines, the tenant in a namespaced claim of a
//! token, and impersonation by `X-Tenant-ID` and `X-Username`.
//!
//! A tenant is known from the token alone. Names of tenants and users are percent-encoded as in
//! every identity header, so that two different names never look alike.

pub mod tenant;
pub mod refusal;
pub mod token_claim;
pub mod api_keys;
pub mod request_headers;
pub mod identity;
pub mod request_tenant;
pub mod tenant_set;
pub mod settings;
