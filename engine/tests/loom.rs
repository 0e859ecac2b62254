//! The cache's shard and the revocations' filter under every order in which two
//! threads can meet, with up to two to four changes of turn in the middle of their work,
//! and every value that the memory model of C11 lets a load return.
//!
//! Both are compiled here from the product's own source, over loom's atomics.
#![expect(dead_code, unreachable_pub, reason = "the models do not use all of what they compile")]

mod sync {
    pub(crate) use loom::{
        hint::spin_loop,
        sync::atomic::{AtomicU64, Ordering, fence},
    };
}

/// Words compared one by one: what the real table does at once.
mod table {
    use super::sync::{AtomicU64, Ordering};

    pub(crate) const WORD: usize = 8;

    pub(crate) fn starts_with(words: &[AtomicU64], bytes: &[u8]) -> bool {
        words.len() >= bytes.len().div_ceil(WORD)
            && bytes.chunks(WORD).zip(words).all(|(chunk, word)| {
                word.load(Ordering::Relaxed).to_ne_bytes()[..chunk.len()] == *chunk
            })
    }
}

#[path = "../src/cache/entry.rs"]
mod entry;
#[path = "../src/revocation/filter.rs"]
mod filter;
#[path = "../src/cache/layout.rs"]
mod layout;
#[path = "../src/cache/ring.rs"]
mod ring;
#[path = "../src/cache/shard.rs"]
mod shard;

use layout::{CacheLocation, Extent, LINE, Layout};
use loom::{
    sync::{Arc, atomic::AtomicU64},
    thread,
};
use shard::Shard;

/// One shard of one set, with rings of a few entries of one line.
struct Model {
    words: Vec<AtomicU64>,
    layout: Layout,
}

impl Model {
    /// Entries of one line: two words of head, two of token, up to four of note.
    fn new(small: u64, main: u64) -> Self {
        let small = Extent { first: 3, lines: small };
        let main = Extent { first: small.first + small.lines, lines: main };
        let layout = Layout {
            shards: 1,
            lines: main.first + main.lines,
            sets: 1,
            small,
            main,
            max_entry_lines: 1,
        };
        let words = (0..layout.lines as usize * LINE).map(|_| AtomicU64::new(0)).collect();
        Self { words, layout }
    }

    fn shard(&self) -> Shard<'_> {
        Shard { words: &self.words, layout: &self.layout }
    }

    fn location(&self, token: &Token) -> CacheLocation {
        self.layout.location(token.hash)
    }

    fn insert(&self, token: &Token, record: u64) -> bool {
        self.shard().write(self.location(token), token.hash, token.bytes, &[record, !record])
    }

    fn find(&self, token: &Token) -> Option<u64> {
        let mut record = Vec::new();
        let found = self.shard().read(self.location(token), token.bytes, &mut record);
        found.then(|| {
            assert_eq!(
                (record.len(), record[1]),
                (2, !record[0]),
                "half of one note and half of another"
            );
            record[0]
        })
    }
}

struct Token {
    bytes: &'static [u8],
    hash: u64,
}

// All of one set and one tag: nothing but their bytes tells them apart. (The highest
// bits only say what is remembered of them when they have left.)
const ONE: Token = Token { bytes: b"token-one-------", hash: 5 << 32 };
const TWO: Token = Token { bytes: b"token-two-------", hash: 5 << 32 | 2 << 52 };
const THREE: Token = Token { bytes: b"token-three-----", hash: 5 << 32 | 3 << 52 };

fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

#[test]
fn a_reader_meets_the_old_note_or_the_new_one() {
    check(3, || {
        let model = Arc::new(Model::new(4, 8));
        assert!(model.insert(&ONE, 1));
        let writer = thread::spawn({
            let model = Arc::clone(&model);
            move || model.insert(&ONE, 2)
        });
        let found = model.find(&ONE);
        assert!(matches!(found, Some(1 | 2)), "{found:?}");
        assert!(writer.join().unwrap());
        assert_eq!(model.find(&ONE), Some(2));
    });
}

#[test]
fn d6_a_reader_never_takes_one_token_for_another_that_is_written_over_it() {
    check(3, || {
        // A ring that is full after one entry: the next two go over it.
        let model = Arc::new(Model::new(1, 0));
        assert!(model.insert(&ONE, 1));
        let writer = thread::spawn({
            let model = Arc::clone(&model);
            move || {
                assert!(model.insert(&TWO, 2));
                assert!(model.insert(&THREE, 3));
            }
        });
        let found = [model.find(&ONE), model.find(&TWO)];
        assert!(matches!(found, [None | Some(1), None | Some(2)]), "{found:?}");
        writer.join().unwrap();
        assert_eq!([&ONE, &TWO, &THREE].map(|token| model.find(token)), [None, None, Some(3)]);
    });
}

#[test]
fn what_is_moved_between_the_rings_stays_what_it_was() {
    check(2, || {
        let model = Arc::new(Model::new(1, 4));
        // The main ring takes what it has room for, then the small one is used.
        assert!(model.insert(&ONE, 1) && model.insert(&TWO, 2) && model.insert(&THREE, 3));
        let before = [&ONE, &TWO, &THREE].map(|token| model.find(token));
        let writer = thread::spawn({
            let model = Arc::clone(&model);
            move || model.insert(&Token { bytes: b"token-four------", hash: 5 << 32 | 4 << 52 }, 4)
        });
        for (token, before) in [&ONE, &TWO, &THREE].into_iter().zip(before) {
            let found = model.find(token);
            assert!(found.is_none() || found == before, "{found:?} after {before:?}");
        }
        writer.join().unwrap();
    });
}

#[test]
fn two_writers_take_turns() {
    check(3, || {
        let model = Arc::new(Model::new(4, 8));
        let writer = thread::spawn({
            let model = Arc::clone(&model);
            move || model.insert(&ONE, 1)
        });
        let ours = model.insert(&TWO, 2);
        let theirs = writer.join().unwrap();
        // One that waits too long leaves its token out, and says so.
        assert_eq!(model.find(&ONE), theirs.then_some(1));
        assert_eq!(model.find(&TWO), ours.then_some(2));
        assert!(ours || theirs);
    });
}

#[test]
fn a_revocation_is_seen_by_whoever_sees_that_there_are_any() {
    check(4, || {
        let shared = Arc::new((filter::BloomFilter::with_capacity(1), AtomicU64::new(0)));
        let writer = thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                shared.0.insert(0x1234_5678_9abc_def0);
                shared.1.store(1, sync::Ordering::Release);
            }
        });
        if shared.1.load(sync::Ordering::Acquire) == 1 {
            assert!(shared.0.may_contain(0x1234_5678_9abc_def0));
        }
        writer.join().unwrap();
        assert!(shared.0.may_contain(0x1234_5678_9abc_def0));
    });
}
