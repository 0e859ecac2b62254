//! Key rotation: the keys of every issuer, and the thread that refreshes them.
//!
//! One thread runs a [`Rotation`](countersign_engine::rotation::Rotation) for each issuer. The
//! fetches themselves are blocking work and run on further threads, with a
//! [`Fetcher`](fetch::Fetcher) each. A request waits for a provider only if its token names an
//! unknown `kid`, and then for at most a second ([`KeyRefetch`]).

pub mod administration;
pub mod fetch;
pub mod issuer;
pub mod refresh;
pub mod secret_id;
pub mod settings;
pub mod static_keys;
pub mod status;

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use countersign_engine::{UnixTime, rotation::Cause};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::timeout,
};

pub use self::issuer::IssuerSection;
use self::{
    fetch::FetchError,
    settings::{KeySource, RefreshedKeys},
};
use crate::base::clock::Stopwatch;

/// Longest wait of a request for a refetch of its issuer's keys.
const REFETCH_TIMEOUT: Duration = Duration::from_secs(1);
/// Limit of requests that wait for one issuer, so that a flood of unknown `kid`s cannot use
/// up the memory.
const MAX_WAITING: usize = 1024;

/// The keys of all issuers.
///
/// # Synchronization
/// One [`ArcSwap`] pointer to an immutable table. The table is replaced before the verifier's
/// snapshot, so a fetch can end after its issuer was removed. This is safe because [`refresh`] sets
/// keys only for the issuer configuration they were fetched for.
pub struct KeySources {
    table: ArcSwap<Table>,
    clock: Stopwatch,
    /// Queue of the refresh thread, once [`refresh::spawn`] has started it.
    renewals: OnceLock<mpsc::UnboundedSender<Arc<IssuerKeys>>>,
    /// Whether every issuer has been fetched from at some time. Relaxed, because it orders
    /// no other access.
    all_fetched: AtomicBool,
}

struct Table {
    in_order: Vec<Arc<IssuerKeys>>,
    by_issuer: HashMap<Box<str>, Arc<IssuerKeys>>,
}

impl Table {
    fn new(in_order: Vec<Arc<IssuerKeys>>) -> Self {
        let by_issuer = in_order
            .iter()
            .map(|source| (source.section.issuer.name.clone(), Arc::clone(source)))
            .collect();
        Self { in_order, by_issuer }
    }
}

impl KeySources {
    /// Creates the keys of these sections; nothing is fetched yet.
    #[must_use]
    pub fn new(sections: &[IssuerSection]) -> Self {
        let sources =
            sections.iter().map(|section| Arc::new(IssuerKeys::new(section.clone()))).collect();
        Self {
            table: ArcSwap::from_pointee(Table::new(sources)),
            clock: Stopwatch::start(),
            renewals: OnceLock::new(),
            all_fetched: AtomicBool::new(false),
        }
    }

    /// Replaces the sections. An [`IssuerKeys`] whose section is unchanged continues as it is; the
    /// others are retired. Returns the new ones. The caller [starts](Self::start) them once the
    /// verifier's snapshot has their issuers.
    #[must_use]
    pub fn replace(&self, sections: &[IssuerSection]) -> Vec<Arc<IssuerKeys>> {
        let before = self.table.load_full();
        if self.all_fetched_once() {
            self.all_fetched.store(true, Ordering::Relaxed);
        }
        let unchanged = |section: &IssuerSection| {
            before.in_order.iter().find(|source| source.section.has_same_source(section)).cloned()
        };
        let new = |section: &IssuerSection| {
            let source =
                before.in_order.iter().find(|source| source.section.can_share_keys_with(section));
            Arc::new(source.map_or_else(
                || IssuerKeys::new(section.clone()),
                |source| source.successor(section.clone()),
            ))
        };
        let sources =
            sections.iter().map(|section| unchanged(section).unwrap_or_else(|| new(section)));
        let now = Table::new(sources.collect());
        let is_among = |source: &Arc<IssuerKeys>, among: &[Arc<IssuerKeys>]| {
            among.iter().any(|one| Arc::ptr_eq(one, source))
        };
        for retired in before.in_order.iter().filter(|source| !is_among(source, &now.in_order)) {
            retired.retired.notify_one();
        }
        let new: Vec<_> = now
            .in_order
            .iter()
            .filter(|source| !is_among(source, &before.in_order))
            .cloned()
            .collect();
        self.table.store(Arc::new(now));
        new
    }

    /// Starts refreshing these keys.
    pub fn start(&self, sources: Vec<Arc<IssuerKeys>>) {
        let Some(renewals) = self.renewals.get() else { return };
        for source in sources {
            let _ignored = renewals.send(source);
        }
    }

    /// Returns the keys of every issuer, in the order of the sections.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<IssuerKeys>> {
        self.table.load().in_order.clone()
    }

    /// Returns whether a first fetch has ended for every issuer, with keys or without.
    ///
    /// An unreachable provider affects only its own tokens, not the readiness of the server. The
    /// same holds for an issuer that a reload adds: once `true`, this stays `true`.
    #[must_use]
    pub fn all_fetched_once(&self) -> bool {
        let all_fetched = |source: &Arc<IssuerKeys>| {
            source.renewed().is_none() || source.progress.borrow().rounds > 0
        };
        self.all_fetched.load(Ordering::Relaxed)
            || self.table.load().in_order.iter().all(all_fetched)
    }

    /// Counts a token of this issuer with an unknown `kid`. Returns the refetch to wait for, if
    /// one is under way or may start now.
    #[must_use]
    pub fn refetch(&self, issuer: &str) -> Option<KeyRefetch> {
        let table = self.table.load();
        let source = table.by_issuer.get(issuer)?;
        source.unknown_kids.fetch_add(1, Ordering::Relaxed);
        KeyRefetch::request(Waiting::enter(source)?, self.clock)
    }
}

/// Wait of one request for a refetch of an issuer's keys.
pub struct KeyRefetch {
    waiting: Waiting,
    progress: watch::Receiver<Progress>,
    /// Number of ended fetches when the wait began.
    rounds: u64,
    clock: Stopwatch,
}

impl KeyRefetch {
    fn request(waiting: Waiting, clock: Stopwatch) -> Option<Self> {
        let source = &waiting.0;
        let progress = source.progress.subscribe();
        let (rounds, fetching, refetch_from) = {
            let state = progress.borrow();
            (state.rounds, state.fetching, state.refetch_from)
        };
        let may_ask = refetch_from.is_some_and(|from| from <= clock.elapsed());
        if !fetching && !may_ask {
            return None;
        }
        source.refetch_requested.notify_one();
        Some(Self { waiting, progress, rounds, clock })
    }

    /// Waits until `is_unknown` is false for the result of `verify` or no further refetch is
    /// due, for at most a second. Returns the last result.
    ///
    /// A fetch that was already under way may have been answered before the provider published
    /// the new key. Another fetch follows then.
    pub async fn wait<T>(self, verify: impl Fn() -> T, is_unknown: impl Fn(&T) -> bool) -> T {
        let waited = async {
            let mut refetch = self;
            loop {
                // Never an error: the sender lives as long as the issuer's keys.
                drop(refetch.progress.wait_for(|state| state.rounds != refetch.rounds).await);
                let result = verify();
                if !is_unknown(&result) {
                    return result;
                }
                let Some(again) = Self::request(refetch.waiting, refetch.clock) else {
                    return result;
                };
                refetch = again;
            }
        };
        timeout(REFETCH_TIMEOUT, waited).await.unwrap_or_else(|_elapsed| verify())
    }
}

/// Guard that counts one request waiting for an issuer.
struct Waiting(Arc<IssuerKeys>);

impl Waiting {
    fn enter(source: &Arc<IssuerKeys>) -> Option<Self> {
        // Counted before the comparison, so that concurrent requests cannot exceed the limit.
        let guard = Self(Arc::clone(source));
        (source.waiting.fetch_add(1, Ordering::Relaxed) < MAX_WAITING).then_some(guard)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The keys of one issuer, and the [`Progress`] of fetching them.
///
/// # Synchronization
/// The counters are relaxed: they order no other access. The progress is published through a
/// watch channel after the keys themselves, so a request that it wakes verifies with the new
/// keys.
pub struct IssuerKeys {
    section: IssuerSection,
    progress: watch::Sender<Progress>,
    refetch_requested: Notify,
    /// Notified when other keys have replaced these.
    retired: Notify,
    waiting: AtomicUsize,
    unknown_kids: AtomicU64,
    fetches: [AtomicU64; Cause::ALL.len()],
}

/// Progress of the fetches for one issuer.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Number of ended fetches.
    pub rounds: u64,
    /// Whether a fetch is under way.
    pub fetching: bool,
    /// Moment from which an unknown `kid` starts a fetch.
    refetch_from: Option<Duration>,
    /// Time of the last confirmation of the keys in use; `None` while no keys are in use.
    confirmed: Option<Duration>,
    /// Time of the last confirmation of any keys.
    pub last_success: Option<UnixTime>,
    /// Time and reason of the last failed fetch.
    pub last_failure: Option<(UnixTime, FetchError)>,
    /// Number of failed fetches.
    pub failures: u64,
    /// Whether the last ended fetch failed.
    pub is_failing: bool,
}

impl IssuerKeys {
    fn new(section: IssuerSection) -> Self {
        Self {
            section,
            progress: watch::Sender::default(),
            refetch_requested: Notify::new(),
            retired: Notify::new(),
            waiting: AtomicUsize::new(0),
            unknown_kids: AtomicU64::new(0),
            fetches: [const { AtomicU64::new(0) }; Cause::ALL.len()],
        }
    }

    /// Returns a successor for another section that takes over the keys in use.
    fn successor(&self, section: IssuerSection) -> Self {
        let Progress { confirmed, last_success, .. } = self.progress();
        let next = Self::new(section);
        // With the age of these keys: a new section does not extend their use.
        next.progress.send_modify(|progress| {
            (progress.confirmed, progress.last_success) = (confirmed, last_success)
        });
        next
    }

    /// Returns whether keys of this issuer are in use.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        self.progress.borrow().confirmed.is_some()
    }

    /// Returns the section that configures these keys.
    #[must_use]
    pub fn section(&self) -> &IssuerSection {
        &self.section
    }

    /// Returns the progress of the fetches.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress.borrow().clone()
    }

    /// Returns the number of tokens with an unknown `kid`.
    #[must_use]
    pub fn unknown_kids(&self) -> u64 {
        self.unknown_kids.load(Ordering::Relaxed)
    }

    /// Returns the number of started fetches, by [`Cause`].
    pub fn fetches(&self) -> impl Iterator<Item = (Cause, u64)> {
        Cause::ALL.into_iter().zip(self.fetches.iter().map(|count| count.load(Ordering::Relaxed)))
    }

    /// Returns the source the keys are refreshed from; `None` for static keys.
    #[must_use]
    pub fn renewed(&self) -> Option<&Arc<RefreshedKeys>> {
        match &self.section.keys {
            KeySource::Refreshed(source) => Some(source),
            KeySource::Secret(_) | KeySource::Static(_) => None,
        }
    }
}
