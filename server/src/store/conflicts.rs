//! Transactions that wait for each other.
//!
//! Transactions about a machine identity lock its row first ([`lock_identity`]), then rows of its
//! login methods, and the row of its organization last. So they wait in line, and never for each
//! other. PostgreSQL may roll back one of two that wait for each other all the same, such as a
//! sweep and a deletion of the same rows. That one runs [again](Store::run_again).

use sqlx::{Any, AnyPool, Transaction};

use super::{DatabaseKind, Store, StoreError};

/// Attempts at a transaction that the database rolls back because of others.
const MAX_ATTEMPTS: usize = 4;

impl Store {
    /// Runs a transaction, and again if the database has rolled it back because of others.
    pub(super) async fn run_again<T, W, F>(&self, transaction: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: Fn(AnyPool) -> F + Send + 'static,
        F: Future<Output = sqlx::Result<T>> + Send + 'static,
    {
        self.run(async move |pool| {
            for _attempt in 1..MAX_ATTEMPTS {
                match transaction(pool.clone()).await {
                    Err(error) if is_conflict(&error) => {}
                    result => return Ok(result?),
                }
            }
            Ok(transaction(pool).await?)
        })
        .await
    }
}

/// Whether the database has rolled back a transaction because of others: for a serialization
/// failure or a deadlock.
fn is_conflict(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    matches!(code.as_deref(), Some("40001" | "40P01"))
}

/// Locks the row of an identity, if it exists, against other changes of it and of its login
/// methods. Logins do not wait for this lock. A write transaction of SQLite excludes all others.
pub(super) async fn lock_identity(
    kind: DatabaseKind,
    transaction: &mut Transaction<'static, Any>,
    identity: &str,
) -> sqlx::Result<()> {
    if kind == DatabaseKind::Postgres {
        let lock = "SELECT 1 FROM countersign_identity WHERE id = $1 FOR NO KEY UPDATE";
        sqlx::query(lock).bind(identity.to_owned()).execute(&mut **transaction).await?;
    }
    Ok(())
}
