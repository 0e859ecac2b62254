//! The thread that writes refusals, within a budget, events of machine identities beyond theirs, and
//! the lines of the file.

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender},
    },
    time::Duration,
};

use aws_lc_rs::{hmac, rand};

use super::{
    event::{AuditEvent, AuditOperation, AuditOrigin, AuditOutcome},
    identity_budget::ExcessEvents,
    refusal_budget::{MINUTE, RefusalBudget},
    settings::AuditSettings,
};
use crate::{
    base::{
        clock::{self, Stopwatch},
        hex::to_hex,
    },
    observe::metrics::{MetricEvent, Metrics},
    store::Store,
};

/// Events of this time are merged if they are equal.
const MERGE_INTERVAL: Duration = Duration::from_secs(1);

/// An event in the queue of the writer thread.
pub(super) enum QueuedEvent {
    /// A refusal, to be stored within the budget.
    Refusal(AuditEvent),
    /// An event of a machine identity beyond its budget, to be counted.
    Excess(AuditEvent),
    /// An event that is stored or has no database, for the file or the log.
    Line(AuditEvent),
    /// A request to write what is queued at once, and to answer when that is done.
    Flush(Sender<()>),
}

/// State of the writer thread.
pub(super) struct AuditWriter {
    store: Option<Store>,
    settings: AuditSettings,
    metrics: Arc<Metrics>,
    /// Random key of the hash of unknown names. `None` without randomness.
    key: Option<hmac::Key>,
    budget: RefusalBudget,
    excess: ExcessEvents,
    /// Omitted refusals that are in stored events.
    reported: u64,
    /// Whether such an event was stored in this minute.
    has_reported: bool,
}

impl AuditWriter {
    pub(super) fn new(
        store: Option<Store>,
        settings: AuditSettings,
        metrics: Arc<Metrics>,
    ) -> Self {
        let mut key = [0; 32];
        let key = rand::fill(&mut key).is_ok().then(|| hmac::Key::new(hmac::HMAC_SHA256, &key));
        Self {
            store,
            settings,
            metrics,
            key,
            budget: RefusalBudget::start(),
            excess: ExcessEvents::new(),
            reported: 0,
            has_reported: false,
        }
    }

    /// Writes the events of a queue until its senders are dropped.
    pub(super) fn run(mut self, queue: &Receiver<QueuedEvent>) {
        loop {
            let (mut batch, mut flushed) = (Vec::new(), None);
            match queue.recv_timeout(MINUTE) {
                Ok(event) => flushed = self.take(&mut batch, event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.store_batch(Vec::new(), true),
            }
            let merging = Stopwatch::start();
            while flushed.is_none() && (!batch.is_empty() || self.unreported() > 0) {
                let left = MERGE_INTERVAL.saturating_sub(merging.elapsed());
                let Ok(event) = queue.recv_timeout(left) else { break };
                flushed = self.take(&mut batch, event);
            }
            self.store_batch(batch, flushed.is_some());
            if let Some(flushed) = flushed {
                let _ignored = flushed.send(());
            }
        }
    }

    /// Writes a line, or adds a refusal to a batch if the budget admits it. Returns the sender of a
    /// request to flush.
    fn take(&mut self, batch: &mut Vec<AuditEvent>, event: QueuedEvent) -> Option<Sender<()>> {
        let event = match event {
            QueuedEvent::Line(event) => {
                self.write_line(&event);
                return None;
            }
            QueuedEvent::Flush(flushed) => return Some(flushed),
            QueuedEvent::Excess(event) => {
                if !self.excess.add(event) {
                    self.metrics.count_event(MetricEvent::AuditOmitted);
                }
                return None;
            }
            QueuedEvent::Refusal(event) => event,
        };
        if let Some(equal) = batch.iter_mut().find(|one| one.equals(&event)) {
            equal.count += 1;
            return None;
        }
        self.start_next_minute();
        if self.budget.admit(&event) {
            batch.push(event);
        } else {
            self.metrics.count_event(MetricEvent::AuditOmitted);
        }
        None
    }

    fn start_next_minute(&mut self) {
        if self.budget.start_next_minute() {
            self.has_reported = false;
        }
    }

    /// Returns the number of omitted refusals to report, also of those that found the queue full.
    fn unreported(&self) -> u64 {
        let omitted = self.metrics.event_count(MetricEvent::AuditOmitted);
        if self.has_reported { 0 } else { omitted.saturating_sub(self.reported) }
    }

    /// Stores a batch of refusals, and what was counted in the last minute; `at_once` also before it
    /// is over.
    fn store_batch(&mut self, batch: Vec<AuditEvent>, at_once: bool) {
        self.start_next_minute();
        let mut events: Vec<_> =
            batch.into_iter().map(|event| self.without_unknown_name(event)).collect();
        events.extend(self.excess.take(at_once));
        let unreported = self.unreported();
        if unreported > 0 {
            let mut event =
                AuditEvent::new(AuditOperation::Omitted, AuditOrigin::default(), clock::now());
            (event.outcome, event.count) = (AuditOutcome::Refused, unreported);
            events.push(event);
            self.reported += unreported;
            self.has_reported = true;
        }
        for event in &events {
            self.write_line(event);
        }
        self.store(events);
    }

    fn store(&self, events: Vec<AuditEvent>) {
        let Some(store) = self.store.as_ref().filter(|_| !events.is_empty()) else { return };
        let count = events.len();
        if let Err(error) = store.block_on(store.append_audit_events(events)) {
            for _ in 0..count {
                self.metrics.count_event(MetricEvent::AuditLost);
            }
            tracing::error!(target: "audit", "cannot store {count} events: {error}");
        }
    }

    /// Replaces the name of a refused login by a hash, unless it is that of a user, or the id of a
    /// machine identity. It may be a password that was typed into the wrong field. The key of the
    /// hash is random, so that the hash cannot be compared with those of guessed passwords. Equal
    /// names have equal hashes until the server restarts.
    fn without_unknown_name(&self, mut event: AuditEvent) -> AuditEvent {
        let is_identity = match event.operation {
            AuditOperation::Login => false,
            AuditOperation::IdentityLogin => true,
            _ => return event,
        };
        if let Some(name) = event.target.user.take() {
            let is_known = self.store.as_ref().is_some_and(|store| {
                store.block_on(async {
                    if is_identity {
                        matches!(store.machine_identity(&name).await, Ok(Some(_)))
                    } else {
                        matches!(store.user(&name).await, Ok(Some(_)))
                    }
                })
            });
            event.target.user = if is_known { Some(name) } else { self.hashed(&name) };
        }
        event
    }

    fn hashed(&self, name: &str) -> Option<String> {
        const SHOWN_BYTES: usize = 4;
        let tag = hmac::sign(self.key.as_ref()?, name.as_bytes());
        Some(format!("unknown:{}", to_hex(tag.as_ref().get(..SHOWN_BYTES)?)))
    }

    /// Writes an event to the file, or to the log if there is neither a file nor a database.
    fn write_line(&self, event: &AuditEvent) {
        let Some(file) = &self.settings.file else {
            if self.store.is_none() {
                tracing::info!(target: "audit", event = event.json(), "audit event");
            }
            return;
        };
        // Opened for each line, so that the file can be rotated at any time.
        let append = || -> io::Result<()> {
            let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(file)?;
            file.write_all(format!("{}\n", event.json()).as_bytes())
        };
        if let Err(error) = append() {
            self.metrics.count_event(MetricEvent::AuditLost);
            let file = file.display();
            tracing::error!(target: "audit", event = event.json(), "cannot write to {file}: {error}");
        }
    }
}
