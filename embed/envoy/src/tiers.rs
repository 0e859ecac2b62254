//! The tiers of this process. A changed listener of Envoy is a new filter configuration, and the
//! old one ends later: the new one takes over its tier, with its cache and keys.

#[expect(clippy::disallowed_types, reason = "only Envoy's main thread waits for it")]
use std::sync::Mutex;
use std::{
    path::{Path, PathBuf, absolute},
    sync::{Arc, OnceLock, PoisonError, Weak},
};

use countersign_server::embedding::{CacheSize, EmbeddedTier, TierConfig, process_environment};

/// The most tiers at a time. Each has threads and a cache of its own.
const MAX_TIERS: usize = 16;

/// A tier, for as long as a filter uses it.
struct KnownTier {
    file: PathBuf,
    tier: Weak<EmbeddedTier>,
}

#[expect(clippy::disallowed_types, reason = "as above")]
static TIERS: Mutex<Vec<KnownTier>> = Mutex::new(Vec::new());

/// Reads a configuration file, and starts no thread.
///
/// # Errors
/// All mistakes in it, as text with places and remedies.
pub(crate) fn load(file: &Path) -> Result<TierConfig, String> {
    TierConfig::load(file, environment().to_vec(), CacheSize::Process)
}

/// Returns the tier of a configuration file: a running one that can apply `config`, or a new one.
///
/// # Errors
/// The reason why it does not start.
pub(crate) fn tier(file: &Path, config: TierConfig) -> Result<Arc<EmbeddedTier>, String> {
    // Envoy's directory does not change, but two names of one file are common.
    let file = absolute(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let mut tiers = TIERS.lock().unwrap_or_else(PoisonError::into_inner);
    tiers.retain(|known| known.tier.strong_count() > 0);
    let mut running =
        tiers.iter().filter(|known| known.file == file).filter_map(|known| known.tier.upgrade());
    if let Some(tier) = running.find(|tier| tier.can_follow(&config)) {
        return Ok(tier);
    }
    if tiers.len() >= MAX_TIERS {
        return Err(format!(
            "{}: {MAX_TIERS} other configurations are in use: remove listeners that use them, and wait \
             until those that are removed have drained",
            file.display()
        ));
    }
    let tier = config.start().map_err(|error| format!("{}: {error}", file.display()))?;
    let tier = Arc::new(tier);
    tiers.push(KnownTier { file, tier: Arc::downgrade(&tier) });
    Ok(tier)
}

/// Returns the environment as it was for the first configuration, so that it is the same for all.
fn environment() -> &'static [(String, String)] {
    static ENVIRONMENT: OnceLock<Vec<(String, String)>> = OnceLock::new();
    ENVIRONMENT.get_or_init(process_environment)
}
