//! Login methods of machine identities: what all kinds have in common.

use std::collections::BTreeMap;

use countersign_engine::UnixTime;
use sqlx::{
    Any, AnyPool, AssertSqlSafe, Row as _, Transaction,
    any::{AnyArguments, AnyRow},
    query::Query,
};

use super::{
    DatabaseKind, Store, StoreError, conflicts::lock_identity, json_text, moment, read_json,
    read_number, stored_number, unix_time,
};

/// Kind of a login method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MethodKind {
    /// A TLS client certificate.
    TlsCertificate,
    /// A client id and a secret.
    UniversalAuth,
}

impl MethodKind {
    /// All kinds.
    pub const ALL: [Self; 2] = [Self::TlsCertificate, Self::UniversalAuth];

    /// Returns its name in paths, claims and the database.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TlsCertificate => "tls-cert-auth",
            Self::UniversalAuth => "universal-auth",
        }
    }
}

/// The terms of the access tokens that a login returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenTerms {
    /// Lifetime of a token in seconds; 0 for none of its own.
    pub ttl: u64,
    /// Time from a login after which its token cannot be renewed, in seconds; 0 for no limit.
    pub max_ttl: u64,
    /// Lifetime in seconds of a token that can be renewed without end; 0 if it cannot.
    pub period: u64,
    /// Number of uses of a token; 0 for no limit.
    pub uses_limit: u64,
    /// Networks from which a token may be used, as addresses or in CIDR notation.
    pub trusted_ips: Vec<String>,
}

/// A login method of an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityMethod {
    /// Its id, a UUID.
    pub id: String,
    /// Id of the identity.
    pub identity: String,
    /// The terms of its tokens.
    pub terms: TokenTerms,
    /// Time of its creation.
    pub created_at: UnixTime,
    /// Time of its last change.
    pub updated_at: UnixTime,
}

/// A login method of one kind, with the row that only this kind has.
pub(super) trait MethodRow: Sized + Send + 'static {
    /// The kind.
    const KIND: MethodKind;
    /// Selects the method of an identity, `$1`.
    const SELECT: &'static str;

    /// Returns what all kinds have in common.
    fn common(&self) -> &IdentityMethod;

    /// Returns the statement that inserts the row of this kind.
    fn insertion(&self) -> MethodStatement;

    /// Returns the statement that changes it.
    fn change(&self) -> MethodStatement;

    /// Reads a selected row.
    ///
    /// # Errors
    /// A column is malformed.
    fn read(row: &AnyRow) -> sqlx::Result<Self>;
}

/// A statement with its arguments.
pub(super) type MethodStatement = Query<'static, Any, AnyArguments>;

impl Store {
    /// Returns the method that a statement selects by its only argument.
    pub(super) async fn select_method<M: MethodRow>(
        &self,
        select: &'static str,
        argument: &str,
    ) -> Result<Option<M>, StoreError> {
        let argument = argument.to_owned();
        self.run(async move |pool| Ok(select_method(&pool, select, argument).await?)).await
    }

    /// Adds a method to its identity.
    pub(super) async fn add_method<M: MethodRow>(&self, new: M) -> Result<(), StoreError> {
        let kind = self.kind();
        let (common, insertion) = (new.common().clone(), new.insertion());
        self.run(async move |pool| {
            let mut transaction = kind.begin(&pool).await?;
            insert_method(&mut transaction, M::KIND, &common).await?;
            insertion.execute(&mut *transaction).await?;
            Ok(transaction.commit().await?)
        })
        .await
    }

    /// Changes the method of an identity by `change`, which may refuse. No other change is made at
    /// the same time. Returns the changed method, or the refusal; `None` without a method.
    pub(super) async fn change_method<M: MethodRow, E: Send + 'static>(
        &self,
        identity: &str,
        change: impl FnOnce(&mut M) -> Result<(), E> + Send + 'static,
    ) -> Result<Option<Result<M, E>>, StoreError> {
        let (identity, kind) = (identity.to_owned(), self.kind());
        self.run(async move |pool| {
            let mut transaction = kind.begin(&pool).await?;
            lock_identity(kind, &mut transaction, &identity).await?;
            let row = sqlx::query(M::SELECT).bind(identity);
            let row = row.fetch_optional(&mut *transaction).await?;
            let Some(mut method) = row.map(|row| M::read(&row)).transpose()? else {
                return Ok(None);
            };
            if let Err(refusal) = change(&mut method) {
                return Ok(Some(Err(refusal)));
            }
            let (common, statement) = (method.common().clone(), method.change());
            update_method(&mut transaction, &common).await?;
            statement.execute(&mut *transaction).await?;
            transaction.commit().await?;
            Ok(Some(Ok(method)))
        })
        .await
    }

    /// Returns the login method of this id, whatever its kind.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn identity_method(&self, id: &str) -> Result<Option<IdentityMethod>, StoreError> {
        let id = id.to_owned();
        self.run(async move |pool| {
            let select = "SELECT id, identity, token_ttl, token_max_ttl, token_period,
                              token_uses_limit, token_trusted_ips, created_at, updated_at
                          FROM countersign_identity_method WHERE id = $1";
            let method = sqlx::query(select).bind(id).fetch_optional(&pool).await?;
            Ok(method.map(|row| read_method(&row)).transpose()?)
        })
        .await
    }

    /// Returns the names of the login methods of these identities, in order.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn methods_of_identities(
        &self,
        identities: Vec<String>,
    ) -> Result<BTreeMap<String, Vec<String>>, StoreError> {
        if identities.is_empty() {
            return Ok(BTreeMap::new());
        }
        self.run(async move |pool| {
            let places: Vec<_> = (1..=identities.len()).map(|index| format!("${index}")).collect();
            // It has placeholders only.
            let select = format!(
                "SELECT identity, kind FROM countersign_identity_method WHERE identity IN ({})
                 ORDER BY kind",
                places.join(", ")
            );
            let query = sqlx::query(AssertSqlSafe(select));
            let query = identities.into_iter().fold(query, |query, id| query.bind(id));
            let mut methods = BTreeMap::<String, Vec<String>>::new();
            for row in query.fetch_all(&pool).await? {
                methods.entry(row.try_get("identity")?).or_default().push(row.try_get("kind")?);
            }
            Ok(methods)
        })
        .await
    }

    /// Returns a number that is another one after each change of a login method.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn methods_revision(&self) -> Result<i64, StoreError> {
        self.run(async |pool| {
            // PostgreSQL adds up to a type without an equivalent.
            let sum = "SELECT CAST(COALESCE(SUM(methods_revision), 0) AS BIGINT)
                       FROM countersign_organization";
            Ok(sqlx::query_scalar(sum).fetch_one(&pool).await?)
        })
        .await
    }

    /// Removes a login method of an identity, with its tokens. Returns its id if it existed.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn delete_identity_method(
        &self,
        identity: &str,
        kind: MethodKind,
    ) -> Result<Option<String>, StoreError> {
        let (identity, database) = (identity.to_owned(), self.kind());
        let deletion = move |pool| delete(pool, database, identity.clone(), kind);
        let deleted = self.run_again(deletion).await?;
        self.spawn_deletion_after(deleted.iter().cloned().collect());
        Ok(deleted)
    }
}

async fn delete(
    pool: AnyPool,
    database: DatabaseKind,
    identity: String,
    kind: MethodKind,
) -> sqlx::Result<Option<String>> {
    let mut transaction = database.begin(&pool).await?;
    lock_identity(database, &mut transaction, &identity).await?;
    let delete = "DELETE FROM countersign_identity_method WHERE identity = $1 AND kind = $2
                  RETURNING id";
    let deleted = sqlx::query_scalar(delete).bind(&identity).bind(kind.name());
    let deleted = deleted.fetch_optional(&mut *transaction).await?;
    count_change(&mut transaction, &identity).await?;
    transaction.commit().await?;
    Ok(deleted)
}

/// Adds what a new login method has in common with others.
async fn insert_method(
    transaction: &mut Transaction<'static, Any>,
    kind: MethodKind,
    method: &IdentityMethod,
) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO countersign_identity_method
             (id, identity, kind, token_ttl, token_max_ttl, token_period, token_uses_limit,
              token_trusted_ips, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(&method.id)
    .bind(&method.identity)
    .bind(kind.name())
    .bind(stored_number(method.terms.ttl))
    .bind(stored_number(method.terms.max_ttl))
    .bind(stored_number(method.terms.period))
    .bind(stored_number(method.terms.uses_limit))
    .bind(json_text(&method.terms.trusted_ips))
    .bind(moment(method.created_at))
    .bind(moment(method.updated_at))
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// Stores what a changed login method has in common with others.
async fn update_method(
    transaction: &mut Transaction<'static, Any>,
    method: &IdentityMethod,
) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE countersign_identity_method SET token_ttl = $1, token_max_ttl = $2,
             token_period = $3, token_uses_limit = $4, token_trusted_ips = $5, updated_at = $6
         WHERE id = $7",
    )
    .bind(stored_number(method.terms.ttl))
    .bind(stored_number(method.terms.max_ttl))
    .bind(stored_number(method.terms.period))
    .bind(stored_number(method.terms.uses_limit))
    .bind(json_text(&method.terms.trusted_ips))
    .bind(moment(method.updated_at))
    .bind(&method.id)
    .execute(&mut **transaction)
    .await?;
    count_change(transaction, &method.identity).await
}

/// Counts a change of a login method, by which other nodes notice it.
pub(super) async fn count_change(
    transaction: &mut Transaction<'static, Any>,
    identity: &str,
) -> sqlx::Result<()> {
    let count = "UPDATE countersign_organization SET methods_revision = methods_revision + 1
                 WHERE id = (SELECT organization FROM countersign_identity WHERE id = $1)";
    sqlx::query(count).bind(identity.to_owned()).execute(&mut **transaction).await?;
    Ok(())
}

/// Returns the method that a statement selects by its only argument.
pub(super) async fn select_method<M: MethodRow>(
    pool: &AnyPool,
    select: &'static str,
    argument: String,
) -> sqlx::Result<Option<M>> {
    let method = sqlx::query(select).bind(argument).fetch_optional(pool).await?;
    method.map(|row| M::read(&row)).transpose()
}

/// Reads the columns of `countersign_identity_method`.
pub(super) fn read_method(row: &AnyRow) -> sqlx::Result<IdentityMethod> {
    Ok(IdentityMethod {
        id: row.try_get("id")?,
        identity: row.try_get("identity")?,
        terms: TokenTerms {
            ttl: read_number(row, "token_ttl")?,
            max_ttl: read_number(row, "token_max_ttl")?,
            period: read_number(row, "token_period")?,
            uses_limit: read_number(row, "token_uses_limit")?,
            trusted_ips: read_json(row, "token_trusted_ips")?,
        },
        created_at: unix_time(row.try_get("created_at")?),
        updated_at: unix_time(row.try_get("updated_at")?),
    })
}
