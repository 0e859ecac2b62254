//! The thread that writes refusals, within a budget, and the lines of the file.

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Duration,
};

use aws_lc_rs::{hmac, rand};

use super::{
    event::{AuditEvent, AuditOperation, AuditOrigin, AuditOutcome},
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
/// Refusals that are stored in each minute. More are only counted.
const REFUSALS_PER_MINUTE: usize = 120;
const MINUTE: Duration = Duration::from_secs(60);

/// An event in the queue of the writer thread.
pub(super) enum QueuedEvent {
    /// A refusal, to be stored within the budget.
    Refusal(AuditEvent),
    /// An event that is stored or has no database, for the file or the log.
    Line(AuditEvent),
}

/// State of the writer thread.
pub(super) struct Writer {
    store: Option<Store>,
    settings: AuditSettings,
    metrics: Arc<Metrics>,
    /// Random key of the hash of unknown names. `None` without randomness.
    key: Option<hmac::Key>,
    minute: Stopwatch,
    stored: usize,
    /// Omitted refusals that are in stored events.
    reported: u64,
}

impl Writer {
    pub(super) fn new(
        store: Option<Store>,
        settings: AuditSettings,
        metrics: Arc<Metrics>,
    ) -> Self {
        let mut key = [0; 32];
        let key = rand::fill(&mut key).is_ok().then(|| hmac::Key::new(hmac::HMAC_SHA256, &key));
        Self { store, settings, metrics, key, minute: Stopwatch::start(), stored: 0, reported: 0 }
    }

    /// Writes the events of a queue until its senders are dropped.
    pub(super) fn run(mut self, queue: &Receiver<QueuedEvent>) {
        loop {
            let mut batch = Vec::new();
            match queue.recv_timeout(MINUTE) {
                Ok(event) => self.take(&mut batch, event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.store_refusals(Vec::new()),
            }
            let merging = Stopwatch::start();
            while !batch.is_empty() {
                let left = MERGE_INTERVAL.saturating_sub(merging.elapsed());
                let Ok(event) = queue.recv_timeout(left) else { break };
                self.take(&mut batch, event);
            }
            self.store_refusals(batch);
        }
    }

    /// Writes a line, or adds a refusal to a batch, which has no more of them than may be stored in
    /// a minute.
    fn take(&self, batch: &mut Vec<AuditEvent>, event: QueuedEvent) {
        let event = match event {
            QueuedEvent::Line(event) => return self.write_line(&event),
            QueuedEvent::Refusal(event) => event,
        };
        if let Some(equal) = batch.iter_mut().find(|one| one.equals(&event)) {
            equal.count += 1;
        } else if batch.len() < REFUSALS_PER_MINUTE {
            batch.push(event);
        } else {
            self.omit(1);
        }
    }

    fn omit(&self, count: u64) {
        for _ in 0..count {
            self.metrics.count_event(MetricEvent::AuditOmitted);
        }
    }

    fn store_refusals(&mut self, batch: Vec<AuditEvent>) {
        if self.minute.elapsed() >= MINUTE {
            (self.minute, self.stored) = (Stopwatch::start(), 0);
        }
        let mut refusals = Vec::new();
        for event in batch {
            if self.stored < REFUSALS_PER_MINUTE {
                self.stored += 1;
                refusals.push(self.without_unknown_name(event));
            } else {
                self.omit(event.count);
            }
        }
        // Also those that found the queue full.
        let omitted = self.metrics.event_count(MetricEvent::AuditOmitted);
        if omitted > self.reported && self.stored < REFUSALS_PER_MINUTE {
            let mut event =
                AuditEvent::new(AuditOperation::Omitted, AuditOrigin::default(), clock::now());
            (event.outcome, event.count) = (AuditOutcome::Refused, omitted - self.reported);
            refusals.push(event);
            (self.reported, self.stored) = (omitted, self.stored + 1);
        }
        for event in &refusals {
            self.write_line(event);
        }
        self.store(refusals);
    }

    fn store(&self, refusals: Vec<AuditEvent>) {
        let Some(store) = self.store.as_ref().filter(|_| !refusals.is_empty()) else { return };
        let count = refusals.len();
        if let Err(error) = store.block_on(store.append_audit_events(refusals)) {
            for _ in 0..count {
                self.metrics.count_event(MetricEvent::AuditLost);
            }
            tracing::error!(target: "audit", "cannot store {count} refusals: {error}");
        }
    }

    /// Replaces the name of a refused login by a hash, unless it is that of a user. It may be a
    /// password that was typed into the wrong field. The key of the hash is random, so that the
    /// hash cannot be compared with those of guessed passwords. Equal names have equal hashes until
    /// the server restarts.
    fn without_unknown_name(&self, mut event: AuditEvent) -> AuditEvent {
        if event.operation == AuditOperation::Login
            && let Some(name) = event.target.user.take()
        {
            let found = self.store.as_ref().map(|store| store.block_on(store.user(&name)));
            let is_user = matches!(found, Some(Ok(Some(_))));
            event.target.user = if is_user { Some(name) } else { self.hashed(&name) };
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
