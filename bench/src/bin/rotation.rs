//! Cost of many issuers and of changing keys, as ratios of paired rounds. The algorithm is HS256,
//! the cheapest, with which any extra cost shows most.
//!
//! Usage: `target/dist/rotation`, on an otherwise idle machine. It is not pinned to one core,
//! because another thread changes the keys.

use std::{
    cell::Cell,
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use countersign_bench::{
    ISSUER_COUNT, NOW, hs256_token, hundred_keys, many_issuers, padded_key, paired::compare,
    tenant, verifier,
};
use countersign_engine::{Algorithm, Verifier};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    issuers();
    swaps();
}

/// Returns a contestant that verifies the next token in each call.
fn in_turn<'v>(verifier: &'v Verifier, tokens: &'v [String]) -> impl Fn() -> bool + 'v {
    let next = Cell::new(0);
    move || {
        let index = next.get();
        next.set((index + 1) % tokens.len());
        verifier.verify(black_box(tokens[index].as_bytes()), NOW).is_ok()
    }
}

fn issuers() {
    let (one, many) = (verifier(Algorithm::Hs256, padded_key()), many_issuers());
    let one_issuer: Vec<_> =
        (0..ISSUER_COUNT).map(|index| hs256_token(&tenant(0), index)).collect();
    let all_issuers: Vec<_> =
        (0..ISSUER_COUNT).map(|index| hs256_token(&tenant(index), index)).collect();
    compare(
        "one of 1,000 issuers / alone",
        &in_turn(&many, &one_issuer),
        &in_turn(&one, &one_issuer),
    );
    compare(
        "all of 1,000 issuers / one alone",
        &in_turn(&many, &all_issuers),
        &in_turn(&one, &one_issuer),
    );
}

/// Measures verification while another thread swaps key sets. That thread makes new sets all the
/// time, as many for both contestants, and installs them during the rounds of one contestant only.
fn swaps() {
    let [before, after] = hundred_keys();
    let verifier = Arc::new(verifier(Algorithm::Hs256, before));
    let tokens: Vec<_> = (0..100).map(|index| hs256_token(&tenant(0), index)).collect();
    let (swapping, swaps) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    {
        let (verifier, swapping, swaps) =
            (Arc::clone(&verifier), Arc::clone(&swapping), Arc::clone(&swaps));
        let sets =
            [Arc::new(after), Arc::new(hundred_keys().into_iter().next().expect("the first"))];
        thread::spawn(move || {
            for set in sets.iter().cycle() {
                drop(black_box(hundred_keys()));
                if swapping.load(Ordering::Relaxed) {
                    verifier
                        .update(|snapshot| snapshot.set_keys(&tenant(0), Some(set)))
                        .expect("it");
                    swaps.fetch_add(1, Ordering::Relaxed);
                }
                thread::sleep(Duration::from_micros(500));
            }
        });
    }
    let work = in_turn(&verifier, &tokens);
    let with = |swap: bool| {
        let (work, swapping) = (&work, &swapping);
        move || {
            swapping.store(swap, Ordering::Relaxed);
            work()
        }
    };
    compare("100 keys swapped / not", &with(true), &with(false));
    let count = swaps.load(Ordering::Relaxed);
    assert!(count > 50, "only {count} swaps: too few for the figure");
    #[expect(clippy::print_stdout, reason = "the report")]
    {
        println!("{count} swaps, every verification accepted");
    }
}
