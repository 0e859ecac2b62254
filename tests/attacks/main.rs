//! Known attacks, each by its id: what must be refused, for which reason, by the
//! engine and, where a request can carry it, by the real server.
//!
//! Every hostile token has an honest twin that is accepted first: a test that
//! refuses everything proves nothing.

/// A: algorithms, and how a token chooses one and its key.
mod algorithm_and_key;
/// A4 to A12: keys that are weak, for something else, or brought along.
mod keys;
/// A13 to A15: signatures and keys that only nearly are what they should be.
mod forgery;
/// B: the form of a token.
mod structure;
/// B4, B5: the JSON in a token.
mod json;
/// C: what a genuine token claims.
mod claims;
/// D1 to D8: a token that was verified before.
mod remembered;
/// D9, D10: providers of keys, and floods that are aimed at them.
mod service;
/// E: between a reverse proxy and its application.
mod edge;
/// The engine and the server, trusting the same keys.
mod fronts;

/// The attacks of each group that have a test here.
const GROUPS: [(char, u32); 5] = [('a', 18), ('b', 12), ('c', 7), ('d', 10), ('e', 8)];

#[test]
fn every_attack_has_its_test() {
    let sources = [
        include_str!("algorithm_and_key.rs"),
        include_str!("keys.rs"),
        include_str!("forgery.rs"),
        include_str!("structure.rs"),
        include_str!("json.rs"),
        include_str!("claims.rs"),
        include_str!("remembered.rs"),
        include_str!("service.rs"),
        include_str!("edge.rs"),
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
    assert!(missing.is_empty(), "no test is named after {missing:?}");
}

/// The names of the functions that are tests: marked as one, or made one over every
/// version of HTTP.
fn tests(source: &str) -> impl Iterator<Item = &str> {
    let is_test = |(above, line): &(&str, &str)| {
        *above == "#[test]" || line.ends_with("(protocol: Protocol) {")
    };
    let marked = source.lines().zip(source.lines().skip(1)).filter(is_test);
    marked.filter_map(|(_, line)| line.strip_prefix("fn ")?.split('(').next())
}

fn is_id(part: &str) -> bool {
    let mut characters = part.chars();
    characters.next().is_some_and(|group| ('a'..='e').contains(&group))
        && characters.as_str().parse::<u32>().is_ok()
}
