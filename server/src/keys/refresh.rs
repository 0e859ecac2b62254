//! The thread that keeps the keys of every issuer fresh.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    thread,
};

use aws_lc_rs::rand;
use countersign_engine::{
    IssuerConfig, KeySet, Verifier,
    rotation::{Cause, Event, Rotation},
};
use tokio::{
    runtime::Builder,
    sync::mpsc,
    task::{JoinHandle, LocalSet, spawn_blocking, spawn_local},
};

use super::{
    IssuerKeys, KeySources,
    fetch::{FetchError, FetchedKeys, Fetcher},
    settings::RefreshedKeys,
};
use crate::base::clock::{self, Stopwatch};

/// Starts the thread that refreshes the keys of every issuer. It ends with the process.
///
/// # Errors
/// The operating system cannot create a thread.
pub fn spawn(verifier: &Arc<Verifier>, keys: &Arc<KeySources>) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_time().build()?;
    let (renewals, mut starting) = mpsc::unbounded_channel();
    let renewals = keys.renewals.get_or_init(|| renewals);
    for source in keys.all() {
        let _ignored = renewals.send(source);
    }
    let (verifier, keys) = (Arc::clone(verifier), Arc::clone(keys));
    thread::Builder::new().name("keys".into()).spawn(move || {
        LocalSet::new().block_on(&runtime, async {
            while let Some(source) = starting.recv().await {
                if let Some(renewed) = source.renewed() {
                    spawn_local(Renewal::new(&verifier, keys.clock, &source, renewed).run());
                }
            }
        });
    })?;
    Ok(())
}

/// Task that refreshes the keys of one issuer.
struct Renewal {
    verifier: Arc<Verifier>,
    clock: Stopwatch,
    source: Arc<IssuerKeys>,
    renewed: Arc<RefreshedKeys>,
    rotation: Rotation,
    /// The last usable keys. They are kept after a withdrawal, because a later response may confirm
    /// them (304).
    keys: Option<Arc<KeySet>>,
    /// `None` while a fetch on another thread has it.
    fetcher: Option<Fetcher>,
}

type FetchTask = JoinHandle<(Fetcher, Result<FetchedKeys, FetchError>)>;

impl Renewal {
    fn new(
        verifier: &Arc<Verifier>,
        clock: Stopwatch,
        source: &Arc<IssuerKeys>,
        renewed: &Arc<RefreshedKeys>,
    ) -> Self {
        let mut jitter = [0; 2];
        // Without randomness all issuers are fetched at the same pace, which is harmless here.
        let _ignored = rand::fill(&mut jitter);
        Self {
            verifier: Arc::clone(verifier),
            clock,
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
            let (rotation, actions) = self.rotation.step(self.clock.elapsed(), event);
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
        let wake_at = self.rotation.wake_at().map(|at| at.saturating_sub(self.clock.elapsed()));
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
            set_keys(&self.verifier, &self.source.section.issuer, Some(keys));
        }
        Event::Confirmed { max_age: fetched.max_age }
    }

    fn withdraw(&self) {
        let (section, stale) = (self.source.section.section(), self.renewed.timing.stale.as_secs());
        tracing::error!(
            section,
            "keys withdrawn: no successful fetch within jwks_stale ({stale} s) after they were due"
        );
        set_keys(&self.verifier, &self.source.section.issuer, None);
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
                    progress.confirmed = Some(self.clock.elapsed());
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
