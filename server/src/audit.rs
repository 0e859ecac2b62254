//! The audit log: who logged in, who changed what, and which administrative calls were refused.
//!
//! An [`AuditEvent`] has a small, closed set of fields, none of which holds a secret. Other
//! systems of this server add an [`AuditOperation`], and no field.
//!
//! An administrative change is recorded before it is made, as begun, and its outcome before the
//! answer. A change that cannot be recorded is not made. Refusals are recorded by a thread of their
//! own within a budget, so that a flood of failed logins neither fills the disk nor delays others,
//! and hides no other refusal. Logins of machine identities, and what they do with their own tokens,
//! also have a budget.

mod event;
mod identity_budget;
mod refusal_budget;
pub mod settings;
mod store;
mod writer;

use std::{
    sync::{
        Arc, OnceLock,
        mpsc::{SyncSender, channel, sync_channel},
    },
    thread,
    time::Duration,
};

pub use self::{
    event::{AuditCaller, AuditEvent, AuditOperation, AuditOrigin, AuditOutcome, AuditTarget},
    store::AuditFilter,
};
use self::{
    identity_budget::IdentityBudget,
    settings::AuditSettings,
    writer::{AuditWriter, QueuedEvent},
};
use crate::{
    base::clock,
    observe::metrics::{MetricEvent, Metrics},
    store::{Store, StoreError},
};

/// The audit log of a running server.
pub struct Audit {
    /// The database, if the server has one.
    store: Option<Store>,
    settings: AuditSettings,
    metrics: Arc<Metrics>,
    identity_budget: IdentityBudget,
    /// Queue of the writer thread, which starts with the first event.
    queue: OnceLock<SyncSender<QueuedEvent>>,
}

/// A change that is recorded as begun. It must be [finished](Audit::finish).
pub struct BegunEvent {
    id: i64,
    event: AuditEvent,
}

impl BegunEvent {
    /// Returns the event, to complete its target.
    pub fn event_mut(&mut self) -> &mut AuditEvent {
        &mut self.event
    }
}

impl Audit {
    /// Creates the log. Without a database, events are written to the file of `settings` and to
    /// the log of the server.
    #[must_use]
    pub fn new(store: Option<Store>, settings: AuditSettings, metrics: Arc<Metrics>) -> Self {
        let identity_budget = IdentityBudget::new();
        Self { store, settings, metrics, identity_budget, queue: OnceLock::new() }
    }

    /// Records that a change begins.
    ///
    /// # Errors
    /// The database cannot be written. The change must not be made.
    pub async fn begin(&self, event: AuditEvent) -> Result<BegunEvent, StoreError> {
        let event = event.sealed();
        let id = match &self.store {
            Some(store) => store.begin_audit_event(event.clone()).await?,
            None => 0,
        };
        Ok(BegunEvent { id, event })
    }

    /// Records the outcome of a change. If the database cannot be written, the change stays
    /// recorded as begun, and the server's log has its outcome.
    pub async fn finish(&self, begun: BegunEvent) {
        let (id, event) = (begun.id, begun.event.sealed());
        if let Some(store) = &self.store
            && let Err(error) = store.finish_audit_event(id, event.clone()).await
        {
            self.lose(&event, &error.to_string());
        }
        self.forward(event);
    }

    /// Records a completed event before it is answered. One of a machine identity is only counted
    /// beyond its budget.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn record(&self, event: AuditEvent) -> Result<(), StoreError> {
        let event = event.sealed();
        if !self.identity_budget.admit(&event) {
            self.enqueue(QueuedEvent::Excess(event));
            return Ok(());
        }
        if let Some(store) = &self.store {
            store.append_audit_events(vec![event.clone()]).await?;
        }
        self.forward(event);
        Ok(())
    }

    /// Records an event without waiting: a refusal, or another one that changes no data. Beyond the
    /// budget, events are only counted.
    pub fn record_later(&self, event: AuditEvent) {
        self.enqueue(QueuedEvent::Refusal(event.sealed()));
    }

    /// Queues an event, or counts it as omitted.
    fn enqueue(&self, event: QueuedEvent) {
        if self.queue().is_none_or(|queue| queue.try_send(event).is_err()) {
            self.metrics.count_event(MetricEvent::AuditOmitted);
        }
    }

    /// Waits until the queued events are written, for a server that stops.
    pub fn flush(&self) {
        const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
        let (flushed, done) = channel();
        let queue = self.queue.get();
        if queue.is_some_and(|queue| queue.try_send(QueuedEvent::Flush(flushed)).is_ok()) {
            let _ignored = done.recv_timeout(FLUSH_TIMEOUT);
        }
    }

    /// Passes a stored event on to the file, and one that no database stores to the log.
    fn forward(&self, event: AuditEvent) {
        if self.store.is_some() && self.settings.file.is_none() {
            return;
        }
        let line = QueuedEvent::Line(event.clone());
        if self.queue().is_none_or(|queue| queue.try_send(line).is_err()) {
            self.lose(&event, "the writer is too slow");
        }
    }

    /// Writes an event to the server's log, because it cannot be stored.
    pub(crate) fn lose(&self, event: &AuditEvent, reason: &str) {
        self.metrics.count_event(MetricEvent::AuditLost);
        tracing::error!(target: "audit", event = event.json(), "cannot store an audit event: {reason}");
    }

    fn queue(&self) -> Option<&SyncSender<QueuedEvent>> {
        /// Refusals that wait for the writer. More are only counted.
        const MAX_QUEUED: usize = 1024;
        if let Some(queue) = self.queue.get() {
            return Some(queue);
        }
        let (queue, events) = sync_channel(MAX_QUEUED);
        let writer =
            AuditWriter::new(self.store.clone(), self.settings.clone(), Arc::clone(&self.metrics));
        let spawned =
            thread::Builder::new().name("audit".into()).spawn(move || writer.run(&events));
        match spawned {
            Ok(_) => Some(self.queue.get_or_init(|| queue)),
            Err(error) => {
                tracing::error!("cannot start the writer of the audit log: {error}");
                None
            }
        }
    }
}

/// Records a change made by a command on the server's machine.
///
/// # Errors
/// The database cannot be written.
pub fn record_command(
    store: &Store,
    operation: AuditOperation,
    target: AuditTarget,
    detail: Option<String>,
) -> Result<(), StoreError> {
    let mut event = AuditEvent::new(operation, AuditOrigin::command(), clock::now());
    (event.target, event.detail, event.outcome) = (target, detail, AuditOutcome::Done);
    store.block_on(store.append_audit_events(vec![event.sealed()]))
}
