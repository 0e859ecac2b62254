//! Keys that another process of this machine fetches, applied as it passes them on.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use countersign_engine::{
    Issuer, KeySet, UnixTime, Verifier, jwks::Origin, rotation::WithdrawalReason,
};

use super::{
    FetchState, IssuerKeys, KeySources, Progress, SuccessfulFetch,
    fetch::FetchError,
    refresh::set_keys,
    shared::{self, SharedKeys},
    static_keys::parse_jwks,
};
use crate::base::clock;

/// Applies [`SharedKeys`] to the sections that they were fetched for. It keeps all of them, so that
/// a section which a reload adds has its keys at once.
pub struct KeyFollower {
    verifier: Arc<Verifier>,
    keys: Arc<KeySources>,
    /// By section.
    received: HashMap<String, SharedKeys>,
    /// A complete set that is being read.
    set: HashMap<String, SharedKeys>,
    /// Whether a set was complete once.
    is_complete: bool,
    /// The keys that were applied last, by section.
    applied: HashMap<String, AppliedKeys>,
}

struct AppliedKeys {
    /// The keys of the section, until a reload replaces them.
    target: Arc<IssuerKeys>,
    /// `None` if the other process does not have the section.
    shared: Option<SharedKeys>,
}

/// The keys of a section from now on.
enum FollowedKeys {
    /// Those of before.
    Unchanged,
    /// These.
    Usable(Arc<KeySet>),
    /// None: the other process has none, or there is this error.
    Missing(Option<FetchError>),
}

/// Error of more sections than are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionLimitError;

/// Maximum number of sections.
const MAX_SECTIONS: usize = 10_000;

impl KeyFollower {
    /// Creates the follower of the keys that are fetched over a network.
    #[must_use]
    pub fn new(verifier: &Arc<Verifier>, keys: &Arc<KeySources>) -> Self {
        Self {
            verifier: Arc::clone(verifier),
            keys: Arc::clone(keys),
            received: HashMap::new(),
            set: HashMap::new(),
            is_complete: false,
            applied: HashMap::new(),
        }
    }

    /// Waits until a reload may have changed the sections. For one caller.
    pub async fn changed(&self) {
        self.keys.changed().await;
    }

    /// Begins to read a complete set.
    pub fn begin_set(&mut self) {
        self.set = HashMap::new();
    }

    /// Adds a section to the set, which is applied when it is complete.
    ///
    /// # Errors
    /// [`SectionLimitError`].
    pub fn add_to_set(&mut self, shared: SharedKeys) -> Result<(), SectionLimitError> {
        insert(&mut self.set, shared)
    }

    /// Applies the set in place of the one before.
    pub fn complete_set(&mut self) {
        self.received = std::mem::take(&mut self.set);
        self.is_complete = true;
        self.apply();
    }

    /// Replaces the keys of a section.
    ///
    /// # Errors
    /// [`SectionLimitError`].
    pub fn replace(&mut self, shared: SharedKeys) -> Result<(), SectionLimitError> {
        insert(&mut self.received, shared)?;
        self.apply();
        Ok(())
    }

    /// Removes a section that the other process does not have any more.
    pub fn remove(&mut self, section: &str) {
        self.received.remove(section);
        self.apply();
    }

    /// Applies the keys that are not applied yet. Call this after a reload, too.
    pub fn apply(&mut self) {
        if !self.is_complete {
            return;
        }
        let targets = self.keys.all();
        let names: Vec<_> = targets.iter().map(|target| target.section.section()).collect();
        self.applied.retain(|section, _| names.contains(&&**section));
        for target in targets.iter().filter(|target| is_followed(target)) {
            self.apply_to(target);
        }
    }

    fn apply_to(&mut self, target: &Arc<IssuerKeys>) {
        let section = target.section.section();
        let source = shared::source(&target.section);
        let of_section = self.received.get(section);
        let shared = of_section.filter(|shared| Some(&shared.source) == source.as_ref());
        let before = self.applied.get(section).filter(|one| Arc::ptr_eq(&one.target, target));
        if before.is_some_and(|before| before.shared.as_ref() == shared) {
            return;
        }
        // The keys of before stay in use while a process starts that has not asked the provider yet.
        if before.is_some() && target.has_keys() && shared.is_some_and(is_before_first_fetch) {
            return;
        }
        let earlier = before.and_then(|before| before.shared.as_ref());
        let error = match self.read(target, earlier, shared) {
            FollowedKeys::Unchanged => None,
            FollowedKeys::Usable(keys) => {
                self.use_keys(target, &keys);
                None
            }
            FollowedKeys::Missing(error) => {
                set_keys(&self.verifier, &target.section.issuer, None);
                error
            }
        };
        self.update_progress(target, shared, earlier, error);
        let applied = AppliedKeys { target: Arc::clone(target), shared: shared.cloned() };
        self.applied.insert(section.to_owned(), applied);
    }

    /// Reads the keys to be used from now on.
    fn read(
        &self,
        target: &IssuerKeys,
        earlier: Option<&SharedKeys>,
        shared: Option<&SharedKeys>,
    ) -> FollowedKeys {
        let missing = |code, text: &str| FollowedKeys::Missing(Some(FetchError::new(code, text)));
        let Some(shared) = shared else { return missing("feed", OTHER_SOURCE) };
        if shared.are_withheld() {
            return missing("feed", WITHHELD);
        }
        let Some(jwks) = shared.jwks() else { return FollowedKeys::Missing(None) };
        if earlier.and_then(SharedKeys::jwks) == Some(jwks) && target.has_keys() {
            return FollowedKeys::Unchanged;
        }
        // The same validation as of keys that this process fetches.
        match parse_jwks(jwks.as_bytes(), Origin::Published, target.section.issuer.algorithms) {
            Ok((keys, _)) => FollowedKeys::Usable(Arc::new(keys)),
            Err(error) => missing("unusable", &error.to_string()),
        }
    }

    fn use_keys(&self, target: &IssuerKeys, keys: &Arc<KeySet>) {
        let issuer = &target.section.issuer;
        let before = self.verifier.snapshot().issuer(&issuer.name).and_then(Issuer::keys).cloned();
        // One less, because the last fetch may count as one before the `kid`s seen since.
        let number = target.progress.borrow().state.rounds.saturating_sub(1);
        target.remember_withdrawn(before.as_deref(), keys, number);
        if !target.has_keys() {
            let section = target.section.section();
            tracing::info!(section, keys = keys.len(), "keys loaded");
        }
        set_keys(&self.verifier, issuer, Some(keys));
    }

    fn update_progress(
        &self,
        target: &IssuerKeys,
        shared: Option<&SharedKeys>,
        earlier: Option<&SharedKeys>,
        error: Option<FetchError>,
    ) {
        if let Some(error) = &error {
            let section = target.section.section();
            tracing::error!(
                section,
                reason = error.code,
                "no keys from the server: {}",
                error.text
            );
        }
        let clock = self.keys.clock;
        let last_unknown = Duration::from_millis(target.last_unknown.load(Ordering::Relaxed));
        target.progress.send_modify(|progress| {
            let state = &mut progress.state;
            let fetches = |shared: Option<&SharedKeys>| shared.map_or(0, |one| one.fetches);
            let is_first = earlier.is_none() && shared.is_some_and(|one| one.confirmed.is_some());
            let has_ended = fetches(shared) != fetches(earlier) || is_first || error.is_some();
            state.rounds += u64::from(has_ended);
            state.is_failing = error.is_some() || shared.is_some_and(|one| one.is_failing);
            state.fetch_at = shared.and_then(|one| one.next_fetch).map(|at| clock.of_boot(at));
            let success = shared.and_then(|one| one.success);
            state.success = success.map(|[began, ended]| {
                let (began, ended) = (clock.of_boot(began), clock.of_boot(ended));
                successful_fetch(state, (began, ended), last_unknown)
            });
            let confirmed = shared.filter(|_| error.is_none()).and_then(|one| one.confirmed);
            progress.confirmed = confirmed.map(|at| clock.of_boot(at));
            update_times(progress, shared, error, clock.now());
        });
    }
}

/// Returns the state of the last successful fetch of the other process. It decides about a `kid`
/// only if it began after the `kid` was last seen: its report takes a moment.
fn successful_fetch(
    state: &FetchState,
    (began, ended): (Duration, Duration),
    last_unknown: Duration,
) -> SuccessfulFetch {
    match state.success {
        Some(known) if known.began == began => known,
        _ => {
            let is_later = last_unknown < began;
            let number = state.rounds.saturating_sub(u64::from(!is_later));
            SuccessfulFetch { number, began, ended }
        }
    }
}

fn update_times(
    progress: &mut Progress,
    shared: Option<&SharedKeys>,
    error: Option<FetchError>,
    now: Duration,
) {
    let age = progress.confirmed.map(|confirmed| now.saturating_sub(confirmed).as_secs());
    if let Some(age) = age {
        let at = clock::now().0.saturating_sub(age);
        progress.last_success = Some(UnixTime(at));
    }
    progress.withdrawn = shared.and_then(|one| one.is_emptied).map(|is_emptied| {
        if is_emptied { WithdrawalReason::Emptied } else { WithdrawalReason::Stale }
    });
    if let Some(error) = error {
        progress.failures += 1;
        progress.last_failure = Some((clock::now(), error));
    }
}

fn insert(
    sections: &mut HashMap<String, SharedKeys>,
    shared: SharedKeys,
) -> Result<(), SectionLimitError> {
    if sections.len() >= MAX_SECTIONS && !sections.contains_key(&shared.section) {
        return Err(SectionLimitError);
    }
    sections.insert(shared.section.clone(), shared);
    Ok(())
}

/// Whether the other process neither has keys nor knows why.
const fn is_before_first_fetch(shared: &SharedKeys) -> bool {
    shared.fetches == 0 && shared.confirmed.is_none() && shared.is_emptied.is_none()
}

/// Whether another process fetches the keys.
fn is_followed(target: &IssuerKeys) -> bool {
    target.renewed().is_some_and(|renewed| renewed.location.uri().is_some())
}

const OTHER_SOURCE: &str = "it does not fetch them for this issuer and location: use the same \
                            configuration and environment for both, and reload the server";
const WITHHELD: &str = "they have members that are not public, and are not passed on: check what \
                        the provider publishes";
