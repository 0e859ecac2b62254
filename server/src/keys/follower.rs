//! Keys that another process of this machine fetches, applied as it passes them on.

use std::{collections::HashMap, sync::Arc, time::Duration};

use countersign_engine::{
    Issuer, KeySet, UnixTime, Verifier, jwks::Origin, rotation::WithdrawalReason,
};

use super::{
    FetchState, IssuerKeys, KeyClock, KeySources, Progress, SuccessfulFetch,
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
    /// [`IssuerKeys::last_unknown`] when it was reported that the present fetch had begun.
    unknown_before: Duration,
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

    /// Waits until a token has had an unknown `kid` that may cause a fetch. For one caller.
    pub async fn refetch_requested(&self) {
        self.keys.refetch_requested().await;
    }

    /// Takes the sections of such tokens.
    #[must_use]
    pub fn take_refetch_requests(&self) -> Vec<String> {
        let targets = self.keys.all();
        let requested =
            targets.iter().filter(|target| is_followed(target) && target.take_refetch_request());
        requested.map(|target| target.section.section().to_owned()).collect()
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
        let unknown_before = before.map_or(Duration::ZERO, |before| before.unknown_before);
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
        let unknown_before = update_progress(target, (shared, earlier), unknown_before, error);
        let (target, shared) = (Arc::clone(target), shared.cloned());
        let applied = AppliedKeys { target, shared, unknown_before };
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
        if earlier.is_some_and(|earlier| earlier.has_same_keys(shared)) && target.has_keys() {
            return FollowedKeys::Unchanged;
        }
        // The same validation as of keys that this process fetches.
        match parse_jwks(jwks.as_bytes(), Origin::Published, target.section.issuer.algorithms) {
            Ok((keys, _)) => {
                FollowedKeys::Usable(Arc::new(keys.with_skipped(shared.skipped_keys())))
            }
            Err(error) => missing("unusable", &error.to_string()),
        }
    }

    fn use_keys(&self, target: &IssuerKeys, keys: &Arc<KeySet>) {
        let issuer = &target.section.issuer;
        let before = self.verifier.snapshot().issuer(&issuer.name).and_then(Issuer::keys).cloned();
        // Before each fetch: this set shows that they are withdrawn.
        target.remember_withdrawn(before.as_deref(), keys, 0);
        if !target.has_keys() {
            let section = target.section.section();
            tracing::info!(section, keys = keys.len(), "keys loaded");
        }
        set_keys(&self.verifier, issuer, Some(keys));
    }
}

/// Updates the progress, after the keys are in use. Returns [`AppliedKeys::unknown_before`].
fn update_progress(
    target: &IssuerKeys,
    (shared, earlier): (Option<&SharedKeys>, Option<&SharedKeys>),
    mut unknown_before: Duration,
    error: Option<FetchError>,
) -> Duration {
    if let Some(error) = &error {
        let (section, reason) = (target.section.section(), error.code);
        tracing::error!(section, reason, "no keys from the server: {}", error.text);
    }
    target.progress.send_modify(|progress| {
        let state = &mut progress.state;
        // Read here, where no token is between the state that it has seen and the time of that.
        let (last_unknown, was_fetching) = (target.last_unknown(), state.fetching);
        state.fetching = shared.is_some_and(|one| one.is_fetching);
        let ended = |shared: Option<&SharedKeys>| shared.map(|one| (one.fetches, one.success));
        let is_first = earlier.is_none() && shared.is_some_and(|one| one.confirmed.is_some());
        let has_ended = ended(shared).unwrap_or_default() != ended(earlier).unwrap_or_default()
            || is_first
            || error.is_some()
            || was_fetching && !state.fetching;
        state.rounds += u64::from(has_ended);
        state.is_failing = error.is_some() || shared.is_some_and(|one| one.is_failing);
        state.fetch_at = shared.and_then(|one| one.next_fetch).map(KeyClock::of_boot);
        state.refetch_from = shared.and_then(|one| one.refetch_from).map(KeyClock::of_boot);
        let last_before = if was_fetching { unknown_before } else { last_unknown };
        let success = shared.and_then(|one| one.success);
        let success = success.map(|times| successful_fetch(state, times, last_before));
        state.success = success;
        if has_ended || !was_fetching {
            unknown_before = last_unknown;
        }
        let confirmed = shared.filter(|_| error.is_none()).and_then(|one| one.confirmed);
        progress.confirmed = confirmed.map(KeyClock::of_boot);
        update_times(progress, shared, error);
    });
    unknown_before
}

/// Returns the state of the last successful fetch of the other process.
///
/// It decides about the `kid`s that were seen before its beginning was reported, only if it began
/// after the last of them was first seen, at `last_before`: the report takes a moment.
fn successful_fetch(
    state: &FetchState,
    [began, ended]: [i64; 2],
    last_before: Duration,
) -> SuccessfulFetch {
    let [began, ended] = [began, ended].map(KeyClock::of_boot);
    match state.success {
        Some(known) if known.began == began => known,
        // Otherwise about those that an earlier one decided about.
        known if began <= last_before => {
            let number = known.map_or(0, |known| known.number);
            SuccessfulFetch { number, began, ended }
        }
        _ => SuccessfulFetch { number: state.rounds, began, ended },
    }
}

fn update_times(progress: &mut Progress, shared: Option<&SharedKeys>, error: Option<FetchError>) {
    let now = KeyClock::now();
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

#[cfg(test)]
mod tests;
