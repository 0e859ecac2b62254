//! Tests that every record store must pass; they run on [`Store`] and on its reference
//! implementation.
#![cfg(test)]

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use proptest::prelude::*;

use super::{locked::LockedStore, store::Store};

trait RecordStore: Sync {
    fn with_bytes(bytes: usize) -> Self;
    fn find(&self, token: &[u8]) -> Option<Vec<u64>>;
    fn insert(&self, token: &[u8], record: &[u64]) -> bool;
}

impl RecordStore for Store {
    fn with_bytes(bytes: usize) -> Self {
        Self::new(bytes).unwrap()
    }

    fn find(&self, token: &[u8]) -> Option<Vec<u64>> {
        // The old contents of the buffer must not show through.
        let mut record = vec![0x5a; 3];
        self.find(token, &mut record).then_some(record)
    }

    fn insert(&self, token: &[u8], record: &[u64]) -> bool {
        self.insert(token, record)
    }
}

impl RecordStore for LockedStore {
    fn with_bytes(bytes: usize) -> Self {
        Self::new(bytes)
    }

    fn find(&self, token: &[u8]) -> Option<Vec<u64>> {
        let mut record = vec![0x5a; 3];
        self.find(token, &mut record).then_some(record)
    }

    fn insert(&self, token: &[u8], record: &[u64]) -> bool {
        self.insert(token, record)
    }
}

/// Runs each test on both stores.
macro_rules! suite {
    ($($test:ident)*) => {
        mod store { $( #[test] fn $test() { super::$test::<super::Store>() } )* }
        mod locked_store { $( #[test] fn $test() { super::$test::<super::LockedStore>() } )* }
    };
}

suite! {
    inserted_record_is_found
    similar_tokens_are_not_found
    d6_tokens_with_the_same_end_are_distinguished
    later_record_replaces_an_earlier_one
    oversized_entry_is_refused_without_harm
    store_matches_its_model
    threads_never_find_a_torn_record
}

/// Returns a token of this number and length, differing from the others as little as possible.
fn token(number: u64, length: usize) -> Vec<u8> {
    let mut token = vec![b'x'; length];
    let digits = format!("{number:016x}");
    token[length - 16..].copy_from_slice(digits.as_bytes());
    token
}

fn inserted_record_is_found<N: RecordStore>() {
    let store = N::with_bytes(1 << 20);
    let all: Vec<_> = (0..500)
        .map(|number| {
            (token(number, 32 + (number as usize * 7) % 900), vec![number; number as usize % 40])
        })
        .collect();
    for (token, record) in &all {
        assert!(store.find(token).is_none());
        assert!(store.insert(token, record));
        assert_eq!(store.find(token).as_ref(), Some(record));
    }
    for (token, record) in &all {
        assert_eq!(store.find(token).as_ref(), Some(record));
    }
}

fn similar_tokens_are_not_found<N: RecordStore>() {
    let store = N::with_bytes(1 << 20);
    for length in [32, 33, 39, 40, 41, 127, 128, 129, 822] {
        let known = token(length as u64, length);
        store.insert(&known, &[1, 2, 3]);
        for place in 0..length {
            for bit in 0..8 {
                let mut other = known.clone();
                other[place] ^= 1 << bit;
                assert_eq!(store.find(&other), None, "byte {place} of {length}");
            }
        }
        for other in [
            &known[1..],
            &known[..length - 1],
            b"",
            &[known.as_slice(), b"x"].concat(),
            &[known.as_slice(), b"\0"].concat(),
        ] {
            assert_eq!(store.find(other), None, "{length}");
        }
        assert_eq!(store.find(&known), Some(vec![1, 2, 3]));
    }
}

fn d6_tokens_with_the_same_end_are_distinguished<N: RecordStore>() {
    let store = N::with_bytes(1 << 20);
    // More tokens than a set has slots, all with the same set and tag.
    let all: Vec<_> = (0..50u64)
        .map(|number| [format!("{number:08}").as_bytes(), &token(7, 300)].concat())
        .collect();
    for (number, token) in (0..).zip(&all) {
        store.insert(token, &[number]);
        assert_eq!(store.find(token), Some(vec![number]));
        for (number, token) in (0..).zip(&all) {
            assert!(store.find(token).is_none_or(|record| record == [number]));
        }
    }
}

fn later_record_replaces_an_earlier_one<N: RecordStore>() {
    let store = N::with_bytes(1 << 20);
    let token = token(1, 500);
    for record in [&[1, 2][..], &[3; 30], &[], &[1, 2], &[4]] {
        for _ in 0..3 {
            assert!(store.insert(&token, record));
            assert_eq!(store.find(&token).as_deref(), Some(record));
        }
    }
}

fn oversized_entry_is_refused_without_harm<N: RecordStore>() {
    let store = N::with_bytes(64 << 10);
    let good = token(1, 100);
    assert!(store.insert(&good, &[1]));
    let long = token(2, 70_000);
    assert!(!store.insert(&long, &[2]));
    assert!(!store.insert(&token(3, 100), &[0; 70_000]));
    assert_eq!((store.find(&long), store.find(&good)), (None, Some(vec![1])));
}

#[derive(Clone, Debug)]
enum StoreOperation {
    Insert { token: u64, length: usize, record: usize },
    Find { token: u64, length: usize },
}

fn step() -> impl Strategy<Value = StoreOperation> {
    // Few tokens and little memory, so that they evict each other.
    let name = || (0..60u64, prop_oneof![Just(40), Just(100), Just(822)]);
    prop_oneof![
        (name(), 0..60usize).prop_map(|((token, length), record)| StoreOperation::Insert {
            token,
            length,
            record
        }),
        name().prop_map(|(token, length)| StoreOperation::Find { token, length }),
    ]
}

fn store_matches_its_model<N: RecordStore>() {
    proptest!(|(bytes in 8_000usize..200_000, steps in prop::collection::vec(step(), 1..600))| {
        let store = N::with_bytes(bytes);
        let mut model = HashMap::new();
        for (number, step) in (0..).zip(steps) {
            match step {
                StoreOperation::Insert { token: name, length, record } => {
                    let (token, record) = (token(name, length), vec![number; record]);
                    if store.insert(&token, &record) {
                        prop_assert_eq!(store.find(&token), Some(record.clone()), "just inserted");
                        model.insert(token, record);
                    } else {
                        prop_assert!(bytes < 100_000, "any entry fits into this size");
                    }
                }
                StoreOperation::Find { token: name, length } => {
                    let token = token(name, length);
                    let found = store.find(&token);
                    // It may have been evicted, but is never the record of another token, nor an
                    // older one.
                    prop_assert!(found.is_none() || found.as_ref() == model.get(&token), "{name} of {length}");
                }
            }
        }
    });
}

fn threads_never_find_a_torn_record<N: RecordStore>() {
    const TOKENS: u64 = 200;
    let store = N::with_bytes(64 << 10);
    let done = AtomicBool::new(false);
    // The words of a record must match each other, and the token.
    let record = |name: u64, version: u64| vec![name.wrapping_mul(version); 5 + name as usize % 30];
    let name_of = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % TOKENS;
    let length_of = |name: u64| 32 + name as usize * 3;
    thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|reader| {
                let (store, done) = (&store, &done);
                scope.spawn(move || {
                    let (mut hits, mut number) = (0u64, reader);
                    while !done.load(Ordering::Relaxed) {
                        number += 1;
                        let name = name_of(number);
                        let Some(found) = store.find(&token(name, length_of(name))) else {
                            continue;
                        };
                        hits += 1;
                        assert_eq!(
                            found.len(),
                            5 + name as usize % 30,
                            "the record of another token"
                        );
                        assert!(found.iter().all(|word| *word == found[0]), "a torn record");
                        assert!(name == 0 || found[0] % name == 0, "the record of another token");
                    }
                    hits
                })
            })
            .collect();
        let writers: Vec<_> = (1..=2u64)
            .map(|writer| {
                let store = &store;
                scope.spawn(move || {
                    for round in 0..30_000u64 {
                        let name = name_of(round.wrapping_mul(writer));
                        store.insert(
                            &token(name, length_of(name)),
                            &record(name, round % 1000 + writer),
                        );
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        done.store(true, Ordering::Relaxed);
        let hits: u64 = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
        assert!(hits > 0, "no hits");
    });
}

/// Creates a store with `tokens` tokens of 300 bytes, each inserted and found again.
fn in_use(bytes: usize, tokens: u64) -> Store {
    let store = Store::new(bytes).unwrap();
    for _ in 0..3 {
        for number in 0..tokens {
            if RecordStore::find(&store, &token(number, 300)).is_none() {
                store.insert(&token(number, 300), &[number; 12]);
            }
        }
    }
    store
}

#[test]
fn d7_flood_of_single_use_tokens_evicts_none_in_use() {
    const TOKENS: u64 = 1_500;
    let store = in_use(1 << 20, TOKENS);
    let mut hits = 0;
    for round in 0..100 * TOKENS {
        // Nine of ten tokens are never seen again.
        store.insert(&token(1_000_000 + round, 300), &[round; 12]);
        if round % 9 == 0 {
            let number = round / 9 % TOKENS;
            match RecordStore::find(&store, &token(number, 300)) {
                Some(record) => hits += u64::from(record == [number; 12]),
                None => assert!(store.insert(&token(number, 300), &[number; 12])),
            }
        }
    }
    let lookups = 100 * TOKENS / 9;
    assert!(hits * 100 >= lookups * 99, "{hits} of {lookups}");
}

#[test]
fn entries_in_use_are_kept_during_a_flood() {
    let store = Store::new(1 << 20).unwrap();
    let (mut lookups, mut missed) = (0, 0);
    for round in 0..60_000u64 {
        store.insert(&token(1_000_000 + round, 300), &[1; 12]);
        let number = round % 500;
        if round % 3 == 0 {
            let is_missing = RecordStore::find(&store, &token(number, 300)).is_none();
            if is_missing {
                store.insert(&token(number, 300), &[number; 12]);
            }
            // By then the store is in a steady state.
            if round >= 30_000 {
                lookups += 1;
                missed += u64::from(is_missing);
            }
        }
    }
    // For a few tokens, every possible slot is taken.
    assert!(missed * 50 <= lookups, "{missed} of {lookups} missed");
}

#[test]
fn unused_entries_make_room_for_new_ones() {
    const TOKENS: u64 = 1_200;
    let store = in_use(1 << 20, TOKENS);
    for generation in 1..4 {
        let numbers = || (0..TOKENS).map(|number| number + generation * 100_000);
        for _ in 0..12 {
            for number in numbers() {
                if RecordStore::find(&store, &token(number, 300)).is_none() {
                    store.insert(&token(number, 300), &[number; 12]);
                }
            }
        }
        let found = numbers()
            .filter(|number| RecordStore::find(&store, &token(*number, 300)).is_some())
            .count();
        assert!(found as u64 * 100 >= TOKENS * 95, "generation {generation}: {found} of {TOKENS}");
    }
}

#[test]
fn insertions_and_evictions_are_counted() {
    let store = in_use(1 << 20, 100);
    assert_eq!((store.statistics().entries, store.statistics().evicted), (100, 0));
    for number in 0..20_000 {
        store.insert(&token(number, 300), &[number; 12]);
    }
    let found = (0..20_000)
        .filter(|number| RecordStore::find(&store, &token(*number, 300)).is_some())
        .count();
    let statistics = store.statistics();
    assert_eq!(statistics.entries, found as u64);
    assert!(statistics.evicted > 15_000 && statistics.entries > 1_500, "{statistics:?}");
}

#[test]
fn every_store_size_works_or_holds_nothing() {
    for bytes in (0..3_000).chain([4_096, 10_000, 65_536, 1 << 20, (1 << 20) + 1, 20 << 20]) {
        let store = Store::new(bytes);
        let Some(store) = store else { continue };
        assert_eq!(store.statistics().entries, 0, "{bytes}");
        for number in 0..50 {
            let token = token(number, 40);
            assert!(
                !store.insert(&token, &[number])
                    || RecordStore::find(&store, &token) == Some(vec![number]),
                "{bytes}"
            );
        }
    }
}
