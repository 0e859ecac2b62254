//! What many issuers and changing keys cost a verification, as ratios of paired
//! rounds: HS256, the cheapest, on which any cost shows most.
//!
//! Usage: `target/release/rotation`, on an otherwise idle machine. Not bound to one
//! core: another thread changes the keys.

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
    MANY, NOW, hundred_keys, many_issuers, padded_key, paired::compare, secret_token, tenant,
    verifier,
};
use countersign_engine::{Algorithm, Verifier};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    issuers();
    swaps();
}

/// Every verification takes the next token.
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
    let of_one: Vec<_> = (0..MANY).map(|index| secret_token(&tenant(0), index)).collect();
    let of_all: Vec<_> = (0..MANY).map(|index| secret_token(&tenant(index), index)).collect();
    compare("one of 1,000 issuers / alone", &in_turn(&many, &of_one), &in_turn(&one, &of_one));
    compare("all of 1,000 issuers / one alone", &in_turn(&many, &of_all), &in_turn(&one, &of_one));
}

/// The other thread makes new sets all the time, as many for both contestants, and
/// puts them in place during the rounds of one of them only.
fn swaps() {
    let [before, after] = hundred_keys();
    let verifier = Arc::new(verifier(Algorithm::Hs256, before));
    let tokens: Vec<_> = (0..100).map(|index| secret_token(&tenant(0), index)).collect();
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
                    verifier.replace_keys(&tenant(0), set);
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
    assert!(count > 50, "only {count} swaps: the figure means nothing");
    #[expect(clippy::print_stdout, reason = "the report")]
    {
        println!("{count} swaps, every verification accepted");
    }
}
