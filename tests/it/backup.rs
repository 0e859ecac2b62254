//! Databases at rest and in copies: stop, backup, restore.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
};

use countersign_tests::{
    binary::{Output, Sandbox, Server},
    database::{TO_VERSION_9, query_sqlite},
    eventually, http,
    postgres::Postgres,
};

use crate::users::{Api, ENVIRONMENT, configuration, data, session_of};

const FILES: [&str; 2] = ["countersign.db", "revocations"];

pub(crate) fn state(sandbox: &Sandbox) -> PathBuf {
    sandbox.path().join(".local/state/countersign")
}

/// Adds a user and a revoked token. Returns that token.
pub(crate) fn fill(server: &Server<'_>, user: &str) -> String {
    let root = Api::root(server);
    root.add_user(user);
    root.add_environment(ENVIRONMENT);
    revoked_token(server)
}

pub(crate) fn revoked_token(server: &Server<'_>) -> String {
    let root = Api::root(server);
    let token = root.issue(ENVIRONMENT);
    let jti = crate::users::claims(&token)["jti"].as_str().unwrap().to_owned();
    assert_eq!(
        root.within(ENVIRONMENT).ask(&format!("DELETE /environment_auth/{jti}")).status,
        200
    );
    assert_eq!(server.auth(&token).status, 401);
    token
}

fn usernames(server: &Server<'_>) -> Vec<String> {
    let users = data(&Api::root(server).ask("GET /user"));
    let users = users.as_array().unwrap().iter();
    users.map(|user| user["username"].as_str().unwrap().to_owned()).collect()
}

fn assert_merged(sandbox: &Sandbox) {
    for file in FILES {
        let log = state(sandbox).join(format!("{file}-wal"));
        assert!(!log.exists(), "{}", log.display());
    }
}

#[test]
fn database_file_alone_is_complete_after_a_stop() {
    let (sandbox, copy) = (Sandbox::new(), Sandbox::new());
    let revoked = {
        let server = sandbox.serve(&configuration(""));
        let revoked = fill(&server, "bob");
        assert!(server.stop("TERM").0.success());
        revoked
    };
    assert_merged(&sandbox);
    fs::create_dir_all(state(&copy)).unwrap();
    for file in FILES {
        fs::copy(state(&sandbox).join(file), state(&copy).join(file)).unwrap();
    }
    let server = copy.serve(&configuration(""));
    assert_eq!(usernames(&server), ["bob"]);
    assert_eq!(server.auth(&revoked).status, 401);
    assert_eq!(server.auth(&session_of("bob", false)).status, 200);
}

#[test]
fn database_is_complete_after_every_end() {
    let sandbox = Sandbox::new();
    {
        // Two servers: the last one that ends merges the log.
        let [one, other] = [(), ()].map(|()| sandbox.serve(&configuration("")));
        fill(&one, "bob");
        let mut idle = http::Connection::open(other.address);
        idle.send("GET /auth HTTP/1.1\r\n", b"");
        assert!(one.stop("TERM").0.success());
        assert_eq!(usernames(&other), ["bob"]);
        other.signal("TERM");
        other.stop("TERM");
        assert_merged(&sandbox);
    }
    // Commands without a server.
    let config = sandbox.file("c.cfg", configuration(""));
    let run = |arguments: &[&str]| {
        let config = ["--config", config.to_str().unwrap()];
        sandbox.run(arguments.iter().copied().chain(config))
    };
    let issuer = crate::fixture::ISSUER;
    for arguments in
        [&["token", "revoke", "--issuer", issuer, "--jti", "x"][..], &["audit"], &["doctor"]]
    {
        run(arguments);
        assert_merged(&sandbox);
    }
    // A server that cannot start.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!("[server]\nbind_port={}\n", taken.local_addr().unwrap().port());
    let failed = sandbox.run(
        ["--config", sandbox.file("d.cfg", port).to_str().unwrap()]
            .iter()
            .copied()
            .chain(["--config", config.to_str().unwrap()]),
    );
    assert!(failed.stderr.contains("cannot listen on"), "{failed:?}");
    assert_merged(&sandbox);
}

/// A kind of database, and the configuration of a server that uses it.
pub(crate) struct DatabaseSandbox {
    pub(crate) sandbox: Sandbox,
    pub(crate) postgres: Option<Postgres>,
    /// The section `[database]`, if any.
    pub(crate) database: String,
}

impl DatabaseSandbox {
    pub(crate) fn sqlite() -> Self {
        Self { sandbox: Sandbox::new(), postgres: None, database: String::new() }
    }

    pub(crate) fn postgresql() -> Self {
        let postgres = Postgres::start();
        let database = format!("[database]\nurl={}\n", postgres.url());
        Self { sandbox: Sandbox::new(), postgres: Some(postgres), database }
    }

    /// Returns another node of the same database.
    pub(crate) fn node(&self) -> Self {
        Self { sandbox: Sandbox::new(), postgres: None, database: self.database.clone() }
    }

    pub(crate) fn configuration(&self) -> String {
        configuration(&self.database)
    }

    pub(crate) fn serve(&self) -> Server<'_> {
        self.sandbox.serve(&self.configuration())
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let config = self.sandbox.file("command.cfg", self.configuration());
        self.sandbox.run(arguments.iter().copied().chain(["--config", config.to_str().unwrap()]))
    }

    pub(crate) fn back_up(&self) -> PathBuf {
        let file = self.sandbox.path().join("backup.db");
        let made = self.run(&["database", "backup", file.to_str().unwrap()]);
        assert!(made.text().starts_with("wrote "), "{made:?}");
        file
    }
}

fn check_round_trip(from: &DatabaseSandbox, to: &DatabaseSandbox) {
    let server = from.serve();
    let revoked = fill(&server, "bob");
    Api::root(&server).add_user("carol");
    let file = from.back_up();
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    Api::root(&server).add_user("dave");
    server.stop("TERM");

    let restored = to.run(&["database", "restore", file.to_str().unwrap()]);
    assert!(
        restored.text().starts_with("restored 2 users and 1 revocations into "),
        "{restored:?}"
    );
    let server = to.serve();
    assert_eq!(usernames(&server), ["bob", "carol"]);
    assert_eq!(server.auth(&revoked).status, 401);
    let root = Api::root(&server);
    assert_eq!(Api::anonymous(&server).log_in("bob", crate::users::PASSWORD).status, 200);
    let tokens = data(&root.within(ENVIRONMENT).ask("GET /environment_auth"));
    assert_eq!(tokens.as_array().unwrap().len(), 1);
    // Numbers and ids continue after those of the backup.
    revoked_token(&server);
    let audited = to.run(&["audit", "--json"]).json_lines();
    let operations: Vec<_> = audited.iter().map(|event| event["operation"].clone()).collect();
    for operation in ["user.add", "database.restore", "token.revoke"] {
        assert!(operations.contains(&operation.into()), "{operation}: {operations:?}");
    }
    let audited = from.run(&["audit", "--json"]).json_lines();
    assert!(audited.iter().any(|event| event["operation"] == "database.backup"), "{audited:?}");
}

#[test]
fn backup_of_sqlite_is_restored_into_sqlite() {
    check_round_trip(&DatabaseSandbox::sqlite(), &DatabaseSandbox::sqlite());
}

#[test]
fn backup_of_sqlite_is_restored_into_postgresql() {
    check_round_trip(&DatabaseSandbox::sqlite(), &DatabaseSandbox::postgresql());
}

#[test]
fn backup_of_postgresql_is_restored_into_postgresql() {
    check_round_trip(&DatabaseSandbox::postgresql(), &DatabaseSandbox::postgresql());
}

#[test]
fn backup_of_postgresql_is_restored_into_sqlite() {
    check_round_trip(&DatabaseSandbox::postgresql(), &DatabaseSandbox::sqlite());
}

struct StopOnDrop<'f>(&'f AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The writer adds a role, then issues and revokes a token, and so on. One moment has as many
/// revocations as roles, or one less.
fn check_one_moment(place: &DatabaseSandbox) {
    let server = place.serve();
    Api::root(&server).add_environment(ENVIRONMENT);
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let root = Api::root(&server);
            for number in 0.. {
                if is_done.load(Ordering::Relaxed) {
                    return;
                }
                // Names of roles need no password hash, which is slow.
                let role = serde_json::json!({ "name": format!("role-{number}") });
                assert_eq!(root.send("POST /role", role).status, 200);
                revoked_token(&server);
            }
        });
        // Also when an assertion fails.
        let _done = StopOnDrop(&is_done);
        for round in 0..5 {
            let file = place.sandbox.path().join(format!("{round}.db"));
            let made = place.run(&["database", "backup", file.to_str().unwrap()]);
            assert!(made.status.success(), "{made:?}");
            let count = |table: &str| {
                query_sqlite(&file, &format!("SELECT count(*) FROM {table}"))
                    .parse::<u64>()
                    .unwrap()
            };
            let (roles, revoked) = (count("countersign_role"), count("countersign_revocation"));
            assert!(roles == revoked || roles == revoked + 1, "{roles} {revoked}");
            let tokens = count("countersign_token");
            assert!(tokens == revoked || tokens == revoked + 1, "{tokens} {revoked}");
        }
    });
}

#[test]
fn backup_under_load_is_of_one_moment_on_sqlite() {
    check_one_moment(&DatabaseSandbox::sqlite());
}

#[test]
fn backup_under_load_is_of_one_moment_on_postgresql() {
    check_one_moment(&DatabaseSandbox::postgresql());
}

#[track_caller]
fn assert_refused(output: &Output, reason: &str) {
    assert_eq!(output.code(), 1, "{output:?}");
    assert!(output.stderr.contains(reason), "{reason}: {output:?}");
}

#[test]
fn restore_refuses_what_it_must_not_replace() {
    for place in [DatabaseSandbox::sqlite(), DatabaseSandbox::postgresql()] {
        let missing = place.run(&["database", "backup", "none.db"]);
        assert_refused(&missing, "does not exist, or is empty");
        let server = place.serve();
        let first = fill(&server, "bob");
        let file = place.back_up();
        let file = file.to_str().unwrap();
        assert_refused(&place.run(&["database", "backup", file]), "exists\n  help: name another");
        assert!(place.run(&["database", "backup", file, "--force"]).status.success());
        let second = revoked_token(&server);
        Api::root(&server).add_user("carol");
        let in_use = place.run(&["database", "restore", file, "--force"]);
        assert_refused(&in_use, if place.postgres.is_some() { "servers use" } else { "uses" });
        server.stop("TERM");
        assert_refused(&place.run(&["database", "restore", file]), "is not empty: countersign_");
        let restored = place.run(&["database", "restore", file, "--force"]);
        assert!(restored.text().starts_with("restored 1 users and 2 revocations"), "{restored:?}");
        let server = place.serve();
        assert_eq!(usernames(&server), ["bob"]);
        let statuses = [&first, &second].map(|token| server.auth(token).status);
        assert_eq!(statuses, [401, 401], "what was revoked stays revoked");
    }
}

#[test]
fn restored_numbers_end_with_the_newest_row() {
    let place = DatabaseSandbox::sqlite();
    let server = place.serve();
    fill(&server, "bob");
    let file = place.back_up();
    server.stop("TERM");
    let assigned = "UPDATE sqlite_sequence SET seq = 50 WHERE name = 'countersign_revocation'";
    query_sqlite(&state(&place.sandbox).join("revocations"), assigned);
    let checked = place.run(&["revocations", "check"]);
    assert!(checked.stdout.contains("number 50 was assigned"), "{checked:?}");
    let restored = place.run(&["database", "restore", file.to_str().unwrap(), "--force"]);
    assert!(restored.status.success(), "{restored:?}");
    assert!(place.run(&["revocations", "check"]).status.success());
}

#[test]
fn restore_refuses_files_that_are_no_backups() {
    let place = DatabaseSandbox::sqlite();
    let server = place.serve();
    fill(&server, "bob");
    let file = place.back_up();
    server.stop("TERM");
    let restore = |name: &str| place.run(&["database", "restore", name]);
    assert_refused(&restore("missing.db"), "missing.db: No such file");
    place.sandbox.file("text.db", "users");
    assert_refused(&restore("text.db"), "text.db is not a backup");
    let database = state(&place.sandbox).join("countersign.db");
    assert_refused(&restore(database.to_str().unwrap()), "is not a backup");
    let copy = |name: &str| {
        let path = place.sandbox.path().join(name);
        fs::copy(&file, &path).unwrap();
        path
    };
    let newer = copy("newer.db");
    query_sqlite(
        &newer,
        "INSERT INTO countersign_migration (version, description, success, checksum, \
         execution_time) VALUES (9999, 'x', true, '', 0)",
    );
    assert_refused(&restore("newer.db"), "newer.db has schema version 9999");
    let damaged = copy("damaged.db");
    let mut bytes = fs::read(&damaged).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 4096].fill(0x5a);
    fs::write(&damaged, bytes).unwrap();
    assert_refused(&restore("damaged.db"), "damaged.db is damaged: ");
    let truncated = copy("truncated.db");
    let bytes = fs::read(&truncated).unwrap();
    fs::write(&truncated, &bytes[..bytes.len() / 2]).unwrap();
    let refused = restore("truncated.db");
    assert_refused(&refused, "truncated.db is damaged: ");
    assert!(!refused.stderr.contains("move it away"), "{refused:?}");

    // A server does not run on a backup: its revocations would not be in force.
    let config = format!("[database]\nurl=sqlite:{}\n", file.display());
    let config = place.sandbox.file("on-backup.cfg", configuration(&config));
    let refused = place.sandbox.run(["--config", config.to_str().unwrap()]);
    assert_refused(&refused, "is a backup: restore it with countersign database restore");

    // No file is left behind.
    let left = fs::read_dir(place.sandbox.path()).unwrap().map(|file| file.unwrap().file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().contains(".db.")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn backup_replaces_no_other_file() {
    let mut place = DatabaseSandbox::sqlite();
    place.database = "[database]\nurl=sqlite:users.db\n".into();
    let server = place.serve();
    let revoked = fill(&server, "bob");
    let users = place.sandbox.path().join("users.db");
    let revocations = state(&place.sandbox).join("revocations");
    std::os::unix::fs::symlink(&users, users.with_file_name("link.db")).unwrap();
    fs::hard_link(&revocations, users.with_file_name("hard.db")).unwrap();
    fs::create_dir(users.with_file_name("folder")).unwrap();
    let back_up = |file: &str| place.run(&["database", "backup", file, "--force"]);
    let revocations = revocations.to_str().unwrap();
    for file in ["users.db", "link.db", "hard.db", "folder/../users.db", "users.db-wal"] {
        assert_refused(&back_up(file), "is a database of this configuration: name another file");
    }
    assert_refused(&back_up(revocations), "is a database of this configuration");
    place.sandbox.file("notes.txt", "mine");
    for file in ["notes.txt", "command.cfg", "folder"] {
        assert_refused(&back_up(file), "is not a backup; name another file");
    }
    assert_refused(&back_up("typo/b.db"), "the directory typo does not exist");
    assert!(!users.with_file_name("typo").exists());
    assert_eq!(fs::read_to_string(users.with_file_name("notes.txt")).unwrap(), "mine");
    assert_eq!(usernames(&server), ["bob"]);
    server.stop("TERM");
    // A backup is not created where a database is configured, even if none exists yet.
    let kept = fs::read(revocations).unwrap();
    fs::remove_file(revocations).unwrap();
    assert_refused(&back_up(revocations), "is a database of this configuration");
    fs::write(revocations, kept).unwrap();
    let server = place.serve();
    assert_eq!(server.auth(&revoked).status, 401);
}

#[test]
fn unreadable_revocation_is_backed_up_as_it_is() {
    let (place, to) = (DatabaseSandbox::sqlite(), DatabaseSandbox::sqlite());
    let server = place.serve();
    let revoked = fill(&server, "bob");
    server.stop("TERM");
    let odd = "INSERT INTO countersign_revocation (record) VALUES ('{\"new\": 1}')";
    query_sqlite(&state(&place.sandbox).join("revocations"), odd);
    let file = place.sandbox.path().join("odd.db");
    let file = file.to_str().unwrap();
    for (place, command, done) in
        [(&place, "backup", "with 1 users and 2 revocations"), (&to, "restore", "2 revocations")]
    {
        let output = place.run(&["database", command, file]);
        assert!(output.status.success() && output.stdout.contains(done), "{output:?}");
        assert!(output.stderr.contains("odd.db: cannot parse the revocation 2"), "{output:?}");
    }
    let server = to.sandbox.listen(&to.configuration());
    assert_eq!(server.auth(&session_of("bob", false)).status, 503);
    assert_eq!(to.run(&["revocations", "repair", "--revoke-issued-tokens"]).code(), 0);
    eventually(|| server.auth(&revoked).status == 401);
}

/// Restores an older backup after the loss of everything.
#[test]
fn restore_reports_what_an_older_backup_lacks() {
    for place in [DatabaseSandbox::sqlite(), DatabaseSandbox::postgresql()] {
        let server = place.serve();
        fill(&server, "bob");
        let file = place.back_up();
        let file = file.to_str().unwrap();
        server.stop("TERM");
        if place.postgres.is_none() {
            // Complete: nothing is lost.
            let restored = place.run(&["database", "restore", file, "--force"]);
            assert!(restored.status.success() && restored.stderr.is_empty(), "{restored:?}");
        }
        let server = place.serve();
        revoked_token(&server);
        Api::root(&server).add_user("carol");
        server.stop("TERM");
        if let Some(postgres) = &place.postgres {
            postgres.query("DELETE FROM countersign_revocation; DELETE FROM countersign_user");
        } else {
            for file in FILES {
                fs::remove_file(state(&place.sandbox).join(file)).unwrap();
            }
        }
        let restored = place.run(&["database", "restore", file, "--force"]);
        assert!(restored.text().contains("restored 1 users and 1 revocations"), "{restored:?}");
        for warning in [
            "warning: this server knew revocation 2, the backup ends at 1: revoke again",
            "warning: this server knew audit event ",
        ] {
            assert!(restored.stderr.contains(warning), "{restored:?}");
        }
        let server = place.serve();
        assert!(!server.log().contains("this server knew"), "{}", server.log());
    }
}

#[test]
fn revocations_are_restored_without_users() {
    for place in [DatabaseSandbox::sqlite(), DatabaseSandbox::postgresql()] {
        let server = place.serve();
        let first = fill(&server, "bob");
        let file = place.back_up();
        let second = revoked_token(&server);
        Api::root(&server).add_user("carol");
        server.stop("TERM");
        if let Some(postgres) = &place.postgres {
            postgres.query("DELETE FROM countersign_revocation WHERE number = 1");
        } else {
            fs::remove_file(state(&place.sandbox).join("revocations")).unwrap();
        }
        let restore = ["database", "restore", file.to_str().unwrap(), "--only", "revocations"];
        let restored = place.run(&restore);
        assert!(restored.stdout.contains(" revocations\n"), "{restored:?}");
        let lost = "this server knew revocation 2, the backup ends at 1";
        assert_eq!(restored.stderr.contains(lost), place.postgres.is_none(), "{restored:?}");
        let server = place.serve();
        assert_eq!(usernames(&server), ["bob", "carol"]);
        assert_eq!(server.auth(&first).status, 401);
        let is_kept = server.auth(&second).status == 401;
        assert_eq!(is_kept, place.postgres.is_some(), "those of the database are kept");
        assert!(!server.log().contains("this server knew"), "{}", server.log());
    }
}

#[test]
fn refused_restore_creates_nothing() {
    let place = DatabaseSandbox::sqlite();
    let server = place.serve();
    fill(&server, "bob");
    let file = place.back_up();
    server.stop("TERM");
    let revocations = state(&place.sandbox).join("revocations");
    fs::remove_file(&revocations).unwrap();
    let refused = place.run(&["database", "restore", file.to_str().unwrap()]);
    assert_refused(&refused, "is not empty: countersign_");
    assert!(!revocations.exists());
    let fresh = DatabaseSandbox::sqlite();
    assert_refused(&fresh.run(&["database", "restore", "none.db"]), "none.db: No such file");
    assert!(!state(&fresh.sandbox).join("countersign.db").exists());
}

#[test]
fn backup_of_an_earlier_schema_is_migrated() {
    let (from, to) = (DatabaseSandbox::sqlite(), DatabaseSandbox::sqlite());
    let server = from.serve();
    fill(&server, "bob");
    let file = from.back_up();
    server.stop("TERM");
    query_sqlite(&file, TO_VERSION_9);
    assert!(to.run(&["database", "restore", file.to_str().unwrap()]).status.success());
    let restored = to.serve();
    assert_eq!(usernames(&restored), ["bob"]);
    let projects = data(&Api::root(&restored).ask("GET /project"));
    assert_eq!(projects[0]["environments"][0]["id"], ENVIRONMENT, "it is in a project");
    drop(restored);
    // A server of the earlier version may run: the schema is left as it is.
    let database = state(&from.sandbox).join("countersign.db");
    query_sqlite(&database, TO_VERSION_9);
    assert_refused(&from.run(&["database", "backup", "b.db"]), "migrate the database first");
}

#[test]
fn running_server_writes_back_what_a_restore_lacks() {
    let place = DatabaseSandbox::postgresql();
    let postgres = place.postgres.as_ref().unwrap();
    let server = place.serve();
    let first = fill(&server, "bob");
    let file = place.back_up();
    let second = revoked_token(&server);
    // A server that lost its database for some minutes.
    postgres.query("DELETE FROM countersign_server; DELETE FROM countersign_revocation");
    let restored = place.run(&["database", "restore", file.to_str().unwrap(), "--force"]);
    assert!(restored.status.success(), "{restored:?}");
    eventually(|| postgres.query("SELECT count(*) FROM countersign_revocation") == "2");
    assert!(server.metric("countersign_revocations_store_replaced") >= 1);
    let fresh = Sandbox::new();
    let other = fresh.serve(&place.configuration());
    assert_eq!([&first, &second].map(|token| other.auth(token).status), [401, 401]);
}
