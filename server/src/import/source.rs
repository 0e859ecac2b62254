//! The source: the PostgreSQL database of an Inmanta server.
//!
//! It is read in one read-only transaction, which takes no lock that a running server waits for.
//! Texts are cut by the database to a length just above what is allowed here, and the number of
//! rows is limited, so that a strange source cannot exhaust the memory. Errors name the table and
//! the row, and never contain the value of a column.

use std::{collections::BTreeSet, time::Duration};

use countersign_engine::UnixTime;
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Decode, PgConnection, Postgres, Row as _,
    Type, postgres::PgConnectOptions, postgres::PgRow,
};
use tokio::time::timeout;
use uuid::Uuid;

use super::ImportError;
use crate::{
    base::printable::printable,
    store::{settings::DatabaseUrl, unix_time},
};

/// Address of a source.
#[derive(Clone, Debug)]
pub struct SourceAddress {
    url: DatabaseUrl,
    /// Database, host and port for messages, without credentials.
    pub location: String,
    /// Whether it contains a password.
    pub has_password: bool,
}

/// A user of the source.
#[derive(Clone)]
pub struct SourceUser {
    /// Their id.
    pub id: String,
    /// Their name.
    pub username: String,
    /// Password hash; may be empty for a user of an OpenID provider.
    pub password_hash: String,
    /// `database` or `oidc`.
    pub auth_method: String,
    /// Whether they are an administrator.
    pub is_admin: bool,
}

/// A role or a project of the source.
#[derive(Clone, Debug)]
pub struct SourceName {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// An environment of the source.
#[derive(Clone, Debug)]
pub struct SourceEnvironment {
    /// Its id.
    pub id: String,
    /// Its values.
    pub values: EnvironmentValues,
    /// Whether its deletion has begun.
    pub is_being_deleted: bool,
}

/// The values of an environment that may change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvironmentValues {
    /// Its name.
    pub name: String,
    /// The id of its project.
    pub project: String,
    /// The URL of its repository, or empty.
    pub repo_url: String,
    /// The branch of the repository, or empty.
    pub repo_branch: String,
    /// Its description, or empty.
    pub description: String,
    /// Its icon, or empty.
    pub icon: String,
}

/// The assignment of a role to a user in an environment, by their ids.
#[derive(Clone, Debug)]
pub struct SourceAssignment {
    /// The user.
    pub user: String,
    /// The environment.
    pub environment: String,
    /// The role.
    pub role: String,
}

/// A token in the registry of the source.
#[derive(Clone, Debug)]
pub struct SourceToken {
    /// Its id.
    pub jti: String,
    /// The user that requested it, if it was a user.
    pub created_by: Option<String>,
    /// Its client types, separated by commas.
    pub client_types: String,
    /// The environment it is scoped to.
    pub environment: Option<String>,
    /// Time of issue.
    pub issued_at: UnixTime,
    /// Expiry time, if it expires.
    pub expires_at: Option<UnixTime>,
    /// Time of revocation, if it was revoked.
    pub revoked_at: Option<UnixTime>,
    /// Time of its last use.
    pub last_used: Option<UnixTime>,
}

/// Everything that is read of a source. Not `Debug`: it contains password hashes.
#[derive(Clone, Default)]
pub struct SourceContents {
    /// The users, by name.
    pub users: Vec<SourceUser>,
    /// The roles, by name.
    pub roles: Vec<SourceName>,
    /// The projects, by name.
    pub projects: Vec<SourceName>,
    /// The environments, by name.
    pub environments: Vec<SourceEnvironment>,
    /// The role assignments.
    pub assignments: Vec<SourceAssignment>,
    /// The registry of tokens. `None` before 18.2, which has none.
    pub tokens: Option<Vec<SourceToken>>,
}

/// Parameters of an address. Others are refused: a misspelt one may contain a password.
const PARAMETERS: [&str; 13] = [
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    "port",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "statement-cache-capacity",
    "user",
];

impl SourceAddress {
    /// Parses the URL of a PostgreSQL database.
    ///
    /// # Errors
    /// The reason and the remedy. They do not contain the URL, which may contain a password.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (url, location) = DatabaseUrl::postgres(text).ok_or(
            "the address is not the URL of a PostgreSQL database: write postgres://user@host/name, \
             with other characters than letters and digits in user and password percent-encoded",
        )?;
        let behind = text.split_once("://").map_or("", |(_, rest)| rest);
        let authority = behind.split(['/', '?', '#']).next().unwrap_or_default();
        let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
        let query = behind.split_once('?').map_or("", |(_, query)| query);
        let parameters: Vec<(String, String)> = serde_urlencoded::from_str(query)
            .map_err(|_| "the parameters of the address cannot be parsed")?;
        if parameters.iter().any(|(name, _)| !PARAMETERS.contains(&name.as_str())) {
            return Err("the address has an unknown parameter: those of PostgreSQL are user, \
                        password, host, port, dbname, sslmode, sslrootcert, sslcert, sslkey and \
                        options");
        }
        let has_password =
            user.contains(':') || parameters.iter().any(|(name, _)| name == "password");
        Ok(Self { url, location, has_password })
    }

    async fn connect(&self) -> Result<PgConnection, ImportError> {
        const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
        let failed = |reason: String| {
            ImportError::Source(format!("cannot connect to {}: {reason}", self.location))
        };
        let options: PgConnectOptions = self
            .url
            .expose()
            .parse()
            .map_err(|error: sqlx::Error| failed(printable(&error.to_string())))?;
        // Statements that read a whole table are slow, and none is remarkable for that.
        let options = options.application_name("countersign import").disable_statement_logging();
        match timeout(CONNECT_TIMEOUT, options.connect()).await {
            Ok(connected) => connected.map_err(|error| failed(printable(&error.to_string()))),
            Err(_) => Err(failed(format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()))),
        }
    }
}

/// Reads a source as of one moment.
///
/// # Errors
/// The source is unreachable, is not the database of an Inmanta server, or has an invalid row.
pub async fn read(address: &SourceAddress) -> Result<SourceContents, ImportError> {
    let mut connection = address.connect().await?;
    let contents = async {
        for statement in [
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            // A table that is locked for a migration must not block, nor a slow disk forever.
            "SET LOCAL lock_timeout = '10s'",
            "SET LOCAL statement_timeout = '300s'",
        ] {
            sqlx::query(statement).execute(&mut connection).await?;
        }
        Ok(SourceReader { columns: columns(&mut connection).await?, connection: &mut connection })
    };
    let contents = contents.await.map_err(|error: sqlx::Error| {
        let error = printable(&error.to_string());
        ImportError::Source(format!("cannot read {}: {error}", address.location))
    })?;
    let contents = contents.read(&address.location).await?;
    // The transaction ends with the connection.
    let _ignored = connection.close().await;
    Ok(contents)
}

/// Returns the columns of the tables that are read, as `table.column`.
async fn columns(connection: &mut PgConnection) -> sqlx::Result<BTreeSet<String>> {
    let columns = "SELECT c.relname || '.' || a.attname FROM pg_catalog.pg_attribute a \
                   JOIN pg_catalog.pg_class c ON c.oid = a.attrelid \
                   WHERE c.relnamespace = to_regnamespace('public') \
                   AND c.relkind IN ('r', 'p', 'v') AND a.attnum > 0 AND NOT a.attisdropped \
                   AND c.relname IN ('inmanta_user', 'role', 'role_assignment', 'project', \
                   'environment', 'token')";
    Ok(sqlx::query_scalar(columns).fetch_all(connection).await?.into_iter().collect())
}

/// Reads the tables of a source.
struct SourceReader<'c> {
    connection: &'c mut PgConnection,
    /// Existing columns, as `table.column`.
    columns: BTreeSet<String>,
}

/// Rows of one table that are read at most.
const MAX_ROWS: usize = 500_000;
/// Limit of the texts of an environment, in characters: that of icons in the source.
const MAX_TEXT_CHARS: usize = 65_535;

impl SourceReader<'_> {
    async fn read(mut self, location: &str) -> Result<SourceContents, ImportError> {
        if !self.columns.contains("inmanta_user.id") {
            return Err(ImportError::Source(format!(
                "{location} is not the database of an Inmanta server: it has no table \
                 inmanta_user\n  help: name the database of [database] in the configuration of \
                 that server"
            )));
        }
        let users = "id::text, left(username, 256), left(password_hash, 1024), auth_method::text, \
                     is_admin";
        let environments = format!(
            "id::text, left(name, 256), project::text, coalesce(is_marked_for_deletion, false), {}",
            ["repo_url", "repo_branch", "description", "icon"]
                .map(|column| format!("left(coalesce({column}, ''), {})", MAX_TEXT_CHARS + 1))
                .join(", ")
        );
        let assignments = "user_id::text, environment::text, role_id::text";
        let name = "id::text, left(name, 256)";
        Ok(SourceContents {
            users: self.rows("inmanta_user", users, "username", read_user).await?,
            roles: self.rows("role", name, "name", read_name).await?,
            projects: self.rows("project", name, "name", read_name).await?,
            environments: self
                .rows("environment", &environments, "name, id", read_environment)
                .await?,
            assignments: self
                .rows("role_assignment", assignments, "user_id, environment, role_id", |row| {
                    Ok(SourceAssignment {
                        user: row.uuid(0, "user_id")?,
                        environment: row.uuid(1, "environment")?,
                        role: row.uuid(2, "role_id")?,
                    })
                })
                .await?,
            tokens: self.tokens().await?,
        })
    }

    /// Reads the registry of tokens. Its first version had a flag in place of the time of
    /// revocation.
    async fn tokens(&mut self) -> Result<Option<Vec<SourceToken>>, ImportError> {
        if !self.columns.contains("token.jti") {
            return Ok(None);
        }
        let revoked_at = if self.columns.contains("token.revoked_at") {
            "revoked_at"
        } else {
            "CASE WHEN revoked THEN issued_at END"
        };
        // An infinite time is either past or never.
        let seconds = |time: &str| {
            format!(
                "CASE WHEN isfinite({time}) THEN floor(extract(epoch FROM {time}))::bigint \
                 WHEN {time} < now() THEN 0 END"
            )
        };
        let columns = format!(
            "jti::text, left(created_by, 256), left(array_to_string(client_types, ','), 256), \
             environment::text, coalesce({}, 0), {}, coalesce({}, {}), {}",
            seconds("issued_at"),
            seconds("expires_at"),
            seconds(revoked_at),
            format_args!("CASE WHEN {revoked_at} IS NOT NULL THEN 0 END"),
            seconds("last_used"),
        );
        self.rows("token", &columns, "issued_at, jti", read_token).await.map(Some)
    }

    async fn rows<T>(
        &mut self,
        table: &'static str,
        columns: &str,
        order: &str,
        read: impl Fn(&SourceRow<'_>) -> Result<T, ImportError>,
    ) -> Result<Vec<T>, ImportError> {
        self.check_size(table, columns).await?;
        let statement =
            format!("SELECT {columns} FROM public.{table} ORDER BY {order} LIMIT {}", MAX_ROWS + 1);
        // Safe: the text consists of constants.
        let rows = sqlx::query(AssertSqlSafe(statement)).fetch_all(&mut *self.connection).await;
        let rows = rows.map_err(|error| {
            ImportError::Source(format!(
                "cannot read the table {table} of the source: {}\n  help: the server must be 18.1 \
                 or later, and the user of the address must be allowed to read the table",
                printable(&error.to_string())
            ))
        })?;
        if rows.len() > MAX_ROWS {
            return Err(ImportError::Source(format!(
                "the table {table} of the source has more than {MAX_ROWS} rows"
            )));
        }
        let rows = rows.iter().zip(1..).map(|(row, number)| SourceRow { table, number, row });
        rows.map(|row| read(&row)).collect()
    }

    /// Checks that the columns that are read of a table fit into memory.
    async fn check_size(&mut self, table: &str, columns: &str) -> Result<(), ImportError> {
        let statement = format!(
            "SELECT coalesce(sum(octet_length(read::text)), 0)::bigint \
             FROM (SELECT {columns} FROM public.{table} LIMIT {}) AS read",
            MAX_ROWS + 1
        );
        // Safe: the text consists of constants. Errors are those of the statement that follows.
        let size = sqlx::query_scalar::<_, i64>(AssertSqlSafe(statement));
        let size = size.fetch_one(&mut *self.connection).await.unwrap_or(0);
        if size > MAX_TABLE_BYTES {
            return Err(ImportError::Source(format!(
                "the table {table} of the source has {size} bytes, and at most {MAX_TABLE_BYTES} \
                 are imported\n  help: remove large icons and descriptions in the source"
            )));
        }
        Ok(())
    }
}

/// Maximum size of the columns that are read of a table, in bytes.
const MAX_TABLE_BYTES: i64 = 256 << 20;

/// A row of a source.
struct SourceRow<'r> {
    table: &'static str,
    /// Its number in the order of the statement.
    number: usize,
    row: &'r PgRow,
}

impl<'r> SourceRow<'r> {
    fn get<T: Decode<'r, Postgres> + Type<Postgres>>(
        &self,
        index: usize,
        column: &str,
    ) -> Result<T, ImportError> {
        self.row.try_get(index).map_err(|_| self.invalid(column))
    }

    /// Returns a text of limited length.
    fn text(&self, index: usize, column: &str) -> Result<String, ImportError> {
        let text: String = self.get(index, column)?;
        let is_short = text.chars().nth(MAX_TEXT_CHARS).is_none();
        is_short.then_some(text).ok_or_else(|| self.invalid(column))
    }

    /// Returns an id in its canonical form.
    fn uuid(&self, index: usize, column: &str) -> Result<String, ImportError> {
        let text: &str = self.get(index, column)?;
        Uuid::parse_str(text).map(|id| id.to_string()).map_err(|_| self.invalid(column))
    }

    fn time(&self, index: usize, column: &str) -> Result<Option<UnixTime>, ImportError> {
        Ok(self.get::<Option<i64>>(index, column)?.map(unix_time))
    }

    fn invalid(&self, column: &str) -> ImportError {
        let id = self.row.try_get::<&str, _>(0).ok().and_then(|id| Uuid::parse_str(id).ok());
        let row = id.map_or_else(|| format!("row {}", self.number), |id| format!("row {id}"));
        ImportError::Source(format!(
            "the column {column} of the table {} of the source is missing, invalid or too long in \
             {row}\n  help: correct or delete the row in the source, then repeat the import",
            self.table
        ))
    }
}

fn read_user(row: &SourceRow<'_>) -> Result<SourceUser, ImportError> {
    Ok(SourceUser {
        id: row.uuid(0, "id")?,
        username: row.get(1, "username")?,
        password_hash: row.get(2, "password_hash")?,
        auth_method: row.get(3, "auth_method")?,
        is_admin: row.get(4, "is_admin")?,
    })
}

fn read_name(row: &SourceRow<'_>) -> Result<SourceName, ImportError> {
    Ok(SourceName { id: row.uuid(0, "id")?, name: row.get(1, "name")? })
}

fn read_environment(row: &SourceRow<'_>) -> Result<SourceEnvironment, ImportError> {
    Ok(SourceEnvironment {
        id: row.uuid(0, "id")?,
        values: EnvironmentValues {
            name: row.get(1, "name")?,
            project: row.uuid(2, "project")?,
            repo_url: row.text(4, "repo_url")?,
            repo_branch: row.text(5, "repo_branch")?,
            description: row.text(6, "description")?,
            icon: row.text(7, "icon")?,
        },
        is_being_deleted: row.get(3, "is_marked_for_deletion")?,
    })
}

fn read_token(row: &SourceRow<'_>) -> Result<SourceToken, ImportError> {
    let environment: Option<&str> = row.get(3, "environment")?;
    Ok(SourceToken {
        jti: row.uuid(0, "jti")?,
        created_by: row.get(1, "created_by")?,
        client_types: row.get(2, "client_types")?,
        environment: environment.map(|_| row.uuid(3, "environment")).transpose()?,
        issued_at: row.time(4, "issued_at")?.unwrap_or(UnixTime(0)),
        expires_at: row.time(5, "expires_at")?,
        revoked_at: row.time(6, "revoked_at")?,
        last_used: row.time(7, "last_used")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn password_in_a_source_address_is_recognized() {
        for (address, has_password) in [
            ("postgres://inmanta@db.example/inmanta", false),
            ("postgresql://db.example:5433/inmanta?sslmode=require", false),
            ("postgres:///inmanta?host=/run/postgresql&user=inmanta", false),
            ("postgres://inmanta:secret@db.example/inmanta", true),
            ("postgres://inmanta:@db.example/inmanta", true),
            ("postgres://db.example/inmanta?user=a&pass%77ord=secret", true),
        ] {
            let parsed = SourceAddress::parse(address).unwrap();
            assert_eq!(parsed.has_password, has_password, "{address}");
            assert!(!format!("{parsed:?}").contains("secret"), "{parsed:?}");
        }
        for odd in ["", "inmanta", "inmanta:secret@db/x", "mysql://a:secret@db/x"] {
            assert!(!SourceAddress::parse(odd).unwrap_err().contains("secret"), "{odd}");
        }
        let misspelt = SourceAddress::parse("postgres://db/x?passwd=secret").unwrap_err();
        assert!(misspelt.contains("unknown parameter"), "{misspelt}");
    }
}
