//! `countersign serve`: start of the server, and its start-up message.

use std::{sync::Arc, time::Duration};

use countersign_front::Protocols;

use super::{
    CommandError, ConfigSource, arguments::IssuerArgs, environment_variables,
    known_databases::KnownDatabases, load_test, print, upgrade, welcome::Welcome,
};
use crate::{
    accounts::{
        Users,
        signing::{self, Lifetime, TokenRequest},
    },
    app::App,
    authorization::policy::{
        log::record_failed_start,
        settings::{FAILED_START, PolicySettings, log_file},
    },
    base::{
        claims::ClientType,
        clock,
        route::{CONSOLE_PATH, CORPUS_PATH, STATS_PATH, Serves},
    },
    config::{Config, Problem, RawConfig, Severity, load_raw, options::ISSUER_PREFIX},
    keys::{IssuerSection, published::discovery_uri_of},
    observe::logging,
    reload::ConfigWatcher,
    serve::{self, BoundListeners},
    store::{Store, StoreError},
};

pub(super) fn run(source: &ConfigSource, threads: Option<u16>) -> Result<(), CommandError> {
    let watcher = ConfigWatcher::new(Box::new(source.clone()));
    let mut config = source.load().inspect_err(|error| log_policy_error(source, error))?;
    let log = &config.settings.log;
    logging::start_logging(&log.level, log.format);
    config.settings.api.log_restrictions();
    config.settings.log_console_without_tls();
    config.settings.console.log_missing_section();
    if let Some(arguments) = &source.load_test {
        tracing::warn!(
            "load test: the keys of this server are public, and anyone can sign tokens that it \
             accepts"
        );
        config.load_test = Some(arguments.corpus.corpus()?);
    }
    let load_test = config.load_test.as_ref().map(load_test::summary);
    let threads = serve::threads(threads.map(usize::from).or(config.settings.threads));
    if let Err(reason) = source.revocation_location(&config) {
        source.check_api_clients(&config).map_err(CommandError::failed)?;
        tracing::warn!("tokens cannot be revoked: {reason}");
    }
    let revocations = source.revocation_service(&config, Some(PURGE_INTERVAL))?;
    let users = users(source, &config)?;
    upgrade::log_changed_defaults(source, &config.changed_defaults);
    let welcome = if source.is_embedded() {
        Some(Welcome::prepare(&config, users.as_ref(), &source.state_dir()?)?)
    } else {
        None
    };
    let known = KnownDatabases::of(source, &config)?;
    let app = App::new(config, threads, revocations, users)?;
    app.load_signing_key();
    let unexpected = Arc::clone(&app.unexpected_databases);
    let follower = known.map(|known| known.follow(unexpected)).transpose()?;
    let served = serve::serve(&app, threads, watcher, |bound| {
        // The server runs even if standard output is closed.
        let _ignored = announce(source, bound, welcome.as_ref(), load_test.as_deref());
    });
    // Before the databases are closed.
    app.revocations.stop();
    if let Some(follower) = follower {
        follower.stop();
    }
    Ok(served?)
}

/// Writes the error of a policy that keeps the server from starting to the log of the policy
/// engine, too.
fn log_policy_error(source: &ConfigSource, error: &CommandError) {
    let CommandError::Configuration(problems) = error else { return };
    let is_of_policy = |problem: &&Problem| problem.text.starts_with(FAILED_START);
    let Some(problem) = problems.of(Severity::Error).find(is_of_policy) else { return };
    if let Ok(files) = source.files() {
        let raw = load_raw(&files, environment_variables());
        // The error is printed in any case.
        let _ignored = record_failed_start(&log_file(&raw.sections), &problem.to_string());
    }
}

impl IssuerArgs {
    /// Adds a section that verifies tokens of the issuer.
    pub(super) fn add_to(&self, raw: &mut RawConfig) {
        let section = format!("{ISSUER_PREFIX}issuer");
        let Self { issuer, audience } = self;
        raw.set(&section, "issuer", issuer, "--issuer");
        // Written down, because an issuer on plain http has no default.
        raw.set(&section, "discovery_uri", discovery_uri_of(issuer), "--issuer");
        raw.set(&section, "client_types", ClientType::Api.name(), "--issuer");
        raw.set(&section, "audience", audience, "--audience");
    }
}

impl ConfigSource {
    /// Sets the address of the main listener, if an argument names it.
    pub(super) fn set_listen(&self, raw: &mut RawConfig) {
        if let Some(address) = self.listen {
            raw.set("server", "bind_address", address.ip().to_string(), "--listen");
            raw.set("server", "bind_port", address.port().to_string(), "--listen");
        }
    }
}

/// Opens the [`Users`] of the database. `None` without a location for the database.
///
/// An unreachable database is retried later. A wrong schema is an error, because an operator
/// must migrate it.
fn users(source: &ConfigSource, config: &Config) -> Result<Option<Users>, CommandError> {
    let store = match source.store(config) {
        Ok(store) => store,
        Err(reason) => {
            tracing::warn!("users and the token registry are unavailable: {reason}");
            return Ok(None);
        }
    };
    if config.settings.api.issues_tokens() || config.database.is_configured {
        match store.block_on(store.open()) {
            Err(error @ (StoreError::Schema(_) | StoreError::Pooler)) => {
                return Err(CommandError::failed(error));
            }
            // It has the path.
            Err(error @ StoreError::File(..)) => tracing::error!("{error}"),
            Err(error) => tracing::error!("{}: {error}", store.location()),
            Ok(()) => create_roles(&store, &config.settings.auth.authorization.policy),
        }
    }
    Ok(Some(Users::new(store, &config.settings.api.login)?))
}

/// Creates the roles that the access policy defines. Those of an earlier policy stay.
fn create_roles(store: &Store, settings: &PolicySettings) {
    let Some(policy) = &settings.policy else { return };
    if let Err(error) = store.block_on(store.add_missing_roles(policy.roles())) {
        tracing::error!("cannot create the roles of the access policy, restart to retry: {error}");
    }
}

/// Interval for deleting expired revocations.
const PURGE_INTERVAL: Duration = Duration::from_secs(60);

/// Signs a token for all client types, for an hour or the section's `max_lifetime`.
pub(super) fn bootstrap_token(section: &IssuerSection) -> Result<String, CommandError> {
    const LIFETIME: u32 = 3600;
    let request = TokenRequest {
        client_types: vec![ClientType::Api, ClientType::Compiler, ClientType::Agent],
        environment: None,
        custom_claims: Vec::new(),
        lifetime: Lifetime::Seconds(
            section.issuer.rules.max_lifetime.unwrap_or(LIFETIME).min(LIFETIME).into(),
        ),
    };
    signing::sign(section, &request, clock::now()).map_err(CommandError::failed)
}

/// Returns the protocols of a listener for the start-up message, unless they are the default.
fn protocol_note(protocols: Protocols) -> String {
    match protocols {
        // The scheme has it.
        Protocols::HTTP1 | Protocols::SPOP => String::new(),
        _ => format!(" ({})", protocols.names().join(", ")),
    }
}

fn announce(
    source: &ConfigSource,
    bound: &BoundListeners,
    welcome: Option<&Welcome>,
    load_test: Option<&str>,
) -> std::io::Result<()> {
    print(format_args!("countersign {} is listening", env!("CARGO_PKG_VERSION")))?;
    for listener in &bound.0 {
        for (index, address) in listener.addresses.iter().enumerate() {
            let url = address.url(listener.scheme);
            let has_console = listener.serves_console && index == 0 && address.address().is_some();
            match listener.serves {
                Serves::Operations => print(format_args!("  metrics   {url}/metrics"))?,
                Serves::Everything | Serves::Auth => {
                    print(format_args!("  requests  {url}{}", protocol_note(listener.protocols)))?;
                    if has_console {
                        print(format_args!("  console   {url}{CONSOLE_PATH}"))?;
                    }
                }
            }
        }
    }
    if let Some(IssuerArgs { issuer, audience, .. }) = &source.issuer {
        print(format_args!("  issuer    {issuer}, for audience {audience}"))?;
    }
    if let Some(summary) = load_test {
        let url = main_url(bound).unwrap_or_default();
        print(format_args!("  load test {summary}: {url}{CORPUS_PATH}, {url}{STATS_PATH}"))?;
    }
    match (welcome, main_url(bound)) {
        (Some(welcome), Some(url)) => welcome.print(&url),
        _ => Ok(()),
    }
}

/// Returns the URL of the main listener.
fn main_url(bound: &BoundListeners) -> Option<String> {
    let main = bound.0.first()?;
    Some(main.addresses.first()?.url(main.scheme))
}
