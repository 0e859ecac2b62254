//! Static tables, and the way from a name to its lines.

/// A name and a value that an index stands for.
pub(in crate::listen) type StaticEntry = (&'static str, &'static str);

/// The static table of a compression. Lines of a name stand beside each other.
pub(in crate::listen) struct StaticTable {
    pub(in crate::listen) lines: &'static [StaticEntry],
    /// The first line of each name, by [`slot`]. Pseudo-header fields are not looked up.
    names: [Option<u8>; 256],
}

/// What a static table has of a field, by the place of the line in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::listen) enum TableMatch {
    /// The whole line.
    Entry(u8),
    /// Its name.
    Name(u8),
}

impl StaticTable {
    /// The table of these lines.
    pub(in crate::listen) const fn new(lines: &'static [StaticEntry]) -> Self {
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
                        "two names have one slot"
                    ),
                }
            }
            index += 1;
        }
        Self { lines, names }
    }

    /// The place of this line, or else of one with its name.
    pub(in crate::listen) fn find(&self, name: &str, value: &[u8]) -> Option<TableMatch> {
        let first = self.names[slot(name.as_bytes())?]?;
        let run = self.lines[usize::from(first)..].iter().zip(first..);
        let mut run = run.take_while(|((of, _), _)| *of == name).peekable();
        // Another name may have the same slot.
        run.peek()?;
        let same = run.find(|((_, of), _)| of.as_bytes() == value);
        Some(same.map_or(TableMatch::Name(first), |(_, index)| TableMatch::Entry(index)))
    }
}

/// A hash that keeps the names of both tables apart.
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
