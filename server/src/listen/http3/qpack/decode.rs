//! Reading field sections.

use std::ops::Range;

use super::{
    huffman, integer,
    table::{self, LINES},
};
use crate::{
    http::Malformed,
    listen::http3::fault::{Code, Fault},
};

/// The most lines of a section, as of HTTP/1.
const MOST_LINES: usize = 100;
/// What a line counts for beside its text (RFC 9114 section 4.2.2).
const LINE_OVERHEAD: usize = 32;

/// Room for one field section after the other.
#[derive(Default)]
pub struct Room {
    /// The texts that were Huffman-coded, and what is left from former sections.
    decoded: Vec<u8>,
    lines: Vec<Line>,
}

/// A field section that has been read.
#[derive(Clone, Copy)]
pub struct Section<'r> {
    lines: &'r [Line],
    sources: Sources<'r>,
}

/// Why a field section was not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unread {
    /// It is larger than we read: a request that gets an answer.
    TooLarge(Malformed),
    /// It cannot be read. Its connection ends.
    Fault(Fault),
}

#[derive(Clone, Copy)]
struct Line {
    name: Text,
    value: Text,
}

/// A part of one of the [`Sources`].
#[derive(Clone, Copy)]
struct Text {
    source: Source,
    start: u32,
    length: u32,
}

#[derive(Clone, Copy)]
enum Source {
    /// The name of a line of the static table, which is the start.
    TableName,
    /// Its value.
    TableValue,
    /// What was received.
    Payload,
    /// What was decoded.
    Decoded,
}

#[derive(Clone, Copy)]
struct Sources<'r> {
    payload: &'r [u8],
    decoded: &'r [u8],
}

impl<'r> Section<'r> {
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
    pub fn lines(&self) -> impl DoubleEndedIterator<Item = (&'r [u8], &'r [u8])> + ExactSizeIterator + use<'r> {
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

impl<'r> Sources<'r> {
    fn text(&self, text: Text) -> &'r [u8] {
        let start = text.start as usize;
        let range = start..start + text.length as usize;
        match text.source {
            Source::TableName => LINES[start].0.as_bytes(),
            Source::TableValue => LINES[start].1.as_bytes(),
            Source::Payload => &self.payload[range],
            Source::Decoded => &self.decoded[range],
        }
    }
}

impl Room {
    /// Reads the field section that is the whole of `payload`, whose size as RFC 9114
    /// counts it, each line 32 bytes more than its text, is at most `most`.
    ///
    /// # Errors
    /// It is too large, or is none.
    pub fn read<'r>(&'r mut self, payload: &'r [u8], most: usize) -> Result<Section<'r>, Unread> {
        self.lines.clear();
        let mut reader = Reader { payload, rest: payload, decoded: &mut self.decoded, used: 0 };
        reader.prefix().ok_or(PREFIX)?;
        let mut size = 0;
        while let Some(first) = reader.rest.first() {
            if self.lines.len() == MOST_LINES {
                return Err(Unread::TooLarge(Malformed::head_too_large("a request may have 100 header lines")));
            }
            let line = reader.line(*first).ok_or(LINE)?;
            size += line.name.length as usize + line.value.length as usize + LINE_OVERHEAD;
            if size > most {
                return Err(Unread::TooLarge(Malformed::head_too_large("the header lines of a request are too long")));
            }
            self.lines.push(line);
        }
        Ok(Section { lines: &self.lines, sources: Sources { payload, decoded: &self.decoded } })
    }
}

#[cfg(test)]
impl Room {
    /// How much of each kind fits in before there is another allocation.
    pub(super) fn capacities(&self) -> [usize; 2] {
        [self.decoded.capacity(), self.lines.capacity()]
    }
}

const PREFIX: Unread = unreadable("a field section refers to a dynamic table, which has no room");
const LINE: Unread = unreadable("a field line cannot be read");

const fn unreadable(reason: &'static str) -> Unread {
    Unread::Fault(Fault::new(Code::QpackDecompressionFailed, reason))
}

/// A field section that is being read. Its functions give `None` for what is malformed.
struct Reader<'p, 'd> {
    payload: &'p [u8],
    rest: &'p [u8],
    decoded: &'d mut Vec<u8>,
    used: usize,
}

impl Reader<'_, '_> {
    /// The prefix (section 4.5.1) of a section that needs no entry of a dynamic table.
    /// A base below it is none.
    fn prefix(&mut self) -> Option<()> {
        let required = integer::read(&mut self.rest, 8)?;
        let is_negative = self.rest.first()? & 0x80 != 0;
        let _base = integer::read(&mut self.rest, 7)?;
        (required == 0 && !is_negative).then_some(())
    }

    /// A line (sections 4.5.2 to 4.5.6) that begins with this byte.
    fn line(&mut self, first: u8) -> Option<Line> {
        match first {
            // Indexed.
            0xc0.. => {
                let index = integer::read(&mut self.rest, 6)?;
                let (name, value) = table_line(index)?;
                Some(Line { name, value })
            }
            // With a name of the table: never to be indexed, or as one likes.
            0x50..=0x5f | 0x70..=0x7f => {
                let index = integer::read(&mut self.rest, 4)?;
                let (name, _) = table_line(index)?;
                Some(Line { name, value: self.string(7)? })
            }
            // With a name in words.
            0x20..=0x3f => {
                let name = self.string(3)?;
                Some(Line { name, value: self.string(7)? })
            }
            // Of the dynamic table.
            _ => None,
        }
    }

    /// A string (section 4.1.2) whose length has so many bits of the next byte.
    fn string(&mut self, prefix: u32) -> Option<Text> {
        let is_coded = self.rest.first()? & 1 << prefix != 0;
        let length = usize::try_from(integer::read(&mut self.rest, prefix)?).ok()?;
        let (string, rest) = self.rest.split_at_checked(length)?;
        let start = self.payload.len() - self.rest.len();
        self.rest = rest;
        match is_coded {
            false => text(Source::Payload, start..start + length),
            true => self.coded(string),
        }
    }

    fn coded(&mut self, string: &[u8]) -> Option<Text> {
        let start = self.used;
        let most = start + huffman::most_decoded(string.len());
        if self.decoded.len() < most {
            self.decoded.resize(most, 0);
        }
        self.used += huffman::decode(string, &mut self.decoded[start..most])?;
        text(Source::Decoded, start..self.used)
    }
}

fn table_line(index: u64) -> Option<(Text, Text)> {
    let (name, value) = table::line(index)?;
    let start = u32::try_from(index).ok()?;
    let text = |source, text: &str| Some(Text { source, start, length: u32::try_from(text.len()).ok()? });
    Some((text(Source::TableName, name)?, text(Source::TableValue, value)?))
}

fn text(source: Source, range: Range<usize>) -> Option<Text> {
    Some(Text { source, start: u32::try_from(range.start).ok()?, length: u32::try_from(range.len()).ok()? })
}
