//! The changes of keys, revocations and configuration in the server, numbered and passed on to its
//! clients.

#[expect(
    clippy::disallowed_types,
    reason = "held while a change is written; see `FeedPublisher`"
)]
use std::sync::{Mutex, MutexGuard};
use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
    time::Duration,
};

use aws_lc_rs::{error::Unspecified, rand};
use countersign_engine::{Revocation, Revocations, UnixTime};
use tokio::sync::{broadcast, watch};

use super::{
    configuration::SectionDigests,
    figures::FeedFigures,
    line::{FEED_VERSION, FeedLine, FeedLineError, FeedRequest, FeedState},
};
use crate::{
    base::{clock::since_boot, hex::to_hex},
    keys::{KeySources, shared::SharedKeys},
    revocation::{RevocationChange, RevocationService, record::RevocationRecord},
};

/// Interval of [`FeedLine::Alive`].
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// Number of messages that a client may be behind.
const MAX_BEHIND: usize = 1024;
/// Number of revocations in one message.
const BATCH: usize = 256;

/// Numbers the changes and passes them on.
///
/// # Synchronization
/// The lock makes the number of a change and its place among the messages one step, for the writer
/// of revocations and the thread of the feed. It is never held during input or output.
pub struct FeedPublisher {
    /// Random id of this run.
    run: String,
    keys: Arc<KeySources>,
    revocations: Arc<RevocationService>,
    configuration: watch::Receiver<Arc<SectionDigests>>,
    /// Counters.
    pub figures: FeedFigures,
    messages: broadcast::Sender<Arc<str>>,
    #[expect(clippy::disallowed_types, reason = "as above")]
    published: Mutex<PublishedState>,
}

#[derive(Default)]
struct PublishedState {
    generation: u64,
    /// By section.
    keys: BTreeMap<String, PublishedKeys>,
    /// Number of sections that there were, which is the number of the next one.
    sections: u32,
    configuration: Arc<SectionDigests>,
}

/// The keys of a section.
#[derive(Clone)]
pub(super) struct PublishedKeys {
    /// The number of the section.
    pub(super) number: u32,
    pub(super) keys: Arc<SharedKeys>,
}

/// The changes from a generation on, and keys and configuration in the snapshot of that generation.
pub(super) struct FeedSubscription {
    pub(super) generation: u64,
    /// Messages of whole lines.
    pub(super) messages: broadcast::Receiver<Arc<str>>,
    pub(super) keys: Vec<PublishedKeys>,
    pub(super) configuration: Arc<SectionDigests>,
}

impl FeedPublisher {
    /// Creates the publisher. It follows the revocations from now on, and the keys when
    /// [`publish_keys`](Self::publish_keys) is called. The digests are those of the configuration,
    /// which a reload replaces.
    ///
    /// # Errors
    /// The operating system has no randomness.
    pub fn new(
        keys: &Arc<KeySources>,
        revocations: &Arc<RevocationService>,
        mut configuration: watch::Receiver<Arc<SectionDigests>>,
    ) -> Result<Arc<Self>, Unspecified> {
        let mut run = [0; 16];
        rand::fill(&mut run)?;
        #[expect(clippy::disallowed_types, reason = "as above")]
        let published = Mutex::new(PublishedState {
            configuration: Arc::clone(&configuration.borrow_and_update()),
            ..PublishedState::default()
        });
        let publisher = Arc::new(Self {
            run: to_hex(&run),
            keys: Arc::clone(keys),
            revocations: Arc::clone(revocations),
            configuration,
            figures: FeedFigures::default(),
            messages: broadcast::channel(MAX_BEHIND).0,
            published,
        });
        // Weak: the publisher has the revocations.
        let observer = Arc::downgrade(&publisher);
        revocations.observe(Box::new(move |change| {
            if let Some(publisher) = observer.upgrade() {
                publisher.publish_revocations(change);
            }
        }));
        Ok(publisher)
    }

    /// Returns the number of changes.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.lock().generation
    }

    /// Waits until keys may have changed. For one caller.
    pub(super) async fn changed_keys(&self) {
        self.keys.changed().await;
    }

    /// Publishes the keys that have changed.
    pub fn publish_keys(&self) {
        // Read under the lock: an older state must not follow a newer one.
        let mut published = self.lock();
        let now = self.keys.shared();
        let removed: Vec<_> = published.keys.keys().cloned().collect();
        for section in removed {
            if !now.iter().any(|shared| shared.section == section) {
                published.keys.remove(&section);
                let generation = published.next();
                self.send(&[FeedLine::Removed { generation, section }]);
            }
        }
        for shared in now {
            let before = published.keys.get(&shared.section);
            if before.is_some_and(|before| *before.keys == shared) {
                continue;
            }
            let number = before.map(|before| before.number);
            let number = number.unwrap_or_else(|| published.next_number());
            warn_if_withheld(&shared);
            let keys = PublishedKeys { number, keys: Arc::new(shared.clone()) };
            published.keys.insert(shared.section.clone(), keys);
            let generation = Some(published.next());
            self.send(&[FeedLine::Keys { generation, number, keys: Box::new(shared) }]);
        }
    }

    /// Publishes the configuration whenever it has changed. Returns when the server ends.
    pub(super) async fn publish_configurations(&self) {
        let mut configuration = self.configuration.clone();
        while configuration.changed().await.is_ok() {
            let mut published = self.lock();
            published.configuration = Arc::clone(&configuration.borrow_and_update());
            let sections = SectionDigests::clone(&published.configuration);
            let generation = Some(published.next());
            self.send(&[FeedLine::Configuration { generation, sections }]);
        }
    }

    /// Requests a fetch of the keys of a section for a client, as if a token with an unknown `kid`
    /// was sent to this server. Returns `false` for a number that no section has ever had.
    pub(super) fn request_fetch(&self, FeedRequest { number, fetches }: FeedRequest) -> bool {
        let published = self.lock();
        let is_known = number < published.sections;
        let mut keys = published.keys.iter();
        let section = keys.find(|(_, keys)| keys.number == number).map(|(name, _)| name.clone());
        drop(published);
        self.figures.record_request();
        // Otherwise the client has not read yet that the section was removed.
        if let Some(section) = section {
            self.keys.request_refetch(&section, fetches);
        }
        is_known
    }

    fn publish_revocations(&self, change: RevocationChange<'_>) {
        match change {
            RevocationChange::Added(revocations) => self.publish_added(revocations),
            RevocationChange::Expired(UnixTime(at)) => {
                let mut published = self.lock();
                let generation = published.next();
                self.send(&[FeedLine::Expired { generation, at }]);
            }
            RevocationChange::Availability => self.publish_heartbeat(),
        }
    }

    fn publish_added(&self, revocations: &[Revocation]) {
        for batch in revocations.chunks(BATCH) {
            let mut published = self.lock();
            let line = |revocation| FeedLine::Revocation {
                generation: Some(published.next()),
                revocation: RevocationRecord::from(revocation),
            };
            let lines: Vec<_> = batch.iter().map(line).collect();
            self.send(&lines);
        }
    }

    /// Publishes that the server is alive.
    pub fn publish_heartbeat(&self) {
        let published = self.lock();
        self.send(&[FeedLine::Alive(self.state(published.generation))]);
    }

    /// Subscribes to the changes after the present generation.
    pub(super) fn subscribe(&self) -> FeedSubscription {
        let published = self.lock();
        FeedSubscription {
            generation: published.generation,
            messages: self.messages.subscribe(),
            keys: published.keys.values().cloned().collect(),
            configuration: Arc::clone(&published.configuration),
        }
    }

    /// Returns the first line of a connection.
    pub(super) fn hello(&self, generation: u64) -> FeedLine {
        FeedLine::Hello { version: FEED_VERSION, run: self.run.clone(), generation }
    }

    /// Returns the revocations.
    pub(super) fn table(&self) -> &Revocations {
        self.revocations.table()
    }

    /// Returns the state of the server.
    pub(super) fn state(&self, generation: u64) -> FeedState {
        FeedState {
            generation,
            at: u64::try_from(since_boot().as_millis()).unwrap_or(u64::MAX),
            is_available: self.table().are_available() && self.revocations.is_fresh(),
            revocations: self.revocations.status().count,
        }
    }

    /// Sends lines as one message. The caller has the lock.
    fn send(&self, lines: &[FeedLine]) {
        match text_of(lines) {
            // An error if there are no clients.
            Ok(text) => drop(self.messages.send(text.into())),
            Err(error) => tracing::error!("cannot write a line of the feed: {error}"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, PublishedState> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PublishedState {
    fn next(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }

    fn next_number(&mut self) -> u32 {
        let number = self.sections;
        self.sections += 1;
        number
    }
}

/// Returns lines as they are written.
pub(super) fn text_of(lines: &[FeedLine]) -> Result<String, FeedLineError> {
    let mut text = String::new();
    lines.iter().try_for_each(|line| line.write(&mut text))?;
    Ok(text)
}

fn warn_if_withheld(shared: &SharedKeys) {
    if shared.are_withheld() {
        tracing::warn!(
            section = shared.section,
            "the keys are not passed on in the feed: their set has members that are not public; \
             check what the provider publishes"
        );
    }
}
