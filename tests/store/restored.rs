use countersign_engine::{Revocation, RevocationTarget, UnixTime};
use countersign_server::{
    revocation::store::RevocationStore,
    store::{
        Store,
        expiry::{ExpiringTable, OPEN_SECONDS, SweepTime},
    },
};
use countersign_tests::postgres::Postgres;

use super::store;

fn revocation(jti: &str, until: Option<u64>) -> Revocation {
    let target = RevocationTarget::TokenId { issuer: "i".into(), token_id: jti.into() };
    Revocation { target, until: until.map(UnixTime) }
}

/// A PostgreSQL with two rows after a restore to the first of four.
fn restored() -> (Postgres, [RevocationStore; 2]) {
    let (directory, postgres) = (tempfile::tempdir().unwrap(), Postgres::start());
    let open = || {
        let store = store(&directory, &format!("url={}", postgres.url()));
        RevocationStore::in_database(store, vec![])
    };
    let (mut one, mut other) = (open(), open());
    let rows = ["a", "b", "c", "d"].map(|jti| revocation(jti, None));
    one.append(&rows).unwrap();
    assert_eq!(other.read_new().unwrap(), Some(rows.to_vec()));
    postgres.query(
        "DELETE FROM countersign_revocation WHERE number > 1;
         SELECT setval('countersign_revocation_number_seq', 1)",
    );
    (postgres, [one, other])
}

#[test]
fn restored_table_is_read_from_its_start() {
    let (_postgres, [mut one, mut other]) = restored();
    let (a, e) = (revocation("a", None), revocation("e", None));
    assert_eq!(one.append(std::slice::from_ref(&e)).unwrap(), std::slice::from_ref(&a));
    assert!(one.was_replaced());
    assert!(!one.was_replaced(), "reported once");
    assert_eq!(other.read_new().unwrap(), Some(vec![a, e]));
    assert!(other.was_replaced());
    assert_eq!((one.read_new().unwrap(), other.read_new().unwrap()), (Some(vec![]), Some(vec![])));
    assert!(!one.was_replaced() && !other.was_replaced());
}

/// After a restore, the next row may get the number that the last known row had.
#[test]
fn row_with_the_same_number_is_recognized_as_another() {
    let (postgres, [_, mut other]) = restored();
    postgres.query(
        "SELECT setval('countersign_revocation_number_seq', 3);
         INSERT INTO countersign_revocation (record) VALUES ('{\"issuer\":\"i\",\"jti\":\"x\"}')",
    );
    let expected = [revocation("a", None), revocation("x", None)];
    assert_eq!(other.read_new().unwrap(), Some(expected.to_vec()));
    assert!(other.was_replaced());
}

#[test]
fn another_database_is_recognized_by_its_id() {
    let (postgres, [_, mut other]) = restored();
    assert!(other.read_new().unwrap().is_some() && other.was_replaced());
    postgres.query("UPDATE countersign_database SET id = 'copy'");
    assert_eq!(other.read_new().unwrap(), Some(vec![revocation("a", None)]));
    assert!(other.was_replaced());
}

/// A row of an SQLite database is deleted after it has been over for 25 hours of open time, however
/// wrong the clock was in between.
#[test]
fn row_that_is_current_again_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::in_file(directory.path().join("r.db")).unwrap();
    let mut ledger = RevocationStore::in_database(store.clone(), vec![]);
    ledger.append(&[revocation("a", Some(50)), revocation("newest", None)]).unwrap();
    let sweep = |now, open| {
        store.block_on(store.sweep_at(ExpiringTable::Revocations, SweepTime { now, open })).unwrap()
    };
    assert_eq!(sweep(100, 0), 0, "the clock is wrong");
    assert_eq!(sweep(10, OPEN_SECONDS - 1), 0, "the clock is right again");
    assert_eq!(sweep(100, OPEN_SECONDS), 0, "over for the first time");
    assert_eq!(sweep(100, 2 * OPEN_SECONDS - 1), 0);
    assert_eq!(sweep(100, 2 * OPEN_SECONDS), 1);
}
