//! `countersign keys rotate`: puts the next key of the section that signs in force.

use std::{fmt, io};

use countersign_engine::UnixTime;

use super::{
    CommandError, ConfigSource, arguments::KeysRotateArgs, print, printable, record_change,
    signing_section,
};
use crate::{
    audit::{AuditOperation, AuditTarget},
    base::clock,
    cluster::comparison::ACTIVE_WINDOW_SECONDS,
    config::Config,
    keys::{IssuerSection, secret_id::secret_id, secret_keys::SecretKeys},
    store::{
        Store,
        servers::ServerRun,
        signing_keys::{KeyInForce, TokenEnds},
    },
};

/// Time in seconds after which every server has learnt of a rotation, and their clocks agree.
const SETTLING_SECONDS: u64 = 60;

pub(super) fn run(source: &ConfigSource, args: &KeysRotateArgs) -> Result<(), CommandError> {
    let config = source.load()?;
    let section = rotated_section(&config, args.section.as_deref())?;
    let secrets = section.secrets().ok_or_else(|| CommandError::failed("no shared key signs"))?;
    let store = source.store(&config)?;
    if !store.exists().map_err(CommandError::failed)? {
        return Err(CommandError::failed(format_args!(
            "{} does not exist: no server has run on it\n  help: use the configuration and the \
             state directory of the servers",
            store.location()
        )));
    }
    let target = RotationTarget::of(section, secrets)?;
    let present =
        store.block_on(store.key_in_force(&target.section)).map_err(CommandError::failed)?;
    let is_in_force = present.as_ref().is_some_and(|key| key.key_id == target.key_id);
    if present.is_none() && !secrets.has_next() {
        return Err(no_next_key(section));
    }
    let since = match present.filter(|_| is_in_force) {
        Some(KeyInForce { since, .. }) => {
            let date = clock::rfc3339(since).unwrap_or_default();
            print(format_args!("{target} already signs, since {date}"))?;
            since
        }
        None => rotate(source, &config, &store, &target, args.force)?,
    };
    print_next_steps(&config, &store, section, since)
}

/// The key that is put in force.
struct RotationTarget {
    section: String,
    key_id: String,
    option: &'static str,
}

impl fmt::Display for RotationTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] the key {} ({})", self.section, self.key_id, self.option)
    }
}

impl RotationTarget {
    fn of(section: &IssuerSection, secrets: &SecretKeys) -> Result<Self, CommandError> {
        let option = if secrets.has_next() { "next_key" } else { "key" };
        let key_id = secret_id(secrets.target().expose()).ok_or_else(|| {
            CommandError::failed(format_args!(
                "{option} in [{}] could be guessed, as it is not random\n  help: create a key with \
                 countersign key generate",
                section.section()
            ))
        })?;
        Ok(Self { section: section.section().into(), key_id, option })
    }
}

/// Returns the section that signs, which is the only one whose keys rotate.
fn rotated_section<'c>(
    config: &'c Config,
    named: Option<&str>,
) -> Result<&'c IssuerSection, CommandError> {
    let section = signing_section(config)?;
    match named.filter(|named| *named != section.section()) {
        None => Ok(section),
        Some(named) => Err(CommandError::failed(format_args!(
            "[{}] does not sign tokens, so its keys are rotated by its issuer\n  help: the section \
             that signs is {}",
            printable(named),
            section.section()
        ))),
    }
}

fn no_next_key(section: &IssuerSection) -> CommandError {
    CommandError::failed(format_args!(
        "next_key is not set in [{}]\n  help: create one with countersign key generate, add it as \
         next_key on every server, reload them, and repeat",
        section.section()
    ))
}

/// Puts the key in force, unless a server would refuse its tokens. Returns the time.
fn rotate(
    source: &ConfigSource,
    config: &Config,
    store: &Store,
    target: &RotationTarget,
    force: bool,
) -> Result<UnixTime, CommandError> {
    let now = clock::now();
    let servers = ServerReadiness::read(store, target, now)?;
    if !servers.others.is_empty() && !force {
        return Err(CommandError::failed(format_args!(
            "these servers would refuse tokens of {target}: {}\n  help: configure the key on them \
             and reload (SIGHUP); a server that was killed is remembered for \
             {ACTIVE_WINDOW_SECONDS} s; --force rotates in spite of them",
            servers.others.join(", ")
        )));
    }
    let key = KeyInForce { key_id: target.key_id.clone(), since: now };
    let put = store.put_key_in_force(&target.section, key);
    // Another command may have put it in force meanwhile.
    if store.block_on(put).map_err(CommandError::failed)? {
        let detail = format!("key {} of {}", target.key_id, target.section);
        let audited = source.audited_store(config)?;
        let operation = AuditOperation::RotateSigningKey;
        record_change(audited.as_ref(), operation, AuditTarget::default(), Some(detail))?;
    }
    print(format_args!("{target} signs from now on"))?;
    servers.print()?;
    Ok(now)
}

/// The names of the servers that run on the database.
struct ServerReadiness {
    /// Those that verify the key.
    ready: Vec<String>,
    others: Vec<String>,
}

impl ServerReadiness {
    fn read(store: &Store, target: &RotationTarget, now: UnixTime) -> Result<Self, CommandError> {
        let active_since = UnixTime(now.0.saturating_sub(ACTIVE_WINDOW_SECONDS));
        let servers = store.block_on(store.servers_active_since(active_since));
        let servers = servers.map_err(CommandError::failed)?;
        let is_ready = |server: &&ServerRun| server.digests.verified_keys.contains(&target.key_id);
        let (ready, others): (Vec<_>, Vec<_>) = servers.iter().partition(is_ready);
        let names = |servers: Vec<&ServerRun>| {
            servers.into_iter().map(|server| printable(&server.name)).collect()
        };
        Ok(Self { ready: names(ready), others: names(others) })
    }

    fn print(&self) -> io::Result<()> {
        print(match self.ready.len() {
            0 => "  no server that runs on this database verifies it yet".to_owned(),
            1 => format!("  1 server verifies it: {}", self.ready[0]),
            count => format!("  {count} servers verify it: {}", self.ready.join(", ")),
        })?;
        if !self.others.is_empty() {
            print(format_args!("  these servers refuse its tokens: {}", self.others.join(", ")))?;
        }
        Ok(())
    }
}

/// Prints how the old key is removed, and when.
fn print_next_steps(
    config: &Config,
    store: &Store,
    section: &IssuerSection,
    since: UnixTime,
) -> Result<(), CommandError> {
    let issued_by = since.plus(SETTLING_SECONDS);
    let ends = store.token_ends(&section.issuer.name, issued_by, clock::now());
    let ends = store.block_on(ends).map_err(CommandError::failed)?;
    print("Next:")?;
    print(format_args!(
        "  1. On each server, make the new key the option key, and move the old one to \
         previous_keys, in [{}]; then reload.",
        section.section()
    ))?;
    let life = OldTokens::of(config, section, issued_by, ends);
    match (&life.endless[..], clock::rfc3339(life.latest)) {
        ([], Some(date)) => print(format_args!(
            "  2. Remove the old key from previous_keys after {date}: its last token expires then."
        ))?,
        (endless, _) => print(format_args!(
            "  2. The old key cannot be removed without ending tokens that never expire: {}. Replace \
             and revoke them first.",
            endless.join("; ")
        ))?,
    }
    print("     Tokens of countersign token sign are not recorded: add their lifetimes.")?;
    Ok(())
}

/// The tokens that the old key has signed.
struct OldTokens {
    /// Time by which those that expire have expired.
    latest: UnixTime,
    /// The kinds that never expire.
    endless: Vec<String>,
}

impl OldTokens {
    fn of(
        config: &Config,
        section: &IssuerSection,
        issued_by: UnixTime,
        registered: TokenEnds,
    ) -> Self {
        let api = &config.settings.api;
        let mut endless = Vec::new();
        match registered.unlimited {
            0 => {}
            1 => endless.push("1 token of the registry".into()),
            count => endless.push(format!("{count} tokens of the registry")),
        }
        let session = match u64::from(api.login.session) {
            0 => section.expire,
            seconds => seconds,
        };
        if session == 0 && api.issues_tokens() {
            endless.push("sessions, as login_session_expire and expire are 0".into());
        }
        let identities = api.identities.as_ref().map_or(0, |identities| identities.max_token_age);
        let issued = issued_by.plus(session.max(identities));
        let latest = issued.max(registered.latest.unwrap_or(issued));
        Self { latest: latest.plus(section.issuer.rules.leeway.into()), endless }
    }
}
