//! The keys of every issuer: where they stand, and who keeps them fresh.
//!
//! One thread drives all of them, each by its own [`Rotation`]; fetching itself is
//! blocking work on further threads. No request waits for a provider, except one
//! that names a key nobody knows, and that for a second at most.

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

/// The longest a request waits for its issuer to be asked again.
const REFETCH_TIMEOUT: Duration = Duration::from_secs(1);
/// How many requests may wait for one issuer; a flood is not to fill the memory.
const MAX_WAITING: usize = 1024;

/// The key sources of all issuers.
///
/// # Synchronization
/// One pointer to one immutable table. It is replaced before the verifier's snapshot
/// is, so a source may find that its issuer has just gone:
/// [`Verifier::renew_keys`](countersign_engine::Verifier::renew_keys) takes keys for the
/// configuration they were fetched for, and no other.
pub struct KeySources {
    table: ArcSwap<Table>,
    clock: Stopwatch,
    /// Where sources go that are to be kept fresh, once there is a thread for that.
    renewals: OnceLock<mpsc::UnboundedSender<Arc<IssuerKeys>>>,
    /// Whether there was a time when every source had been asked. Relaxed: nothing
    /// hangs on it.
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
    /// Sources that have not been asked for anything yet.
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

    /// Takes over these sections. A source whose section is the same goes on as it is,
    /// the others are retired. Returns the new ones, which are to be
    /// [started](Self::start) when the verifier knows their issuers.
    #[must_use]
    pub fn replace(&self, sections: &[IssuerSection]) -> Vec<Arc<IssuerKeys>> {
        let before = self.table.load_full();
        if self.all_fetched_once() {
            self.all_fetched.store(true, Ordering::Relaxed);
        }
        let kept = |section: &IssuerSection| {
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
        let sources = sections.iter().map(|section| kept(section).unwrap_or_else(|| new(section)));
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

    /// Lets sources be kept fresh.
    pub fn start(&self, sources: Vec<Arc<IssuerKeys>>) {
        let Some(renewals) = self.renewals.get() else { return };
        for source in sources {
            let _the_process_ends = renewals.send(source);
        }
    }

    /// Every source, in the order of the sections.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<IssuerKeys>> {
        self.table.load().in_order.clone()
    }

    /// Whether every issuer has been asked once, whatever it answered: a provider
    /// that is down keeps its own tokens out, not the whole server. One that is new in
    /// the configuration of a running server neither.
    #[must_use]
    pub fn all_fetched_once(&self) -> bool {
        let all_fetched = |source: &Arc<IssuerKeys>| {
            source.renewed().is_none() || source.progress.borrow().rounds > 0
        };
        self.all_fetched.load(Ordering::Relaxed)
            || self.table.load().in_order.iter().all(all_fetched)
    }

    /// Notes that a token of this issuer named an unknown `kid`. Says what to wait
    /// for, if the issuer is being asked again or may be now.
    #[must_use]
    pub fn refetch(&self, issuer: &str) -> Option<KeyRefetch> {
        let table = self.table.load();
        let source = table.by_issuer.get(issuer)?;
        source.unknown_kids.fetch_add(1, Ordering::Relaxed);
        KeyRefetch::request(Waiting::enter(source)?, self.clock)
    }
}

/// A wait for one issuer to be asked again.
pub struct KeyRefetch {
    waiting: Waiting,
    progress: watch::Receiver<Progress>,
    /// How many fetches had ended when the wait began.
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

    /// Waits, a second at most, until `judge` says something other than
    /// [`Reject::KidUnknown`] or there is nothing more to wait for. A fetch that was
    /// under way already may have been answered too early to bring a new key; then
    /// the issuer is asked once more.
    ///
    /// # Errors
    /// What `judge` says in the end.
    pub async fn wait<T>(self, judge: impl Fn() -> Result<T, Reject>) -> Result<T, Reject> {
        let waited = async {
            let mut refetch = self;
            loop {
                // The sender lives as long as the source, so this ends only as it should.
                drop(refetch.progress.wait_for(|state| state.rounds != refetch.rounds).await);
                let judged = judge();
                let Err(Reject::KidUnknown) = judged else { return judged };
                let Some(again) = Self::request(refetch.waiting, refetch.clock) else {
                    return judged;
                };
                refetch = again;
            }
        };
        timeout(REFETCH_TIMEOUT, waited).await.unwrap_or_else(|_out_of_patience| judge())
    }
}

/// One of the requests that wait for a source.
struct Waiting(Arc<IssuerKeys>);

impl Waiting {
    fn enter(source: &Arc<IssuerKeys>) -> Option<Self> {
        // Counted first, so that the bound holds whoever comes at the same time.
        let entered = Self(Arc::clone(source));
        (source.waiting.fetch_add(1, Ordering::Relaxed) < MAX_WAITING).then_some(entered)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The keys of one issuer.
///
/// # Synchronization
/// The counters are relaxed: they order nothing. What happened is published
/// through a watch channel after the keys themselves, so that whoever was woken by
/// it verifies with them.
pub struct IssuerKeys {
    section: IssuerSection,
    progress: watch::Sender<Progress>,
    refetch_requested: Notify,
    /// Another source has taken its place.
    retired: Notify,
    waiting: AtomicUsize,
    unknown_kids: AtomicU64,
    fetches: [AtomicU64; Cause::ALL.len()],
}

/// How far a source has come.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// How many fetches have ended.
    pub rounds: u64,
    /// Whether one is under way.
    pub fetching: bool,
    /// From when on an unknown `kid` causes one.
    refetch_from: Option<Duration>,
    /// When the keys in use were last confirmed; `None` while none are.
    confirmed: Option<Duration>,
    /// When keys were last confirmed.
    pub last_success: Option<UnixTime>,
    /// When and why a fetch last failed.
    pub last_failure: Option<(UnixTime, FetchError)>,
    /// How many have.
    pub failures: u64,
    /// Whether the last one that ended did.
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

    /// What goes on in its place, with the keys that it has, for another section.
    fn successor(&self, section: IssuerSection) -> Self {
        let Progress { confirmed, last_success, .. } = self.progress();
        let next = Self::new(section);
        // As old as they are: a new section is no reason to use them longer.
        next.progress.send_modify(|progress| {
            (progress.confirmed, progress.last_success) = (confirmed, last_success)
        });
        next
    }

    /// Whether keys of it are in use.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        self.progress.borrow().confirmed.is_some()
    }

    /// The section whose keys these are.
    #[must_use]
    pub fn section(&self) -> &IssuerSection {
        &self.section
    }

    /// How far it has come.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress.borrow().clone()
    }

    /// How often a token named a `kid` that no key had.
    #[must_use]
    pub fn unknown_kids(&self) -> u64 {
        self.unknown_kids.load(Ordering::Relaxed)
    }

    /// How many fetches were started, by cause.
    pub fn fetches(&self) -> impl Iterator<Item = (Cause, u64)> {
        Cause::ALL.into_iter().zip(self.fetches.iter().map(|count| count.load(Ordering::Relaxed)))
    }

    /// Where its keys are renewed from, if they are.
    #[must_use]
    pub fn renewed(&self) -> Option<&Arc<RefreshedKeys>> {
        match &self.section.keys {
            KeySource::Refreshed(source) => Some(source),
            KeySource::Secret(_) | KeySource::Static(_) => None,
        }
    }
}

/// Starts the thread that keeps every issuer's keys fresh. It ends with the process.
///
/// # Errors
/// The operating system has no thread to give.
pub fn spawn(app: &Arc<App>) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_time().build()?;
    let (renewals, mut starting) = mpsc::unbounded_channel();
    let renewals = app.keys.renewals.get_or_init(|| renewals);
    for source in app.keys.all() {
        let _the_thread_comes_next = renewals.send(source);
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

/// Keeps the keys of one issuer fresh.
struct Renewal {
    app: Arc<App>,
    source: Arc<IssuerKeys>,
    renewed: Arc<RefreshedKeys>,
    rotation: Rotation,
    /// The keys last found good: they may be confirmed after they were withdrawn.
    keys: Option<Arc<KeySet>>,
    /// At rest here, or at work on another thread.
    fetcher: Option<Fetcher>,
}

type FetchTask = JoinHandle<(Fetcher, Result<FetchedKeys, FetchError>)>;

impl Renewal {
    fn new(app: &Arc<App>, source: &Arc<IssuerKeys>, renewed: &Arc<RefreshedKeys>) -> Self {
        let mut jitter = [0; 2];
        // Without randomness all sources keep the same pace, which is no harm to us.
        let _unspread = rand::fill(&mut jitter);
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
        let place = Cause::ALL.iter().position(|one| *one == cause).unwrap_or_default();
        self.source.fetches[place].fetch_add(1, Ordering::Relaxed);
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
                    "fetching keys ended unexpectedly: {panic}"
                );
                self.record_failure(FetchError {
                    code: "internal",
                    text: "fetching ended unexpectedly".into(),
                });
                return Event::Failed;
            }
        };
        let event = match fetched {
            Ok(fetched) => self.install_keys(fetched),
            Err(fault) => {
                self.log(&fetcher, &fault);
                self.record_failure(fault);
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
            "the keys could not be confirmed for {stale} s after they were due, and are used no longer"
        );
        self.app.verifier.renew_keys(&self.source.section.issuer, None);
        self.source.progress.send_if_modified(|progress| {
            progress.confirmed = None;
            false
        });
    }

    /// Aloud when it is news: a source is asked again and again.
    fn log(&self, fetcher: &Fetcher, fault: &FetchError) {
        let section = self.source.section.section();
        let is_known = {
            let progress = self.source.progress.borrow();
            progress.is_failing
                && progress.last_failure.as_ref().is_some_and(|(_, last)| last == fault)
        };
        if is_known {
            tracing::debug!(section, reason = fault.code, "{}", fetcher.describe(fault));
        } else {
            tracing::error!(section, reason = fault.code, "{}", fetcher.describe(fault));
        }
    }

    fn record_failure(&self, fault: FetchError) {
        self.source.progress.send_modify(|progress| {
            progress.failures += 1;
            progress.is_failing = true;
            progress.last_failure = Some((clock::now(), fault));
        });
    }

    /// Tells what has become of the event, and whoever waited for a round to end.
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
                // Most of these change nothing, and nobody is to be woken for them.
                Event::Wake | Event::UnknownKid => return changed,
            }
            progress.rounds += 1;
            true
        });
    }
}
