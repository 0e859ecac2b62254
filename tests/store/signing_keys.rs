use countersign_engine::UnixTime;
use countersign_server::store::{
    Store,
    signing_keys::{KeyInForce, TokenEnds},
    tokens::IssuedToken,
};
use countersign_tests::postgres::Postgres;

use super::{
    contract::{over_every_store, token, wait},
    store,
};

over_every_store!(one_key_of_a_section_is_in_force, ends_of_living_tokens_are_found);

fn one_key_of_a_section_is_in_force(open: &dyn Fn() -> Store) {
    let (store, other) = (open(), open());
    let key = |id: &str, since| KeyInForce { key_id: id.into(), since: UnixTime(since) };
    let put = |section, key| wait(&store, store.put_key_in_force(section, key)).unwrap();
    let found = |section| wait(&other, other.key_in_force(section)).unwrap();
    assert_eq!(found("a"), None);
    assert!(put("a", key("1", 10)) && put("b", key("1", 20)) && put("a", key("2", 30)));
    assert_eq!((found("a"), found("b")), (Some(key("2", 30)), Some(key("1", 20))));
    assert!(!put("a", key("2", 40)), "it is in force");
    assert_eq!(found("a"), Some(key("2", 30)), "since its first rotation");
}

fn ends_of_living_tokens_are_found(open: &dyn Fn() -> Store) {
    let store = open();
    let own = |jti: &str, at| IssuedToken { environment: None, ..token(jti, at) };
    let ends = |issuer, by, now| {
        wait(&store, store.token_ends(issuer, UnixTime(by), UnixTime(now))).unwrap()
    };
    assert_eq!(ends("i", 1000, 0), TokenEnds::default());
    wait(&store, async {
        let endless = |jti: &str| IssuedToken { expires_at: None, ..own(jti, 50) };
        let others = [IssuedToken { issuer: "j".into(), ..own("e", 900) }, own("f", 700)];
        let tokens = [own("a", 100), own("b", 300), endless("c"), endless("d")];
        for one in tokens.into_iter().chain(others) {
            store.register_token(one).await.unwrap();
        }
        for revoked in ["d", "f"] {
            store.mark_revoked(revoked, UnixTime(400)).await.unwrap();
        }
    });
    let latest = |at| TokenEnds { latest: Some(UnixTime(at)), unlimited: 1 };
    assert_eq!(ends("i", 1000, 0), latest(360));
    assert_eq!(ends("i", 200, 0), latest(160), "those that were issued later do not count");
    assert_eq!(ends("i", 1000, 360), TokenEnds { latest: None, unlimited: 1 });
}
