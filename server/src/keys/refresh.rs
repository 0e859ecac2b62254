//! The thread that keeps the keys of every issuer fresh.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    thread,
    time::Duration,
};

use aws_lc_rs::rand;
use countersign_engine::{
    IssuerConfig, KeySet, Verifier,
    rotation::{Cause, Event, Rotation, WithdrawalReason},
};
use tokio::{
    runtime::Builder,
    sync::mpsc,
    task::{JoinHandle, LocalSet, spawn_blocking, spawn_local},
};

use super::{
    FetchState, IssuerKeys, KeyClock, KeySources, PublicKeys, SuccessfulFetch,
    fetch::{FetchError, FetchedKeys, Fetcher},
    settings::RefreshedKeys,
    stored::{RestoredKeys, StoredKeys},
};
use crate::{base::clock, store::Store};

/// Starts the thread that refreshes the keys of every issuer. It ends when `keys` is dropped.
/// Fetched keys are kept in `store` for the next start.
///
/// # Errors
/// The operating system cannot create a thread.
pub fn spawn(
    verifier: &Arc<Verifier>,
    keys: &Arc<KeySources>,
    store: Option<Store>,
) -> io::Result<()> {
    spawn_for(|_| true, verifier, keys, store)
}

/// Starts the thread for keys in files only. Another process fetches the others.
///
/// # Errors
/// The operating system cannot create a thread.
pub fn spawn_for_files(verifier: &Arc<Verifier>, keys: &Arc<KeySources>) -> io::Result<()> {
    spawn_for(|renewed| renewed.location.uri().is_none(), verifier, keys, None)
}

fn spawn_for(
    is_refreshed: fn(&RefreshedKeys) -> bool,
    verifier: &Arc<Verifier>,
    keys: &Arc<KeySources>,
    store: Option<Store>,
) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_time().build()?;
    let (renewals, mut starting) = mpsc::unbounded_channel();
    let renewals = keys.renewals.get_or_init(|| renewals);
    for source in keys.all() {
        let _ignored = renewals.send(source);
    }
    let verifier = Arc::clone(verifier);
    thread::Builder::new().name("keys".into()).spawn(move || {
        LocalSet::new().block_on(&runtime, async {
            while let Some(source) = starting.recv().await {
                if let Some(renewed) = source.renewed().filter(|renewed| is_refreshed(renewed)) {
                    let stored = StoredKeys::new(store.as_ref(), source.section(), renewed);
                    spawn_local(Renewal::new(&verifier, &source, renewed, stored).run());
                }
            }
        });
    })?;
    Ok(())
}

/// Task that refreshes the keys of one issuer.
struct Renewal {
    verifier: Arc<Verifier>,
    source: Arc<IssuerKeys>,
    renewed: Arc<RefreshedKeys>,
    rotation: Rotation,
    /// Start of the current fetch.
    began: Duration,
    /// The last usable keys. They are kept after a withdrawal, because a later response may confirm
    /// them (304).
    keys: Option<Arc<KeySet>>,
    /// The same keys as they are stored.
    jwks: Option<Arc<String>>,
    /// The place to store them.
    stored: Option<StoredKeys>,
    /// `None` while a fetch on another thread has it.
    fetcher: Option<Fetcher>,
}

type FetchTask = JoinHandle<(Fetcher, Result<FetchedKeys, FetchError>)>;

impl Renewal {
    fn new(
        verifier: &Arc<Verifier>,
        source: &Arc<IssuerKeys>,
        renewed: &Arc<RefreshedKeys>,
        stored: Option<StoredKeys>,
    ) -> Self {
        Self {
            verifier: Arc::clone(verifier),
            source: Arc::clone(source),
            renewed: Arc::clone(renewed),
            rotation: Rotation::new(renewed.timing, 0),
            began: Duration::ZERO,
            keys: None,
            jwks: None,
            stored,
            fetcher: None,
        }
    }

    async fn run(mut self) {
        self.restore().await;
        let mut event = Event::Wake;
        let mut fetching: Option<FetchTask> = None;
        loop {
            let (rotation, actions) = self.rotation.step(KeyClock::now(), event);
            self.rotation = rotation;
            if let Some(withdrawal) = actions.withdraw {
                self.withdraw(withdrawal);
            }
            // Before a fetch begins, so that every `kid` that was seen before it counts as such.
            self.publish(event);
            if let Some(cause) = actions.fetch {
                fetching = Some(self.start(cause));
            }
            let source = Arc::clone(&self.source);
            event = tokio::select! {
                event = self.next_event(&mut fetching) => event,
                () = source.retired.notified() => return,
            };
        }
    }

    /// Begins with the keys of the predecessor, or with the stored ones, which both keep their age.
    async fn restore(&mut self) {
        let timing = self.renewed.timing;
        let mut confirmed = self.source.progress.borrow().confirmed;
        if let (None, Some(stored)) = (confirmed, &self.stored)
            && let Some(restored) = stored.load().await
        {
            // They are not confirmed by this process, so they are due at once.
            let (now, age) = (KeyClock::now(), restored.age.max(timing.interval));
            let at = now.saturating_sub(age);
            if now < at.saturating_add(timing.interval).saturating_add(timing.stale) {
                self.use_restored(restored, at);
                confirmed = Some(at);
            }
        }
        let mut jitter = [0; 2];
        // Without randomness all issuers are fetched at the same pace, which is harmless here.
        let _ignored = rand::fill(&mut jitter);
        let jitter = u16::from_ne_bytes(jitter);
        self.rotation = match confirmed {
            Some(at) => Rotation::with_keys(timing, jitter, at),
            None => Rotation::new(timing, jitter),
        };
    }

    fn use_restored(&mut self, restored: RestoredKeys, confirmed: Duration) {
        let RestoredKeys { keys, stored, age } = restored;
        let (section, seconds) = (self.source.section.section(), age.as_secs());
        tracing::info!(section, keys = keys.len(), "using stored keys, fetched {seconds} s ago");
        let keys = Arc::new(keys);
        set_keys(&self.verifier, &self.source.section.issuer, Some(&keys));
        let fetched_at = stored.fetched_at;
        (self.keys, self.jwks) = (Some(keys), Some(Arc::new(stored.keys)));
        self.source.public.store(self.public_keys());
        self.source.progress.send_modify(|progress| {
            progress.confirmed = Some(confirmed);
            progress.last_success = Some(fetched_at.min(clock::now()));
        });
        self.source.signals.changed.notify_one();
    }

    async fn next_event(&mut self, fetching: &mut Option<FetchTask>) -> Event {
        let wake_at = self.rotation.wake_at().map(|at| at.saturating_sub(KeyClock::now()));
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
            () = self.source.refresh_requested.notified() => Event::Requested,
            () = wake => Event::Wake,
        }
    }

    fn start(&mut self, cause: Cause) -> FetchTask {
        let index = Cause::ALL.iter().position(|one| *one == cause).unwrap_or_default();
        self.source.fetches[index].fetch_add(1, Ordering::Relaxed);
        self.began = KeyClock::now();
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
                let event = if error.is_empty_set() { Event::Emptied } else { Event::Failed };
                self.record_failure(error);
                event
            }
        };
        self.fetcher = Some(fetcher);
        event
    }

    fn install_keys(&mut self, fetched: FetchedKeys) -> Event {
        let in_use = self.rotation.refetch_from().is_some();
        let changed = fetched.keys.is_some();
        if let Some(keys) = fetched.keys {
            let rounds = self.source.progress.borrow().state.rounds;
            self.source.remember_withdrawn(self.keys.as_deref(), &keys, rounds);
            (self.keys, self.jwks) = (Some(Arc::new(keys)), fetched.stored.map(Arc::new));
        }
        if let (Some(keys), true) = (&self.keys, changed || !in_use) {
            if !in_use || self.source.progress.borrow().state.is_failing {
                tracing::info!(
                    section = self.source.section.section(),
                    keys = keys.len(),
                    "keys loaded"
                );
            }
            set_keys(&self.verifier, &self.source.section.issuer, Some(keys));
            self.source.public.store(self.public_keys());
        }
        if let (Some(stored), Some(jwks)) = (&self.stored, &self.jwks) {
            stored.save(String::clone(jwks));
        }
        Event::Confirmed { max_age: fetched.max_age }
    }

    fn public_keys(&self) -> Option<Arc<PublicKeys>> {
        let (keys, jwks) = (self.keys.clone()?, self.jwks.clone()?);
        Some(Arc::new(PublicKeys { keys, jwks }))
    }

    fn withdraw(&self, withdrawal: WithdrawalReason) {
        let (section, stale) = (self.source.section.section(), self.renewed.timing.stale.as_secs());
        match withdrawal {
            WithdrawalReason::Stale => tracing::error!(
                section,
                "keys withdrawn: no successful fetch within jwks_stale ({stale} s) after they were \
                 due"
            ),
            WithdrawalReason::Emptied => {
                tracing::error!(section, "keys withdrawn: the published key set is empty");
                if let Some(stored) = &self.stored {
                    stored.delete();
                }
            }
        }
        set_keys(&self.verifier, &self.source.section.issuer, None);
        self.source.public.store(None);
        self.source.progress.send_if_modified(|progress| {
            (progress.confirmed, progress.withdrawn) = (None, Some(withdrawal));
            false
        });
    }

    /// Logs a failed fetch: at level error if the reason is new, at level debug if it repeats.
    fn log(&self, fetcher: &Fetcher, error: &FetchError) {
        let section = self.source.section.section();
        let is_known = {
            let progress = self.source.progress.borrow();
            progress.state.is_failing
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
            progress.state.is_failing = true;
            progress.last_failure = Some((clock::now(), error));
        });
    }

    /// Publishes the effect of `event`, which wakes the requests that wait for a fetch to end.
    fn publish(&self, event: Event) {
        let has_changed = self.source.progress.send_if_modified(|progress| {
            let before = progress.state;
            let state = FetchState {
                fetching: self.rotation.is_fetching(),
                refetch_from: self.rotation.refetch_from(),
                fetch_at: self.rotation.fetch_at(),
                ..before
            };
            progress.state = state;
            match event {
                Event::Confirmed { .. } => {
                    let (number, ended) = (before.rounds + 1, KeyClock::now());
                    progress.state.success =
                        Some(SuccessfulFetch { number, began: self.began, ended });
                    progress.state.is_failing = false;
                    progress.last_success = Some(clock::now());
                    (progress.confirmed, progress.withdrawn) = (Some(ended), None);
                }
                Event::Emptied | Event::Failed => {}
                // Most of these change nothing, and must not wake the waiting requests.
                Event::Wake | Event::UnknownKid | Event::Requested => return state != before,
            }
            progress.state.rounds += 1;
            true
        });
        if has_changed {
            self.source.signals.changed.notify_one();
        }
    }
}

/// Replaces or withdraws the keys of the issuer with exactly this configuration.
///
/// A fetch can end after a reload. Keys fetched for an old configuration must not be used under a
/// new one, so they are dropped unless `of` is the current configuration.
pub(crate) fn set_keys(verifier: &Verifier, of: &Arc<IssuerConfig>, keys: Option<&Arc<KeySet>>) {
    verifier.update(|snapshot| {
        let current = snapshot.issuer(&of.name);
        if current.is_some_and(|issuer| Arc::ptr_eq(issuer.config(), of)) {
            // Never an error: the issuer has just been found.
            let _ignored = snapshot.set_keys(&of.name, keys);
        }
    });
}

#[cfg(test)]
mod tests {
    use countersign_engine::{Algorithm, Issuer, KeyMaterial, VerificationKey};

    use super::*;

    #[test]
    fn keys_for_a_replaced_configuration_are_dropped() {
        let config = || Arc::new(IssuerConfig::new("i", "a", [Algorithm::Hs256]));
        let secret = KeyMaterial::Secret(&[7; 32]);
        let key = VerificationKey::new(None, Algorithm::Hs256, secret).unwrap();
        let (old, new, keys) = (config(), config(), Arc::new(KeySet::new(vec![key])));
        let issuer = Issuer::new(Arc::clone(&new), None);
        let verifier = Verifier::builder().issuers([issuer]).build().unwrap();
        let has_keys = || verifier.snapshot().issuer("i").and_then(Issuer::keys).is_some();

        set_keys(&verifier, &old, Some(&keys));
        assert!(!has_keys());
        set_keys(&verifier, &new, Some(&keys));
        assert!(has_keys());
        set_keys(&verifier, &old, None);
        assert!(has_keys(), "the old configuration does not withdraw keys of the new one");
        set_keys(&verifier, &new, None);
        assert!(!has_keys());
    }
}
