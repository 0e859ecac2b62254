//! The dynamic table (RFC 7541 section 2.3.2), in which the decoder keeps the fields that a client
//! asks it to.
//!
//! Entries are stored in one byte buffer, one after the other, which is only appended to while a
//! section is decoded. The spans of that section therefore stay valid, even those of entries that
//! are evicted meanwhile.

use std::collections::VecDeque;

use crate::fields::section::{FieldLine, LINE_OVERHEAD, SectionReader, TextSpan};

/// Maximum table size: the initial `SETTINGS_HEADER_TABLE_SIZE`, which the server does not change.
pub(super) const MAX_TABLE_SIZE: usize = 4096;
/// Bytes of evicted entries that may accumulate before the live ones are moved to the front.
const MAX_EVICTED_BYTES: usize = 4096;
/// Capacity that the table keeps between sections.
const MAX_RETAINED_MEMORY: usize = 16 * 1024;

/// The dynamic table of one connection.
pub struct DynamicTable {
    /// Entries, oldest first.
    lines: VecDeque<DynamicEntry>,
    bytes: Vec<u8>,
    /// Size of all entries as HPACK counts it (section 4.1).
    size: usize,
    /// Limit on the size, as the client last set it.
    max_size: usize,
}

/// An entry: where its name begins in the byte buffer, and the lengths of its name and value.
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
    /// Returns the bytes that entries refer to.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the entry of an age; 0 is the newest.
    pub(super) fn line(&self, age: usize) -> Option<FieldLine> {
        let index = self.lines.len().checked_sub(age + 1)?;
        let DynamicEntry { start, name, value } = *self.lines.get(index)?;
        Some(FieldLine {
            name: TextSpan::dynamic(start, name)?,
            value: TextSpan::dynamic(start + name, value)?,
        })
    }

    /// Applies a table size update (section 4.3).
    pub(super) fn resize(&mut self, max_size: usize) {
        self.max_size = max_size;
        self.evict_for(0);
    }

    /// Inserts an entry (section 4.4). Its name may refer to an entry that is evicted for it, whose
    /// bytes are still there.
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
            Some(offset) => self.bytes.extend_from_within(offset..offset + new.name),
            None => self.bytes.extend_from_slice(reader.text(line.name)),
        }
        self.bytes.extend_from_slice(reader.text(line.value));
        self.size += new.size();
        self.lines.push_back(new);
    }

    /// Evicts the oldest entries until `wanted` more bytes fit.
    fn evict_for(&mut self, wanted: usize) {
        while self.size + wanted > self.max_size
            && let Some(oldest) = self.lines.pop_front()
        {
            self.size -= oldest.size();
        }
    }

    /// Drops the bytes of evicted entries. Called before a section is decoded and after input was
    /// handled, so that a client that goes silent does not keep evicted bytes alive.
    pub(in super::super) fn release_memory(&mut self) {
        let evicted = self.lines.front().map_or(self.bytes.len(), |oldest| oldest.start);
        if evicted < MAX_EVICTED_BYTES {
            return;
        }
        self.bytes.drain(..evicted);
        self.lines.iter_mut().for_each(|line| line.start -= evicted);
        if self.bytes.capacity() > MAX_RETAINED_MEMORY {
            self.bytes.shrink_to(MAX_RETAINED_MEMORY);
        }
    }
}

#[cfg(test)]
impl DynamicTable {
    /// Returns the size of the entries, their number, and the capacity in bytes.
    pub(in super::super) fn measures(&self) -> [usize; 3] {
        [self.size, self.lines.len(), self.bytes.capacity()]
    }
}
