//! Deletion of rows whose time has passed, so that no wrong clock of one node can delete what still
//! applies.
//!
//! Rows in PostgreSQL are deleted by its own clock and a margin. An SQLite database has only the
//! clock of its machine, which may be wrong at any time: a row is deleted once it has been over
//! for [`OPEN_SECONDS`] during which the database was open, by the monotonic clock. That time is
//! counted in the database, and a row that is found to be current again starts over.
//!
//! Nothing is deleted in the first hour of a process, when a clock may not be set yet.

use std::{fs, sync::OnceLock, time::Duration};

use rustix::time::{ClockId, clock_gettime};
use sqlx::{Any, AnyPool, AssertSqlSafe, Row as _, Transaction};
use uuid::Uuid;

use super::{DatabaseKind, Store, StoreError, moment};
use crate::base::clock;

/// A table whose rows end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpiringTable {
    /// The revocations, by `until`. The newest row stays: other nodes recognize the table by it.
    Revocations,
    /// The registry of tokens, by `expires_at`.
    Tokens,
    /// The audit log, by `at`.
    Audit,
    /// Access tokens of machine identities that have a limit of uses, by `expires_at`: a part of
    /// them in each sweep, so that no statement is slow.
    IdentityTokens,
    /// Sessions of the console, by `expires_at`.
    ConsoleSessions,
    /// Logout tokens of OpenID providers, by `expires_at`.
    LogoutTokens,
}

/// The time of one sweep of an SQLite database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SweepTime {
    /// Seconds since 1970, by the machine's clock.
    pub now: i64,
    /// Seconds for which the database was open in all.
    pub open: i64,
}

/// Margin after the end of a row in PostgreSQL, in seconds.
const MARGIN: i64 = 86_400;
/// Seconds for which an SQLite database must be open while a row is over.
pub const OPEN_SECONDS: i64 = 25 * 3600;
/// Time of a process without deletions.
const FIRST_HOUR: Duration = Duration::from_secs(3600);
/// Longest time in seconds between two sweeps that counts as open.
const MAX_GAP: i64 = 300;

impl ExpiringTable {
    /// Name, column of the end, and the rows that may be deleted.
    const fn parts(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Revocations => (
                "countersign_revocation",
                "until",
                "number < (SELECT max(number) FROM countersign_revocation)",
            ),
            Self::Tokens => ("countersign_token", "expires_at", "1 = 1"),
            Self::Audit => ("countersign_audit", "at", "1 = 1"),
            Self::ConsoleSessions => ("countersign_console_session", "expires_at", "1 = 1"),
            Self::LogoutTokens => ("countersign_logout_token", "expires_at", "1 = 1"),
            Self::IdentityTokens => (
                "countersign_identity_token",
                "expires_at",
                "id IN (SELECT id FROM countersign_identity_token ORDER BY expires_at LIMIT 1000)",
            ),
        }
    }
}

impl Store {
    /// Deletes the rows of a table that ended more than `retention` seconds ago. Returns how many.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn delete_expired(
        &self,
        table: ExpiringTable,
        retention: u64,
    ) -> Result<u64, StoreError> {
        let (kind, is_early) = (self.kind(), self.0.started.elapsed() < FIRST_HOUR);
        self.run(async move |pool| match kind {
            DatabaseKind::Postgres if is_early => Ok(0),
            DatabaseKind::Postgres => delete_by_clock(&pool, table, retention).await,
            DatabaseKind::Sqlite => {
                let mut transaction = kind.begin(&pool).await?;
                let open = count_open_time(&mut transaction).await?;
                let at = SweepTime { now: moment(clock::now()), open };
                mark_over(&mut transaction, table, retention, at).await?;
                let deleted =
                    if is_early { 0 } else { delete_marked(&mut transaction, table, at).await? };
                transaction.commit().await?;
                Ok(deleted)
            }
        })
        .await
    }

    /// Sweeps a table without regard to the first hour, for tests: an SQLite database as of a given
    /// time. Returns the number of deleted rows.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn sweep_at(&self, table: ExpiringTable, at: SweepTime) -> Result<u64, StoreError> {
        let kind = self.kind();
        self.run(async move |pool| {
            if kind == DatabaseKind::Postgres {
                return delete_by_clock(&pool, table, 0).await;
            }
            let mut transaction = kind.begin(&pool).await?;
            mark_over(&mut transaction, table, 0, at).await?;
            let deleted = delete_marked(&mut transaction, table, at).await?;
            transaction.commit().await?;
            Ok(deleted)
        })
        .await
    }
}

async fn delete_by_clock(
    pool: &AnyPool,
    table: ExpiringTable,
    retention: u64,
) -> Result<u64, StoreError> {
    let (name, end, condition) = table.parts();
    let delete = format!(
        "DELETE FROM {name} WHERE {end} < extract(epoch FROM clock_timestamp())::bigint - $1 \
         AND {condition}"
    );
    let deleted =
        sqlx::query(AssertSqlSafe(delete)).bind(seconds(retention).saturating_add(MARGIN));
    Ok(deleted.execute(pool).await?.rows_affected())
}

/// Notes since when rows are over, and that others are not or no longer.
async fn mark_over(
    transaction: &mut Transaction<'static, Any>,
    table: ExpiringTable,
    retention: u64,
    at: SweepTime,
) -> Result<(), StoreError> {
    let (name, end, _) = table.parts();
    let ended_by = at.now.saturating_sub(seconds(retention));
    let current =
        format!("UPDATE {name} SET over_since = NULL WHERE over_since IS NOT NULL AND {end} > $1");
    sqlx::query(AssertSqlSafe(current)).bind(ended_by).execute(&mut **transaction).await?;
    let over =
        format!("UPDATE {name} SET over_since = $1 WHERE over_since IS NULL AND {end} <= $2");
    let over = sqlx::query(AssertSqlSafe(over)).bind(at.open).bind(ended_by);
    over.execute(&mut **transaction).await?;
    Ok(())
}

async fn delete_marked(
    transaction: &mut Transaction<'static, Any>,
    table: ExpiringTable,
    at: SweepTime,
) -> Result<u64, StoreError> {
    let (name, _, condition) = table.parts();
    let delete = format!("DELETE FROM {name} WHERE over_since <= $1 AND {condition}");
    let marked = sqlx::query(AssertSqlSafe(delete)).bind(at.open.saturating_sub(OPEN_SECONDS));
    Ok(marked.execute(&mut **transaction).await?.rows_affected())
}

/// Adds the time since the last sweep of any process on this machine. Returns the sum in seconds.
async fn count_open_time(transaction: &mut Transaction<'static, Any>) -> Result<i64, StoreError> {
    let now = clock_gettime(ClockId::Monotonic).tv_sec;
    let read = "SELECT open_seconds, boot, counted_at FROM countersign_database";
    let row = sqlx::query(read).fetch_one(&mut **transaction).await?;
    let (open, boot): (i64, Option<String>) = (row.try_get(0)?, row.try_get(1)?);
    let counted_at = row.try_get::<Option<i64>, _>(2)?.unwrap_or(now);
    let since = now.saturating_sub(counted_at);
    let is_continuous = boot.as_deref() == Some(boot_id()) && (0..=MAX_GAP).contains(&since);
    let open = if is_continuous { open.saturating_add(since) } else { open };
    let write = "UPDATE countersign_database SET open_seconds = $1, boot = $2, counted_at = $3";
    sqlx::query(write).bind(open).bind(boot_id()).bind(now).execute(&mut **transaction).await?;
    Ok(open)
}

fn seconds(duration: u64) -> i64 {
    i64::try_from(duration).unwrap_or(i64::MAX)
}

/// Returns the id of this boot of the machine, to which its monotonic clock belongs.
fn boot_id() -> &'static str {
    static ID: OnceLock<String> = OnceLock::new();
    ID.get_or_init(|| {
        #[expect(clippy::disallowed_methods, reason = "a short file of the kernel")]
        let read = fs::read_to_string("/proc/sys/kernel/random/boot_id");
        read.map_or_else(|_| Uuid::nil().to_string(), |id| id.trim().to_owned())
    })
}
