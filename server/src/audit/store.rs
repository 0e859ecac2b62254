//! The table of audit events.

use countersign_engine::UnixTime;
use sqlx::{Any, AnyPool, AssertSqlSafe, Row as _, any::AnyRow, query::Query};

use super::{
    event::{AuditCaller, AuditEvent, AuditOperation, AuditOrigin, AuditOutcome, AuditTarget},
    settings::AuditSettings,
};
use crate::store::{Store, StoreError, expiry::ExpiringTable, moment, unix_time};

/// Columns by name, because a newer version may have added others.
macro_rules! columns {
    () => {
        "at, operation, outcome, reason, detail, username, issuer, jti, client_types, client, peer, target_user, role, \
         project, environment, token, occurrences"
    };
}

const INSERT: &str = concat!(
    "INSERT INTO countersign_audit (",
    columns!(),
    ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17) \
     RETURNING id"
);

/// Selection of events.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// Only events since this time.
    pub since: Option<UnixTime>,
    /// Only events after the one with this id.
    pub after: i64,
    /// Only events before the one with this id.
    pub before: Option<i64>,
    /// Only events by or about this user.
    pub user: Option<String>,
    /// Only events of this operation.
    pub operation: Option<AuditOperation>,
    /// Only events with this outcome.
    pub outcome: Option<AuditOutcome>,
    /// Maximum number of events. The latest are returned.
    pub limit: u32,
}

impl Store {
    /// Adds an event that begins, and returns its id.
    pub(super) async fn begin_audit_event(&self, event: AuditEvent) -> Result<i64, StoreError> {
        self.run(async move |pool| insert(&pool, event).await).await
    }

    /// Sets the outcome of an event, and the parts that were not known when it began.
    pub(super) async fn finish_audit_event(
        &self,
        id: i64,
        event: AuditEvent,
    ) -> Result<(), StoreError> {
        self.run(async move |pool| {
            sqlx::query("UPDATE countersign_audit SET outcome = $1, reason = $2, environment = $3, token = $4 WHERE id = $5")
                .bind(event.outcome.name())
                .bind(bounded(event.reason))
                .bind(bounded(event.target.environment))
                .bind(bounded(event.target.token))
                .bind(id)
                .execute(&pool)
                .await?;
            Ok(())
        })
        .await
    }

    /// Adds completed events.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn append_audit_events(&self, events: Vec<AuditEvent>) -> Result<(), StoreError> {
        self.run(async move |pool| {
            for event in events {
                insert(&pool, event).await?;
            }
            Ok(())
        })
        .await
    }

    /// Returns events in their order, each with its id.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn audit_events(
        &self,
        filter: AuditFilter,
    ) -> Result<Vec<(i64, AuditEvent)>, StoreError> {
        self.run(async move |pool| {
            // An empty text selects all, because the drivers need the type of a parameter.
            let statement = concat!(
                "SELECT id, ",
                columns!(),
                " FROM countersign_audit WHERE at >= $1 AND id > $2 AND ($3 = '' OR username = $3 OR target_user = $3)
                 AND ($4 = '' OR operation = $4) AND ($5 = '' OR outcome = $5)
                 AND id < $6 ORDER BY id DESC LIMIT $7"
            );
            let rows = sqlx::query(statement)
                .bind(filter.since.map_or(0, moment))
                .bind(filter.after)
                .bind(filter.user.unwrap_or_default())
                .bind(filter.operation.map_or("", AuditOperation::name))
                .bind(filter.outcome.map_or("", AuditOutcome::name))
                .bind(filter.before.unwrap_or(i64::MAX))
                .bind(i64::from(filter.limit))
                .fetch_all(&pool)
                .await?;
            Ok(rows.iter().rev().map(read).collect::<sqlx::Result<_>>()?)
        })
        .await
    }

    /// Starts the task that deletes old events.
    pub(crate) fn spawn_audit_deletion(&self, settings: AuditSettings) {
        self.spawn_deletion("old events of the audit log", move |store| {
            let AuditSettings { retention, max_rows, .. } = settings;
            async move {
                let expired = store.delete_expired(ExpiringTable::Audit, retention.as_secs());
                Ok(expired.await? + store.delete_excess_events(max_rows).await?)
            }
        });
    }

    /// Deletes the oldest of more than `max_rows` refused or failed operations, of more than
    /// `max_rows` that machine identities did with their own tokens, and of more than `max_rows`
    /// others. A flood of the former two therefore does not displace changes. Returns how many were
    /// deleted.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn delete_excess_events(&self, max_rows: u64) -> Result<u64, StoreError> {
        let max_rows = i64::try_from(max_rows).unwrap_or(i64::MAX);
        let [first, second, third] = AuditOperation::BY_IDENTITIES.map(AuditOperation::name);
        let by_identities = format!("('{first}', '{second}', '{third}')");
        self.run(async move |pool| {
            let mut deleted = 0;
            for selection in [
                "outcome IN ('refused', 'failed')".to_owned(),
                format!("outcome NOT IN ('refused', 'failed') AND operation IN {by_identities}"),
                format!("outcome NOT IN ('refused', 'failed') AND operation NOT IN {by_identities}"),
            ] {
                let statement = format!(
                    "DELETE FROM countersign_audit WHERE {selection} AND id <= (SELECT id FROM countersign_audit
                     WHERE {selection} ORDER BY id DESC LIMIT 1 OFFSET $1)"
                );
                let excess = sqlx::query(AssertSqlSafe(statement)).bind(max_rows);
                deleted += excess.execute(&pool).await?.rows_affected();
            }
            Ok(deleted)
        })
        .await
    }
}

async fn insert(pool: &AnyPool, event: AuditEvent) -> Result<i64, StoreError> {
    let AuditEvent { at, operation, outcome, reason, detail, caller, origin, target, count } =
        event;
    let texts = [
        reason,
        detail,
        caller.user,
        caller.issuer,
        caller.jti,
        caller.client_types,
        origin.client,
        origin.peer,
        target.user,
        target.role,
        target.project,
        target.environment,
        target.token,
    ];
    let insert: Query<'_, Any, _> =
        sqlx::query(INSERT).bind(moment(at)).bind(operation.name()).bind(outcome.name());
    let insert = texts.into_iter().map(bounded).fold(insert, Query::bind);
    let row = insert.bind(i64::try_from(count).unwrap_or(i64::MAX)).fetch_one(pool).await?;
    Ok(row.try_get("id")?)
}

/// Returns a text that every database can store, of bounded length. Claims are chosen by an
/// issuer, and may have any character.
fn bounded(text: Option<String>) -> Option<String> {
    const MAX_CHARS: usize = 255;
    let is_storable = |character: &char| *character != '\0';
    text.map(|text| text.chars().filter(is_storable).take(MAX_CHARS).collect())
}

fn read(row: &AnyRow) -> sqlx::Result<(i64, AuditEvent)> {
    let text = |column| row.try_get::<Option<String>, _>(column);
    let named = |column| row.try_get::<String, _>(column);
    let (operation, outcome) = (named("operation")?, named("outcome")?);
    let operation = AuditOperation::ALL.iter().find(|one| one.name() == operation);
    let outcome = AuditOutcome::ALL.into_iter().find(|one| one.name() == outcome);
    let event = AuditEvent {
        at: unix_time(row.try_get("at")?),
        // A newer version may have added operations.
        operation: *operation.unwrap_or(&AuditOperation::Omitted),
        outcome: outcome.unwrap_or(AuditOutcome::Begun),
        reason: text("reason")?,
        detail: text("detail")?,
        caller: AuditCaller {
            user: text("username")?,
            issuer: text("issuer")?,
            jti: text("jti")?,
            client_types: text("client_types")?,
        },
        origin: AuditOrigin { client: text("client")?, peer: text("peer")? },
        target: AuditTarget {
            user: text("target_user")?,
            role: text("role")?,
            project: text("project")?,
            environment: text("environment")?,
            token: text("token")?,
        },
        count: u64::try_from(row.try_get::<i64, _>("occurrences")?).unwrap_or(0),
    };
    Ok((row.try_get("id")?, event))
}
