//! Records of tokens in a fixed amount of memory: shards side by side in one table.

use core::{
    fmt,
    hash::{BuildHasher as _, Hasher as _},
};

use foldhash::quality::RandomState;

use super::{
    layout::{LINE, Layout},
    shard::{Shard, StoreStatistics},
    table::Table,
};

/// Records of tokens.
pub(super) struct Store {
    table: Table,
    layout: Layout,
    hash: RandomState,
}

impl Store {
    /// Creates an empty store of at most `bytes` bytes, or returns `None` if the system does not
    /// provide the memory. Pages are taken from the system only when they are written.
    pub(super) fn new(bytes: usize) -> Option<Self> {
        let layout = Layout::of(u64::try_from(bytes).ok()?);
        let table = Table::of_zeros(usize::try_from(layout.bytes()).ok()?)?;
        Some(Self { table, layout, hash: RandomState::default() })
    }

    /// Copies the record of exactly this token, if there is one.
    #[inline]
    pub(super) fn find(&self, token: &[u8], record: &mut Vec<u64>) -> bool {
        let Some(hash) = self.hash(token) else { return false };
        let location = self.layout.location(hash);
        self.shard(location.shard).is_some_and(|shard| shard.read(location, token, record))
    }

    /// Stores the record of a token, replacing an earlier one.
    pub(super) fn insert(&self, token: &[u8], record: &[u64]) -> bool {
        let Some(hash) = self.hash(token) else { return false };
        let location = self.layout.location(hash);
        self.shard(location.shard).is_some_and(|shard| shard.write(location, hash, token, record))
    }

    /// Returns the counters of all shards together.
    pub(super) fn statistics(&self) -> StoreStatistics {
        let all = 0..self.layout.shards;
        all.filter_map(|number| self.shard(number)).map(Shard::statistics).fold(
            StoreStatistics::default(),
            |all, one| StoreStatistics {
                entries: all.entries.saturating_add(one.entries),
                evicted: all.evicted.saturating_add(one.evicted),
                skipped: all.skipped.saturating_add(one.skipped),
            },
        )
    }

    /// Hashes the last characters, which in a token are the end of its signature. No token that
    /// verifies is shorter than that.
    #[inline]
    fn hash(&self, token: &[u8]) -> Option<u64> {
        const TAIL: usize = 32;
        let (words, _) = token.last_chunk::<TAIL>()?.as_chunks::<8>();
        let mut hasher = self.hash.build_hasher();
        for word in words {
            hasher.write_u64(u64::from_ne_bytes(*word));
        }
        Some(hasher.finish())
    }

    #[inline]
    fn shard(&self, number: u64) -> Option<Shard<'_>> {
        let words = self.shard_words();
        let start = usize::try_from(number).ok()?.checked_mul(words)?;
        Some(Shard { words: self.table.get(start..)?.get(..words)?, layout: &self.layout })
    }

    fn shard_words(&self) -> usize {
        usize::try_from(self.layout.lines).unwrap_or(usize::MAX).saturating_mul(LINE)
    }
}

impl fmt::Debug for Store {
    /// Shows the size only. Tokens are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("bytes", &self.layout.bytes()).finish_non_exhaustive()
    }
}
