//! The provider as last fetched: its metadata, and verifiers with its keys.
//!
//! Both are fetched when a sign-in needs them, by a few threads with a bounded queue. They are kept
//! for a while, and beyond that while the provider is down. An unknown key causes a fetch, at most
//! one at a time and in some seconds, since anyone can send a logout token.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use countersign_engine::{
    AlgorithmSet, IssuerConfig, IssuerTenants, KeySet, Reject, Rules, TENANT, Verifier,
    jwks::Origin, limits,
};

use super::{
    error::SignInError, metadata::ProviderMetadata, requests::ProviderClient,
    settings::SignInSettings,
};
use crate::{
    base::{background_pool::BackgroundPool, clock::Stopwatch},
    keys::{
        fetch::{MAX_DISCOVERY_BYTES, limit_plus_one},
        published::{discovery_uri_of, public_key_algorithms},
        static_keys,
    },
};

/// Age from which the provider is fetched again.
const REFRESH_INTERVAL: Duration = Duration::from_secs(600);
/// Age up to which it is used while it cannot be fetched again.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);
/// Shortest time between two fetches.
const COOL_DOWN: Duration = Duration::from_secs(5);
/// Clock difference that is tolerated for `iat`, in seconds.
const ISSUED_AT_LEEWAY: u32 = 30;

/// Threads that wait for the provider, and requests that wait for one of them.
const THREADS: usize = 4;
const MAX_WAITING: usize = 64;

/// The provider, at one moment.
pub(super) struct KnownProvider {
    pub(super) metadata: ProviderMetadata,
    /// Verifies each [`IdToken`](super::id_token::IdToken) of the client.
    pub(super) id_tokens: Verifier,
    /// Verifies each [`LogoutToken`](super::LogoutToken) of the client.
    pub(super) logout_tokens: Verifier,
    fetched: Duration,
}

/// What a caller needs to know of the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProviderFreshness {
    /// Metadata and keys of usual age.
    Usual,
    /// Keys that are newer than those last used, unless they were just fetched: for a token that
    /// anyone may have sent.
    NewKeys,
    /// Keys that are fetched now: for a token that the provider itself has sent.
    Newest,
}

/// Whether a token may be genuine although it is refused, since its key may be newer than those
/// that are known.
pub(super) const fn may_have_new_key(reject: Reject) -> bool {
    matches!(reject, Reject::KidUnknown | Reject::KidMissing | Reject::Signature)
}

/// Fetches the [`KnownProvider`], and keeps it.
///
/// # Synchronization
/// Two pointers to immutable values. Concurrent fetches are possible, and each of them stores a
/// complete provider, so that the order does not matter.
pub(super) struct ProviderSource {
    pub(super) settings: SignInSettings,
    pub(super) client: ProviderClient,
    clock: Stopwatch,
    known: ArcSwapOption<KnownProvider>,
    failed: ArcSwapOption<(Duration, SignInError)>,
    /// Whether a fetch for an unknown key is under way.
    fetches_new_keys: AtomicBool,
}

/// The only fetch for an unknown key. Others need not wait for it, nor take a thread that sign-ins
/// need.
struct NewKeysFetch(Arc<ProviderSource>);

impl NewKeysFetch {
    /// Begins the fetch; `None` if one is under way.
    fn begin(source: &Arc<ProviderSource>) -> Option<Self> {
        let is_under_way = source.fetches_new_keys.swap(true, Ordering::AcqRel);
        (!is_under_way).then(|| Self(Arc::clone(source)))
    }
}

impl Drop for NewKeysFetch {
    fn drop(&mut self) {
        self.0.fetches_new_keys.store(false, Ordering::Release);
    }
}

/// Runs the blocking requests of a [`ProviderClient`] on the threads of a [`BackgroundPool`].
#[derive(Clone)]
pub(super) struct ProviderThreads {
    source: Arc<ProviderSource>,
    pool: BackgroundPool<()>,
}

impl ProviderThreads {
    pub(super) fn start(settings: SignInSettings) -> Result<Self, SignInError> {
        let source = ProviderSource {
            client: ProviderClient::new(&settings).map_err(SignInError::Unreachable)?,
            settings,
            clock: Stopwatch::start(),
            known: ArcSwapOption::empty(),
            failed: ArcSwapOption::empty(),
            fetches_new_keys: AtomicBool::new(false),
        };
        let pool = BackgroundPool::start("sign-in", THREADS, MAX_WAITING);
        Ok(Self { source: Arc::new(source), pool: pool.map_err(|_| SignInError::Busy)? })
    }

    pub(super) fn settings(&self) -> &SignInSettings {
        &self.source.settings
    }

    /// Returns the [`KnownProvider`], and fetches it if its [`ProviderFreshness`] requires that.
    pub(super) async fn provider(
        &self,
        freshness: ProviderFreshness,
    ) -> Result<Arc<KnownProvider>, SignInError> {
        let now = self.source.clock.elapsed();
        if let Some(known) = self.source.current(freshness, now) {
            return Ok(known);
        }
        let only = match freshness {
            ProviderFreshness::NewKeys => {
                Some(NewKeysFetch::begin(&self.source).ok_or(SignInError::Busy)?)
            }
            ProviderFreshness::Usual | ProviderFreshness::Newest => None,
        };
        self.run(move |source| {
            let _until_fetched = only;
            source.fetch(freshness, now)
        })
        .await
    }

    /// Runs a request to the provider.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&ProviderSource) -> Result<T, SignInError> + Send + 'static,
    ) -> Result<T, SignInError> {
        let source = Arc::clone(&self.source);
        let ended = self.pool.run(move |_memory| work(&source)).await;
        ended.map_err(|_busy| SignInError::Busy)?
    }
}

impl ProviderSource {
    /// Returns the provider if it need not be fetched.
    fn current(&self, freshness: ProviderFreshness, now: Duration) -> Option<Arc<KnownProvider>> {
        let limit = match freshness {
            ProviderFreshness::Usual => REFRESH_INTERVAL,
            ProviderFreshness::NewKeys => COOL_DOWN,
            ProviderFreshness::Newest => return None,
        };
        self.known.load_full().filter(|known| now < known.fetched.saturating_add(limit))
    }

    /// Fetches the provider, unless that was done since `asked`.
    fn fetch(
        &self,
        freshness: ProviderFreshness,
        asked: Duration,
    ) -> Result<Arc<KnownProvider>, SignInError> {
        let known = self.known.load_full();
        if let Some(known) = known.as_ref().filter(|known| known.fetched >= asked) {
            return Ok(Arc::clone(known));
        }
        let began = self.clock.elapsed();
        let failed = self.failed.load_full();
        let recent = failed.filter(|failed| began < failed.0.saturating_add(COOL_DOWN));
        let fetched = match recent {
            Some(failed) => Err(failed.1.clone()),
            None => self.fetch_now(began),
        };
        // The provider may be back before its keys change.
        let usable = |known: &Arc<KnownProvider>| began < known.fetched.saturating_add(MAX_AGE);
        match (fetched, known.filter(usable)) {
            (Err(_), Some(known)) if freshness == ProviderFreshness::Usual => Ok(known),
            (fetched, _) => fetched,
        }
    }

    fn fetch_now(&self, began: Duration) -> Result<Arc<KnownProvider>, SignInError> {
        let fetched = self.load(began).map(Arc::new);
        match &fetched {
            Ok(known) => {
                self.known.store(Some(Arc::clone(known)));
                self.failed.store(None);
            }
            Err(error) => {
                self.failed.store(Some(Arc::new((self.clock.elapsed(), error.clone()))));
            }
        }
        fetched
    }

    fn load(&self, fetched: Duration) -> Result<KnownProvider, SignInError> {
        let settings = &self.settings;
        let get = |uri: &str, limit| self.client.get(uri, limit).map_err(SignInError::Unreachable);
        let document = get(&discovery_uri_of(&settings.authority), MAX_DISCOVERY_BYTES)?;
        let metadata = ProviderMetadata::parse(&document, &settings.authority)?;
        let document = get(&metadata.jwks_uri, limit_plus_one(limits::MAX_KEY_SET_BYTES))?;
        let algorithms = public_key_algorithms().collect();
        let keys = static_keys::parse_document(&document, Origin::Published, algorithms);
        let keys = keys.map_err(|error| {
            SignInError::Metadata(format!("the keys of the provider are unusable: {error}"))
        })?;
        KnownProvider::new(settings, metadata, Arc::new(keys.keys), fetched)
    }
}

impl KnownProvider {
    /// Creates the verifiers. They have no cache, since each token comes once.
    fn new(
        settings: &SignInSettings,
        metadata: ProviderMetadata,
        keys: Arc<KeySet>,
        fetched: Duration,
    ) -> Result<Self, SignInError> {
        let algorithms: AlgorithmSet = public_key_algorithms().collect();
        let verifier = |rules: Rules| {
            let issuer = IssuerConfig {
                // A name without a tenant matches exactly.
                tenants: if metadata.issuer.contains(TENANT) {
                    settings.tenants.clone()
                } else {
                    IssuerTenants::default()
                },
                algorithms,
                rules,
                ..IssuerConfig::new(&metadata.issuer, &settings.client_id, [])
            };
            let builder = Verifier::builder().issuer(issuer, Arc::clone(&keys)).cache_bytes(0);
            builder.build().map_err(|error| SignInError::Metadata(error.to_string()))
        };
        let (id_tokens, logout_tokens) =
            (verifier(id_token_rules(settings))?, verifier(logout_token_rules(settings))?);
        Ok(Self { metadata, id_tokens, logout_tokens, fetched })
    }
}

/// Returns the rules for ID tokens (OpenID Connect Core 1.0 section 3.1.3.7) that the engine
/// checks.
fn id_token_rules(settings: &SignInSettings) -> Rules {
    Rules {
        require_expiry: true,
        leeway: settings.leeway,
        issued_at_leeway: ISSUED_AT_LEEWAY,
        ..Rules::new(&settings.client_id)
    }
}

/// Returns the rules for logout tokens (OpenID Connect Back-Channel Logout 1.0 section 2.6) that
/// the engine checks. Those of older drafts have no `exp`; the age of a token is checked by its
/// `iat`.
fn logout_token_rules(settings: &SignInSettings) -> Rules {
    Rules {
        logout_tokens: true,
        leeway: settings.leeway,
        issued_at_leeway: ISSUED_AT_LEEWAY,
        ..Rules::new(&settings.client_id)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use countersign_engine::{
        Algorithm,
        jwks::{Origin, Policy},
    };
    use serde_json::json;

    use super::*;

    pub(in crate::console::openid) const ISSUER: &str = "https://idp.example";
    pub(in crate::console::openid) const CLIENT_ID: &str = "console";

    pub(in crate::console::openid) fn settings() -> SignInSettings {
        SignInSettings {
            authority: ISSUER.into(),
            client_id: CLIENT_ID.into(),
            scopes: vec!["openid".into()],
            section: "auth_jwt_oidc".into(),
            tenants: IssuerTenants::default(),
            leeway: 0,
            validate_cert: true,
            authorities: Vec::new(),
            timeout: Duration::from_secs(1),
        }
    }

    /// Returns a provider with one Ed25519 key, `k`.
    pub(in crate::console::openid) fn provider(x: &str) -> KnownProvider {
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "kid": "k", "x": x });
        let algorithms = Some([Algorithm::EdDsa].into_iter().collect());
        let policy = Policy { origin: Origin::Published, algorithms };
        let keys = KeySet::from_jwks(json!({ "keys": [jwk] }).to_string().as_bytes(), policy);
        let metadata = ProviderMetadata {
            issuer: ISSUER.into(),
            authorization_endpoint: format!("{ISSUER}/auth"),
            token_endpoint: format!("{ISSUER}/token"),
            jwks_uri: format!("{ISSUER}/jwks"),
            end_session_endpoint: Some(format!("{ISSUER}/end")),
            revocation_endpoint: None,
            names_issuer: true,
        };
        let keys = Arc::new(keys.unwrap());
        KnownProvider::new(&settings(), metadata, keys, Duration::ZERO).unwrap()
    }
}
