//! Recording of an API call in the audit log: what it is applied to, that it begins, and its
//! outcome, by the status of its response.

use std::sync::OnceLock;

use http::{Response, StatusCode};

use crate::{
    accounts::session::Session,
    audit::{
        Audit, AuditCaller, AuditEvent, AuditOperation, AuditOutcome, AuditTarget, BegunEvent,
    },
    auth::Caller,
    base::{clock, reply::Body},
    store::StoreError,
};

/// An API call, with its event if it is recorded.
pub(super) struct AuditedCall<'c> {
    audit: &'c Audit,
    state: CallState,
    /// Id of a token that the call issues.
    pub(super) issued: OnceLock<String>,
}

enum CallState {
    /// A call that only reads.
    NotRecorded,
    /// Nothing is stored yet.
    New(AuditEvent),
    /// The change is recorded as begun.
    Begun(BegunEvent),
}

impl CallState {
    fn of(operation: AuditOperation, caller: &Caller<'_, '_>) -> Self {
        Self::New(AuditEvent::new(operation, caller.audited_origin(), clock::now()))
    }
}

impl<'c> AuditedCall<'c> {
    /// Creates the record of a call; nothing is recorded without an operation.
    pub(super) fn new(
        audit: &'c Audit,
        operation: Option<AuditOperation>,
        caller: &Caller<'_, '_>,
    ) -> Self {
        let state = match operation {
            Some(operation) => CallState::of(operation, caller),
            None => CallState::NotRecorded,
        };
        Self { audit, state, issued: OnceLock::new() }
    }

    /// Sets the operation of a call that is refused, though it only reads.
    pub(super) fn record_refusal(&mut self, operation: AuditOperation, caller: &Caller<'_, '_>) {
        if matches!(self.state, CallState::NotRecorded) {
            self.state = CallState::of(operation, caller);
        }
    }

    /// Records nothing of a call that changes nothing.
    pub(super) fn discard(&mut self) {
        self.state = CallState::NotRecorded;
    }

    /// Sets the caller, from its verified token.
    pub(super) fn set_caller(&mut self, session: &Session) {
        if let Some(event) = self.event() {
            event.caller = AuditCaller::of(session);
        }
    }

    /// Sets the caller.
    pub(super) fn set_audited_caller(&mut self, caller: AuditCaller) {
        if let Some(event) = self.event() {
            event.caller = caller;
        }
    }

    /// Sets the name of an authenticated client.
    pub(super) fn set_client(&mut self, name: &str) {
        if let Some(event) = self.event() {
            event.caller.user = Some(name.to_owned());
        }
    }

    /// Sets what the call is applied to, and further facts.
    pub(super) fn set_target(&mut self, (target, detail): (AuditTarget, Option<String>)) {
        if let Some(event) = self.event() {
            (event.target, event.detail) = (target, detail);
        }
    }

    fn event(&mut self) -> Option<&mut AuditEvent> {
        match &mut self.state {
            CallState::NotRecorded => None,
            CallState::New(event) => Some(event),
            CallState::Begun(begun) => Some(begun.event_mut()),
        }
    }

    /// Records that an authorized change begins. A login and a logout are recorded once their
    /// outcome is known: neither changes the data of others.
    ///
    /// # Errors
    /// The event cannot be stored. The change must not be made.
    pub(super) async fn begin(&mut self) -> Result<(), StoreError> {
        match &self.state {
            CallState::New(event)
                if !matches!(
                    event.operation,
                    AuditOperation::Login | AuditOperation::Logout | AuditOperation::IdentityLogin
                ) =>
            {
                self.state = CallState::Begun(self.audit.begin(event.clone()).await?);
            }
            _ => {}
        }
        Ok(())
    }

    /// Records the outcome of the call, and returns its response. `reason` is that of a refusal, if
    /// the status is not enough.
    pub(super) async fn finish(
        mut self,
        response: Response<Body>,
        reason: Option<&str>,
    ) -> Response<Body> {
        let (status, issued) = (response.status(), self.issued.take());
        if let Some(event) = self.event() {
            (event.outcome, event.reason) = outcome(status, reason);
            event.target.token = issued.or_else(|| event.target.token.take());
        }
        match self.state {
            CallState::NotRecorded => {}
            CallState::Begun(begun) => self.audit.finish(begun).await,
            CallState::New(event) => match event.outcome {
                AuditOutcome::Begun | AuditOutcome::Failed => {}
                AuditOutcome::Done => {
                    if let Err(error) = self.audit.record(event.clone()).await {
                        self.audit.lose(&event, &error.to_string());
                    }
                }
                AuditOutcome::Refused => self.audit.record_later(event),
            },
        }
        response
    }
}

/// Returns the outcome of a call, and why it was not done.
fn outcome(status: StatusCode, reason: Option<&str>) -> (AuditOutcome, Option<String>) {
    let (outcome, by_status) = match status {
        _ if status.is_success() => return (AuditOutcome::Done, None),
        StatusCode::UNAUTHORIZED => (AuditOutcome::Refused, "credentials"),
        StatusCode::FORBIDDEN => (AuditOutcome::Refused, "not_authorized"),
        StatusCode::TOO_MANY_REQUESTS => (AuditOutcome::Refused, "too_many_attempts"),
        // A login that is refused for its certificate or identity.
        StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND if reason.is_some() => {
            (AuditOutcome::Refused, "credentials")
        }
        StatusCode::NOT_FOUND => (AuditOutcome::Failed, "not_found"),
        StatusCode::CONFLICT => (AuditOutcome::Failed, "conflict"),
        StatusCode::SERVICE_UNAVAILABLE => (AuditOutcome::Failed, "unavailable"),
        _ => (AuditOutcome::Failed, "invalid"),
    };
    (outcome, Some(reason.unwrap_or(by_status).to_owned()))
}
