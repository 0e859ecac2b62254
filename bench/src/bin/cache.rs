//! The figures of the cache: lookups in random order beside other tables of the same
//! tokens, the memory of a cached token, and what a flood does to the hits.
//!
//! Usage: `taskset -c 1 target/release/cache [memory] [flood] [random]`, on an
//! otherwise idle machine with 8 GiB; all three without an argument. Memory comes
//! first: what others have freed stays with the process.

use std::{hint::black_box, process::ExitCode};

use countersign_bench::{
    Tokens, accepts, budget, cache_of, cached, forged, hits, machine::resident_bytes, order::Order,
    paired::AtRandom, tables,
};
use countersign_engine::Verifier;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[expect(clippy::print_stderr, reason = "how it is called")]
fn main() -> ExitCode {
    let parts: [(&str, fn()); 3] = [("memory", memory), ("flood", floods), ("random", random)];
    let chosen: Vec<_> = std::env::args().skip(1).collect();
    if let Some(word) = chosen.iter().find(|word| parts.iter().all(|(name, _)| name != word)) {
        eprintln!("There is no {word}: say memory, flood or random.");
        return ExitCode::FAILURE;
    }
    for (_, part) in
        parts.iter().filter(|(name, _)| chosen.is_empty() || chosen.iter().any(|word| word == name))
    {
        part();
    }
    ExitCode::SUCCESS
}

/// Presents every token once, each of them good, and says how many the cache knew.
fn present<'t>(verifier: &Verifier, tokens: impl IntoIterator<Item = &'t [u8]>) -> u64 {
    tokens.into_iter().map(|token| u64::from(hits(verifier, token))).sum()
}

#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "a count for a figure")]
fn count(number: u64) -> f64 {
    number as f64
}

#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "a size for a figure")]
fn size(bytes: usize) -> f64 {
    bytes as f64
}

/// What a million cached tokens occupy, and that half a million more do not make it
/// more than was configured.
fn memory() {
    const FILL: usize = 1_000_000;
    const MORE: usize = 500_000;
    let tokens = Tokens::make(0..FILL + MORE);
    // What the thread itself needs is there before the cache is.
    let _none = present(&cached(1_000), tokens.iter().take(100));
    let before = resident_bytes();
    let occupied = || resident_bytes().saturating_sub(before);
    let verifier = cached(FILL);
    present(&verifier, tokens.iter().take(FILL));
    let filled = occupied();
    // Not every token that was presented need have been kept.
    let hits = count(present(&verifier, tokens.iter().take(FILL)));
    budget::print(
        "memory, bytes per cached token",
        size(filled) / hits.max(1.0),
        &format!("{hits} of {FILL} tokens"),
    );

    let mut most = occupied();
    for start in (FILL..FILL + MORE).step_by(10_000) {
        present(&verifier, (start..start + 10_000).map(|place| tokens.get(place)));
        most = most.max(occupied());
    }
    let bound = cache_of(FILL);
    budget::print(
        "memory / what was configured",
        size(most) / size(bound),
        &format!("{most} of {bound} bytes"),
    );
}

const WORKING_SET: usize = 50_000;
/// How often the working set is asked for during a flood, ten times as many in all.
const ASKED: usize = 200_000;

/// The hits of a working set under a flood of tokens that come once, as part of
/// those without a flood. The cache has room for a quarter more than the set.
fn floods() {
    let set = Tokens::make(0..WORKING_SET);
    let quiet = hits_under(&set, &mut |_| ());
    let details = |flooded| format!("{flooded} of {quiet} hits");

    let mut next = WORKING_SET;
    let flooded = hits_under(&set, &mut |verifier| {
        let once = Tokens::make(next..next + 9);
        next += 9;
        assert_eq!(present(verifier, once.iter()), 0, "a token that nobody has seen");
    });
    budget::print(
        "hits in a flood of one-time tokens / without",
        flooded / quiet,
        &details(flooded),
    );

    let mut order = Order::new(2);
    let flooded = hits_under(&set, &mut |verifier| {
        for _ in 0..9 {
            // Each a token of the set but for its signature, which is another's.
            let token = forged(
                set.get(order.below(WORKING_SET / 2)),
                set.get(WORKING_SET / 2 + order.below(WORKING_SET / 2)),
            );
            assert!(!accepts(verifier, &token), "a forged token was accepted");
        }
    });
    budget::print("hits in a flood of forged tokens / without", flooded / quiet, &details(flooded));
}

/// The hits of [`ASKED`] requests for tokens of the set, after each of which nine
/// others come. Only those of the set can hit: the others are new or forged.
fn hits_under(set: &Tokens, others: &mut dyn FnMut(&Verifier)) -> f64 {
    let verifier = cached(WORKING_SET * 5 / 4);
    // Asked for often enough to be known as worth keeping.
    for _ in 0..4 {
        present(&verifier, set.iter());
    }
    let mut order = Order::new(1);
    let mut hits = 0;
    for _ in 0..ASKED {
        hits += present(&verifier, [set.get(order.below(WORKING_SET))]);
        others(&verifier);
    }
    count(hits)
}

/// Working sets of all sizes, ours beside the other tables.
fn random() {
    for (number, words) in [
        (1, "1 token"),
        (1_000, "1,000 tokens"),
        (100_000, "100,000 tokens"),
        (1_000_000, "1,000,000 tokens"),
    ] {
        at_random(number, words);
    }
}

fn at_random(number: usize, words: &str) {
    let tokens = Tokens::make(0..number);
    // A fifth more than needed: which tokens a full cache drops is another figure's question.
    let verifier = cached(number * 6 / 5 + 1_000);
    for _ in 0..2 {
        present(&verifier, tokens.iter());
    }
    let (dashmap, papaya, quick_cache) =
        (tables::dashmap(&tokens), tables::papaya(&tokens), tables::quick_cache(&tokens));
    let lookups = AtRandom::over(&tokens);
    let dashmap =
        |token: &[u8]| dashmap.get(token).is_some_and(|value| black_box(*value) < u64::MAX);
    let papaya =
        |token: &[u8]| papaya.pin().get(token).is_some_and(|value| black_box(*value) < u64::MAX);
    let quick_cache =
        |token: &[u8]| quick_cache.get(token).is_some_and(|value| black_box(value) < u64::MAX);
    lookups.compare(&format!("papaya, {words} at random / dashmap"), &papaya, &dashmap);
    lookups.compare(&format!("quick_cache, {words} at random / dashmap"), &quick_cache, &dashmap);

    let ours = |token: &[u8]| accepts(&verifier, token);
    lookups.compare(&format!("cached, {words} at random / dashmap"), &ours, &dashmap);
    let hits = present(&verifier, tokens.iter());
    budget::print(
        &format!("hits, {words} at random"),
        count(hits) / size(tokens.len()),
        &format!("{hits} hits"),
    );
}
