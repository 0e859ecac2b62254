//! `countersign serve`.

use std::time::Duration;

use super::{CommandError, ConfigSource, print};
use crate::{
    app::App,
    cli::ServeArgs,
    clock,
    config::{ClientType, Config, Protocols, Serves},
    issue::{self, Lifetime, TokenRequest},
    reload::ConfigWatcher,
    runtime::{self, BoundListeners},
    state,
    store::{StoreError, users::User},
    telemetry,
    users::{LoginError, Users},
};

pub(super) fn run(place: &ConfigSource, args: &ServeArgs) -> Result<(), CommandError> {
    let watched = ConfigWatcher::new(Box::new(place.clone()));
    let config = place.load()?;
    telemetry::start_logging(config.server.log.format);
    let threads = runtime::threads(args.threads.map(usize::from).or(config.server.threads));
    if let Err(reason) = place.revocation_file(&config)
        && !place.stores_revocations_in_database(&config)
    {
        place.check_api_clients(&config).map_err(CommandError::failed)?;
        tracing::warn!("tokens cannot be revoked: {reason}");
    }
    let revocations = place.revocation_service(&config, Some(PURGE_INTERVAL))?;
    let users = users(place, &config)?;
    let welcome =
        if place.is_embedded() { Some(Welcome::prepare(&config, users.as_ref())?) } else { None };
    let app = App::new(config, threads, revocations, users)?;
    runtime::serve(&app, threads, watched, |bound| {
        // A closed standard output is no reason not to serve.
        let _nobody_reads = announce(place, bound, welcome.as_ref());
    })?;
    Ok(())
}

/// The users of the database, if there is a place for one. One that cannot be reached now
/// will be asked later; one that is not as it has to be is somebody's to mend.
fn users(place: &ConfigSource, config: &Config) -> Result<Option<Users>, CommandError> {
    let store = match place.store(config) {
        Ok(store) => store,
        Err(reason) => {
            tracing::warn!("there are no users and no registry of tokens: {reason}");
            return Ok(None);
        }
    };
    if config.server.auth || config.database.is_configured {
        match store.block_on(store.open()) {
            Err(fault @ StoreError::Schema(_)) => return Err(CommandError::failed(fault)),
            Err(fault) => tracing::error!("{}: {fault}", store.location()),
            Ok(()) => {}
        }
    }
    Ok(Some(Users::new(store, &config.server.login)?))
}

/// What somebody who tries it out needs.
struct Welcome {
    /// A token for everything.
    token: String,
    /// The password of the first user, if they were made just now.
    password: Option<String>,
}

/// The name of the first user.
const FIRST_USER: &str = "admin";

impl Welcome {
    fn prepare(config: &Config, users: Option<&Users>) -> Result<Self, CommandError> {
        let password = users.map_or(Ok(None), |users| users.store.block_on(add_first_user(users)));
        Ok(Self {
            token: bootstrap_token(config)?,
            password: password.map_err(CommandError::failed)?,
        })
    }
}

/// Adds a user who may do everything, if there is none at all, and returns the password.
async fn add_first_user(users: &Users) -> Result<Option<String>, LoginError> {
    if !users.store.users().await?.is_empty() {
        return Ok(None);
    }
    // As random as a key, and half as long.
    let password = state::generate_key().map_err(|_| LoginError::Busy)?.split_off(22);
    let password_hash = users.hash(&password).await?;
    let user = User::new(FIRST_USER, password_hash, true);
    Ok(users.store.add_first_user(user).await?.then_some(password))
}

/// How often revocations that are over are forgotten.
const PURGE_INTERVAL: Duration = Duration::from_secs(60);

/// A token for every client type, for an hour or as long as the section allows.
pub(super) fn bootstrap_token(config: &Config) -> Result<String, CommandError> {
    const LIFETIME: u32 = 3600;
    let section =
        config.signing().ok_or_else(|| CommandError::failed("no section has sign = true"))?;
    let request = TokenRequest {
        client_types: vec![ClientType::Api, ClientType::Compiler, ClientType::Agent],
        environment: None,
        custom_claims: Vec::new(),
        lifetime: Lifetime::Seconds(
            section.issuer.rules.max_lifetime.unwrap_or(LIFETIME).min(LIFETIME).into(),
        ),
    };
    issue::sign(section, &request, clock::now()).map_err(CommandError::failed)
}

/// What is spoken at a place, where it is not what everybody expects there.
fn protocol_note(protocols: Protocols) -> String {
    match protocols {
        Protocols::HTTP1 => String::new(),
        _ => format!(" ({})", protocols.names().join(", ")),
    }
}

fn announce(
    place: &ConfigSource,
    bound: &BoundListeners,
    welcome: Option<&Welcome>,
) -> std::io::Result<()> {
    print(format_args!("countersign {} is listening", env!("CARGO_PKG_VERSION")))?;
    for listener in &bound.0 {
        for place in &listener.addresses {
            let url = place.url(listener.scheme);
            match listener.serves {
                Serves::Operations => print(format_args!("  metrics   {url}/metrics"))?,
                Serves::Everything | Serves::Auth => {
                    print(format_args!("  requests  {url}{}", protocol_note(listener.protocols)))?
                }
            }
        }
    }
    let (Some(Welcome { token, password }), Some(main)) = (welcome, bound.0.first()) else {
        return Ok(());
    };
    let (Some(address), scheme) = (main.addresses.first(), main.scheme) else { return Ok(()) };
    let directory = place.state_dir()?;
    print(format_args!(
        "  state     {} (embedded default: no --config was given)",
        directory.display()
    ))?;
    if let Some(password) = password {
        print(format_args!(
            "  admin     user {FIRST_USER}, password {password} (shown this once)"
        ))?;
    }
    print("\nA token for everything (api, compiler, agent), good for one hour:\n")?;
    print(token)?;
    print("\nTry it:\n")?;
    print(format_args!("curl -i -H 'Authorization: Bearer {token}' {}/auth", address.url(scheme)))?;
    print("")
}
