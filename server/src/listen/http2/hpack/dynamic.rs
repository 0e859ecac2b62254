//! The dynamic table (RFC 7541 section 2.3.2): what a client wants us to remember.
//!
//! It is kept as bytes, one line behind the other, which are only ever appended while a
//! section is read: what the section refers to stays where it is, also when it is
//! forgotten meanwhile.

use std::collections::VecDeque;

use crate::listen::fields::section::{FieldLine, LINE_OVERHEAD, SectionReader, TextSpan};

/// The largest size of a table, which is what clients may use if they are told nothing.
pub(super) const MAX_TABLE_SIZE: usize = 4096;
/// How many bytes of forgotten lines are kept before the others are moved to their place.
const MAX_EVICTED_BYTES: usize = 4096;
/// How much memory a table may keep.
const MAX_RETAINED_MEMORY: usize = 16 * 1024;

/// What a client has wanted us to remember.
pub struct DynamicTable {
    /// The oldest first.
    lines: VecDeque<DynamicEntry>,
    bytes: Vec<u8>,
    /// What the lines count for.
    size: usize,
    /// What they may count for.
    max_size: usize,
}

/// A line: where its name begins, and how long that and its value are.
#[derive(Clone, Copy)]
struct DynamicEntry {
    start: usize,
    name: usize,
    value: usize,
}

impl DynamicEntry {
    const fn size(self) -> usize {
        self.name + self.value + LINE_OVERHEAD
    }
}

impl Default for DynamicTable {
    fn default() -> Self {
        Self { lines: VecDeque::new(), bytes: Vec::new(), size: 0, max_size: MAX_TABLE_SIZE }
    }
}

impl DynamicTable {
    /// The texts of all lines.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The line of this age; 0 is the last one.
    pub(super) fn line(&self, age: usize) -> Option<FieldLine> {
        let place = self.lines.len().checked_sub(age + 1)?;
        let DynamicEntry { start, name, value } = *self.lines.get(place)?;
        Some(FieldLine {
            name: TextSpan::dynamic(start, name)?,
            value: TextSpan::dynamic(start + name, value)?,
        })
    }

    /// Changes the size that the table may have (section 4.3).
    pub(super) fn resize(&mut self, max_size: usize) {
        self.max_size = max_size;
        self.evict_for(0);
    }

    /// Remembers a line (section 4.4), which may have its name from one that is forgotten
    /// for it.
    pub(super) fn insert(&mut self, line: FieldLine, reader: &SectionReader<'_, '_>) {
        let new = DynamicEntry {
            start: self.bytes.len(),
            name: line.name.len(),
            value: line.value.len(),
        };
        self.evict_for(new.size());
        if new.size() > self.max_size {
            return;
        }
        match line.name.dynamic_offset() {
            Some(place) => self.bytes.extend_from_within(place..place + new.name),
            None => self.bytes.extend_from_slice(reader.text(line.name)),
        }
        self.bytes.extend_from_slice(reader.text(line.value));
        self.size += new.size();
        self.lines.push_back(new);
    }

    /// Forgets what is oldest until there is room for so much.
    fn evict_for(&mut self, wanted: usize) {
        while self.size + wanted > self.max_size
            && let Some(oldest) = self.lines.pop_front()
        {
            self.size -= oldest.size();
        }
    }

    /// Gets rid of what is forgotten, between two sections, and behind the last one that
    /// has come: who says nothing more is not to keep what he has made us forget.
    pub(in super::super) fn release_memory(&mut self) {
        let garbage = self.lines.front().map_or(self.bytes.len(), |oldest| oldest.start);
        if garbage < MAX_EVICTED_BYTES {
            return;
        }
        self.bytes.drain(..garbage);
        self.lines.iter_mut().for_each(|line| line.start -= garbage);
        if self.bytes.capacity() > MAX_RETAINED_MEMORY {
            self.bytes.shrink_to(MAX_RETAINED_MEMORY);
        }
    }
}

#[cfg(test)]
impl DynamicTable {
    /// What the lines count for, how many there are, and how much memory is there.
    pub(in super::super) fn measures(&self) -> [usize; 3] {
        [self.size, self.lines.len(), self.bytes.capacity()]
    }
}
