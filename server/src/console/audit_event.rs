//! Events of the audit log that are not those of an API call: sign-ins and sign-outs with the
//! OpenID provider.

use super::ConsoleContext;
use crate::{
    audit::{AuditEvent, AuditOperation, AuditOrigin},
    auth::Caller,
    base::clock,
};

/// Creates the event of an operation of this caller.
pub(super) fn new(operation: AuditOperation, caller: &Caller<'_, '_>) -> AuditEvent {
    let origin = AuditOrigin {
        client: Some(caller.client.get().to_string()),
        peer: Some(caller.client.peer().to_string()),
    };
    AuditEvent::new(operation, origin, clock::now())
}

/// Records an event. What it describes has been done: if it cannot be stored, the log has it.
pub(super) async fn record(context: &ConsoleContext<'_>, event: AuditEvent) {
    if let Err(error) = context.api.audit.record(event.clone()).await {
        context.api.audit.lose(&event, &error.to_string());
    }
}
