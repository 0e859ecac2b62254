use std::fs;

use countersign_server::store::{Store, StoreError, environments::Environment, projects::Project};
use countersign_tests::{
    database::{TO_VERSION_9, query_sqlite},
    postgres::Postgres,
};

use super::store;

#[test]
fn migrations_exist_for_both_databases() {
    let steps = |database: &str| {
        let directory = format!("{}/../server/migrations/{database}", env!("CARGO_MANIFEST_DIR"));
        let mut names: Vec<_> =
            fs::read_dir(directory).unwrap().map(|file| file.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(steps("sqlite"), steps("postgres"));
}

#[test]
fn migration_of_old_schema_can_be_required() {
    let (directory, postgres) = (tempfile::tempdir().unwrap(), Postgres::start());
    for url in ["", &format!("url={}", postgres.url())] {
        let old = store(&directory, &format!("{url}\nmigrate=false"));
        let Err(StoreError::Schema(reason)) = old.block_on(old.open()) else { panic!("{url}") };
        assert!(reason.starts_with("The version of the database is out of date: "), "{reason}");
        assert!(reason.contains("countersign database migrate"), "{reason}");
        old.block_on(old.migrate()).unwrap();
        old.block_on(old.open()).unwrap();
    }
}

/// SQL that adds environments of schema version 9: in the project of environments without one, and
/// in another.
const ENVIRONMENTS: &str = "
    INSERT INTO countersign_environment_id (id) VALUES ('e1'), ('e2'), ('e3');
    INSERT INTO countersign_environment (id, name, project_id) VALUES
        ('e1', 'prod', '00000000-0000-0000-0000-000000000000'),
        ('e2', 'dev', '00000000-0000-0000-0000-000000000000'),
        ('e3', 'prod', '22222222-2222-2222-2222-222222222222')";

fn assert_environments_are_in_projects(store: &Store) {
    let environment = |id: &str, name: &str, project_id: &str| Environment {
        id: id.into(),
        name: name.into(),
        project_id: project_id.into(),
        ..Environment::default()
    };
    let project = |id: &str, name: &str| Project { id: id.into(), name: name.into() };
    let [nil, other] =
        ["00000000-0000-0000-0000-000000000000", "22222222-2222-2222-2222-222222222222"];
    store.block_on(async {
        assert_eq!(
            store.environments(true).await.unwrap(),
            [
                environment("e2", "dev", nil),
                environment("e1", "prod", nil),
                environment("e3", "prod", other),
            ]
        );
        assert_eq!(
            store.projects().await.unwrap(),
            [project(other, other), project(nil, "default")]
        );
    });
}

#[test]
fn environments_of_version_9_get_projects() {
    let (directory, postgres) = (tempfile::tempdir().unwrap(), Postgres::start());
    let sqlite = || store(&directory, "");
    let old = sqlite();
    old.block_on(old.open()).unwrap();
    old.block_on(old.close());
    let to_version_9 = format!("{TO_VERSION_9};{ENVIRONMENTS}");
    query_sqlite(&directory.path().join("countersign.db"), &to_version_9);
    assert_environments_are_in_projects(&sqlite());

    let on_postgres = || store(&directory, &format!("url={}", postgres.url()));
    let old = on_postgres();
    old.block_on(old.open()).unwrap();
    old.block_on(old.close());
    postgres.query(&to_version_9);
    assert_environments_are_in_projects(&on_postgres());
}

#[test]
fn newer_schema_is_refused_unchanged() {
    let (directory, postgres) = (tempfile::tempdir().unwrap(), Postgres::start());
    let first = store(&directory, &format!("url={}", postgres.url()));
    first.block_on(first.open()).unwrap();
    postgres.query(
        "INSERT INTO countersign_migration (version, description, success, checksum, execution_time)
         VALUES (9999, 'x', true, '', 0)",
    );
    for migrates in ["true", "false"] {
        let next = store(&directory, &format!("url={}\nmigrate={migrates}", postgres.url()));
        let Err(StoreError::Schema(reason)) = next.block_on(next.open()) else {
            panic!("migrate={migrates}")
        };
        assert!(reason.contains("9999") && reason.contains("newer version"), "{reason}");
    }
}

#[test]
fn concurrent_migrations_do_not_conflict() {
    let (directory, postgres) = (tempfile::tempdir().unwrap(), Postgres::start());
    let url = format!("url={}", postgres.url());
    let stores: Vec<_> = (0..4).map(|_| store(&directory, &url)).collect();
    std::thread::scope(|scope| {
        for store in &stores {
            scope.spawn(|| store.block_on(store.open()).unwrap());
        }
    });
}

#[test]
fn sqlite_files_are_private_to_the_owner() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("new/place.db");
    let store = store(&directory, &format!("url=sqlite:{}", file.display()));
    assert!(!file.exists(), "the file is created only when opened");
    store.block_on(store.open()).unwrap();
    for name in ["place.db", "place.db-wal"] {
        let mode = file.with_file_name(name).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}
