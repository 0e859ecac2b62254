//! Import of the users, roles, environments and tokens of an Inmanta server from its PostgreSQL
//! database.
//!
//! [`source`] reads the database in one read-only transaction, `plan` compares it with the
//! database here, and `target` reads and writes the latter in one transaction. Both servers may
//! run meanwhile.
//!
//! An import can be repeated. It adds rows and updates values, and never deletes: changes and
//! deletions made here win over the source. The table `countersign_import` records for this purpose
//! what earlier imports copied. Tokens that the source revoked are always revoked here.

mod plan;
mod report;
pub mod source;
mod target;

use std::fmt;

use countersign_engine::UnixTime;

pub use self::report::{ImportReport, KindReport};
use self::source::SourceContents;
use crate::{backup::ServerDatabases, store::StoreError};

/// What an import needs to know of the configuration.
#[derive(Clone, Debug)]
pub struct ImportSettings {
    /// Issuer of the signing section, which signed the tokens of the registry.
    pub issuer: Option<String>,
    /// Seconds by which the clock of another node may be ahead.
    pub leeway: u64,
    /// Seconds that expired tokens stay in the registry.
    pub token_retention: u64,
    /// Limit of the number of revocations.
    pub revocation_capacity: usize,
    /// Time of the import.
    pub now: UnixTime,
}

/// Error of an import. Nothing is changed then.
#[derive(Debug)]
pub enum ImportError {
    /// The source cannot be read, or a row of it is invalid: the table, the row and the reason.
    Source(String),
    /// The database here cannot be queried.
    Store(StoreError),
    /// The state of the database or the configuration does not allow it; with the remedy.
    Refused(String),
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(reason) | Self::Refused(reason) => f.write_str(reason),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ImportError {}

impl From<StoreError> for ImportError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<sqlx::Error> for ImportError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Returns what [`run`] would do. Changes nothing.
///
/// # Errors
/// The databases cannot be queried, their schema is of another version, or the import would be
/// refused.
pub async fn preview(
    databases: &ServerDatabases,
    source: &SourceContents,
    settings: &ImportSettings,
) -> Result<ImportReport, ImportError> {
    let existing = target::read_if_current(&databases.main).await?;
    let plan = plan::plan(source, existing, settings)?;
    target::check_capacity(databases, &plan, settings).await?;
    Ok(plan.report)
}

/// Imports the contents of a source.
///
/// # Errors
/// The databases cannot be queried or written, or the import is refused.
pub async fn run(
    databases: &ServerDatabases,
    source: &SourceContents,
    settings: &ImportSettings,
) -> Result<ImportReport, ImportError> {
    let mut transaction = target::ImportTransaction::begin(&databases.main).await?;
    let plan = plan::plan(source, transaction.existing().await?, settings)?;
    target::check_capacity(databases, &plan, settings).await?;
    transaction.write(&plan).await?;
    transaction.commit(databases, &plan.revocations).await?;
    Ok(plan.report)
}
