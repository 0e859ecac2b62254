use countersign_engine::UnixTime;
use countersign_server::store::{
    Store,
    key_sets::{KeySetOwner, StoredKeySet},
};
use countersign_tests::postgres::Postgres;

use super::store;

#[test]
fn sqlite_keeps_key_sets_by_source() {
    check(&store(&tempfile::tempdir().unwrap(), ""));
}

#[test]
fn postgresql_keeps_key_sets_by_source() {
    let postgres = Postgres::start();
    check(&store(&tempfile::tempdir().unwrap(), &format!("url={}", postgres.url())));
}

fn check(store: &Store) {
    let owner = |section: &str, source: &str| KeySetOwner {
        section: section.into(),
        issuer: "https://idp/".into(),
        source: source.into(),
    };
    let set = |keys: &str, at| StoredKeySet { keys: keys.into(), fetched_at: UnixTime(at) };
    let found = |owner| store.block_on(store.key_set(owner)).unwrap();
    assert_eq!(found(owner("a", "1")), None);
    for (section, keys, at) in [("a", "old", 5), ("b", "other", 6), ("a", "new", 7)] {
        store.block_on(store.save_key_set(owner(section, "1"), set(keys, at))).unwrap();
    }
    assert_eq!(found(owner("a", "1")), Some(set("new", 7)));
    assert_eq!(found(owner("a", "2")), None);
    store.block_on(store.save_key_set(owner("a", "2"), set("moved", 8))).unwrap();
    assert_eq!(found(owner("a", "1")), None, "the earlier source of the section");
    assert_eq!(found(owner("b", "1")), Some(set("other", 6)));
    store.block_on(store.delete_key_set(owner("a", "2"))).unwrap();
    assert_eq!(found(owner("a", "2")), None);
}
