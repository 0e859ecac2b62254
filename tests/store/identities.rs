use countersign_engine::UnixTime;
use countersign_server::store::{
    DatabaseKind, Store, StoreError,
    custom_roles::{CustomRole, RoleScope},
    expiry::{ExpiringTable, OPEN_SECONDS, PART_ROWS, SweepTime, SweptPart},
    identity_methods::{IdentityMethod, MethodKind, TokenTerms},
    identity_projects::{MembershipsOf, ProjectMembership},
    identity_tokens::{LeaseRequest, LimitedToken, TokenUse, UseLease},
    machine_identities::{
        IdentityChanges, IdentityDeletion, IdentityFilter, IdentityOrder, MachineIdentity,
    },
    organizations::{DEFAULT_ORGANIZATION, Organization},
    projects::Project,
    tls_certificate_methods::TlsCertificateMethod,
};
use countersign_tests::postgres::Postgres;

use super::{
    contract::{over_every_store, wait},
    store,
};

over_every_store!(
    organization_is_created_once,
    identities_are_listed_and_changed,
    protected_identity_is_not_deleted,
    certificate_methods_are_changed_in_turn,
    identity_deletion_cascades,
    roles_of_organizations_and_projects_are_apart,
    memberships_are_of_identities_and_projects,
    token_uses_never_exceed_their_limit,
    leased_uses_are_returned_or_written_off,
    end_of_a_lease_counts_once,
    exhausted_tokens_are_swept,
);

fn organization(id: &str) -> Organization {
    let (slug, name) = (DEFAULT_ORGANIZATION.into(), "Organization".into());
    Organization { id: id.into(), slug, name, created_at: UnixTime(7) }
}

fn identity(id: &str, name: &str) -> MachineIdentity {
    MachineIdentity {
        id: id.into(),
        organization: "o".into(),
        name: name.into(),
        role: "member".into(),
        has_delete_protection: false,
        metadata: vec![("team".into(), "red \"é\"".into())],
        created_at: UnixTime(10),
        updated_at: UnixTime(10),
    }
}

pub(super) fn method(id: &str, identity: &str) -> TlsCertificateMethod {
    TlsCertificateMethod {
        method: IdentityMethod {
            id: id.into(),
            identity: identity.into(),
            terms: TokenTerms {
                ttl: 315_360_000,
                max_ttl: 315_360_000,
                period: 0,
                uses_limit: 9_007_199_254_740_991,
                trusted_ips: vec!["0.0.0.0/0".into(), "::/0".into()],
            },
            created_at: UnixTime(11),
            updated_at: UnixTime(11),
        },
        ca_certificate: " PEM\n".into(),
        allowed_common_names: Some(vec!["a,b".into(), "c".into()]),
        allowed_alt_names: None,
        verifies_chain: true,
    }
}

fn filter(name: &str) -> IdentityFilter {
    IdentityFilter { limit: 10, ..IdentityFilter::all_of("o".into(), name.into()) }
}

fn no_changes(updated_at: UnixTime) -> IdentityChanges {
    let (name, role, has_delete_protection, metadata) = (None, None, None, None);
    IdentityChanges { name, role, has_delete_protection, metadata, updated_at }
}

/// Adds an organization, an identity `i` and a method `m`.
pub(super) async fn add_method(store: &Store) {
    store.ensure_organization(organization("o")).await.unwrap();
    store.add_machine_identity(identity("i", "one")).await.unwrap();
    store.add_tls_certificate_method(method("m", "i")).await.unwrap();
}

pub(super) fn limited(id: &str, uses_limit: u64) -> LimitedToken {
    let (id, method) = (id.into(), "m".into());
    let (created_at, expires_at) = (UnixTime(20), UnixTime(4_000_000_000));
    LimitedToken { id, method, uses_limit, created_at, expires_at }
}

fn organization_is_created_once(open: &dyn Fn() -> Store) {
    let [first, second] = [open(), open()];
    let created = wait(&first, first.ensure_organization(organization("o"))).unwrap();
    assert_eq!(created, organization("o"));
    let other = Organization { name: "Other".into(), ..organization("p") };
    assert_eq!(wait(&second, second.ensure_organization(other)), Ok(organization("o")));
    assert_eq!(wait(&second, second.organizations()), Ok(vec![organization("o")]));
}

fn identities_are_listed_and_changed(open: &dyn Fn() -> Store) {
    let store = open();
    wait(&store, async {
        let missing = store.add_machine_identity(identity("i", "one")).await;
        assert_eq!(missing, Err(StoreError::ForeignKeyViolation));
        store.ensure_organization(organization("o")).await.unwrap();
        for (id, name) in [("1", "B%x"), ("2", "a_x"), ("3", "c")] {
            store.add_machine_identity(identity(id, name)).await.unwrap();
        }
        let again = store.add_machine_identity(identity("1", "d")).await;
        assert_eq!(again, Err(StoreError::AlreadyExists));
        let names = async |filter: IdentityFilter| {
            let (found, count) = store.machine_identities(filter).await.unwrap();
            (found.into_iter().map(|one| one.name).collect::<Vec<_>>().join(" "), count)
        };
        assert_eq!(names(filter("")).await, ("B%x a_x c".into(), 3));
        assert_eq!(names(filter("X")).await, ("B%x a_x".into(), 2));
        assert_eq!(names(filter("_")).await, ("a_x".into(), 1), "no wildcard");
        assert_eq!(names(filter("b%")).await, ("B%x".into(), 1));
        let page = IdentityFilter { offset: 1, limit: 1, ..filter("") };
        assert_eq!(names(page).await, ("a_x".into(), 3));
        let last = IdentityOrder { by_role: false, is_descending: true };
        let page = IdentityFilter { order: last, offset: 0, limit: 2, ..filter("") };
        assert_eq!(names(page).await, ("c a_x".into(), 3));
        let other = IdentityFilter { organization: "p".into(), ..filter("") };
        assert_eq!(names(other).await, (String::new(), 0));

        let changes = IdentityChanges { role: Some("admin".into()), ..no_changes(UnixTime(99)) };
        assert_eq!(store.change_machine_identity("3", None, changes.clone()).await, Ok(true));
        let changed = MachineIdentity {
            role: "admin".into(),
            updated_at: UnixTime(99),
            ..identity("3", "c")
        };
        assert_eq!(store.machine_identity("3").await, Ok(Some(changed)), "the rest stays");
        assert_eq!(store.change_machine_identity("4", None, changes).await, Ok(false));
        let admins = IdentityFilter { role: Some("admin".into()), ..filter("") };
        assert_eq!(names(admins).await, ("c".into(), 1));
        for (is_descending, expected) in [(false, "c B%x a_x"), (true, "a_x B%x c")] {
            let order = IdentityOrder { by_role: true, is_descending };
            let by_role = IdentityFilter { order, ..filter("") };
            assert_eq!(names(by_role).await, (expected.into(), 3));
        }
    });
}

fn protected_identity_is_not_deleted(open: &dyn Fn() -> Store) {
    let store = open();
    wait(&store, async {
        add_method(&store).await;
        let protect = |is_protected| IdentityChanges {
            has_delete_protection: Some(is_protected),
            ..no_changes(UnixTime(12))
        };
        store.change_machine_identity("i", None, protect(true)).await.unwrap();
        assert_eq!(store.delete_machine_identity("i").await, Ok(IdentityDeletion::Protected));
        store.change_machine_identity("i", None, protect(false)).await.unwrap();
        assert_eq!(store.delete_machine_identity("i").await, Ok(IdentityDeletion::Deleted));
        assert_eq!(store.delete_machine_identity("i").await, Ok(IdentityDeletion::Missing));
    });
}

fn certificate_methods_are_changed_in_turn(open: &dyn Fn() -> Store) {
    let [first, second] = [open(), open()];
    wait(&first, async {
        add_method(&first).await;
        let again = first.add_tls_certificate_method(method("n", "i")).await;
        assert_eq!(again, Err(StoreError::AlreadyExists));
        let unknown = first.add_tls_certificate_method(method("n", "j")).await;
        assert_eq!(unknown, Err(StoreError::ForeignKeyViolation));
        assert_eq!(first.tls_certificate_method("i").await, Ok(Some(method("m", "i"))));
        assert_eq!(first.identity_method("m").await, Ok(Some(method("m", "i").method)));
        let refused = first.change_tls_certificate_method("i", |method| {
            method.verifies_chain = false;
            Err("no")
        });
        assert_eq!(refused.await, Ok(Some(Err("no"))));
        let missing = first.change_tls_certificate_method("j", |_| Ok::<_, ()>(())).await;
        assert_eq!(missing, Ok(None));
    });
    let add = |store: &Store| {
        for _ in 0..20 {
            let changed = store.change_tls_certificate_method("i", |method| {
                method.method.terms.ttl -= 1;
                method.allowed_common_names = None;
                Ok::<_, ()>(())
            });
            wait(store, changed).unwrap().unwrap().unwrap();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| add(&first));
        add(&second);
    });
    assert_eq!(wait(&second, second.methods_revision()), Ok(40));
    let changed = wait(&first, first.tls_certificate_method("i")).unwrap().unwrap();
    assert_eq!(changed.method.terms.ttl, 315_360_000 - 40, "no change is lost");
    assert_eq!(changed.allowed_common_names, None);
    assert!(changed.verifies_chain);
}

fn identity_deletion_cascades(open: &dyn Fn() -> Store) {
    let store = open();
    wait(&store, async {
        add_method(&store).await;
        store.add_limited_token(limited("t", 2)).await.unwrap();
        let methods = store.methods_of_identities(vec!["i".into(), "j".into()]).await.unwrap();
        assert_eq!(
            methods.into_iter().collect::<Vec<_>>(),
            [("i".into(), vec!["tls-cert-auth".into()])]
        );
        let delete = async || store.delete_identity_method("i", MethodKind::TlsCertificate).await;
        assert_eq!(delete().await, Ok(Some("m".into())));
        assert_eq!(delete().await, Ok(None));
        assert_eq!(
            store.use_limited_token("t", &UseLease::default(), UnixTime(30)).await,
            Ok(TokenUse::Revoked)
        );
        let late = store.add_limited_token(limited("u", 2)).await;
        assert_eq!(late, Err(StoreError::ForeignKeyViolation), "a login that raced with it fails");
        store.add_tls_certificate_method(method("n", "i")).await.unwrap();
        store.delete_machine_identity("i").await.unwrap();
        assert_eq!(store.identity_method("n").await, Ok(None));
    });
}

fn roles_of_organizations_and_projects_are_apart(open: &dyn Fn() -> Store) {
    let store = open();
    wait(&store, async {
        store.ensure_organization(organization("o")).await.unwrap();
        store.add_project(Project { id: "p".into(), name: "p".into() }).await.unwrap();
        let role = |id: &str, owner: &str, slug: &str| CustomRole {
            id: id.into(),
            owner: owner.into(),
            slug: slug.into(),
            name: "N".into(),
            description: String::new(),
            created_at: UnixTime(1),
            updated_at: UnixTime(2),
        };
        for (scope, owner) in [(RoleScope::Organization, "o"), (RoleScope::Project, "p")] {
            let add = async |role| store.add_custom_role(scope, role).await;
            assert_eq!(add(role("1", owner, "ops")).await, Ok(()));
            assert_eq!(add(role("2", owner, "ops")).await, Err(StoreError::AlreadyExists));
            assert_eq!(add(role("3", "?", "ops")).await, Err(StoreError::ForeignKeyViolation));
            let all = store.custom_roles(scope, owner).await;
            assert_eq!(all, Ok(vec![role("1", owner, "ops")]));
        }
        assert_eq!(store.delete_project("p").await, Ok(true));
        assert_eq!(store.custom_roles(RoleScope::Project, "p").await, Ok(vec![]));
    });
}

fn memberships_are_of_identities_and_projects(open: &dyn Fn() -> Store) {
    let store = open();
    wait(&store, async {
        add_method(&store).await;
        store.add_project(Project { id: "p".into(), name: "p".into() }).await.unwrap();
        let member = |project: &str| ProjectMembership {
            id: format!("x-{project}"),
            identity: "i".into(),
            project: project.into(),
            roles: vec!["viewer".into()],
            created_at: UnixTime(1),
            updated_at: UnixTime(1),
        };
        store.add_project_membership(member("p")).await.unwrap();
        let again = store.add_project_membership(member("p")).await;
        assert_eq!(again, Err(StoreError::AlreadyExists));
        let unknown = store.add_project_membership(member("q")).await;
        assert_eq!(unknown, Err(StoreError::ForeignKeyViolation));
        let roles = ["admin".to_owned(), "ops".to_owned()];
        let former = ["viewer".to_owned()];
        let set = async |project, former: &[String]| {
            store.set_project_roles("i", project, (former, &roles), UnixTime(5)).await
        };
        assert_eq!(set("p", &roles).await, Ok(false), "it has others");
        assert_eq!(set("p", &former).await, Ok(true));
        assert_eq!(set("q", &former).await, Ok(false));
        let changed =
            ProjectMembership { roles: roles.to_vec(), updated_at: UnixTime(5), ..member("p") };
        for of in [MembershipsOf::Identity("i".into()), MembershipsOf::Project("p".into())] {
            assert_eq!(store.project_memberships(of).await, Ok(vec![changed.clone()]));
        }
        assert_eq!(store.project_membership("i", "p").await, Ok(Some(changed)));
        let delete =
            async |former: &[String]| store.delete_project_membership("i", "p", former).await;
        assert_eq!(delete(&former).await, Ok(false));
        assert_eq!(delete(&roles).await, Ok(true));
        assert_eq!(delete(&roles).await, Ok(false));
    });
}

fn token_uses_never_exceed_their_limit(open: &dyn Fn() -> Store) {
    let [first, second] = [open(), open()];
    wait(&first, async {
        add_method(&first).await;
        first.add_limited_token(limited("t", 25)).await.unwrap();
    });
    let count = |store: &Store| {
        let uses = (0..20)
            .map(|_| wait(store, store.use_limited_token("t", &UseLease::default(), UnixTime(30))));
        uses.filter(|one| *one == Ok(TokenUse::Counted)).count()
    };
    let counted = std::thread::scope(|scope| {
        let other = scope.spawn(|| count(&second));
        count(&first) + other.join().unwrap()
    });
    assert_eq!(counted, 25);
    wait(&first, async {
        assert_eq!(
            first.use_limited_token("t", &UseLease::default(), UnixTime(31)).await,
            Ok(TokenUse::Exhausted)
        );
        assert_eq!(first.renew_limited_token("t", UnixTime(40)).await, Ok(TokenUse::Exhausted));
        assert_eq!(first.uses_of_limited_token("t").await, Ok(Some(25)));
        first.add_limited_token(limited("u", 2)).await.unwrap();
        assert_eq!(first.renew_limited_token("u", UnixTime(40)).await, Ok(TokenUse::Counted));
        assert_eq!(first.uses_of_limited_token("u").await, Ok(Some(0)), "a renewal does not count");
        assert_eq!(first.revoke_limited_token("u").await, Ok(true));
        assert_eq!(
            first.use_limited_token("u", &UseLease::default(), UnixTime(31)).await,
            Ok(TokenUse::Revoked)
        );
        assert_eq!(first.renew_limited_token("u", UnixTime(41)).await, Ok(TokenUse::Revoked));
    });
}

fn lease_of(id: &str, uses: u64) -> UseLease {
    UseLease { id: id.into(), uses }
}

fn leased_uses_are_returned_or_written_off(open: &dyn Fn() -> Store) {
    let store = open();
    let no_lease = UseLease::default();
    let lease = async |lease: &UseLease, remaining, ended: &UseLease| {
        store.lease_uses("t", LeaseRequest { lease, remaining, ended }).await
    };
    let use_one = async |ended: &UseLease| store.use_limited_token("t", ended, UnixTime(30)).await;
    wait(&store, async {
        add_method(&store).await;
        store.add_limited_token(limited("t", 10)).await.unwrap();
        let (first, second, last) = (lease_of("a", 4), lease_of("b", 5), lease_of("c", 1));
        assert_eq!(lease(&first, 11, &no_lease).await, Ok(false), "too few remain");
        assert_eq!(lease(&first, 10, &no_lease).await, Ok(true));
        let large = lease_of("d", 7);
        assert_eq!(lease(&large, 0, &no_lease).await, Ok(false), "more than remain");
        assert_eq!(lease(&second, 5, &first).await, Ok(true), "four of them were used");
        assert_eq!(use_one(&no_lease).await, Ok(TokenUse::Counted));
        assert_eq!(use_one(&no_lease).await, Ok(TokenUse::Held(5)));
        assert_eq!(store.renew_limited_token("t", UnixTime(40)).await, Ok(TokenUse::Counted));
        store.return_uses("t", &second, 2).await.unwrap();
        assert_eq!(store.uses_of_limited_token("t").await, Ok(Some(8)));
        assert_eq!(lease(&last, 1, &no_lease).await, Ok(true));
        assert_eq!(use_one(&last).await, Ok(TokenUse::Counted));
        assert_eq!(use_one(&no_lease).await, Ok(TokenUse::Exhausted));
        store.add_limited_token(limited("u", 3)).await.unwrap();
        let all = LeaseRequest { lease: &lease_of("e", 3), remaining: 3, ended: &no_lease };
        assert_eq!(store.lease_uses("u", all).await, Ok(true));
        for (held, expected) in [(2, TokenUse::Held(3)), (3, TokenUse::Exhausted)] {
            store.write_off_uses("u", held, UnixTime(31)).await.unwrap();
            let counted = store.use_limited_token("u", &no_lease, UnixTime(32)).await;
            assert_eq!(counted, Ok(expected));
        }
        store.return_uses("u", &lease_of("e", 3), 3).await.unwrap();
        assert_eq!(store.uses_of_limited_token("u").await, Ok(Some(3)), "it was written off");
    });
}

fn end_of_a_lease_counts_once(open: &dyn Fn() -> Store) {
    let store = open();
    let (first, second) = (lease_of("a", 4), lease_of("b", 5));
    wait(&store, async {
        add_method(&store).await;
        store.add_limited_token(limited("t", 10)).await.unwrap();
        for lease in [&first, &second] {
            let request = LeaseRequest { lease, remaining: 0, ended: &UseLease::default() };
            assert_eq!(store.lease_uses("t", request).await, Ok(true));
        }
        // As if the answer to the first call had been lost.
        for _ in 0..3 {
            store.return_uses("t", &first, 3).await.unwrap();
            assert_eq!(store.uses_of_limited_token("t").await, Ok(Some(6)));
        }
        for expected in [TokenUse::Counted; 4] {
            assert_eq!(store.use_limited_token("t", &first, UnixTime(30)).await, Ok(expected));
        }
        let held = store.use_limited_token("t", &first, UnixTime(30)).await;
        assert_eq!(held, Ok(TokenUse::Held(5)), "the other lease alone");
        for _ in 0..2 {
            let exhausted = store.use_limited_token("t", &second, UnixTime(30)).await;
            assert_eq!(exhausted, Ok(TokenUse::Exhausted));
        }
    });
}

fn exhausted_tokens_are_swept(open: &dyn Fn() -> Store) {
    let store = open();
    let sweep = || {
        // The clock of PostgreSQL is that of now, and deletes what ended a day ago.
        for open in [OPEN_SECONDS, 2 * OPEN_SECONDS] {
            let at = SweepTime { now: 1000, open };
            wait(&store, store.sweep_at(ExpiringTable::IdentityTokens, at)).unwrap();
        }
    };
    wait(&store, async {
        add_method(&store).await;
        for id in ["current", "exhausted"] {
            store.add_limited_token(limited(id, 1)).await.unwrap();
        }
        store.use_limited_token("exhausted", &UseLease::default(), UnixTime(30)).await.unwrap();
        for number in 0..1500 {
            let mut old = limited(&format!("old-{number}"), 1);
            old.expires_at = UnixTime(40);
            store.add_limited_token(old).await.unwrap();
        }
    });
    // No statement changes more, so that none is slow.
    let part_at = |open| {
        let at = SweepTime { now: 1000, open };
        wait(&store, store.sweep_part_at(ExpiringTable::IdentityTokens, at)).unwrap()
    };
    let part = |marked, deleted| SweptPart { marked, deleted };
    if store.kind() == DatabaseKind::Sqlite {
        assert_eq!(part_at(0), part(PART_ROWS, 0));
        assert_eq!(part_at(OPEN_SECONDS), part(PART_ROWS, PART_ROWS));
    } else {
        assert_eq!(part_at(0), part(0, PART_ROWS));
    }
    sweep();
    let exists = |id: &str| wait(&store, store.uses_of_limited_token(id)).unwrap().is_some();
    assert!(!exists("exhausted") && exists("current"));
    assert!(!(0..1500).any(|number| exists(&format!("old-{number}"))));
}
