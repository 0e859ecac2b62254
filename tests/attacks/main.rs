//! Known attacks, each by its id: which tokens and requests must be refused, and for which reason.
//! They run against the engine and, if a request can carry the token, against the real server
//! ([`fronts::Fronts`]).
//!
//! Before each hostile token the test verifies that a similar valid one is accepted. Otherwise a
//! verifier that refuses everything would pass.

/// A: algorithms, and the choice of algorithm and key by a token.
mod algorithm_and_key;
/// A4 to A12: weak keys, keys for other purposes, keys from the token.
mod keys;
/// A13 to A15: signatures and keys that are almost valid.
mod forgery;
/// B: the structure of a token.
mod structure;
/// B4, B5: the JSON in a token.
mod json;
/// C: the claims of a correctly signed token.
mod claims;
/// D1 to D8: tokens in the verification cache.
mod cached;
/// D9, D10: key providers, and floods against them.
mod service;
/// E: requests forwarded by a reverse proxy.
mod edge;
/// E9: tokens that are bound to a key.
mod bound;
/// F: requests that another parser may read otherwise.
mod desync;
/// The engine and the server with the same keys and rules.
mod fronts;

/// Number of attacks in each group. Each has a test here.
const GROUPS: [(char, u32); 6] = [('a', 18), ('b', 12), ('c', 7), ('d', 10), ('e', 9), ('f', 7)];

#[test]
fn every_attack_has_a_test() {
    let sources = [
        include_str!("algorithm_and_key.rs"),
        include_str!("keys.rs"),
        include_str!("forgery.rs"),
        include_str!("structure.rs"),
        include_str!("json.rs"),
        include_str!("claims.rs"),
        include_str!("cached.rs"),
        include_str!("service.rs"),
        include_str!("edge.rs"),
        include_str!("bound.rs"),
        include_str!("desync.rs"),
    ];
    let tests: Vec<_> = sources.iter().flat_map(|source| tests(source)).collect();
    let missing: Vec<_> = GROUPS
        .into_iter()
        .flat_map(|(group, last)| (1..=last).map(move |number| format!("{group}{number}")))
        .filter(|id| {
            !tests
                .iter()
                .any(|name| name.split('_').take_while(|part| is_id(part)).any(|part| part == id))
        })
        .collect();
    assert!(missing.is_empty(), "no test for the attacks {missing:?}");
}

/// Returns the names of test functions: those marked `#[test]`, and those that
/// [`over_every_protocol`](countersign_tests::over_every_protocol) turns into tests.
fn tests(source: &str) -> impl Iterator<Item = &str> {
    let is_test = |(above, line): &(&str, &str)| {
        *above == "#[test]" || line.ends_with("(protocol: Protocol) {")
    };
    let marked = source.lines().zip(source.lines().skip(1)).filter(is_test);
    marked.filter_map(|(_, line)| line.strip_prefix("fn ")?.split('(').next())
}

fn is_id(part: &str) -> bool {
    let mut characters = part.chars();
    characters.next().is_some_and(|group| ('a'..='f').contains(&group))
        && characters.as_str().parse::<u32>().is_ok()
}
