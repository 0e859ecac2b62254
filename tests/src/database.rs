//! Statements on databases of the server, by programs other than the server.

use std::{path::Path, process::Command};

/// SQL that reverts the migrations after version 9.
pub const TO_VERSION_9: &str = "DROP TABLE countersign_signing_key;
    ALTER TABLE countersign_server DROP COLUMN verified_keys;
    DROP TABLE countersign_logout_token;
    DROP TABLE countersign_console_session;
    DROP TABLE countersign_identity_token;
    DROP TABLE countersign_client_secret;
    DROP TABLE countersign_universal_auth_method;
    DROP TABLE countersign_tls_certificate_method;
    DROP TABLE countersign_identity_method;
    DROP TABLE countersign_identity_project;
    DROP TABLE countersign_identity;
    DROP TABLE countersign_project_role;
    DROP TABLE countersign_organization_role;
    DROP TABLE countersign_organization;
    DROP TABLE countersign_import;
    ALTER TABLE countersign_user DROP COLUMN source_id;
    DROP TABLE countersign_project;
    ALTER TABLE countersign_environment DROP COLUMN repo_url;
    ALTER TABLE countersign_environment DROP COLUMN repo_branch;
    ALTER TABLE countersign_environment DROP COLUMN description;
    ALTER TABLE countersign_environment DROP COLUMN icon;
    ALTER TABLE countersign_audit DROP COLUMN project;
    DELETE FROM countersign_migration WHERE version > 9";

/// Makes a change in an SQLite file of a server whenever the server is about to make another one:
/// `event` is that of a trigger, such as `BEFORE INSERT ON countersign_client_secret`.
pub fn change_meanwhile(file: &Path, event: &str, change: &str) {
    let trigger = format!("CREATE TRIGGER meanwhile {event} BEGIN {change}; END");
    query_sqlite(file, &format!("DROP TRIGGER IF EXISTS meanwhile; {trigger}"));
}

/// Executes statements in an SQLite file, also those that create triggers. Returns the first value
/// that the last one selects, or nothing.
pub fn query_sqlite(file: &Path, statements: &str) -> String {
    const SCRIPT: &str = "import sqlite3, sys\n\
        connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n\
        row, statement = None, ''\n\
        for part in sys.argv[2].split(';'):\n\
        \x20   statement += part + ';'\n\
        \x20   if sqlite3.complete_statement(statement):\n\
        \x20       row, statement = connection.execute(statement).fetchone(), ''\n\
        print(row[0] if row else '')";
    let output = Command::new("python3").args(["-c", SCRIPT]).arg(file).arg(statements).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{statements}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
