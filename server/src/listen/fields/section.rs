//! Sections as lines, wherever their texts are: what was received is not copied.

use super::{
    huffman, integer,
    table::{self, StaticTable},
};
use crate::http::BadRequest;

/// The most lines of a section, as of HTTP/1, and those that stand for its first line and
/// its Host.
const MAX_FIELD_LINES: usize = 100 + 4;
/// What a line counts for beside its text (RFC 9113 section 6.5.2, RFC 9114 section
/// 4.2.2).
pub(in crate::listen) const LINE_OVERHEAD: usize = 32;

/// SectionBuffer for one field section after the other.
#[derive(Default)]
pub struct SectionBuffer {
    /// The texts that were Huffman-coded, and what is left from former sections.
    decoded: Vec<u8>,
    lines: Vec<FieldLine>,
}

/// A field section that has been read.
#[derive(Clone, Copy)]
pub struct FieldSection<'r> {
    lines: &'r [FieldLine],
    sources: TextSources<'r>,
}

#[derive(Clone, Copy)]
pub(in crate::listen) struct FieldLine {
    pub(in crate::listen) name: TextSpan,
    pub(in crate::listen) value: TextSpan,
}

/// A part of one of the [`TextSources`].
#[derive(Clone, Copy)]
pub(in crate::listen) struct TextSpan {
    source: TextSource,
    start: u32,
    length: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum TextSource {
    /// The name of a line of the static table, which is the start.
    StaticName,
    /// Its value.
    StaticValue,
    /// What former sections have said.
    Dynamic,
    /// What was received.
    Payload,
    /// What was decoded.
    Decoded,
}

/// Where texts are.
#[derive(Clone, Copy)]
struct TextSources<'r> {
    table: &'static [table::StaticEntry],
    dynamic: &'r [u8],
    payload: &'r [u8],
    decoded: &'r [u8],
}

impl<'r> FieldSection<'r> {
    /// How many lines it has.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether it has none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Its lines, name and value.
    pub fn lines(
        &self,
    ) -> impl DoubleEndedIterator<Item = (&'r [u8], &'r [u8])> + ExactSizeIterator + use<'r> {
        let sources = self.sources;
        self.lines.iter().map(move |line| (sources.text(line.name), sources.text(line.value)))
    }

    /// The value of the `nth` line of this name from the end: 0 is the last.
    #[must_use]
    pub fn line(&self, name: &[u8], nth: usize) -> Option<&'r [u8]> {
        let lines = self.lines.iter().rev().filter(|line| line.name.length as usize == name.len());
        let mut lines = lines.filter(|line| self.sources.text(line.name) == name);
        lines.nth(nth).map(|line| self.sources.text(line.value))
    }
}

impl<'r> TextSources<'r> {
    fn text(&self, text: TextSpan) -> &'r [u8] {
        let start = text.start as usize;
        let range = start..start + text.length as usize;
        match text.source {
            TextSource::StaticName => self.table[start].0.as_bytes(),
            TextSource::StaticValue => self.table[start].1.as_bytes(),
            TextSource::Dynamic => &self.dynamic[range],
            TextSource::Payload => &self.payload[range],
            TextSource::Decoded => &self.decoded[range],
        }
    }
}

impl TextSpan {
    /// A part of what former sections have said.
    pub(in crate::listen) fn dynamic(start: usize, length: usize) -> Option<Self> {
        Self::of(TextSource::Dynamic, start, length)
    }

    fn of(source: TextSource, start: usize, length: usize) -> Option<Self> {
        Some(Self {
            source,
            start: u32::try_from(start).ok()?,
            length: u32::try_from(length).ok()?,
        })
    }

    /// Its length.
    pub(in crate::listen) const fn len(self) -> usize {
        self.length as usize
    }

    /// Where it begins in what former sections have said, if it is there.
    pub(in crate::listen) fn dynamic_offset(self) -> Option<usize> {
        (self.source == TextSource::Dynamic).then_some(self.start as usize)
    }
}

impl FieldLine {
    /// The line at a place of a static table.
    pub(in crate::listen) fn from_static(table: &StaticTable, place: usize) -> Option<Self> {
        let (name, value) = table.lines.get(place)?;
        let text = |source, text: &str| TextSpan::of(source, place, text.len());
        Some(Self {
            name: text(TextSource::StaticName, name)?,
            value: text(TextSource::StaticValue, value)?,
        })
    }
}

impl SectionBuffer {
    /// Begins to read a section that is the whole of `payload`.
    pub(in crate::listen) fn reader<'p>(
        &mut self,
        table: &'static StaticTable,
        payload: &'p [u8],
    ) -> SectionReader<'p, '_> {
        self.lines.clear();
        let Self { decoded, lines } = self;
        SectionReader { table, payload, rest: payload, decoded, used: 0, lines, size: 0 }
    }

    /// What was read, with the texts that former sections have said.
    pub(in crate::listen) fn section<'r>(
        &'r self,
        table: &'static StaticTable,
        payload: &'r [u8],
        dynamic: &'r [u8],
    ) -> FieldSection<'r> {
        FieldSection {
            lines: &self.lines,
            sources: TextSources { table: table.lines, dynamic, payload, decoded: &self.decoded },
        }
    }
}

#[cfg(test)]
impl SectionBuffer {
    /// How much of each kind fits in before there is another allocation.
    pub(in crate::listen) fn capacities(&self) -> [usize; 2] {
        [self.decoded.capacity(), self.lines.capacity()]
    }
}

/// A field section that is being read. Its functions give `None` for what is malformed.
pub(in crate::listen) struct SectionReader<'p, 'd> {
    table: &'static StaticTable,
    payload: &'p [u8],
    rest: &'p [u8],
    decoded: &'d mut Vec<u8>,
    used: usize,
    lines: &'d mut Vec<FieldLine>,
    /// How much the lines count for.
    pub(in crate::listen) size: usize,
}

impl SectionReader<'_, '_> {
    /// The byte that comes next, if there is one.
    pub(in crate::listen) fn first(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// The integer in so many bits of the next byte and those behind it.
    pub(in crate::listen) fn integer(&mut self, prefix: u32) -> Option<u64> {
        integer::read(&mut self.rest, prefix)
    }

    /// A string (RFC 7541 section 5.2, RFC 9204 section 4.1.2) whose length has so many
    /// bits of the next byte.
    pub(in crate::listen) fn string(&mut self, prefix: u32) -> Option<TextSpan> {
        let is_huffman = self.rest.first()? & 1 << prefix != 0;
        let length = usize::try_from(integer::read(&mut self.rest, prefix)?).ok()?;
        let (string, rest) = self.rest.split_at_checked(length)?;
        let start = self.payload.len() - self.rest.len();
        self.rest = rest;
        match is_huffman {
            false => TextSpan::of(TextSource::Payload, start, length),
            true => self.huffman(string),
        }
    }

    fn huffman(&mut self, string: &[u8]) -> Option<TextSpan> {
        let start = self.used;
        let max_size = start + huffman::max_decoded_length(string.len());
        if self.decoded.len() < max_size {
            self.decoded.resize(max_size, 0);
        }
        let length = huffman::decode(string, &mut self.decoded[start..max_size])?;
        self.used += length;
        TextSpan::of(TextSource::Decoded, start, length)
    }

    /// A text that no former section has said.
    pub(in crate::listen) fn text(&self, text: TextSpan) -> &[u8] {
        let sources = TextSources {
            table: self.table.lines,
            dynamic: &[],
            payload: self.payload,
            decoded: self.decoded,
        };
        sources.text(text)
    }

    /// Adds a line to the section.
    ///
    /// # Errors
    /// It is one too many, or the section is longer than `max_size` with it.
    pub(in crate::listen) fn push(
        &mut self,
        line: FieldLine,
        max_size: usize,
    ) -> Result<(), BadRequest> {
        self.size += line.name.len() + line.value.len() + LINE_OVERHEAD;
        if self.size > max_size {
            return Err(BadRequest::head_too_large("the header lines of a request are too long"));
        }
        if self.lines.len() == MAX_FIELD_LINES {
            return Err(BadRequest::head_too_large("a request may have 100 header lines"));
        }
        self.lines.push(line);
        Ok(())
    }
}
