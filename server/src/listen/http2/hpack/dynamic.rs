//! The dynamic table (RFC 7541 section 2.3.2): what a client wants us to remember.
//!
//! It is kept as bytes, one line behind the other, which are only ever appended while a
//! section is read: what the section refers to stays where it is, also when it is
//! forgotten meanwhile.

use std::collections::VecDeque;

use crate::listen::fields::section::{LINE_OVERHEAD, Line, Reader, Text};

/// The largest size of a table, which is what clients may use if they are told nothing.
pub(super) const MOST_TABLE: usize = 4096;
/// How many bytes of forgotten lines are kept before the others are moved to their place.
const MOST_GARBAGE: usize = 4096;
/// How much memory a table may keep.
const MOST_MEMORY: usize = 16 * 1024;

/// What a client has wanted us to remember.
pub struct DynamicTable {
    /// The oldest first.
    lines: VecDeque<Remembered>,
    bytes: Vec<u8>,
    /// What the lines count for.
    size: usize,
    /// What they may count for.
    most: usize,
}

/// A line: where its name begins, and how long that and its value are.
#[derive(Clone, Copy)]
struct Remembered {
    start: usize,
    name: usize,
    value: usize,
}

impl Remembered {
    const fn size(self) -> usize {
        self.name + self.value + LINE_OVERHEAD
    }
}

impl Default for DynamicTable {
    fn default() -> Self {
        Self { lines: VecDeque::new(), bytes: Vec::new(), size: 0, most: MOST_TABLE }
    }
}

impl DynamicTable {
    /// The texts of all lines.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The line of this age; 0 is the last one.
    pub(super) fn line(&self, age: usize) -> Option<Line> {
        let place = self.lines.len().checked_sub(age + 1)?;
        let Remembered { start, name, value } = *self.lines.get(place)?;
        Some(Line {
            name: Text::remembered(start, name)?,
            value: Text::remembered(start + name, value)?,
        })
    }

    /// Changes the size that the table may have (section 4.3).
    pub(super) fn resize(&mut self, most: usize) {
        self.most = most;
        self.make_room(0);
    }

    /// Remembers a line (section 4.4), which may have its name from one that is forgotten
    /// for it.
    pub(super) fn insert(&mut self, line: Line, reader: &Reader<'_, '_>) {
        let new =
            Remembered { start: self.bytes.len(), name: line.name.len(), value: line.value.len() };
        self.make_room(new.size());
        if new.size() > self.most {
            return;
        }
        match line.name.place_remembered() {
            Some(place) => self.bytes.extend_from_within(place..place + new.name),
            None => self.bytes.extend_from_slice(reader.text(line.name)),
        }
        self.bytes.extend_from_slice(reader.text(line.value));
        self.size += new.size();
        self.lines.push_back(new);
    }

    /// Forgets what is oldest until there is room for so much.
    fn make_room(&mut self, wanted: usize) {
        while self.size + wanted > self.most
            && let Some(oldest) = self.lines.pop_front()
        {
            self.size -= oldest.size();
        }
    }

    /// Gets rid of what is forgotten, between two sections, and behind the last one that
    /// has come: who says nothing more is not to keep what he has made us forget.
    pub(in super::super) fn tidy(&mut self) {
        let garbage = self.lines.front().map_or(self.bytes.len(), |oldest| oldest.start);
        if garbage < MOST_GARBAGE {
            return;
        }
        self.bytes.drain(..garbage);
        self.lines.iter_mut().for_each(|line| line.start -= garbage);
        if self.bytes.capacity() > MOST_MEMORY {
            self.bytes.shrink_to(MOST_MEMORY);
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
