//! The key in force of the section that signs, as this server follows it.
//!
//! It is a row of the database, the same for all servers. A server looks for changes at an interval,
//! without notifications: all servers verify a key before it signs, so no token waits for one. While
//! the database cannot be read, the key that was last in force continues to sign.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use tokio::time::sleep;

use crate::{
    keys::{
        IssuerSection, KeySources,
        secret_keys::{SecretKeys, SignerChoice},
    },
    store::{Store, StoreError},
};

/// Interval at which the key in force is read.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// The key in force, as last read.
#[derive(Default)]
pub struct SigningKeyFollower {
    last: ArcSwapOption<SignerRecord>,
}

/// A key in force, and what this server does about it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SignerRecord {
    section: String,
    /// Id of the key in force.
    key_id: Option<String>,
    choice: SignerChoice,
}

impl SigningKeyFollower {
    /// Reads the key in force, and has it sign in the section among these that signs. Returns
    /// whether that has changed something.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn read<'s>(
        &self,
        store: &Store,
        sections: impl IntoIterator<Item = &'s IssuerSection>,
    ) -> Result<bool, StoreError> {
        let Some((section, secrets)) = signing(sections) else { return Ok(false) };
        let key_id = store.key_in_force(section.section()).await?.map(|key| key.key_id);
        Ok(self.choose(section, secrets, key_id))
    }

    /// Has the key that was last in force sign in a new configuration.
    pub fn apply<'s>(&self, sections: impl IntoIterator<Item = &'s IssuerSection>) {
        let Some((section, secrets)) = signing(sections) else { return };
        if let Some(last) = self.last.load_full().filter(|last| last.section == section.section()) {
            self.choose(section, secrets, last.key_id.clone());
        }
    }

    /// Whether the key in force signs here, rather than another because it is not configured.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.last.load().as_ref().is_none_or(|last| last.choice != SignerChoice::Unknown)
    }

    fn choose(
        &self,
        section: &IssuerSection,
        secrets: &SecretKeys,
        key_id: Option<String>,
    ) -> bool {
        let choice = secrets.choose(key_id.as_deref());
        let record = SignerRecord { section: section.section().into(), key_id, choice };
        let last = self.last.load_full();
        if last.as_deref() == Some(&record) {
            return false;
        }
        record.log(last.is_some());
        self.last.store(Some(Arc::new(record)));
        true
    }
}

impl SignerRecord {
    /// Logs a change. The key of an unchanged configuration is not worth a line at a start.
    fn log(&self, is_later: bool) {
        let (section, key_id) = (&self.section, self.key_id.as_deref().unwrap_or_default());
        match self.choice {
            SignerChoice::InForce if is_later => {
                tracing::info!("[{section}]: the key {key_id} signs from now on");
            }
            SignerChoice::Configured | SignerChoice::InForce => {}
            SignerChoice::Previous => tracing::warn!(
                "[{section}]: the key in force, {key_id}, is one of previous_keys, and continues to \
                 sign: put key in force with countersign keys rotate"
            ),
            SignerChoice::Unknown => tracing::warn!(
                "[{section}]: the key in force, {key_id}, is not configured here, so key signs \
                 instead: add it as next_key, or put key in force with countersign keys rotate"
            ),
        }
    }
}

/// Starts the task that reads the key in force, and calls `changed` after a change.
pub(super) fn spawn_poll(
    store: &Store,
    keys: Arc<KeySources>,
    follower: Arc<SigningKeyFollower>,
    changed: impl Fn() + Send + Sync + 'static,
) {
    let reader = store.clone();
    store.spawn_task(async move {
        loop {
            let sources = keys.all();
            // A failure is logged by the heartbeat.
            let read = follower.read(&reader, sources.iter().map(|source| source.section())).await;
            if read == Ok(true) {
                changed();
            }
            sleep(POLL_INTERVAL).await;
        }
    });
}

fn signing<'s>(
    sections: impl IntoIterator<Item = &'s IssuerSection>,
) -> Option<(&'s IssuerSection, &'s SecretKeys)> {
    let section = sections.into_iter().find(|section| section.sign)?;
    Some((section, section.secrets()?))
}
