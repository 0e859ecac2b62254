//! Heartbeats of the servers that share the database, with digests of what they accept.

use std::collections::{BTreeMap, BTreeSet};

use countersign_engine::UnixTime;
use sqlx::{Row as _, any::AnyRow};

use super::{Store, StoreError, moment, unix_time};

/// One run of a server, from its start to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerRun {
    /// The id of this run, a UUID.
    pub id: String,
    /// Name of the server for operators: its host and first listen address.
    pub name: String,
    /// The version of the program.
    pub version: String,
    /// Time of its start.
    pub started_at: UnixTime,
    /// Time of its last heartbeat.
    pub seen_at: UnixTime,
    /// Digests of its issuers, and the ids of its API keys and of its signing key.
    pub digests: ConfigDigests,
}

/// Digests of a configuration. They contain no secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigDigests {
    /// SHA-256 of each [`IssuerSection`](crate::keys::IssuerSection) by name, in hexadecimal. For
    /// the section that signs, it does not cover the key.
    pub sections: BTreeMap<String, String>,
    /// Ids of the API keys by name; empty for a key without an id.
    pub api_keys: BTreeMap<String, String>,
    /// Id of the key that signs, if it has one.
    pub signing_key: Option<String>,
    /// Ids of the keys that verify in the section that signs. Empty for a server of an earlier
    /// version.
    pub verified_keys: BTreeSet<String>,
}

/// Prefix of the names of API keys in the column `sections`. No section starts with it.
const API_KEY_PREFIX: &str = "api_key:";

impl ConfigDigests {
    /// Returns sections and API keys in the form of their column.
    fn to_json(&self) -> serde_json::Result<String> {
        let keys = self.api_keys.iter().map(|(name, id)| (format!("{API_KEY_PREFIX}{name}"), id));
        let sections = self.sections.iter().map(|(name, digest)| (name.clone(), digest));
        serde_json::to_string(&sections.chain(keys).collect::<BTreeMap<_, _>>())
    }

    fn read(
        sections: &str,
        signing_key: Option<String>,
        verified_keys: Option<&str>,
    ) -> serde_json::Result<Self> {
        let all: BTreeMap<String, String> = serde_json::from_str(sections)?;
        let verified_keys = verified_keys.map_or(Ok(BTreeSet::new()), serde_json::from_str)?;
        let mut digests = Self { signing_key, verified_keys, ..Self::default() };
        for (name, digest) in all {
            match name.strip_prefix(API_KEY_PREFIX) {
                Some(key) => digests.api_keys.insert(key.to_owned(), digest),
                None => digests.sections.insert(name, digest),
            };
        }
        Ok(digests)
    }
}

impl Store {
    /// Records a heartbeat, which replaces the previous one of the same run.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn record_heartbeat(&self, server: ServerRun) -> Result<(), StoreError> {
        let unavailable = |error: serde_json::Error| StoreError::Unavailable(error.to_string());
        let sections = server.digests.to_json().map_err(unavailable)?;
        let verified = &server.digests.verified_keys;
        let verified_keys = serde_json::to_string(verified).map_err(unavailable)?;
        self.run(async move |pool| {
            sqlx::query(
                "INSERT INTO countersign_server (id, name, version, started_at, seen_at, sections, signing_key,
                 verified_keys) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
                 ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at, sections = excluded.sections,
                 signing_key = excluded.signing_key, verified_keys = excluded.verified_keys",
            )
            .bind(server.id)
            .bind(server.name)
            .bind(server.version)
            .bind(moment(server.started_at))
            .bind(moment(server.seen_at))
            .bind(sections)
            .bind(server.digests.signing_key)
            .bind(verified_keys)
            .execute(&pool)
            .await?;
            Ok(())
        })
        .await
    }

    /// Returns the servers with a heartbeat after a time, by name. A restarted server is returned
    /// once, as its latest run.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn servers_active_since(
        &self,
        moment_before: UnixTime,
    ) -> Result<Vec<ServerRun>, StoreError> {
        self.run(async move |pool| {
            let servers = sqlx::query(
                "SELECT id, name, version, started_at, seen_at, sections, signing_key, verified_keys
                 FROM countersign_server AS server
                 WHERE seen_at > $1 AND NOT EXISTS (SELECT 1 FROM countersign_server AS later WHERE later.name = server.name
                 AND later.id <> server.id AND later.started_at > server.seen_at)
                 ORDER BY name, id",
            );
            let rows = servers.bind(moment(moment_before)).fetch_all(&pool).await?;
            Ok(rows.iter().map(read).collect::<sqlx::Result<_>>()?)
        })
        .await
    }

    /// Removes the run of a server that stops. Returns whether it existed.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn remove_server(&self, id: &str) -> Result<bool, StoreError> {
        self.update("DELETE FROM countersign_server WHERE id = $1", [id.into()]).await
    }

    /// Removes the runs without a heartbeat after a time, which ended without removing themselves.
    /// Returns how many.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn remove_servers(&self, seen_by: UnixTime) -> Result<u64, StoreError> {
        self.run(async move |pool| {
            let deleted = sqlx::query("DELETE FROM countersign_server WHERE seen_at <= $1")
                .bind(moment(seen_by));
            Ok(deleted.execute(&pool).await?.rows_affected())
        })
        .await
    }
}

fn read(row: &AnyRow) -> sqlx::Result<ServerRun> {
    let (sections, verified): (&str, Option<&str>) =
        (row.try_get("sections")?, row.try_get("verified_keys")?);
    let digests = ConfigDigests::read(sections, row.try_get("signing_key")?, verified)
        .map_err(|error| sqlx::Error::Decode(error.into()))?;
    Ok(ServerRun {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        version: row.try_get("version")?,
        started_at: unix_time(row.try_get("started_at")?),
        seen_at: unix_time(row.try_get("seen_at")?),
        digests,
    })
}
