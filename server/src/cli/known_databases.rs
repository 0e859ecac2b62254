//! A record of the databases that a server used when it last ran, in the state directory.
//!
//! A database that is another one, that is missing, or that lacks rows was lost, or restored from
//! an older copy. The server starts, logs that as an error, and counts it in
//! `countersign_databases_unexpected`, until an operator confirms the database, or it is as
//! expected again.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::Duration,
};

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::{CommandError, ConfigSource, atomic_file};
use crate::{
    base::hex::to_hex,
    config::Config,
    store::{
        Store, StoreError,
        identity::{DatabaseIdentity, RowNumbers},
    },
};

/// The file in the state directory.
const FILE: &str = "known-databases.json";
/// Interval at which the state is recorded.
const INTERVAL: Duration = Duration::from_secs(30);

/// The databases of a server, and the file that records them.
pub(super) struct KnownDatabases {
    file: PathBuf,
    databases: Vec<FollowedDatabase>,
}

struct FollowedDatabase {
    role: DatabaseRole,
    store: Store,
}

/// The purpose of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum DatabaseRole {
    /// Users, roles and tokens.
    Users,
    /// Revocations.
    Revocations,
}

/// A database that differs from its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UnexpectedDatabase {
    /// The difference, and its consequence.
    pub(super) text: String,
    /// The remedy.
    pub(super) help: String,
}

/// The recorded databases, by role and location.
type Records = BTreeMap<DatabaseRole, BTreeMap<String, KnownDatabase>>;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct KnownDatabase {
    id: String,
    /// Number of the newest row: an audit event, or a revocation.
    newest: i64,
    /// SHA-256 of the record of the newest revocation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    record_sha256: Option<String>,
}

/// A running thread that records the state. It must be [stopped](Self::stop).
pub(super) struct DatabaseFollower {
    stop: Sender<()>,
    stopped: Receiver<()>,
}

impl DatabaseRole {
    /// Returns the numbers of the rows by which an older copy is recognized.
    const fn numbers(self, identity: &DatabaseIdentity) -> RowNumbers {
        match self {
            Self::Users => identity.events,
            Self::Revocations => identity.revocations,
        }
    }

    const fn contents(self) -> &'static str {
        match self {
            Self::Users => "users, roles and tokens",
            Self::Revocations => "revocations",
        }
    }

    const fn row(self) -> &'static str {
        match self {
            Self::Users => "audit event",
            Self::Revocations => "revocation",
        }
    }
}

impl KnownDatabases {
    /// Opens the databases that the server of a configuration uses. `None` without a state
    /// directory.
    pub(super) fn of(source: &ConfigSource, config: &Config) -> Result<Option<Self>, CommandError> {
        let Ok(directory) = source.state_dir() else { return Ok(None) };
        let mut databases = Vec::new();
        let main = Store::new(&config.database, || source.state_dir())?;
        let revocations = if source.stores_revocations_in_database(config) {
            main.clone()
        } else {
            Store::in_file(source.revocation_file(config)?)?
        };
        let mut follow = |role, store| {
            databases.push(FollowedDatabase { role, store: source.stores.shared(store) });
        };
        if config.uses_database() {
            follow(DatabaseRole::Users, main);
        }
        follow(DatabaseRole::Revocations, revocations);
        Ok(Some(Self { file: directory.join(FILE), databases }))
    }

    /// Compares the databases with their records.
    ///
    /// # Errors
    /// A database cannot be queried.
    pub(super) fn check(&self) -> Result<Vec<UnexpectedDatabase>, StoreError> {
        let records = read(&self.file);
        let mut unexpected = Vec::new();
        for FollowedDatabase { role, store } in &self.databases {
            let Some(known) = records.get(role).filter(|known| !known.is_empty()) else { continue };
            let identity = store.block_on(store.identity())?;
            let record = |number| store.block_on(store.revocation_record(number));
            let text = compare(*role, store.location(), known, identity.as_ref(), record)?;
            unexpected.extend(text.map(|text| UnexpectedDatabase { text, help: help(*role) }));
        }
        Ok(unexpected)
    }

    /// Records the present state.
    pub(super) fn record(&self) -> Result<(), CommandError> {
        self.write(false)
    }

    /// Records the present state, also that a database does not exist.
    pub(super) fn confirm(&self) -> Result<(), CommandError> {
        self.write(true)
    }

    fn write(&self, forgets_missing: bool) -> Result<(), CommandError> {
        let mut records = read(&self.file);
        for FollowedDatabase { role, store } in &self.databases {
            let identity = store.block_on(store.identity()).map_err(CommandError::failed)?;
            let known = records.entry(*role).or_default();
            let Some(identity) = identity else {
                if forgets_missing {
                    known.clear();
                }
                continue;
            };
            // A file that was moved.
            known.retain(|_, known| known.id != identity.id);
            let newest = role.numbers(&identity).newest;
            let record = match role {
                DatabaseRole::Users => None,
                DatabaseRole::Revocations => {
                    store.block_on(store.revocation_record(newest)).map_err(CommandError::failed)?
                }
            };
            let record_sha256 = record.map(|record| sha256(&record));
            let known_database = KnownDatabase { id: identity.id, newest, record_sha256 };
            known.insert(store.location().to_owned(), known_database);
        }
        let text = serde_json::to_string_pretty(&records).map_err(CommandError::failed)?;
        if fs::exists(&self.file)? && read(&self.file) == records {
            return Ok(());
        }
        let directory = self.file.parent().unwrap_or_else(|| Path::new("."));
        atomic_file::create_directory(directory)?;
        Ok(atomic_file::replace(&self.file, &format!("{text}\n"), atomic_file::PRIVATE)?)
    }

    /// Returns the locations of the databases.
    pub(super) fn locations(&self) -> Vec<&str> {
        let mut locations: Vec<_> =
            self.databases.iter().map(|database| database.store.location()).collect();
        locations.dedup();
        locations
    }

    /// Checks the databases, then records their state at intervals. `unexpected` has the number of
    /// databases that are not as expected.
    pub(super) fn follow(self, unexpected: Arc<AtomicUsize>) -> std::io::Result<DatabaseFollower> {
        let ((stop, commands), (end, stopped)) = (channel(), channel());
        thread::Builder::new().name("known-databases".into()).spawn(move || {
            let mut state = FollowState { databases: self, logged: Vec::new() };
            state.step(&unexpected);
            while commands.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                state.step(&unexpected);
            }
            state.step(&unexpected);
            let _ignored = end.send(());
        })?;
        Ok(DatabaseFollower { stop, stopped })
    }
}

impl DatabaseFollower {
    /// Records the last state. To be called before the databases are closed.
    pub(super) fn stop(self) {
        /// The databases may not answer.
        const STOP_TIMEOUT: Duration = Duration::from_secs(2);
        let _ignored = self.stop.send(());
        let _ignored = self.stopped.recv_timeout(STOP_TIMEOUT);
    }
}

struct FollowState {
    databases: KnownDatabases,
    /// The databases that were logged last.
    logged: Vec<UnexpectedDatabase>,
}

impl FollowState {
    fn step(&mut self, count: &AtomicUsize) {
        // An unreachable database is reported by its queries, and checked later.
        let Ok(unexpected) = self.databases.check() else { return };
        // Relaxed: only for metrics.
        count.store(unexpected.len(), Ordering::Relaxed);
        for UnexpectedDatabase { text, help } in &unexpected {
            if !self.logged.iter().any(|logged| logged.text == *text) {
                tracing::error!("{text}; {help}");
            }
        }
        self.logged = unexpected;
        if self.logged.is_empty()
            && let Err(error) = self.databases.record()
        {
            tracing::debug!("{}: {error}", self.databases.file.display());
        }
    }
}

/// Compares a database with its record. Returns the difference.
fn compare(
    role: DatabaseRole,
    location: &str,
    known: &BTreeMap<String, KnownDatabase>,
    identity: Option<&DatabaseIdentity>,
    record: impl Fn(i64) -> Result<Option<String>, StoreError>,
) -> Result<Option<String>, StoreError> {
    let contents = role.contents();
    let here = known.get(location);
    let Some(identity) = identity else {
        let Some((place, before)) = here.map(|here| (location, here)).or_else(|| latest(known))
        else {
            return Ok(None);
        };
        return Ok(Some(format!(
            "{location} does not exist: the {contents} that this server knew are in the database \
             {} at {place}",
            before.id
        )));
    };
    let same = here.filter(|here| here.id == identity.id);
    let same = same.or_else(|| known.values().find(|known| known.id == identity.id));
    let Some(before) = same else {
        if known.values().any(|known| identity.predecessors.contains(&known.id)) {
            return Ok(None);
        }
        let Some((place, before)) = here.map(|here| (location, here)).or_else(|| latest(known))
        else {
            return Ok(None);
        };
        return Ok(Some(format!(
            "{location} is another database ({}) than the one that this server knew ({} at \
             {place}): {contents} made there are not in it",
            identity.id, before.id
        )));
    };
    let (numbers, row) = (role.numbers(identity), role.row());
    if numbers.newest.max(numbers.assigned) < before.newest {
        return Ok(Some(format!(
            "{location} was restored from an older copy: its newest {row} is number {}, and this \
             server knew number {}; {contents} made in between may be lost",
            numbers.newest, before.newest
        )));
    }
    let Some(expected) = &before.record_sha256 else { return Ok(None) };
    // A row that is missing ended, and was deleted.
    let differs = record(before.newest)?.is_some_and(|record| sha256(&record) != *expected);
    Ok(differs.then(|| {
        format!(
            "{location} was restored from an older copy: its {row} number {} is another one than \
             this server knew; {contents} made since the copy may be lost",
            before.newest
        )
    }))
}

/// Returns the location that has come furthest.
fn latest(known: &BTreeMap<String, KnownDatabase>) -> Option<(&str, &KnownDatabase)> {
    let latest = known.iter().max_by_key(|(_, known)| known.newest);
    latest.map(|(location, known)| (location.as_str(), known))
}

fn help(role: DatabaseRole) -> String {
    let risk = match role {
        DatabaseRole::Users => "",
        DatabaseRole::Revocations => {
            " If revocations are lost, their tokens are accepted again: revoke them again, or \
             rotate the signing key."
        }
    };
    format!(
        "if this is not intended, correct [database], or stop the server and restore a backup \
         (countersign database restore).{risk} If it is, run countersign database confirm"
    )
}

#[expect(clippy::disallowed_methods, reason = "a file of our own in the state directory")]
fn read(file: &Path) -> Records {
    fs::read(file).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

fn sha256(record: &str) -> String {
    to_hex(digest(&SHA256, record.as_bytes()).as_ref())
}
