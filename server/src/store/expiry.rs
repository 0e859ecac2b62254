//! Deletion of rows whose time has passed, so that no wrong clock of one node can delete what still
//! applies.
//!
//! Rows in PostgreSQL are deleted by its own clock and a margin. An SQLite database has only the
//! clock of its machine, which may be wrong at any time: a row is deleted once it has been over
//! for [`OPEN_SECONDS`] during which the database was open, by the monotonic clock. That time is
//! counted in the database, and a row that is found to be current again starts over.
//!
//! Nothing is deleted in the first hour of a process, when a clock may not be set yet.
//!
//! A sweep changes rows in parts of [`PART_ROWS`] with a pause after each, so that others can write
//! in between.

use std::{fs, sync::OnceLock, time::Duration};

use rustix::time::{ClockId, clock_gettime};
use sqlx::{Any, AnyPool, AssertSqlSafe, Row as _, Transaction};
use tokio::time::sleep;
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
    /// Access tokens of machine identities that have a limit of uses, by `expires_at`.
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

/// What one part of a sweep changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SweptPart {
    /// Rows that are over since this part, or not over after all. Only SQLite has such marks.
    pub marked: u64,
    /// Deleted rows.
    pub deleted: u64,
}

/// Maximum number of rows that one statement of a sweep changes in SQLite, and of access tokens in
/// PostgreSQL.
pub const PART_ROWS: u64 = 250;
/// Maximum number of parts of a sweep. The next sweep continues.
const MAX_PARTS: usize = 200;
/// Pause after a part, in which others can write: the longest time after which a connection of
/// SQLite tries again.
pub(super) const PART_PAUSE: Duration = Duration::from_millis(100);
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
            Self::IdentityTokens => ("countersign_identity_token", "expires_at", "1 = 1"),
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
        let open = match kind {
            DatabaseKind::Postgres if is_early => return Ok(0),
            DatabaseKind::Postgres => 0,
            DatabaseKind::Sqlite => self.run(count_open_time).await?,
        };
        let at = SweepTime { now: moment(clock::now()), open };
        self.sweep(RowSweep { table, retention, at, deletes: !is_early }).await
    }

    /// Sweeps a table without regard to the first hour, for tests: an SQLite database as of a given
    /// time. Returns the number of deleted rows.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn sweep_at(&self, table: ExpiringTable, at: SweepTime) -> Result<u64, StoreError> {
        self.sweep(RowSweep { table, retention: 0, at, deletes: true }).await
    }

    /// Makes one part of a sweep as [`sweep_at`](Self::sweep_at).
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn sweep_part_at(
        &self,
        table: ExpiringTable,
        at: SweepTime,
    ) -> Result<SweptPart, StoreError> {
        self.sweep_part(RowSweep { table, retention: 0, at, deletes: true }).await
    }

    async fn sweep(&self, sweep: RowSweep) -> Result<u64, StoreError> {
        let mut deleted = 0;
        for _ in 0..MAX_PARTS {
            let part = self.sweep_part(sweep).await?;
            deleted += part.deleted;
            if part.marked < PART_ROWS && part.deleted < PART_ROWS {
                break;
            }
            sleep(PART_PAUSE).await;
        }
        Ok(deleted)
    }

    async fn sweep_part(&self, sweep: RowSweep) -> Result<SweptPart, StoreError> {
        let kind = self.kind();
        if kind == DatabaseKind::Postgres {
            let deleted = self.run_again(move |pool| sweep.delete_by_clock(pool)).await?;
            return Ok(SweptPart { marked: 0, deleted });
        }
        self.run(async move |pool| {
            let mut transaction = kind.begin(&pool).await?;
            let marked = sweep.mark_part(&mut transaction).await?;
            let deleted =
                if sweep.deletes { sweep.delete_part(&mut transaction).await? } else { 0 };
            transaction.commit().await?;
            Ok(SweptPart { marked, deleted })
        })
        .await
    }
}

/// A sweep of a table.
#[derive(Clone, Copy)]
struct RowSweep {
    table: ExpiringTable,
    /// Seconds after the end of a row in which it stays.
    retention: u64,
    at: SweepTime,
    /// Whether rows are deleted, and not only marked.
    deletes: bool,
}

impl RowSweep {
    async fn delete_by_clock(self, pool: AnyPool) -> sqlx::Result<u64> {
        let (name, end, condition) = self.table.parts();
        // Most tables have few rows that end at once.
        let part = match self.table {
            ExpiringTable::IdentityTokens => {
                format!("AND id IN (SELECT id FROM {name} ORDER BY {end} LIMIT {PART_ROWS})")
            }
            _ => String::new(),
        };
        let delete = format!(
            "DELETE FROM {name} WHERE {end} < extract(epoch FROM clock_timestamp())::bigint - $1 \
             AND {condition} {part}"
        );
        let deleted =
            sqlx::query(AssertSqlSafe(delete)).bind(seconds(self.retention).saturating_add(MARGIN));
        Ok(deleted.execute(&pool).await?.rows_affected())
    }

    /// Notes since when rows are over, and that others are current again. Returns the larger number
    /// of changed rows.
    async fn mark_part(
        self,
        transaction: &mut Transaction<'static, Any>,
    ) -> Result<u64, StoreError> {
        let (name, end, _) = self.table.parts();
        let current = format!(
            "UPDATE {name} SET over_since = NULL WHERE rowid IN (SELECT rowid FROM {name} \
             WHERE over_since IS NOT NULL AND {end} > $1 LIMIT {PART_ROWS})"
        );
        let current = sqlx::query(AssertSqlSafe(current)).bind(self.ended_by());
        let current = current.execute(&mut **transaction).await?.rows_affected();
        let over = format!(
            "UPDATE {name} SET over_since = $1 WHERE rowid IN (SELECT rowid FROM {name} \
             WHERE over_since IS NULL AND {end} <= $2 LIMIT {PART_ROWS})"
        );
        let over = sqlx::query(AssertSqlSafe(over)).bind(self.at.open).bind(self.ended_by());
        let over = over.execute(&mut **transaction).await?.rows_affected();
        Ok(current.max(over))
    }

    /// Deletes rows that have been over for long enough, and are over now: those that are current
    /// again may be unmarked by a later part.
    async fn delete_part(
        self,
        transaction: &mut Transaction<'static, Any>,
    ) -> Result<u64, StoreError> {
        let (name, end, condition) = self.table.parts();
        let delete = format!(
            "DELETE FROM {name} WHERE rowid IN (SELECT rowid FROM {name} \
             WHERE over_since <= $1 AND {end} <= $2 AND {condition} LIMIT {PART_ROWS})"
        );
        let marked_by = self.at.open.saturating_sub(OPEN_SECONDS);
        let delete = sqlx::query(AssertSqlSafe(delete)).bind(marked_by).bind(self.ended_by());
        Ok(delete.execute(&mut **transaction).await?.rows_affected())
    }

    /// Returns the latest end of rows that are over.
    fn ended_by(self) -> i64 {
        self.at.now.saturating_sub(seconds(self.retention))
    }
}

/// Adds the time since the last sweep of any process on this machine. Returns the sum in seconds.
async fn count_open_time(pool: AnyPool) -> Result<i64, StoreError> {
    let mut transaction = DatabaseKind::Sqlite.begin(&pool).await?;
    let now = clock_gettime(ClockId::Monotonic).tv_sec;
    let read = "SELECT open_seconds, boot, counted_at FROM countersign_database";
    let row = sqlx::query(read).fetch_one(&mut *transaction).await?;
    let (open, boot): (i64, Option<String>) = (row.try_get(0)?, row.try_get(1)?);
    let counted_at = row.try_get::<Option<i64>, _>(2)?.unwrap_or(now);
    let since = now.saturating_sub(counted_at);
    let is_continuous = boot.as_deref() == Some(boot_id()) && (0..=MAX_GAP).contains(&since);
    let open = if is_continuous { open.saturating_add(since) } else { open };
    let write = "UPDATE countersign_database SET open_seconds = $1, boot = $2, counted_at = $3";
    sqlx::query(write).bind(open).bind(boot_id()).bind(now).execute(&mut *transaction).await?;
    transaction.commit().await?;
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
