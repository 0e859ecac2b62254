//! A record of the databases that a server used when it last ran, in the state directory.
//!
//! A database that is another one, that is missing, or that lacks rows was lost, or restored from
//! an older copy. The server starts, logs that as an error, and counts it in
//! `countersign_databases_unexpected`, until an operator confirms the database, or it is as
//! expected again.

mod comparison;
mod follower;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

pub(super) use self::comparison::DatabaseRole;
use self::comparison::{KnownDatabase, compare, help, latest};
use super::{CommandError, ConfigSource, atomic_file};
use crate::{
    config::Config,
    store::{Store, StoreError, identity::DatabaseIdentity},
};

/// The file in the state directory.
const FILE: &str = "known-databases.json";

/// The databases of a server, and the file that records them.
pub(super) struct KnownDatabases {
    file: PathBuf,
    databases: Vec<FollowedDatabase>,
}

struct FollowedDatabase {
    role: DatabaseRole,
    store: Store,
}

/// A database that differs from its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UnexpectedDatabase {
    pub(super) role: DatabaseRole,
    /// The difference, and its consequence.
    pub(super) text: String,
    /// The remedy.
    pub(super) help: String,
}

/// What a server knew of a database before a restore.
pub(super) struct KnownState {
    pub(super) role: DatabaseRole,
    known: KnownDatabase,
    /// Whether the database still has everything.
    is_intact: bool,
}

/// The recorded databases, by role and location.
type Records = BTreeMap<DatabaseRole, BTreeMap<String, KnownDatabase>>;

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
        let records = self.records();
        let mut unexpected = Vec::new();
        for FollowedDatabase { role, store } in &self.databases {
            let Some(known) = records.get(role) else { continue };
            let identity = store.block_on(store.identity())?;
            let difference = difference(*role, store, known, identity.as_ref())?;
            let help = help(*role);
            unexpected.extend(difference.map(|text| UnexpectedDatabase {
                role: *role,
                text,
                help,
            }));
        }
        Ok(unexpected)
    }

    /// Returns the number of the newest revocation that this server knew.
    pub(super) fn newest_revocation(&self) -> Option<i64> {
        let records = self.records();
        let role = DatabaseRole::Revocations;
        let followed = self.databases.iter().find(|followed| followed.role == role)?;
        let known = known_at(records.get(&role)?, followed.store.location())?;
        Some(known.newest).filter(|newest| *newest > 0)
    }

    /// Returns what is known before a restore, for [`lost_by`](Self::lost_by).
    pub(super) fn state(&self) -> Vec<KnownState> {
        let records = self.records();
        let state = |FollowedDatabase { role, store }: &FollowedDatabase| {
            let known = known_at(records.get(role)?, store.location())?.clone();
            let identity = store.block_on(store.peek_identity()).ok().flatten();
            let is_intact = identity.is_some_and(|identity| {
                let newest = role.numbers(&identity).newest;
                continues(&identity, &known) && newest >= known.newest
            });
            Some(KnownState { role: *role, known, is_intact })
        };
        self.databases.iter().filter_map(state).collect()
    }

    /// Records the present state of the databases that are as expected.
    pub(super) fn record(&self) -> Result<(), CommandError> {
        self.write(&[], false)
    }

    /// Records the present state, and accepts that of databases with these roles.
    pub(super) fn accept(&self, roles: &[DatabaseRole]) -> Result<(), CommandError> {
        self.write(roles, false)
    }

    /// Records the present state, also that a database does not exist.
    pub(super) fn confirm(&self) -> Result<(), CommandError> {
        self.write(&[DatabaseRole::Users, DatabaseRole::Revocations], true)
    }

    fn write(&self, accepted: &[DatabaseRole], forgets_missing: bool) -> Result<(), CommandError> {
        let mut records = self.read().unwrap_or_default();
        for FollowedDatabase { role, store } in &self.databases {
            let identity = store.block_on(store.identity()).map_err(CommandError::failed)?;
            let known = records.entry(*role).or_default();
            let Some(identity) = identity else {
                if forgets_missing {
                    known.clear();
                }
                continue;
            };
            // It may have changed since it was checked.
            let is_expected = || difference(*role, store, known, Some(&identity));
            if !accepted.contains(role) && is_expected().map_err(CommandError::failed)?.is_some() {
                continue;
            }
            // A file that was moved.
            known.retain(|_, known| known.id != identity.id);
            let newest = role.numbers(&identity).newest;
            let row = match role {
                DatabaseRole::Users => None,
                DatabaseRole::Revocations => {
                    store.block_on(store.revocation_row(newest)).map_err(CommandError::failed)?
                }
            };
            let known_database = KnownDatabase::new(identity, newest, row);
            known.insert(store.location().to_owned(), known_database);
        }
        let text = serde_json::to_string_pretty(&records).map_err(CommandError::failed)?;
        if fs::exists(&self.file)? && self.read().is_ok_and(|written| written == records) {
            return Ok(());
        }
        let directory = self.file.parent().unwrap_or_else(|| Path::new("."));
        atomic_file::create_directory(directory)?;
        Ok(atomic_file::replace(&self.file, &format!("{text}\n"), atomic_file::PRIVATE)?)
    }

    /// Returns the number of the newest row of each database; `None` if it does not answer.
    fn newest(&self) -> Vec<Option<i64>> {
        let newest = |FollowedDatabase { role, store }: &FollowedDatabase| {
            let (table, column) = role.table();
            store.block_on(store.newest(table, column)).ok().flatten()
        };
        self.databases.iter().map(newest).collect()
    }

    /// Returns the records. Without the file, and if it is damaged, nothing is known.
    fn records(&self) -> Records {
        self.read().unwrap_or_else(|error| {
            tracing::warn!(
                "{}: {error}: whether the databases lack something is unknown; the file is \
                 written anew",
                self.file.display()
            );
            Records::default()
        })
    }

    #[expect(clippy::disallowed_methods, reason = "a file of our own in the state directory")]
    fn read(&self) -> io::Result<Records> {
        match fs::read(&self.file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Records::default()),
            text => Ok(serde_json::from_slice(&text?)?),
        }
    }

    /// Returns the locations of the databases.
    pub(super) fn locations(&self) -> Vec<&str> {
        let mut locations: Vec<_> =
            self.databases.iter().map(|database| database.store.location()).collect();
        locations.dedup();
        locations
    }
}

impl KnownState {
    /// Describes what a restore of a backup has lost.
    pub(super) fn lost_by(&self, backup: &DatabaseIdentity) -> Option<String> {
        let Self { role, known, is_intact } = self;
        let (end, name) = (role.numbers(backup).newest, role.row());
        let (may_differ, remedy) = match role {
            // The backup itself is an event that it does not have.
            DatabaseRole::Users => (1, "repeat what was changed since"),
            // Those of the restored database were kept.
            DatabaseRole::Revocations if *is_intact => return None,
            DatabaseRole::Revocations => {
                (0, "revoke again what was revoked since, or rotate the signing key")
            }
        };
        // Both may continue the same one, since a restore gives a database another id.
        let is_related = continues(backup, known)
            || known.predecessors.iter().any(|id| backup.predecessors.contains(id));
        if !is_related {
            return Some(format!(
                "this server knew {name} {} of the database {}, and the backup is of another one: \
                 {remedy}",
                known.newest, known.id
            ));
        }
        (end + may_differ < known.newest).then(|| {
            format!("this server knew {name} {}, the backup ends at {end}: {remedy}", known.newest)
        })
    }
}

/// Whether a database is a known one, or a later copy of it.
fn continues(identity: &DatabaseIdentity, known: &KnownDatabase) -> bool {
    identity.id == known.id || identity.predecessors.contains(&known.id)
}

/// Returns the known database at a location, or else the one that has come furthest.
fn known_at<'k>(
    known: &'k BTreeMap<String, KnownDatabase>,
    location: &str,
) -> Option<&'k KnownDatabase> {
    known.get(location).or_else(|| latest(known).map(|(_, known)| known))
}

/// Compares a database with its records.
fn difference(
    role: DatabaseRole,
    store: &Store,
    known: &BTreeMap<String, KnownDatabase>,
    identity: Option<&DatabaseIdentity>,
) -> Result<Option<String>, StoreError> {
    let row = |number| store.block_on(store.revocation_row(number));
    compare(role, store.location(), known, identity, row)
}
