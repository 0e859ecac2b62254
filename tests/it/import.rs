//! Import of the database of an Inmanta server. The source is a PostgreSQL database with the tables
//! of such a server.

/// Changes in the source and here between two imports.
mod later;
/// Sources and rows that cannot be imported.
mod refusals;

use countersign_tests::{
    binary::{Output, Sandbox, Server},
    eventually,
    http::Response,
    postgres::Postgres,
};
use serde_json::{Value, json};

use crate::{
    fixture::{self, claims},
    users::{Api, configuration, data},
};

/// The tables of inmanta-core 20.1.0, without what is not imported.
const SCHEMA: &str = "
    CREATE TYPE auth_method AS ENUM ('database', 'oidc');
    CREATE TABLE inmanta_user (id uuid PRIMARY KEY, username varchar NOT NULL UNIQUE,
        password_hash varchar NOT NULL, auth_method auth_method NOT NULL,
        is_admin boolean NOT NULL DEFAULT false);
    CREATE TABLE role (id uuid PRIMARY KEY, name varchar NOT NULL UNIQUE);
    CREATE TABLE project (id uuid PRIMARY KEY, name varchar NOT NULL UNIQUE);
    CREATE TABLE environment (id uuid PRIMARY KEY, name varchar NOT NULL,
        project uuid NOT NULL REFERENCES project ON DELETE CASCADE, repo_url varchar DEFAULT '',
        repo_branch varchar DEFAULT '', settings jsonb DEFAULT '{}', halted boolean DEFAULT false,
        description varchar(255) DEFAULT '', icon varchar(65535) DEFAULT '',
        is_marked_for_deletion boolean DEFAULT false, UNIQUE (project, name));
    CREATE TABLE role_assignment (user_id uuid REFERENCES inmanta_user ON DELETE CASCADE,
        environment uuid REFERENCES environment ON DELETE CASCADE,
        role_id uuid REFERENCES role ON DELETE RESTRICT,
        PRIMARY KEY (user_id, environment, role_id));";
/// The registry of tokens, which inmanta-core has since 18.2.
const REGISTRY: &str = "
    CREATE TABLE token (jti uuid PRIMARY KEY, created_by varchar,
        client_types varchar[] NOT NULL DEFAULT ARRAY[]::varchar[],
        environment uuid REFERENCES environment ON DELETE CASCADE,
        issued_at timestamp with time zone NOT NULL, expires_at timestamp with time zone,
        last_used timestamp with time zone, revoked_at timestamp with time zone);";
/// Users, roles and environments. The hash is one of libsodium, of [`PASSWORD`].
const ROWS: &str = "
    INSERT INTO inmanta_user (id, username, password_hash, auth_method, is_admin) VALUES
        ('aaaaaaaa-0000-4000-8000-000000000001', 'alice', 'HASH', 'database', true),
        ('aaaaaaaa-0000-4000-8000-000000000002', 'bob', 'HASH', 'database', false),
        ('aaaaaaaa-0000-4000-8000-000000000003', 'carol', '', 'oidc', false);
    INSERT INTO role VALUES ('bbbbbbbb-0000-4000-8000-000000000001', 'noc'),
        ('bbbbbbbb-0000-4000-8000-000000000002', 'operator');
    INSERT INTO project VALUES ('cccccccc-0000-4000-8000-000000000001', 'network');
    INSERT INTO environment (id, name, project, repo_url) VALUES
        ('dddddddd-0000-4000-8000-000000000001', 'prod', 'cccccccc-0000-4000-8000-000000000001',
         'https://git.example/prod');
    INSERT INTO role_assignment VALUES ('aaaaaaaa-0000-4000-8000-000000000002',
        'dddddddd-0000-4000-8000-000000000001', 'bbbbbbbb-0000-4000-8000-000000000001');";
const PASSWORD: &str = "Correct-Horse-9";
const HASH: &str = "$argon2id$v=19$m=65536,t=2,p=1$TXC5IGnVLxG163wmkUekLw$iHFZWQHF6oUpTPVMCnIaLN1WvAJQIePqVvhQgmCn+fo";
const PROD: &str = "dddddddd-0000-4000-8000-000000000001";
/// Ids of registered tokens.
const VALID: &str = "eeeeeeee-0000-4000-8000-000000000001";
const REVOKED: &str = "eeeeeeee-0000-4000-8000-000000000002";

/// Returns a source with [`ROWS`] and two tokens.
fn source() -> Postgres {
    let postgres = Postgres::start();
    postgres.query(&format!("{SCHEMA}{REGISTRY}{}", ROWS.replace("HASH", HASH)));
    postgres.query(&format!(
        "INSERT INTO token (jti, created_by, client_types, environment, issued_at, revoked_at)
         VALUES ('{VALID}', 'alice', '{{api,agent}}', '{PROD}', '2026-01-31 12:00+00', NULL),
                ('{REVOKED}', NULL, '{{api}}', '{PROD}', now(), now())"
    ));
    postgres
}

/// Imports a source into the database of `c.cfg`, with these further arguments.
fn import(sandbox: &Sandbox, source: &Postgres, arguments: &[&str]) -> Output {
    let file = sandbox.file("source.txt", format!("{}\n", source.url()));
    let command = ["import", "inmanta", "-c", "c.cfg", "--from-file", file.to_str().unwrap()];
    sandbox.run(command.iter().chain(arguments))
}

/// Returns the numbers of a kind in a report: new, unchanged, changed and skipped.
#[track_caller]
fn counts(report: &Output, kind: &str) -> [u64; 4] {
    let line = report.text().lines().find_map(|line| line.strip_prefix(kind)).unwrap();
    let counts: Vec<_> = line.split_whitespace().map(|count| count.parse().unwrap()).collect();
    counts.try_into().unwrap()
}

/// Returns a registered token, as the source has signed it.
fn registered_token(jti: &str) -> String {
    fixture::token(&claims(json!({
        "sub": null, "jti": jti, "urn:inmanta:ct": "api", "urn:inmanta:env": PROD,
    })))
}

fn use_token(server: &Server<'_>, jti: &str) -> Response {
    Api::bearing(server, &registered_token(jti)).within(PROD).ask("GET /environment_auth")
}

fn user(server: &Server<'_>, name: &str) -> Option<Value> {
    let users = data(&Api::root(server).ask("GET /user"));
    users.as_array().unwrap().iter().find(|user| user["username"] == name).cloned()
}

#[test]
fn imported_users_and_tokens_work_in_sqlite() {
    check_first_import(&source(), "");
}

#[test]
fn imported_users_and_tokens_work_in_postgres() {
    // The tables of the two servers can be in one database.
    let source = source();
    let options = format!("[database]\nurl={}\n", source.url());
    check_first_import(&source, &options);
}

fn check_first_import(source: &Postgres, options: &str) {
    let sandbox = Sandbox::new();
    let text = configuration(options);
    sandbox.file("c.cfg", &text);
    let preview = import(&sandbox, source, &["--dry-run"]);
    assert!(preview.text().ends_with("Nothing was changed (--dry-run)."), "{preview:?}");
    assert_eq!(source.query("SELECT to_regclass('countersign_user')"), "");
    assert!(!sandbox.path().join(".local/state/countersign/countersign.db").exists());
    let imported = import(&sandbox, source, &[]);
    for (kind, new) in [
        ("users", 3),
        ("roles", 2),
        ("projects", 1),
        ("environments", 1),
        ("role assignments", 1),
        ("tokens", 2),
    ] {
        assert_eq!(counts(&imported, kind), [new, 0, 0, 0], "{imported:?}");
        assert_eq!(counts(&preview, kind), [new, 0, 0, 0], "{preview:?}");
    }
    assert!(imported.text().ends_with("tokens revoked as in the source: 1"), "{imported:?}");
    assert!(!format!("{imported:?}").contains("argon2"), "no hash in the report");

    let server = sandbox.serve(&text);
    // Refused from the first request on, where the registry is not consulted either.
    assert_eq!(server.auth(&registered_token(REVOKED)).status, 401);
    assert_eq!(use_token(&server, REVOKED).status, 403);
    assert_eq!(server.auth(&registered_token(VALID)).status, 200);
    let tokens = data(&use_token(&server, VALID));
    let valid = tokens.as_array().unwrap().iter().find(|token| token["jti"] == VALID).unwrap();
    assert_eq!(valid["client_types"], json!(["api", "agent"]));
    assert_eq!(valid["created_by"], "alice");
    assert!(valid["issued_at"].as_str().unwrap().starts_with("2026-01-31T12:00:00"), "{valid}");

    let login = data(&Api::anonymous(&server).log_in("alice", PASSWORD));
    assert_eq!(login["user"]["is_admin"], true);
    let login = data(&Api::anonymous(&server).log_in("bob", PASSWORD));
    let claims = crate::users::claims(login["token"].as_str().unwrap());
    assert_eq!(claims["urn:inmanta:roles"], json!({ PROD: ["noc"] }));
    assert_eq!(Api::anonymous(&server).log_in("bob", "Correct-Horse-8").status, 401);
    assert_eq!(user(&server, "carol").unwrap()["auth_method"], "oidc");
    let environment = data(&Api::root(&server).ask(&format!("GET /environment/{PROD}")));
    assert_eq!(environment["name"], "prod");
    assert_eq!(environment["project_id"], "cccccccc-0000-4000-8000-000000000001");

    // Beside both running servers, and idempotent.
    let again = import(&sandbox, source, &[]);
    for (kind, unchanged) in [("users", 3), ("environments", 1), ("tokens", 2)] {
        assert_eq!(counts(&again, kind), [0, unchanged, 0, 0], "{again:?}");
    }
    source.query(&format!("UPDATE token SET revoked_at = now() WHERE jti = '{VALID}'"));
    let revoked = import(&sandbox, source, &[]);
    assert_eq!(counts(&revoked, "tokens"), [0, 1, 1, 0], "{revoked:?}");
    eventually(|| server.auth(&registered_token(VALID)).status == 401);
    assert_eq!(use_token(&server, VALID).status, 403);
    let audit = sandbox.run(["audit", "-c", "c.cfg", "--operation", "database.import"]);
    assert!(audit.text().contains("1 changed, 0 skipped"), "{audit:?}");
}

#[test]
fn source_without_token_registry_is_imported() {
    let (sandbox, source) = (Sandbox::new(), Postgres::start());
    source.query(&format!("{SCHEMA}{}", ROWS.replace("HASH", HASH)));
    sandbox.file("c.cfg", configuration(""));
    let imported = import(&sandbox, &source, &[]);
    assert!(imported.text().starts_with("The source has no registry of tokens"), "{imported:?}");
    assert_eq!(counts(&imported, "users"), [3, 0, 0, 0]);
    assert_eq!(counts(&imported, "tokens"), [0; 4]);
}
