//! Key rotation: the keys of every issuer, and the thread that refreshes them.
//!
//! One thread runs a [`Rotation`](countersign_engine::rotation::Rotation) for each issuer. The
//! fetches themselves are blocking work and run on further threads, with a
//! [`Fetcher`](fetch::Fetcher) each. A request waits for a provider only if its token names an
//! unknown `kid`, and then for at most a second ([`KeyRefetch`](unknown_kid::KeyRefetch)).

pub mod administration;
pub mod fetch;
pub mod follower;
pub mod issuer;
pub mod issuer_status;
mod pem;
mod pem_map;
mod public_key;
pub mod published;
pub mod refresh;
pub mod secret_encoding;
pub mod secret_id;
pub mod secret_keys;
pub mod settings;
pub mod shared;
pub mod static_keys;
pub mod status;
mod stored;
pub mod unknown_kid;

use std::{
    collections::HashMap,
    pin::pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use countersign_engine::{
    KeySet, KidHash, UnixTime,
    rotation::{Cause, WithdrawalReason},
};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::timeout,
};

pub use self::issuer::IssuerSection;
use self::{
    fetch::FetchError,
    settings::{KeySource, RefreshedKeys},
    unknown_kid::SeenKids,
};
use crate::base::clock::since_boot;

/// The keys of all issuers.
///
/// # Synchronization
/// One [`ArcSwap`] pointer to an immutable table. The table is replaced before the verifier's
/// snapshot, so a fetch can end after its issuer was removed. This is safe because [`refresh`] sets
/// keys only for the issuer configuration they were fetched for.
pub struct KeySources {
    table: ArcSwap<Table>,
    /// Queue of the refresh thread, once [`refresh::spawn`] has started it.
    renewals: OnceLock<mpsc::UnboundedSender<Arc<IssuerKeys>>>,
    /// Whether every issuer has been fetched from at some time. Relaxed, because it orders
    /// no other access.
    all_fetched: AtomicBool,
    signals: Arc<KeySignals>,
}

/// What the keys of all issuers notify one caller of.
#[derive(Default)]
struct KeySignals {
    /// Notified when keys or their progress have changed.
    changed: Notify,
    /// Notified with [`IssuerKeys::refetch_requested`].
    refetch_requested: Notify,
}

/// The clock of the rotations: that of [`since_boot`], which all processes of a machine share. It
/// starts late, so that keys which were fetched before the machine started have a time on it.
struct KeyClock;

impl KeyClock {
    /// A hundred years.
    const START: Duration = Duration::from_secs(3_155_760_000);

    fn now() -> Duration {
        Self::START.saturating_add(since_boot())
    }
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
        let signals = Arc::default();
        let new = |section: &IssuerSection| {
            Arc::new(IssuerKeys::new(section.clone(), Arc::clone(&signals)))
        };
        Self {
            table: ArcSwap::from_pointee(Table::new(sections.iter().map(new).collect())),
            renewals: OnceLock::new(),
            all_fetched: AtomicBool::new(false),
            signals,
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
                || IssuerKeys::new(section.clone(), Arc::clone(&self.signals)),
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
        if let Some(renewals) = self.renewals.get() {
            for source in sources {
                let _ignored = renewals.send(source);
            }
        }
        self.signals.changed.notify_one();
    }

    /// Waits until keys or their progress have changed since the last call. For one caller.
    pub async fn changed(&self) {
        self.signals.changed.notified().await;
    }

    /// Waits until a token has had an unknown `kid` that may cause a fetch. For one caller.
    pub async fn refetch_requested(&self) {
        self.signals.refetch_requested.notified().await;
    }

    /// Requests a fetch of the keys of a section as a token with an unknown `kid` does, which the
    /// same limit applies to. Without effect if more than this number of fetches have begun.
    pub fn request_refetch(&self, section: &str, begun: u64) {
        let table = self.table.load();
        let source = table.in_order.iter().find(|source| source.section.section() == section);
        if let Some(source) = source.filter(|one| one.progress.borrow().state.begun() <= begun) {
            source.request_refetch();
        }
    }

    /// Returns the keys of every issuer, in the order of the sections.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<IssuerKeys>> {
        self.table.load().in_order.clone()
    }

    /// Requests a fetch of all keys that are fetched.
    #[must_use]
    pub fn request_fetches(&self) -> Vec<RequestedFetch> {
        self.all().iter().filter_map(IssuerKeys::request_fetch).collect()
    }

    /// Waits until a first fetch has ended for every issuer. It ends within the timeout of a fetch.
    pub async fn first_fetches(&self) {
        for source in self.all().iter().filter(|source| source.renewed().is_some()) {
            // Never an error: the sender lives as long as the issuer's keys.
            drop(source.progress.subscribe().wait_for(|now| now.state.rounds > 0).await);
        }
    }

    /// Returns whether an issuer publishes its keys.
    #[must_use]
    pub fn are_published(&self, issuer: &str) -> bool {
        let table = self.table.load();
        table.by_issuer.get(issuer).is_some_and(|source| source.section.keys.are_published())
    }

    /// Returns why the keys of an issuer were withdrawn, if they were.
    #[must_use]
    pub fn withdrawal(&self, issuer: &str) -> Option<WithdrawalReason> {
        let table = self.table.load();
        let source = table.by_issuer.get(issuer)?;
        source.progress.borrow().withdrawn
    }

    /// Returns whether every issuer has keys, or a first fetch for it has ended without.
    ///
    /// An unreachable provider affects only its own tokens, not the readiness of the server. The
    /// same holds for an issuer that a reload adds: once `true`, this stays `true`.
    #[must_use]
    pub fn all_fetched_once(&self) -> bool {
        self.all_fetched.load(Ordering::Relaxed)
            || self.table.load().in_order.iter().all(|source| source.is_fetched_once())
    }

    /// Returns the sections because of which [`all_fetched_once`](Self::all_fetched_once) does not
    /// hold.
    #[must_use]
    pub fn unfetched_sections(&self) -> Vec<String> {
        if self.all_fetched.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let table = self.table.load();
        let unfetched = table.in_order.iter().filter(|source| !source.is_fetched_once());
        unfetched.map(|source| source.section().section().to_owned()).collect()
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
    /// Notified when a token has an unknown `kid`.
    refetch_requested: Notify,
    /// Notified when an operator requests a fetch.
    refresh_requested: Notify,
    /// Notified when other keys have replaced these.
    retired: Notify,
    waiting: AtomicUsize,
    seen_kids: SeenKids,
    unknown_kids: AtomicU64,
    undecided_kids: AtomicU64,
    fetches: [AtomicU64; Cause::ALL.len()],
    /// The keys in use, if they are fetched over a network and can be written as a JWK Set.
    public: ArcSwapOption<PublicKeys>,
    /// Microseconds on the [`KeyClock`] at which a token last had a `kid` that was not seen since
    /// the last fetch.
    last_unknown: AtomicU64,
    /// Those of [`KeySources`].
    signals: Arc<KeySignals>,
}

/// Keys in use.
struct PublicKeys {
    keys: Arc<KeySet>,
    /// The same keys as a JWK Set of public keys, without those that were skipped.
    jwks: Arc<String>,
}

/// Progress of the fetches for one issuer.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// The state of the fetches.
    pub state: FetchState,
    /// Time of the last confirmation of the keys in use; `None` while no keys are in use.
    confirmed: Option<Duration>,
    /// Time of the last confirmation of any keys.
    pub last_success: Option<UnixTime>,
    /// Time and reason of the last failed fetch.
    pub last_failure: Option<(UnixTime, FetchError)>,
    /// Number of failed fetches.
    pub failures: u64,
    /// The reason why no keys are in use, if there were any.
    pub withdrawn: Option<WithdrawalReason>,
}

/// State of the fetches for one issuer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FetchState {
    /// Number of ended fetches.
    pub rounds: u64,
    /// Whether a fetch is under way.
    pub fetching: bool,
    /// Whether the last ended fetch failed.
    pub is_failing: bool,
    /// The last successful fetch of this process.
    success: Option<SuccessfulFetch>,
    /// Moment from which an unknown `kid` starts a fetch.
    refetch_from: Option<Duration>,
    /// Moment of the next fetch, if none is under way.
    fetch_at: Option<Duration>,
}

impl FetchState {
    /// Returns the number of fetches that have begun.
    fn begun(&self) -> u64 {
        self.rounds + u64::from(self.fetching)
    }
}

/// A successful fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SuccessfulFetch {
    /// Its number, from 1.
    number: u64,
    began: Duration,
    ended: Duration,
}

impl IssuerKeys {
    /// Whether it has keys, or a first fetch has ended without.
    fn is_fetched_once(&self) -> bool {
        let progress = self.progress.borrow();
        self.renewed().is_none() || progress.state.rounds > 0 || progress.confirmed.is_some()
    }

    fn new(section: IssuerSection, signals: Arc<KeySignals>) -> Self {
        Self {
            section,
            progress: watch::Sender::default(),
            refetch_requested: Notify::new(),
            refresh_requested: Notify::new(),
            retired: Notify::new(),
            waiting: AtomicUsize::new(0),
            seen_kids: SeenKids::new(),
            unknown_kids: AtomicU64::new(0),
            undecided_kids: AtomicU64::new(0),
            fetches: [const { AtomicU64::new(0) }; Cause::ALL.len()],
            public: ArcSwapOption::empty(),
            last_unknown: AtomicU64::new(0),
            signals,
        }
    }

    /// Records that a token has a `kid` that was not seen since the last fetch.
    fn record_unknown(&self, now: Duration) {
        // Rounded up, so that a fetch that begins in the same microsecond is not after it.
        let at = u64::try_from(now.as_micros()).unwrap_or(u64::MAX).saturating_add(1);
        self.last_unknown.fetch_max(at, Ordering::Relaxed);
    }

    /// Returns the time of the last [`record_unknown`](Self::record_unknown).
    fn last_unknown(&self) -> Duration {
        Duration::from_micros(self.last_unknown.load(Ordering::Relaxed))
    }

    fn request_refetch(&self) {
        self.refetch_requested.notify_one();
        self.signals.refetch_requested.notify_one();
    }

    /// Takes the request of a fetch for an unknown `kid`, if there is one.
    fn take_refetch_request(&self) -> bool {
        pin!(self.refetch_requested.notified()).enable()
    }

    /// Remembers the `kid`s that the issuer has withdrawn: they were in use before the fetch after
    /// this number.
    fn remember_withdrawn(&self, before: Option<&KeySet>, next: &KeySet, number: u64) {
        let before = before.into_iter().flat_map(KeySet::iter).filter_map(|key| key.kid());
        for kid in before.filter(|kid| !next.has_kid(kid)) {
            self.seen_kids.insert(KidHash::of(kid), number);
        }
    }

    /// Returns a successor for another section that takes over the keys in use.
    fn successor(&self, section: IssuerSection) -> Self {
        let Progress { confirmed, last_success, .. } = self.progress();
        let next = Self::new(section, Arc::clone(&self.signals));
        next.public.store(self.public.load_full());
        // With the age of these keys: a new section does not extend their use.
        next.progress.send_modify(|progress| {
            (progress.confirmed, progress.last_success) = (confirmed, last_success)
        });
        next
    }

    /// Requests a fetch that begins from now on; `None` for static keys.
    #[must_use]
    pub fn request_fetch(self: &Arc<Self>) -> Option<RequestedFetch> {
        self.renewed()?;
        let progress = self.progress.subscribe();
        let begun = progress.borrow().state.begun();
        self.refresh_requested.notify_one();
        Some(RequestedFetch { source: Arc::clone(self), progress, begun })
    }

    /// Returns the time until the next fetch that is due; `None` for static keys, and during a
    /// fetch.
    #[must_use]
    pub fn time_to_fetch(&self) -> Option<Duration> {
        self.renewed()?;
        let fetch_at = self.progress.borrow().state.fetch_at;
        fetch_at.map(|at| at.saturating_sub(KeyClock::now()))
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

    /// Returns the number of those that could not be judged, because the keys could not be fetched.
    #[must_use]
    pub fn undecided_kids(&self) -> u64 {
        self.undecided_kids.load(Ordering::Relaxed)
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

/// A fetch that was requested, and begins after its request.
pub struct RequestedFetch {
    source: Arc<IssuerKeys>,
    progress: watch::Receiver<Progress>,
    /// Number of fetches that had begun before.
    begun: u64,
}

impl RequestedFetch {
    /// Returns the section whose keys are fetched.
    #[must_use]
    pub fn section(&self) -> &str {
        self.source.section.section()
    }

    /// Waits for the end of the fetch and returns its result; `None` if it takes longer than
    /// `limit`.
    pub async fn ended(mut self, limit: Duration) -> Option<Result<(), FetchError>> {
        let ended = self.progress.wait_for(|now| now.state.rounds > self.begun);
        let progress = timeout(limit, ended).await.ok()?.ok()?;
        let failure = progress.last_failure.as_ref().filter(|_| progress.state.is_failing);
        Some(failure.map_or(Ok(()), |(_, error)| Err(error.clone())))
    }
}
