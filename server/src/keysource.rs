//! Key rotation: the keys of every issuer, and the thread that refreshes them.
//!
//! One thread runs a [`Rotation`] for each issuer. The fetches themselves are blocking work
//! and run on further threads, with a [`Fetcher`] each. A request waits for a provider only if
//! its token names an unknown `kid`, and then for at most a second ([`KeyRefetch`]).

pub mod fetch;
pub mod written;

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use arc_swap::ArcSwap;
use aws_lc_rs::rand;
use countersign_engine::{
    KeySet, Reject, UnixTime,
    rotation::{Cause, Event, Rotation},
};
use fetch::{FetchError, FetchedKeys, Fetcher};
use tokio::{
    runtime::Builder,
    sync::{Notify, mpsc, watch},
    task::{JoinHandle, LocalSet, spawn_blocking, spawn_local},
    time::timeout,
};

use crate::{
    app::App,
    clock::{self, Stopwatch},
    config::{IssuerSection, KeySource, RefreshedKeys},
};

/// Longest wait of a request for a refetch of its issuer's keys.
const REFETCH_TIMEOUT: Duration = Duration::from_secs(1);
/// Limit of requests that wait for one issuer, so that a flood of unknown `kid`s cannot use
/// up the memory.
const MAX_WAITING: usize = 1024;

/// The keys of all issuers.
///
/// # Synchronization
/// One [`ArcSwap`] pointer to an immutable table. The table is replaced before the verifier's
/// snapshot, so a fetch can end after its issuer was removed. This is safe because
/// [`Verifier::renew_keys`](countersign_engine::Verifier::renew_keys) accepts keys only for the
/// issuer configuration they were fetched for.
pub struct KeySources {
    table: ArcSwap<Table>,
    clock: Stopwatch,
    /// Queue of the refresh thread, once [`spawn`] has started it.
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

    /// Waits until `verify` returns something other than [`Reject::KidUnknown`] or no further
    /// refetch is due, for at most a second.
    ///
    /// A fetch that was already under way may have been answered before the provider published
    /// the new key. Another fetch follows then.
    ///
    /// # Errors
    /// The last error of `verify`.
    pub async fn wait<T>(self, verify: impl Fn() -> Result<T, Reject>) -> Result<T, Reject> {
        let waited = async {
            let mut refetch = self;
            loop {
                // Never an error: the sender lives as long as the issuer's keys.
                drop(refetch.progress.wait_for(|state| state.rounds != refetch.rounds).await);
                let verified = verify();
                let Err(Reject::KidUnknown) = verified else { return verified };
                let Some(again) = Self::request(refetch.waiting, refetch.clock) else {
                    return verified;
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
    /// When the keys in use were last confirmed; `None` while no keys are in use.
    confirmed: Option<Duration>,
    /// When keys were last confirmed.
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

    /// Returns the location the keys are refreshed from, if they are refreshed.
    #[must_use]
    pub fn renewed(&self) -> Option<&Arc<RefreshedKeys>> {
        match &self.section.keys {
            KeySource::Refreshed(source) => Some(source),
            KeySource::Secret(_) | KeySource::Static(_) => None,
        }
    }
}

/// Starts the thread that refreshes the keys of every issuer. It ends with the process.
///
/// # Errors
/// The operating system cannot create a thread.
pub fn spawn(app: &Arc<App>) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_time().build()?;
    let (renewals, mut starting) = mpsc::unbounded_channel();
    let renewals = app.keys.renewals.get_or_init(|| renewals);
    for source in app.keys.all() {
        let _ignored = renewals.send(source);
    }
    let app = Arc::clone(app);
    thread::Builder::new().name("keys".into()).spawn(move || {
        LocalSet::new().block_on(&runtime, async {
            while let Some(source) = starting.recv().await {
                if let Some(renewed) = source.renewed() {
                    spawn_local(Renewal::new(&app, &source, renewed).run());
                }
            }
        });
    })?;
    Ok(())
}

/// Task that refreshes the keys of one issuer.
struct Renewal {
    app: Arc<App>,
    source: Arc<IssuerKeys>,
    renewed: Arc<RefreshedKeys>,
    rotation: Rotation,
    /// The last usable keys. They are kept after a withdrawal, as a later answer may confirm
    /// them (304).
    keys: Option<Arc<KeySet>>,
    /// `None` while a fetch on another thread has it.
    fetcher: Option<Fetcher>,
}

type FetchTask = JoinHandle<(Fetcher, Result<FetchedKeys, FetchError>)>;

impl Renewal {
    fn new(app: &Arc<App>, source: &Arc<IssuerKeys>, renewed: &Arc<RefreshedKeys>) -> Self {
        let mut jitter = [0; 2];
        // Without randomness all issuers are fetched at the same pace, which is harmless here.
        let _ignored = rand::fill(&mut jitter);
        Self {
            app: Arc::clone(app),
            source: Arc::clone(source),
            renewed: Arc::clone(renewed),
            rotation: match source.progress.borrow().confirmed {
                Some(at) => Rotation::with_keys(renewed.timing, u16::from_ne_bytes(jitter), at),
                None => Rotation::new(renewed.timing, u16::from_ne_bytes(jitter)),
            },
            keys: None,
            fetcher: None,
        }
    }

    async fn run(mut self) {
        let mut event = Event::Wake;
        let mut fetching: Option<FetchTask> = None;
        loop {
            let (rotation, actions) = self.rotation.step(self.app.keys.clock.elapsed(), event);
            self.rotation = rotation;
            if actions.withdraw {
                self.withdraw();
            }
            if let Some(cause) = actions.fetch {
                fetching = Some(self.start(cause));
            }
            self.publish(event);
            let source = Arc::clone(&self.source);
            event = tokio::select! {
                event = self.next_event(&mut fetching) => event,
                () = source.retired.notified() => return,
            };
        }
    }

    async fn next_event(&mut self, fetching: &mut Option<FetchTask>) -> Event {
        let wake_at =
            self.rotation.wake_at().map(|at| at.saturating_sub(self.app.keys.clock.elapsed()));
        let wake = async {
            match wake_at {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        let ended = async {
            match fetching {
                Some(fetching) => fetching.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = ended => {
                *fetching = None;
                self.finish_fetch(ended)
            }
            () = self.source.refetch_requested.notified() => Event::UnknownKid,
            () = wake => Event::Wake,
        }
    }

    fn start(&mut self, cause: Cause) -> FetchTask {
        let index = Cause::ALL.iter().position(|one| *one == cause).unwrap_or_default();
        self.source.fetches[index].fetch_add(1, Ordering::Relaxed);
        let mut fetcher = self
            .fetcher
            .take()
            .unwrap_or_else(|| Fetcher::new(&self.source.section, &self.renewed));
        spawn_blocking(move || {
            let fetched = fetcher.fetch(cause);
            (fetcher, fetched)
        })
    }

    fn finish_fetch(
        &mut self,
        ended: Result<(Fetcher, Result<FetchedKeys, FetchError>), tokio::task::JoinError>,
    ) -> Event {
        let (fetcher, fetched) = match ended {
            Ok(ended) => ended,
            Err(panic) => {
                tracing::error!(
                    section = self.source.section.section(),
                    "the key fetch panicked: {panic}"
                );
                self.record_failure(FetchError {
                    code: "internal",
                    text: "the key fetch panicked".into(),
                });
                return Event::Failed;
            }
        };
        let event = match fetched {
            Ok(fetched) => self.install_keys(fetched),
            Err(error) => {
                self.log(&fetcher, &error);
                self.record_failure(error);
                Event::Failed
            }
        };
        self.fetcher = Some(fetcher);
        event
    }

    fn install_keys(&mut self, fetched: FetchedKeys) -> Event {
        let in_use = self.rotation.refetch_from().is_some();
        let changed = fetched.keys.is_some();
        if let Some(keys) = fetched.keys {
            self.keys = Some(Arc::new(keys));
        }
        if let (Some(keys), true) = (&self.keys, changed || !in_use) {
            if !in_use || self.source.progress.borrow().is_failing {
                tracing::info!(
                    section = self.source.section.section(),
                    keys = keys.len(),
                    "keys loaded"
                );
            }
            self.app.verifier.renew_keys(&self.source.section.issuer, Some(keys));
        }
        Event::Confirmed { max_age: fetched.max_age }
    }

    fn withdraw(&self) {
        let (section, stale) = (self.source.section.section(), self.renewed.timing.stale.as_secs());
        tracing::error!(
            section,
            "keys withdrawn: no successful fetch within jwks_stale ({stale} s) after they were due"
        );
        self.app.verifier.renew_keys(&self.source.section.issuer, None);
        self.source.progress.send_if_modified(|progress| {
            progress.confirmed = None;
            false
        });
    }

    /// Logs a failed fetch: at level error if the reason is new, at level debug if it repeats.
    fn log(&self, fetcher: &Fetcher, error: &FetchError) {
        let section = self.source.section.section();
        let is_known = {
            let progress = self.source.progress.borrow();
            progress.is_failing
                && progress.last_failure.as_ref().is_some_and(|(_, last)| last == error)
        };
        if is_known {
            tracing::debug!(section, reason = error.code, "{}", fetcher.describe(error));
        } else {
            tracing::error!(section, reason = error.code, "{}", fetcher.describe(error));
        }
    }

    fn record_failure(&self, error: FetchError) {
        self.source.progress.send_modify(|progress| {
            progress.failures += 1;
            progress.is_failing = true;
            progress.last_failure = Some((clock::now(), error));
        });
    }

    /// Publishes the effect of `event`, which wakes the requests that wait for a fetch to end.
    fn publish(&self, event: Event) {
        self.source.progress.send_if_modified(|progress| {
            let (fetching, refetch_from) =
                (self.rotation.is_fetching(), self.rotation.refetch_from());
            let changed = (fetching, refetch_from) != (progress.fetching, progress.refetch_from);
            (progress.fetching, progress.refetch_from) = (fetching, refetch_from);
            match event {
                Event::Confirmed { .. } => {
                    progress.last_success = Some(clock::now());
                    progress.confirmed = Some(self.app.keys.clock.elapsed());
                    progress.is_failing = false;
                }
                Event::Failed => {}
                // Most of these change nothing, and must not wake the waiting requests.
                Event::Wake | Event::UnknownKid => return changed,
            }
            progress.rounds += 1;
            true
        });
    }
}
