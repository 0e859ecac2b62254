//! Memory layout of a shard, and the encoding of a [`Slot`].
//!
//! Memory is counted in lines of eight words, the unit that a processor fetches. A shard is one
//! line of control words, the index, the ghosts, and two rings:
//!
//! ```text
//! | control | sets: a line each, 8 slots | ghosts: 2 words a set | small ring | main ring |
//! ```

/// Words in a line.
pub(super) const LINE: usize = 8;
/// Slots in a set, which is one line.
pub(super) const WAYS: usize = LINE;
/// Words per set for the ghosts: fingerprints of tokens that left the small ring unread.
pub(super) const GHOST_WORDS: usize = 2;

/// Ring lines per set: 256 bytes for every slot, so that a set is rarely full even with the
/// shortest tokens.
const LINES_PER_SET: u64 = 32;
/// The small ring has a tenth of the memory, the share that the authors of S3-FIFO found to serve
/// nearly every workload (Yang et al., SOSP 2023, section 4).
const SMALL_SHARE: u64 = 10;
/// Maximum length of an entry, in lines: the longest token and 8 KiB more.
const MAX_ENTRY_LINES: u64 = 384;
/// Maximum number of shards. More would only help concurrent writers, of which there are few.
const MAX_SHARDS: u64 = 16;
/// Minimum size of a shard if there are several, in lines: one MiB.
const MIN_SHARD_LINES: u64 = 1 << 14;
/// Upper bound of the size of a shard: its lines are counted in 24 bits.
const MAX_SHARD_LINES: u64 = 1 << 24;

/// A range of lines in a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) first: u64,
    pub(super) lines: u64,
}

/// The division of the memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) shards: u64,
    /// Lines of one shard.
    pub(super) lines: u64,
    pub(super) sets: u64,
    pub(super) small: Extent,
    pub(super) main: Extent,
    /// The longest entry that is stored, in lines.
    pub(super) max_entry_lines: u64,
}

impl Layout {
    /// Divides `bytes` bytes, or slightly fewer.
    pub(super) fn of(bytes: u64) -> Self {
        let all = bytes / 64;
        let shards = (all / MIN_SHARD_LINES)
            .clamp(1, MAX_SHARDS)
            .max((all / MAX_SHARD_LINES).saturating_add(1));
        Self::of_shard(shards, all.checked_div(shards).unwrap_or(all))
    }

    fn of_shard(shards: u64, lines: u64) -> Self {
        let sets = (lines / (LINES_PER_SET + 1)).max(1);
        let ghosts = sets.div_ceil(4);
        let first = 1u64.saturating_add(sets).saturating_add(ghosts);
        let rings = lines.saturating_sub(first);
        let small = Extent { first, lines: rings / SMALL_SHARE };
        let main = Extent {
            first: first.saturating_add(small.lines),
            lines: rings.saturating_sub(small.lines),
        };
        // An entry, together with the unused lines at a ring's end, fits into a ring several times.
        let max_entry_lines = MAX_ENTRY_LINES.min(small.lines / 2).min(main.lines / 8);
        Self { shards, lines, sets, small, main, max_entry_lines }
    }

    /// The bytes that it takes.
    pub(super) fn bytes(&self) -> u64 {
        self.shards.saturating_mul(self.lines).saturating_mul(64)
    }

    /// Returns the location for a token with this hash. Shard, set and tag come from different
    /// bits.
    pub(super) fn location(&self, hash: u64) -> CacheLocation {
        let scaled = |bits: u64, most: u64| (bits & 0xffff_ffff).wrapping_mul(most) >> 32;
        CacheLocation {
            shard: scaled(hash >> 32, self.shards),
            set: scaled(hash, self.sets),
            tag: (hash >> 32) & Slot::TAG | 1,
            ghost: ((hash >> 40) & 0xffff).max(1),
        }
    }
}

/// The position of a token in the cache.
#[derive(Clone, Copy, Debug)]
pub(super) struct CacheLocation {
    pub(super) shard: u64,
    pub(super) set: u64,
    /// Distinguishes the token from most others of its set. Never zero, the tag of an empty slot.
    pub(super) tag: u64,
    /// The fingerprint kept in the ghosts after the token was evicted.
    pub(super) ghost: u64,
}

/// The reference to an entry: its line in the shard, the round of the ring in which it was written,
/// the read bit, and the tag.
///
/// A line and a round occur together again only after the ring was written 2^20 times. A slot with
/// the same value before and after an entry was read has therefore referred to the same entry all
/// the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot(pub(super) u64);

impl Slot {
    /// No entry.
    pub(super) const EMPTY: Self = Self(0);
    const LINE: u64 = (1 << 24) - 1;
    const ROUND: u64 = (1 << 20) - 1;
    const READ: u64 = 1 << 44;
    const TAG: u64 = (1 << 19) - 1;

    pub(super) fn new(line: u64, round: u64, tag: u64) -> Self {
        Self(line & Self::LINE | (round & Self::ROUND) << 24).with_tag(tag)
    }

    /// This slot with another tag and the read bit cleared.
    pub(super) fn with_tag(self, tag: u64) -> Self {
        Self(self.0 & (Self::LINE | Self::ROUND << 24) | (tag & Self::TAG) << 45)
    }

    pub(super) fn has_tag(self, tag: u64) -> bool {
        self.0 >> 45 == tag
    }

    pub(super) fn line(self) -> u64 {
        self.0 & Self::LINE
    }

    /// Whether both refer to the same entry, ignoring the read bit.
    pub(super) fn same_entry(self, other: Self) -> bool {
        (self.0 ^ other.0) & !Self::READ == 0
    }

    pub(super) fn was_read(self) -> bool {
        self.0 & Self::READ != 0
    }

    /// This slot with the read bit set.
    pub(super) fn read(self) -> Self {
        Self(self.0 | Self::READ)
    }
}
