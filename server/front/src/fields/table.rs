//! Static tables, and look-up in them by name and value.

/// A name and a value.
pub(crate) type StaticEntry = (&'static str, &'static str);

/// The static table of HPACK or QPACK. Entries with the same name are adjacent (but for one in
/// QPACK).
pub(crate) struct StaticTable {
    pub(crate) lines: &'static [StaticEntry],
    /// Index of the first entry of each name, by [`slot`]. Pseudo-header fields are not looked up.
    names: [Option<u8>; 256],
}

/// Match of a field line in a static table, with the index of the entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TableMatch {
    /// Name and value.
    Entry(u8),
    /// The name only.
    Name(u8),
}

impl StaticTable {
    /// A table of these entries.
    pub(crate) const fn new(lines: &'static [StaticEntry]) -> Self {
        let mut names: [Option<u8>; 256] = [None; 256];
        let mut index = 0;
        while index < lines.len() {
            let name = lines[index].0.as_bytes();
            if let Some(slot) = slot(name)
                && name[0] != b':'
            {
                match names[slot] {
                    None => names[slot] = Some(index as u8),
                    Some(other) => assert!(
                        is_same(name, lines[other as usize].0.as_bytes()),
                        "two names share a slot"
                    ),
                }
            }
            index += 1;
        }
        Self { lines, names }
    }

    /// Returns the entry with this name and value, or else one with this name.
    pub(crate) fn find(&self, name: &str, value: &[u8]) -> Option<TableMatch> {
        let first = self.names[slot(name.as_bytes())?]?;
        let run = self.lines[usize::from(first)..].iter().zip(first..);
        let mut run = run.take_while(|((of, _), _)| *of == name).peekable();
        // Another name may hash to the same slot.
        run.peek()?;
        let same = run.find(|((_, of), _)| of.as_bytes() == value);
        Some(same.map_or(TableMatch::Name(first), |(_, index)| TableMatch::Entry(index)))
    }
}

/// A hash without collisions among the names of each table.
const fn slot(name: &[u8]) -> Option<usize> {
    let [first, .., before_last, _] = name else { return None };
    Some((name.len() + 17 * *first as usize + 61 * *before_last as usize) % 256)
}

const fn is_same(one: &[u8], other: &[u8]) -> bool {
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
}
