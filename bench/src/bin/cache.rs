//! Figures of the cache: lookups in random order compared with other tables of the same tokens,
//! memory per cached token, and the hits during a flood.
//!
//! Usage: `taskset -c 1 target/dist/cache [memory] [flood] [random]`, on an otherwise idle
//! machine with 8 GiB. Without an argument it runs all three. Memory comes first, because memory
//! that the other parts free stays with the process.

use std::{hint::black_box, process::ExitCode};

use countersign_bench::{
    Tokens, accepts, budget, cache_bytes, forged, hits, machine::resident_bytes, order::SplitMix64,
    paired::RandomLookups, tables, verifier_caching,
};
use countersign_engine::Verifier;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[expect(clippy::print_stderr, reason = "the usage")]
fn main() -> ExitCode {
    let parts: [(&str, fn()); 3] = [("memory", memory), ("flood", floods), ("random", random)];
    let chosen: Vec<_> = std::env::args().skip(1).collect();
    if let Some(word) = chosen.iter().find(|word| parts.iter().all(|(name, _)| name != word)) {
        eprintln!("unknown part {word}: use memory, flood or random");
        return ExitCode::FAILURE;
    }
    for (_, part) in
        parts.iter().filter(|(name, _)| chosen.is_empty() || chosen.iter().any(|word| word == name))
    {
        part();
    }
    ExitCode::SUCCESS
}

/// Verifies every token once, and returns the number of cache hits. All tokens must be good.
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

/// Measures the memory of a million cached tokens, and whether half a million more stay within the
/// configured memory.
fn memory() {
    const FILL: usize = 1_000_000;
    const MORE: usize = 500_000;
    let tokens = Tokens::make(0..FILL + MORE);
    // Allocate what the thread itself needs before the cache is measured.
    let _ignored = present(&verifier_caching(1_000), tokens.iter().take(100));
    let before = resident_bytes();
    let occupied = || resident_bytes().saturating_sub(before);
    let verifier = verifier_caching(FILL);
    present(&verifier, tokens.iter().take(FILL));
    let filled = occupied();
    // The cache may not have kept every token.
    let hits = count(present(&verifier, tokens.iter().take(FILL)));
    budget::print(
        "memory, bytes per cached token",
        size(filled) / hits.max(1.0),
        &format!("{hits} of {FILL} tokens"),
    );

    let mut peak = occupied();
    for start in (FILL..FILL + MORE).step_by(10_000) {
        present(&verifier, (start..start + 10_000).map(|index| tokens.get(index)));
        peak = peak.max(occupied());
    }
    let bound = cache_bytes(FILL);
    budget::print(
        "memory / what was configured",
        size(peak) / size(bound),
        &format!("{peak} of {bound} bytes"),
    );
}

const WORKING_SET: usize = 50_000;
/// Requests for the working set during a flood; the flood adds nine times as many.
const REQUESTS: usize = 200_000;

/// Measures the hits of a working set during a flood of tokens that come once, relative to the hits
/// without a flood. The cache has room for a quarter more than the set.
fn floods() {
    let set = Tokens::make(0..WORKING_SET);
    let quiet = hits_under(&set, &mut |_| ());
    let details = |flooded| format!("{flooded} of {quiet} hits");

    let mut next = WORKING_SET;
    let flooded = hits_under(&set, &mut |verifier| {
        let once = Tokens::make(next..next + 9);
        next += 9;
        assert_eq!(present(verifier, once.iter()), 0, "a new token was found in the cache");
    });
    budget::print(
        "hits in a flood of one-time tokens / without",
        flooded / quiet,
        &details(flooded),
    );

    let mut order = SplitMix64::new(2);
    let flooded = hits_under(&set, &mut |verifier| {
        for _ in 0..9 {
            // Each forgery is a token of the set with the signature of another one.
            let token = forged(
                set.get(order.below(WORKING_SET / 2)),
                set.get(WORKING_SET / 2 + order.below(WORKING_SET / 2)),
            );
            assert!(!accepts(verifier, &token), "a forged token was accepted");
        }
    });
    budget::print("hits in a flood of forged tokens / without", flooded / quiet, &details(flooded));
}

/// Returns the hits of [`REQUESTS`] requests for tokens of the set, with `others` called after each
/// of them. Only tokens of the set can hit: the others are new or forged.
fn hits_under(set: &Tokens, others: &mut dyn FnMut(&Verifier)) -> f64 {
    let verifier = verifier_caching(WORKING_SET * 5 / 4);
    // Requested often enough for the cache to consider them worth keeping.
    for _ in 0..4 {
        present(&verifier, set.iter());
    }
    let mut order = SplitMix64::new(1);
    let mut hits = 0;
    for _ in 0..REQUESTS {
        hits += present(&verifier, [set.get(order.below(WORKING_SET))]);
        others(&verifier);
    }
    count(hits)
}

/// Compares the cache with the other tables, for working sets of all sizes.
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
    // A fifth more than needed. Which tokens a full cache evicts is measured elsewhere.
    let verifier = verifier_caching(number * 6 / 5 + 1_000);
    for _ in 0..2 {
        present(&verifier, tokens.iter());
    }
    let (dashmap, papaya, quick_cache) =
        (tables::dashmap(&tokens), tables::papaya(&tokens), tables::quick_cache(&tokens));
    let lookups = RandomLookups::over(&tokens);
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
