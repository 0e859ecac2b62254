use countersign_server::store::{
    Store, StoreError,
    environments::{Environment, EnvironmentChanges},
    projects::Project,
};
use countersign_tests::postgres::Postgres;

use super::{
    contract::{ENVIRONMENT, OTHER, over_every_store, token, user, wait},
    store,
};

over_every_store!(
    environment_deletion_cascades,
    environments_are_changed_within_projects,
    project_with_environments_is_not_deleted,
    project_is_not_deleted_under_a_new_environment,
);

const PROJECT: &str = "33333333-3333-3333-3333-333333333333";

pub(super) fn environment(id: &str, name: &str) -> Environment {
    let (id, name, project_id) = (id.into(), name.into(), PROJECT.into());
    Environment { id, name, project_id, ..Environment::default() }
}

fn project(id: &str, name: &str) -> Project {
    Project { id: id.into(), name: name.into() }
}

/// Adds an environment, and its project if that does not exist.
pub(super) async fn add_environment(store: &Store, environment: Environment) {
    match store.add_project(project(PROJECT, "project")).await {
        Ok(()) | Err(StoreError::AlreadyExists) => {}
        Err(error) => panic!("{error}"),
    }
    store.add_environment(environment).await.unwrap();
}

fn environment_deletion_cascades(open: &dyn Fn() -> Store) {
    let store = open();
    wait(&store, async {
        add_environment(&store, environment(ENVIRONMENT, "prod")).await;
        assert_eq!(
            store.add_environment(environment(ENVIRONMENT, "else")).await,
            Err(StoreError::AlreadyExists)
        );
        assert_eq!(
            store.add_environment(environment(OTHER, "prod")).await,
            Err(StoreError::AlreadyExists)
        );
        store.add_user(user("bob")).await.unwrap();
        store.add_role("noc").await.unwrap();
        store.assign_role("bob", ENVIRONMENT, "noc").await.unwrap();
        store.register_token(token("a", 1)).await.unwrap();
        assert_eq!(store.delete_environment(ENVIRONMENT).await, Ok(true));
        assert_eq!(store.delete_environment(ENVIRONMENT).await, Ok(false));
        assert_eq!(store.token("a").await, Ok(None));
        assert_eq!(store.delete_role("noc").await, Ok(true));
        assert_eq!(store.environments(true).await, Ok(vec![]));
        assert_eq!(
            store.add_environment(environment(ENVIRONMENT, "new")).await,
            Err(StoreError::AlreadyExists),
            "ids of deleted environments are not used again"
        );
        assert_eq!(store.add_environment(environment(OTHER, "prod")).await, Ok(()), "names are");
    });
}

fn environments_are_changed_within_projects(open: &dyn Fn() -> Store) {
    let store = open();
    wait(&store, async {
        let prod = Environment {
            repo_url: "git".into(),
            repo_branch: "main".into(),
            description: "d".into(),
            icon: "i".into(),
            ..environment(ENVIRONMENT, "prod")
        };
        assert_eq!(store.add_environment(prod.clone()).await, Err(StoreError::ForeignKeyViolation));
        add_environment(&store, prod.clone()).await;
        assert_eq!(store.environment(ENVIRONMENT).await, Ok(Some(prod.clone())));
        store.add_environment(environment(OTHER, "dev")).await.unwrap();
        let all = store.environments(true).await.unwrap();
        assert_eq!(all.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["dev", "prod"]);

        let named = |name: &str| EnvironmentChanges { name: name.into(), ..Default::default() };
        let change = async |id: &str, changes| store.change_environment(id, changes).await;
        assert_eq!(change(ENVIRONMENT, named("live")).await, Ok(true));
        let renamed = Environment { name: "live".into(), ..prod };
        assert_eq!(store.environment(ENVIRONMENT).await, Ok(Some(renamed)), "the rest stays");
        assert_eq!(change(ENVIRONMENT, named("dev")).await, Err(StoreError::AlreadyExists));
        assert_eq!(change(PROJECT, named("x")).await, Ok(false));
        let moved = EnvironmentChanges {
            project_id: Some(OTHER.into()),
            repo_url: Some(String::new()),
            icon: Some(String::new()),
            ..named("dev")
        };
        assert_eq!(change(ENVIRONMENT, moved.clone()).await, Err(StoreError::ForeignKeyViolation));
        store.add_project(project(OTHER, "second")).await.unwrap();
        assert_eq!(change(ENVIRONMENT, moved).await, Ok(true));
        let expected = Environment {
            project_id: OTHER.into(),
            repo_branch: "main".into(),
            description: "d".into(),
            ..environment(ENVIRONMENT, "dev")
        };
        assert_eq!(store.environment(ENVIRONMENT).await, Ok(Some(expected)));
    });
}

fn project_with_environments_is_not_deleted(open: &dyn Fn() -> Store) {
    let store = open();
    wait(&store, async {
        store.add_project(project(OTHER, "b")).await.unwrap();
        store.add_project(project(PROJECT, "a")).await.unwrap();
        for taken in [project(OTHER, "c"), project(ENVIRONMENT, "a")] {
            assert_eq!(store.add_project(taken).await, Err(StoreError::AlreadyExists));
        }
        let names = async || {
            let all = store.projects().await.unwrap();
            all.into_iter().map(|one| one.name).collect::<Vec<_>>()
        };
        assert_eq!(names().await, ["a", "b"]);
        assert_eq!(store.rename_project(PROJECT, "b").await, Err(StoreError::AlreadyExists));
        assert_eq!(store.rename_project(PROJECT, "z").await, Ok(true));
        assert_eq!(store.rename_project(ENVIRONMENT, "y").await, Ok(false));
        assert_eq!(store.project(PROJECT).await, Ok(Some(project(PROJECT, "z"))));
        assert_eq!(store.project(ENVIRONMENT).await, Ok(None));

        store.add_environment(environment(ENVIRONMENT, "prod")).await.unwrap();
        assert_eq!(store.delete_project(PROJECT).await, Err(StoreError::ForeignKeyViolation));
        assert_eq!(store.delete_environment(ENVIRONMENT).await, Ok(true));
        assert_eq!(store.delete_project(PROJECT).await, Ok(true));
        assert_eq!(store.delete_project(PROJECT).await, Ok(false));
        assert_eq!(names().await, ["b"]);
    });
}

fn project_is_not_deleted_under_a_new_environment(open: &dyn Fn() -> Store) {
    let [first, second] = [open(), open()];
    for number in 0..20 {
        let id = format!("{number:08}-1111-1111-1111-111111111111");
        wait(&first, first.add_project(project(PROJECT, "project"))).unwrap();
        let added = std::thread::scope(|scope| {
            let delete = scope.spawn(|| wait(&second, second.delete_project(PROJECT)));
            let added = wait(&first, first.add_environment(environment(&id, "prod")));
            let deleted = delete.join().unwrap();
            match added {
                Ok(()) => assert_eq!(deleted, Err(StoreError::ForeignKeyViolation)),
                Err(StoreError::ForeignKeyViolation) => assert_eq!(deleted, Ok(true)),
                Err(error) => panic!("{error}"),
            }
            added.is_ok()
        });
        if added {
            assert_eq!(wait(&first, first.delete_environment(&id)), Ok(true));
            assert_eq!(wait(&first, first.delete_project(PROJECT)), Ok(true));
        }
    }
}
