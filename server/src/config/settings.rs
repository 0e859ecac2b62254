//! The settings of the whole server, assembled from those of its features.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use countersign_engine::RsaImplementation;
use countersign_front::{MemoryLimits, RequestLimits, Timeouts};

use super::{
    listener::{self, Listener},
    problem::Problems,
    quic::QuicSettings,
    reader::SectionReader,
    request_limits, request_memory,
    setting::Section,
    timeouts,
};
use crate::{
    admission::settings::SignatureLimits,
    api::settings::{ApiSettings, DecidingListener},
    auth::{DecisionSettings, ListenerRules, settings::AuthSettings},
    authorization::{AuthorizationProvider, ListenerAccess, routes::OpenPaths},
    base::route::{Serves, path_of},
    console::{
        config_js::{self, ConfigJs},
        settings::ConsoleSettings,
    },
    identities::certificate::TlsCertAuthSettings,
    observe::settings::{LogSettings, MetricsSettings},
};

/// The values of the option `rsa`.
const RSA_IMPLEMENTATIONS: [RsaImplementation; 2] =
    [RsaImplementation::Auto, RsaImplementation::AwsLc];

const fn rsa_implementation_name(implementation: RsaImplementation) -> &'static str {
    match implementation {
        RsaImplementation::Auto => "auto",
        RsaImplementation::AwsLc => "aws-lc",
    }
}

/// Listeners, and settings that apply to every request.
#[derive(Debug)]
pub struct Settings {
    /// The [`Listener`]s: the main listener first, the metrics listener last.
    pub listeners: Vec<Listener>,
    /// Number of threads that serve requests. `None` for one per core.
    pub threads: Option<usize>,
    /// CPU budgets for bad signatures.
    pub limits: SignatureLimits,
    /// Limit and timeouts of connections.
    pub timeouts: Timeouts,
    /// Limits of request heads.
    pub request_limits: RequestLimits,
    /// Bounds of the memory held by requests in progress.
    pub memory: MemoryLimits,
    /// QUIC settings of listeners with HTTP/3.
    pub quic: QuicSettings,
    /// Settings of the access log.
    pub log: LogSettings,
    /// Names and labels of metrics.
    pub metrics: MetricsSettings,
    /// Memory of the token cache in bytes, allocated as it is used. 0 switches the cache off.
    pub cache_bytes: usize,
    /// The same of each worker of a proxy, which has a cache of its own.
    pub worker_cache_bytes: usize,
    /// Code that verifies the RSA signatures of batches of tokens.
    pub rsa: RsaImplementation,
    /// Maximum length of a request body in bytes.
    pub max_body: usize,
    /// Settings for finding credentials, and for the responses about them.
    pub auth: AuthSettings,
    /// Settings of the API.
    pub api: ApiSettings,
    /// The certificates of machine identities that log in.
    pub tls_cert_auth: TlsCertAuthSettings,
    /// The console. The assembly sets it.
    pub console: ConsoleSettings,
    /// What `config.js` describes to Inmanta's own web console, if it is served. The assembly sets
    /// it.
    pub config_js: Option<ConfigJs>,
}

/// Index of the main listener.
const MAIN_LISTENER: usize = 0;

impl DecisionSettings for Settings {
    fn auth(&self) -> &AuthSettings {
        &self.auth
    }

    fn rules(&self, listener: usize) -> ListenerRules<'_> {
        let Listener { profile, client, access, .. } = &self.listeners[listener];
        let allows_preflights = client.allows_preflights;
        ListenerRules { profile: *profile, allows_preflights, access: access.as_ref() }
    }
}

impl Settings {
    /// Returns the listener named `name`.
    #[must_use]
    pub fn listener(&self, name: &str) -> Option<&Listener> {
        self.listeners.iter().find(|listener| listener.name == name)
    }

    /// Returns the listeners that answer checks of requests.
    pub(super) fn deciding_listeners(&self) -> Arc<[DecidingListener]> {
        let deciding = self.listeners.iter().filter(|one| one.serves != Serves::Operations);
        let deciding = deciding.map(|listener| DecidingListener {
            name: listener.name.clone(),
            profile: listener.profile,
            access: listener.access.clone().unwrap_or_else(|| ListenerAccess {
                provider: AuthorizationProvider::None,
                open_paths: OpenPaths::default(),
            }),
        });
        deciding.collect()
    }

    /// Whether a listener serves the console.
    #[must_use]
    pub fn serves_console(&self, listener: usize) -> bool {
        let listener = self.listeners.get(listener).map(|listener| &*listener.name);
        listener.is_some() && listener == self.console.listener.as_deref()
    }

    /// Whether a listener serves the Admin API: it has all routes, and the server has accounts.
    #[must_use]
    pub fn serves_admin_api(&self, listener: usize) -> bool {
        self.listeners[listener].serves == Serves::Everything && self.api.issues_tokens()
    }

    /// Whether a listener serves `config.js` at this target, for Inmanta's own web console: the
    /// main listener does, also without the console.
    #[must_use]
    pub fn serves_config_js(&self, listener: usize, target: &str) -> bool {
        let serves_everything = self.listeners[listener].serves == Serves::Everything;
        listener == MAIN_LISTENER
            && serves_everything
            && self.config_js.is_some()
            && config_js::is_path(path_of(target))
    }

    /// Logs a warning if the console is served without TLS beyond this machine, and not to proxies:
    /// passwords and cookies then cross the network in the clear.
    pub(crate) fn log_console_without_tls(&self) {
        let console =
            self.listeners.iter().enumerate().find(|(index, _)| self.serves_console(*index));
        let Some((_, listener)) = console else { return };
        let is_remote = |address: SocketAddr| !address.ip().is_loopback();
        let is_public = listener.addresses.iter().filter_map(|one| one.address()).any(is_remote);
        if is_public && listener.tls.is_none() && !listener.client.proxies.trusts_any() {
            tracing::warn!(
                "listener {} serves the console without TLS: passwords can be read on the network; \
                 configure a certificate, list the proxies in trusted_proxies, or set listener = \
                 off in [console]",
                listener.name
            );
        }
    }

    /// Whether a listener, or the API, asks the access policy.
    pub(super) fn uses_policy(&self) -> bool {
        let access = self.listeners.iter().filter_map(|listener| listener.access.as_ref());
        let mut providers = access.map(|access| access.provider);
        self.api.authorization_provider == AuthorizationProvider::PolicyEngine
            || providers.any(|provider| provider == AuthorizationProvider::PolicyEngine)
    }

    pub(super) fn read(sections: &BTreeMap<String, Section>, problems: &mut Problems) -> Self {
        let auth = AuthSettings::read(sections, problems);
        let threads = SectionReader::new(sections, "listen", problems).optional_number("threads");
        let listeners = listener::read_all(sections, problems);
        let limits = SignatureLimits::read(sections, problems);
        let timeouts = timeouts::read(sections, problems);
        let request_limits = request_limits::read(sections, problems);
        let memory = request_memory::read(sections, request_limits.head_bytes, problems);
        let log = LogSettings::read(&mut SectionReader::new(sections, "log", problems));
        let metrics = MetricsSettings::read(&mut SectionReader::new(sections, "metrics", problems));
        let mut cache = SectionReader::new(sections, "cache", problems);
        let [cache_bytes, worker_cache_bytes] =
            ["megabytes", "worker_megabytes"].map(|option| cache.number::<usize>(option) << 20);
        let mut crypto = SectionReader::new(sections, "crypto", problems);
        let rsa = crypto.choice("rsa", &RSA_IMPLEMENTATIONS, rsa_implementation_name);
        let quic = QuicSettings::read(sections, problems);
        let max_body =
            SectionReader::new(sections, "server", problems).number("max_request_body_size");
        let api = ApiSettings::read(sections, problems);
        let tls_cert_auth = TlsCertAuthSettings::read(sections, problems);
        Self {
            listeners,
            threads,
            limits,
            timeouts,
            request_limits,
            memory,
            quic,
            log,
            metrics,
            cache_bytes,
            worker_cache_bytes,
            rsa,
            max_body,
            auth,
            api,
            tls_cert_auth,
            console: ConsoleSettings::default(),
            config_js: None,
        }
    }
}
