//! Model checking of the cache's shard and the revocation filter: every interleaving of two threads
//! with up to two to four preemptions, and every value that the C11 memory model lets a load
//! return.
//!
//! Both are compiled here from the engine's sources, with loom's atomics.
#![expect(
    dead_code,
    unreachable_pub,
    reason = "the models use only a part of the modules that they compile"
)]

mod sync {
    pub(crate) use loom::{
        hint::spin_loop,
        sync::atomic::{AtomicU64, Ordering, fence},
    };
}

/// Compares words one by one; the real table compares them all at once.
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

/// One shard with one set, and rings for a few entries of one line.
struct Model {
    words: Vec<AtomicU64>,
    layout: Layout,
}

impl Model {
    /// Entries of one line: two words of header, two of token, up to four of record.
    fn new(small: u64, main: u64) -> Self {
        Self::with_entries_of(1, small, main)
    }

    /// Entries of up to `max_entry_lines` lines.
    fn with_entries_of(max_entry_lines: u64, small: u64, main: u64) -> Self {
        let small = Extent { first: 3, lines: small };
        let main = Extent { first: small.first + small.lines, lines: main };
        let layout = Layout {
            shards: 1,
            lines: main.first + main.lines,
            sets: 1,
            small,
            main,
            max_entry_lines,
        };
        let words = (0..layout.lines as usize * LINE).map(|_| AtomicU64::new(0)).collect();
        Self { words, layout }
    }

    /// Sets both rings to the start of this round, as if they had been written so often.
    fn start_round(&self, round: u64) {
        // Line 0 has head and tail of the small ring, then of the main ring.
        for (words, ring) in [([1, 2], self.layout.small), ([3, 4], self.layout.main)] {
            for word in words {
                self.words[word].store(round * ring.lines, sync::Ordering::Relaxed);
            }
        }
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
            assert_eq!((record.len(), record[1]), (2, !record[0]), "a torn record");
            record[0]
        })
    }
}

struct Token {
    bytes: &'static [u8],
    hash: u64,
}

// All of one set and one tag, so only their bytes distinguish them. (The highest bits are only the
// fingerprints kept after eviction.)
const ONE: Token = Token { bytes: b"token-one-------", hash: 5 << 32 };
const TWO: Token = Token { bytes: b"token-two-------", hash: 5 << 32 | 2 << 52 };
const THREE: Token = Token { bytes: b"token-three-----", hash: 5 << 32 | 3 << 52 };

// Of two lines each, and equal but for the last byte.
const LONG_ONE: Token = Token {
    bytes: b"a-token-that-takes-two-lines-with-its-header-and-its-record----1",
    hash: 5 << 32,
};
const LONG_TWO: Token = Token {
    bytes: b"a-token-that-takes-two-lines-with-its-header-and-its-record----2",
    hash: 5 << 32 | 2 << 52,
};

fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

#[test]
fn reader_finds_the_old_or_the_new_record() {
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
fn d6_overwritten_token_is_never_read_as_another() {
    check(3, || {
        // The ring is full after one entry, so the next two overwrite it.
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
fn two_readers_beside_a_writer_find_the_old_or_the_new_record() {
    check(2, || {
        let model = Arc::new(Model::new(1, 0));
        assert!(model.insert(&ONE, 1));
        let readers = [(&ONE, 1), (&TWO, 2)].map(|(token, record)| {
            let model = Arc::clone(&model);
            thread::spawn(move || {
                let found = model.find(token);
                assert!(found.is_none() || found == Some(record), "{found:?}");
            })
        });
        assert!(model.insert(&TWO, 2));
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        assert_eq!([&ONE, &TWO].map(|token| model.find(token)), [None, Some(2)]);
    });
}

#[test]
fn entry_of_several_lines_is_read_as_a_whole() {
    check(2, || {
        let model = Arc::new(Model::with_entries_of(2, 2, 0));
        assert!(model.insert(&LONG_ONE, 1));
        let writer = thread::spawn({
            let model = Arc::clone(&model);
            move || assert!(model.insert(&LONG_TWO, 2))
        });
        let found = [model.find(&LONG_ONE), model.find(&LONG_TWO)];
        assert!(matches!(found, [None | Some(1), None | Some(2)]), "{found:?}");
        writer.join().unwrap();
        assert_eq!([&LONG_ONE, &LONG_TWO].map(|token| model.find(token)), [None, Some(2)]);
    });
}

#[test]
fn rounds_wrap_without_a_wrong_record() {
    // The last round that a slot can name, and the first two of the next count.
    check(3, || {
        let model = Arc::new(Model::new(1, 0));
        model.start_round((1 << 20) - 1);
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
fn entry_moved_between_rings_is_unchanged() {
    check(2, || {
        let model = Arc::new(Model::new(1, 4));
        // The main ring is filled first, then the small one.
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
        // A writer that waits too long skips its token and returns `false`.
        assert_eq!(model.find(&ONE), theirs.then_some(1));
        assert_eq!(model.find(&TWO), ours.then_some(2));
        assert!(ours || theirs);
    });
}

#[test]
fn reader_of_the_kind_bit_sees_the_filter() {
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
