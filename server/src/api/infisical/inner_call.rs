//! Calls of this API on behalf of the Admin API, which authenticates and authorizes the caller.

use std::sync::OnceLock;

use bytes::Bytes;
use http::{Method, Request};
use serde_json::Value;

use super::{
    InfisicalCall, InfisicalContext,
    error::InfisicalError,
    organization,
    route::{self, InfisicalMatch, InfisicalOperation},
};
use crate::{
    api::{ApiContext, audited::AuditedCall},
    auth::Caller,
};

/// A change of a machine identity.
pub(in crate::api) struct IdentityCall {
    /// Its method.
    pub(in crate::api) method: Method,
    /// Its path.
    pub(in crate::api) path: String,
    /// Its arguments, but for the organization. Null for none.
    pub(in crate::api) body: Value,
}

impl IdentityCall {
    /// Makes the change, and returns its answer. `check` is awaited once the arguments are read,
    /// and before the change is recorded as begun.
    ///
    /// # Errors
    /// That of `check`, or of the change.
    pub(in crate::api) async fn make<E: From<InfisicalError>>(
        mut self,
        (api, caller): (&ApiContext<'_>, &Caller<'_, '_>),
        audited: &mut AuditedCall<'_>,
        check: impl Future<Output = Result<(), E>>,
    ) -> Result<Value, E> {
        let Some(settings) = &api.settings.identities else {
            let message = "machine identities are switched off: set enabled = true in [identities]";
            return Err(InfisicalError::conflict(message).into());
        };
        let InfisicalMatch::Call(operation, ids) = route::find(self.method.as_str(), &self.path)
        else {
            return Err(InfisicalError::unknown_route().into());
        };
        let (organization, issued) = (organization(api).await?, OnceLock::new());
        let context = InfisicalContext::new(api, settings, caller, &organization, &issued)?;
        if operation == InfisicalOperation::CreateIdentity {
            self.body["organizationId"] = organization.id.as_str().into();
        }
        let body = if self.body.is_null() { Bytes::new() } else { self.body.to_string().into() };
        let call = InfisicalCall::read(&context, operation, &ids, &Request::new(body))?;
        audited.set_target(call.audit_target());
        check.await?;
        audited.begin().await.map_err(InfisicalError::from)?;
        let response = call.execute(&context, None).await?;
        Ok(serde_json::from_slice(response.body()).unwrap_or_default())
    }
}
