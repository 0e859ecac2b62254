//! `[database]`: the database of users, roles and tokens.

use std::{borrow::Cow, collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::{
    base::redacted::shown,
    config::{problem::Problems, reader::SectionReader, setting::Section},
};

const SECTION: &str = "database";

/// Connection settings of the database of users, roles and tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Database {
    /// Location of the database.
    pub location: DatabaseLocation,
    /// URL of a direct connection, for a `url` that goes through a transaction pooler.
    /// `LISTEN` for notices of other nodes and schema migrations need a session. The
    /// pooler must support prepared statements, as PgBouncer does since 1.21 with
    /// `max_prepared_statements` above 0.
    pub listen_url: Option<DatabaseUrl>,
    /// Maximum number of connections.
    pub connections: u32,
    /// Timeout for obtaining a connection.
    pub connection_timeout: Duration,
    /// Whether the server may migrate the schema when it starts.
    pub migrates: bool,
    /// Whether the configuration has a `[database]` section with options.
    pub is_configured: bool,
}

/// Location of the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseLocation {
    /// An SQLite file in the state directory.
    StateDirectory,
    /// This SQLite file.
    Sqlite(PathBuf),
    /// A PostgreSQL server.
    Postgres {
        /// The connection URL.
        url: DatabaseUrl,
        /// Database, host and port for messages, without credentials.
        redacted: String,
    },
}

/// URL that may contain a password. Its [`Debug`](fmt::Debug) output hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// Parses the URL of a PostgreSQL database. Returns it with the database, host and port for
    /// messages.
    pub(crate) fn postgres(url: &str) -> Option<(Self, String)> {
        let is_plain = is_postgres(url) && has_plain_authority(url);
        is_plain.then(|| (Self(url.into()), redacted(url)))
    }

    /// Returns the URL with its password.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DatabaseUrl(..)")
    }
}

impl Database {
    pub(crate) fn read(sections: &BTreeMap<String, Section>, problems: &mut Problems) -> Self {
        let is_configured =
            sections.get(SECTION).is_some_and(|section| !section.settings.is_empty());
        let reader = &mut SectionReader::new(sections, SECTION, problems);
        Self {
            location: read_location(reader),
            listen_url: read_listen_url(reader),
            connections: reader.number("connection_pool_max_size"),
            connection_timeout: reader.seconds("connection_timeout"),
            migrates: reader.flag("migrate"),
            is_configured,
        }
    }
}

/// Reads `url`, or Inmanta's five options for PostgreSQL, or neither.
fn read_location(reader: &mut SectionReader<'_>) -> DatabaseLocation {
    let parts = ["host", "port", "name", "username", "password"];
    let given = parts.into_iter().find(|part| reader.text(part).is_some());
    let port: u16 = reader.number("port");
    match (reader.text("url"), given) {
        (None, None) => DatabaseLocation::StateDirectory,
        (None, Some(_)) => {
            if reader
                .text("host")
                .is_some_and(|host| host.contains(['@', '/']) && !host.starts_with('/'))
            {
                let problem = format!("host in {SECTION} is not the name or address of a host");
                reader.error("host", problem, "set url to a URL, and remove the other options");
            }
            let text = |option| reader.text_or_default(option);
            let escaped = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
            let (host, name) = (text("host"), text("name"));
            let (username, password) = (escaped(text("username")), escaped(text("password")));
            // A host that is a path is the directory of a Unix socket.
            let url = if host.starts_with('/') {
                format!(
                    "postgres://{username}:{password}@localhost:{port}/{}?host={}",
                    escaped(name),
                    escaped(host)
                )
            } else {
                format!(
                    "postgres://{username}:{password}@{}:{port}/{}",
                    bracketed(host),
                    escaped(name)
                )
            };
            DatabaseLocation::Postgres {
                url: DatabaseUrl(url),
                redacted: format!("{} ({}:{port})", shown(name), shown(host)),
            }
        }
        (Some(_), Some(part)) => {
            reader.error(
                part,
                format!("url and {part} in {SECTION} both set the location of the database"),
                "remove one of the two forms",
            );
            DatabaseLocation::StateDirectory
        }
        (Some(url), None) => read_url(reader, url),
    }
}

/// Puts an IPv6 address in brackets for a URL (RFC 3986 section 3.2.2).
fn bracketed(host: &str) -> Cow<'_, str> {
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]").into()
    } else {
        host.into()
    }
}

fn read_url(reader: &mut SectionReader<'_>, url: &str) -> DatabaseLocation {
    if let Some(path) = url.strip_prefix("sqlite:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        let decoded = percent_decode_str(path).decode_utf8().unwrap_or_default();
        if !decoded.is_empty() {
            return DatabaseLocation::Sqlite(PathBuf::from(&*decoded));
        }
    }
    if let Some((url, redacted)) = DatabaseUrl::postgres(url) {
        return DatabaseLocation::Postgres { url, redacted };
    }
    // The message does not contain the URL, which may contain a password.
    reader.error(
        "url",
        "url in database is not the URL of an SQLite or PostgreSQL database",
        "write sqlite:/path/to/file or postgres://user@host/name, with other characters than \
         letters and digits in user and password percent-encoded",
    );
    DatabaseLocation::StateDirectory
}

fn read_listen_url(reader: &mut SectionReader<'_>) -> Option<DatabaseUrl> {
    let url = reader.given("listen_url")?;
    if !is_postgres(url) {
        reader.error(
            "listen_url",
            "listen_url in database is not a PostgreSQL URL",
            "write postgres://user@host/name",
        );
    }
    Some(DatabaseUrl(url.into()))
}

fn is_postgres(url: &str) -> bool {
    url.starts_with("postgres://") || url.starts_with("postgresql://")
}

/// Whether the authority of a URL ends where its path begins: a password with a plain `/`,
/// `#` or `?` would end it early, and be shown as the name of the database.
fn has_plain_authority(url: &str) -> bool {
    let behind = url.split_once("://").map_or("", |(_, rest)| rest);
    let authority = behind.split(['/', '?', '#']).next().unwrap_or_default();
    let rest = behind.get(authority.len()..).unwrap_or_default();
    !rest.contains('@') && !url.contains(char::is_whitespace)
}

/// Returns database, host and port of a URL, without its credentials.
fn redacted(url: &str) -> String {
    let behind = url.split_once("://").map_or("", |(_, rest)| rest);
    let behind = behind.split(['?', '#']).next().unwrap_or_default();
    let (place, name) = behind.split_once('/').unwrap_or((behind, ""));
    let host = place.rsplit('@').next().unwrap_or_default();
    format!("{name} ({host})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::setting::Setting;

    fn read(options: &[(&str, &str)]) -> (Database, Vec<String>) {
        let setting = |text: &str| Setting { text: text.into(), place: "f:1".into() };
        let settings =
            options.iter().map(|(name, text)| ((*name).to_owned(), setting(text))).collect();
        let sections = [(SECTION.to_owned(), Section { settings, ..Section::default() })].into();
        let mut problems = Problems::default();
        let database = Database::read(&sections, &mut problems);
        (database, problems.0.iter().map(ToString::to_string).collect())
    }

    fn postgres(options: &[(&str, &str)]) -> (String, String) {
        match read(options).0.location {
            DatabaseLocation::Postgres { url, redacted } => (url.expose().into(), redacted),
            place => panic!("{place:?}"),
        }
    }

    #[test]
    fn inmanta_database_options_make_a_postgresql_url() {
        let (url, redacted) =
            postgres(&[("host", "db"), ("password", "p@ss/w?rd"), ("name", "inmanta")]);
        assert_eq!(url, "postgres://postgres:p%40ss%2Fw%3Frd@db:5432/inmanta");
        assert_eq!(redacted, "inmanta (db:5432)");
        assert!(postgres(&[("host", "::1")]).0.contains("@[::1]:5432/"));
        assert!(
            postgres(&[("host", "/run/pg"), ("port", "5433")])
                .0
                .ends_with("@localhost:5433/inmanta?host=%2Frun%2Fpg")
        );
    }

    #[test]
    fn database_url_never_shows_its_password() {
        assert_eq!(postgres(&[("url", "postgres://u:secret@h:1/d?sslmode=require")]).1, "d (h:1)");
        assert!(
            matches!(read(&[("url", "sqlite:/a%20b.db")]).0.location, DatabaseLocation::Sqlite(path) if path == *"/a b.db")
        );
        assert!(matches!(read(&[]).0.location, DatabaseLocation::StateDirectory));
        let (database, problems) =
            read(&[("url", "mysql://u:secret@h/d"), ("listen_url", "x://u:secret@h")]);
        assert_eq!(problems.len(), 2);
        for odd in ["u:secret/a@h/d", "u:secret#a@h/d", "u:secret?a@h/d", "u:sec ret@h/d"] {
            let (database, problems) = read(&[("url", &format!("postgres://{odd}"))]);
            assert_eq!(problems.len(), 1, "{odd}");
            assert!(!format!("{database:?}{problems:?}").contains("sec"), "{odd}");
        }
        assert!(!format!("{database:?}{problems:?}").contains("secret"));
        assert_eq!(read(&[("url", "sqlite:/a"), ("host", "b")]).1.len(), 1);
    }
}
