use countersign_tests::{binary::Sandbox, postgres::Postgres};

use super::{HASH, PROD, SCHEMA, counts, import, source};
use crate::{
    fixture::SIGNING,
    users::{Api, configuration},
};

#[test]
fn objects_that_cannot_move_are_reported() {
    let (sandbox, source) = (Sandbox::new(), source());
    let text = configuration("");
    sandbox.file("c.cfg", &text);
    {
        let server = sandbox.serve(&text);
        Api::root(&server).add_user("alice");
    }
    let long = "r".repeat(256);
    source.query(&format!(
        "INSERT INTO inmanta_user VALUES
             (gen_random_uuid(), 'scrypt', '$7$C6..../....secret', 'database', false),
             (gen_random_uuid(), '..', '{HASH}', 'database', false),
             (gen_random_uuid(), '{}', '{HASH}', 'database', false);
         INSERT INTO role VALUES (gen_random_uuid(), '{long}');
         INSERT INTO project VALUES (gen_random_uuid(), '');
         INSERT INTO environment (id, name, project, is_marked_for_deletion)
             SELECT '{}', 'ending', id, true FROM project WHERE name <> '';
         INSERT INTO token (jti, environment, issued_at, expires_at) VALUES
             (gen_random_uuid(), '{PROD}', now(), now() - interval '31 days'),
             (gen_random_uuid(), '{}', now(), NULL)",
        "\u{1b}[2Jeve",
        PROD.replace('1', "2"),
        PROD.replace('1', "2"),
    ));
    let imported = import(&sandbox, &source, &[]);
    assert_eq!(counts(&imported, "users"), [3, 0, 0, 3], "{imported:?}");
    assert_eq!(counts(&imported, "roles"), [2, 0, 0, 1], "{imported:?}");
    assert_eq!(counts(&imported, "environments"), [1, 0, 0, 1], "{imported:?}");
    assert_eq!(counts(&imported, "tokens"), [2, 0, 0, 2], "{imported:?}");
    for note in [
        "users: alice: skipped, because another user has this name here",
        "users: ..: skipped, because a user cannot have the name . or ..",
        "users: scrypt: skipped, because the password hash has an unknown form",
        "roles: rrr",
        "projects: (no name): skipped, because its name is empty",
        "255 characters",
        "environments: ending: skipped, because the source is deleting it",
        "skipped, because they expired before token_retention",
        "skipped, because their environment is not here",
    ] {
        assert!(imported.text().contains(note), "{note}: {imported:?}");
    }
    assert!(!imported.text().contains(['\u{1b}', '$']), "{imported:?}");
}

#[test]
fn invalid_row_of_the_source_is_named() {
    let (sandbox, source) = (Sandbox::new(), source());
    sandbox.file("c.cfg", configuration(""));
    source.query(
        "ALTER TABLE inmanta_user ALTER COLUMN is_admin DROP NOT NULL;
         UPDATE inmanta_user SET is_admin = NULL WHERE username = 'bob'",
    );
    let failed = import(&sandbox, &source, &[]);
    assert_eq!(failed.code(), 1);
    let expected = "the column is_admin of the table inmanta_user of the source is missing, \
                    invalid or too long in row aaaaaaaa-0000-4000-8000-000000000002";
    assert!(failed.stderr.contains(expected), "{failed:?}");
    assert!(!format!("{failed:?}").contains("argon2"), "{failed:?}");
    assert!(
        !sandbox.path().join(".local/state/countersign/countersign.db").exists(),
        "nothing is written"
    );
    source.query("ALTER TABLE inmanta_user DROP COLUMN is_admin");
    let failed = import(&sandbox, &source, &[]);
    assert!(
        failed.code() == 1
            && failed.stderr.contains("cannot read the table inmanta_user of the source")
            && failed.stderr.contains("must be 18.1 or later"),
        "{failed:?}"
    );
}

#[test]
fn failed_import_changes_nothing() {
    let source = source();
    let options = format!("[database]\nurl={}\n", source.url());
    let sandbox = Sandbox::new();
    sandbox.file("c.cfg", configuration(&options));
    sandbox.run(["database", "migrate", "-c", "c.cfg"]).text();
    // The last table that is written.
    source.query("ALTER TABLE countersign_import ADD CONSTRAINT none CHECK (kind = '')");
    let failed = import(&sandbox, &source, &[]);
    assert_eq!(failed.code(), 1, "{failed:?}");
    let rows = "SELECT (SELECT count(*) FROM countersign_user) + \
                (SELECT count(*) FROM countersign_token) + \
                (SELECT count(*) FROM countersign_revocation)";
    assert_eq!(source.query(rows), "0");
    source.query("ALTER TABLE countersign_import DROP CONSTRAINT none");
    import(&sandbox, &source, &[]).text();
    assert_eq!(source.query(rows), "6");
    // A capacity below the number of revocations.
    sandbox.file("c.cfg", configuration(&format!("{options}[revocation]\ncapacity=1\n")));
    source.query("UPDATE token SET revoked_at = now()");
    let full = import(&sandbox, &source, &[]);
    assert!(full.code() == 1 && full.stderr.contains("raise capacity in [revocation]"), "{full:?}");
    assert_eq!(source.query(rows), "6");
}

#[test]
fn address_with_a_password_is_no_argument() {
    let sandbox = Sandbox::new();
    sandbox.file("c.cfg", configuration(""));
    let run = |arguments: &[&str]| {
        sandbox.run(["import", "inmanta", "-c", "c.cfg"].iter().chain(arguments))
    };
    for address in [
        "postgres://inmanta:hunter2@db.example/inmanta",
        "postgres://db.example/inmanta?user=inmanta&password=hunter2",
        "postgres://db.example/inmanta?user=inmanta&pass%77ord=hunter2",
        "postgres://db.example/inmanta?passwd=hunter2",
        "hunter2",
    ] {
        let refused = run(&["--from", address, "--dry-run"]);
        let remedy = if address.contains("word=") || address.contains('@') {
            "--from-file, or set PGPASSWORD"
        } else {
            "the address "
        };
        assert!(refused.code() == 2 && refused.stderr.contains(remedy), "{refused:?}");
        assert!(!format!("{refused:?}").contains("hunter2"), "{refused:?}");
    }
    let missing = run(&[]);
    assert!(
        missing.code() == 1 && missing.stderr.contains("COUNTERSIGN_IMPORT_FROM"),
        "{missing:?}"
    );
    for (text, reason) in [
        ("hunter2", "source.txt: the address is not the URL of a PostgreSQL database"),
        ("postgres://a@127.0.0.1:1/x?passwrd=hunter2", "unknown parameter"),
        ("postgres://a:hunter2@127.0.0.1:1/x", "cannot connect to x (127.0.0.1:1): "),
    ] {
        let file = sandbox.file("source.txt", text);
        let refused = run(&["--from-file", file.to_str().unwrap()]);
        assert!(refused.code() == 1 && refused.stderr.contains(reason), "{reason}: {refused:?}");
        assert!(!format!("{refused:?}").contains("hunter2"), "{refused:?}");
    }
}

#[test]
fn source_must_be_an_inmanta_database() {
    let postgres = Postgres::start();
    let sandbox = Sandbox::new().variable("COUNTERSIGN_IMPORT_FROM", &postgres.url());
    sandbox.file("c.cfg", configuration(""));
    let run = || sandbox.run(["import", "inmanta", "-c", "c.cfg"]);
    let refused = run();
    let text = "is not the database of an Inmanta server: it has no table inmanta_user";
    assert!(refused.code() == 1 && refused.stderr.contains(text), "{refused:?}");
    postgres.query(SCHEMA);
    assert_eq!(counts(&run(), "users"), [0; 4]);
    // Tokens need the section that signed them.
    postgres.query(super::REGISTRY);
    postgres.query("INSERT INTO token (jti, issued_at) VALUES (gen_random_uuid(), now())");
    sandbox.file("c.cfg", SIGNING.replace("sign=true", "sign=false"));
    let refused = run();
    assert!(refused.code() != 0, "{refused:?}");
}
