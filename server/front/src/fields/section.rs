//! Field sections as lines of text spans. Received text is not copied: a span refers to wherever
//! the text is.

use super::{
    huffman, integer,
    known_strings::KnownStrings,
    table::{self, StaticTable},
};
use crate::{message::BadRequest, request_limits::RequestLimits};

/// Lines that are not counted as header lines: `:method`, `:scheme` and `:path` stand for the
/// request line of HTTP/1. `:authority` stands for Host, which is counted.
const REQUEST_LINE_FIELDS: usize = 3;
/// Overhead counted per field line (RFC 9113 section 6.5.2, RFC 9114 section 4.2.2).
pub(crate) const LINE_OVERHEAD: usize = 32;

/// A reusable buffer for decoding field sections, one after the other.
pub struct SectionBuffer {
    /// Huffman-decoded text. It is not cleared: the bytes after the current section are from
    /// earlier sections.
    decoded: Vec<u8>,
    lines: Vec<FieldLine>,
    known: KnownStrings,
}

/// A decoded field section.
#[derive(Clone, Copy)]
pub struct FieldSection<'r> {
    lines: &'r [FieldLine],
    sources: TextSources<'r>,
}

#[derive(Clone, Copy)]
pub(crate) struct FieldLine {
    pub(crate) name: TextSpan,
    pub(crate) value: TextSpan,
}

/// A span of text in one of the [`TextSources`].
#[derive(Clone, Copy)]
pub(crate) struct TextSpan {
    source: TextSource,
    start: u32,
    length: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum TextSource {
    /// A name in the static table; `start` is the index of the entry.
    StaticName,
    /// A value in the static table.
    StaticValue,
    /// The dynamic table.
    Dynamic,
    /// The received field block.
    Payload,
    /// Huffman-decoded text.
    Decoded,
}

/// The buffers that spans refer to.
#[derive(Clone, Copy)]
struct TextSources<'r> {
    table: &'static [table::StaticEntry],
    dynamic: &'r [u8],
    payload: &'r [u8],
    decoded: &'r [u8],
}

impl<'r> FieldSection<'r> {
    /// Returns the number of field lines.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.lines.len()
    }

    /// Returns the number of field lines after those of cookies are joined.
    fn joined_len(&self) -> usize {
        let cookies = self.lines().filter(|(name, _)| *name == b"cookie").count();
        self.len() - cookies.saturating_sub(1)
    }

    /// Returns whether there are no field lines.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Iterates over the field lines, as name and value.
    pub fn lines(
        &self,
    ) -> impl DoubleEndedIterator<Item = (&'r [u8], &'r [u8])> + ExactSizeIterator + use<'r> {
        let sources = self.sources;
        self.lines.iter().map(move |line| (sources.text(line.name), sources.text(line.value)))
    }

    /// Returns the value of the `nth` line with this name, counted from the end: 0 is the last.
    #[must_use]
    pub fn line(&self, name: &[u8], nth: usize) -> Option<&'r [u8]> {
        self.values(name).rev().nth(nth)
    }

    /// Iterates over the values of the lines with this name.
    pub(super) fn values(&self, name: &[u8]) -> impl DoubleEndedIterator<Item = &'r [u8]> {
        let sources = self.sources;
        // Comparing lengths first rules out most lines at once.
        let lines = self.lines.iter().filter(move |line| line.name.len() == name.len());
        let lines = lines.filter(move |line| sources.text(line.name) == name);
        lines.map(move |line| sources.text(line.value))
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
    /// A span of the dynamic table.
    pub(crate) fn dynamic(start: usize, length: usize) -> Option<Self> {
        Self::of(TextSource::Dynamic, start, length)
    }

    fn of(source: TextSource, start: usize, length: usize) -> Option<Self> {
        Some(Self {
            source,
            start: u32::try_from(start).ok()?,
            length: u32::try_from(length).ok()?,
        })
    }

    /// Returns the length in bytes.
    pub(crate) const fn len(self) -> usize {
        self.length as usize
    }

    /// Returns the offset in the dynamic table, if the span refers to it.
    pub(crate) fn dynamic_offset(self) -> Option<usize> {
        (self.source == TextSource::Dynamic).then_some(self.start as usize)
    }
}

impl FieldLine {
    /// The field line of a static entry.
    pub(crate) fn from_static(table: &StaticTable, place: usize) -> Option<Self> {
        let (name, value) = table.lines.get(place)?;
        let text = |source, text: &str| TextSpan::of(source, place, text.len());
        Some(Self {
            name: text(TextSource::StaticName, name)?,
            value: text(TextSource::StaticValue, value)?,
        })
    }
}

impl Default for SectionBuffer {
    /// # Defaults
    /// Long strings are known in 4 MiB.
    fn default() -> Self {
        Self::with_known_strings(4 << 20)
    }
}

impl SectionBuffer {
    /// Creates a buffer that keeps this many bytes of long strings with their code, so that they
    /// are not decoded each time.
    pub(crate) fn with_known_strings(bytes: usize) -> Self {
        let known = KnownStrings::with_capacity(bytes);
        Self { decoded: Vec::new(), lines: Vec::new(), known }
    }

    /// Begins to decode the section in `payload`.
    pub(crate) fn reader<'p>(
        &mut self,
        table: &'static StaticTable,
        payload: &'p [u8],
    ) -> SectionReader<'p, '_> {
        self.lines.clear();
        let Self { decoded, lines, known } = self;
        SectionReader { table, payload, rest: payload, decoded, used: 0, lines, known, size: 0 }
    }

    /// Returns the section that was decoded, given the bytes of the dynamic table.
    ///
    /// # Errors
    /// The section has more header lines than `limits` allows. Lines of cookies count as one, as a
    /// client may send each cookie in a line (RFC 9113 section 8.2.3, RFC 9114 section 4.2.1).
    pub(crate) fn section<'r>(
        &'r self,
        table: &'static StaticTable,
        payload: &'r [u8],
        dynamic: &'r [u8],
        limits: &RequestLimits,
    ) -> Result<FieldSection<'r>, BadRequest> {
        let sources = TextSources { table: table.lines, dynamic, payload, decoded: &self.decoded };
        let section = FieldSection { lines: &self.lines, sources };
        let max_lines = limits.header_lines + REQUEST_LINE_FIELDS;
        if section.len() > max_lines && section.joined_len() > max_lines {
            return Err(limits.too_many_lines());
        }
        Ok(section)
    }
}

#[cfg(test)]
impl SectionBuffer {
    /// Returns the capacities for decoded text and for lines.
    pub(crate) fn capacities(&self) -> [usize; 2] {
        [self.decoded.capacity(), self.lines.capacity()]
    }
}

/// The decoding of one field section. Its methods return `None` for malformed input.
pub(crate) struct SectionReader<'p, 'd> {
    table: &'static StaticTable,
    payload: &'p [u8],
    rest: &'p [u8],
    decoded: &'d mut Vec<u8>,
    used: usize,
    lines: &'d mut Vec<FieldLine>,
    known: &'d mut KnownStrings,
    /// Size of the section so far, overhead included.
    pub(crate) size: usize,
}

impl SectionReader<'_, '_> {
    /// Returns the next byte without consuming it.
    pub(crate) fn first(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// Reads an integer with a prefix of `prefix` bits.
    pub(crate) fn integer(&mut self, prefix: u32) -> Option<u64> {
        integer::read(&mut self.rest, prefix)
    }

    /// Reads a string (RFC 7541 section 5.2, RFC 9204 section 4.1.2) whose length has a prefix of
    /// `prefix` bits.
    pub(crate) fn string(&mut self, prefix: u32) -> Option<TextSpan> {
        let is_huffman = self.rest.first()? & 1 << prefix != 0;
        let length = usize::try_from(integer::read(&mut self.rest, prefix)?).ok()?;
        let (string, rest) = self.rest.split_at_checked(length)?;
        let start = self.payload.len() - self.rest.len();
        self.rest = rest;
        if is_huffman {
            self.huffman(string)
        } else {
            TextSpan::of(TextSource::Payload, start, length)
        }
    }

    fn huffman(&mut self, string: &[u8]) -> Option<TextSpan> {
        let start = self.used;
        let end = start + huffman::max_decoded_length(string.len());
        if self.decoded.len() < end {
            self.decoded.resize(end, 0);
        }
        let length = self.known.decode(string, &mut self.decoded[start..end])?;
        self.used += length;
        TextSpan::of(TextSource::Decoded, start, length)
    }

    /// Returns the text of a span that does not refer to the dynamic table.
    pub(crate) fn text(&self, text: TextSpan) -> &[u8] {
        let sources = TextSources {
            table: self.table.lines,
            dynamic: &[],
            payload: self.payload,
            decoded: self.decoded,
        };
        sources.text(text)
    }

    /// Appends a field line to the section.
    ///
    /// # Errors
    /// The section exceeds the limit of bytes.
    pub(crate) fn push(
        &mut self,
        line: FieldLine,
        limits: &RequestLimits,
    ) -> Result<(), BadRequest> {
        self.size += line.name.len() + line.value.len() + LINE_OVERHEAD;
        if self.size > limits.head_bytes {
            return Err(limits.head_too_large());
        }
        self.lines.push(line);
        Ok(())
    }
}
