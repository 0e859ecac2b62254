//! Reading field sections.

use super::{
    dynamic::{DynamicTable, MOST_TABLE},
    table::TABLE,
};
use crate::{
    http::Malformed,
    listen::{
        fields::section::{Line, Reader, Room, Section},
        http2::fault::{Code, Fault},
    },
};

/// Why a field section was not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unread {
    /// It is larger than we read: a request that gets an answer. What it has said for
    /// later ones is remembered.
    TooLarge(Malformed),
    /// It cannot be read. Its connection ends.
    Fault(Fault),
}

/// How many times too large a section may be and still be read to its end. Few bytes can
/// refer to many, but nobody does that by mistake.
const MOST_TIMES: usize = 4;
/// How often the size of the table may change at the start of a section (section 4.2).
const MOST_UPDATES: usize = 2;

/// Reads the field section that is the whole of `payload`, whose size as RFC 9113 counts
/// it, each line 32 bytes more than its text, is at most `most`.
///
/// # Errors
/// It is too large, or is none.
pub fn read<'r>(
    remembered: &'r mut DynamicTable,
    room: &'r mut Room,
    payload: &'r [u8],
    most: usize,
) -> Result<Section<'r>, Unread> {
    remembered.tidy();
    let mut reader = room.reader(&TABLE, payload);
    sizes(&mut reader, remembered)?;
    let mut excess = None;
    while let Some(first) = reader.first() {
        let line = line(&mut reader, remembered, first).ok_or(LINE)?;
        if let Err(malformed) = reader.push(line, most) {
            // What it says for later ones is wanted all the same.
            excess.get_or_insert(malformed);
            if reader.size > MOST_TIMES.saturating_mul(most) {
                return Err(EXCESSIVE);
            }
        }
    }
    match excess {
        Some(malformed) => Err(Unread::TooLarge(malformed)),
        None => Ok(room.section(&TABLE, payload, remembered.bytes())),
    }
}

const LINE: Unread = unreadable("a field line cannot be read");
const SIZE: Unread = unreadable("the size of the table cannot be changed so");
const EXCESSIVE: Unread =
    Unread::Fault(Fault::new(Code::EnhanceYourCalm, "a field section is much too large"));

const fn unreadable(reason: &'static str) -> Unread {
    Unread::Fault(Fault::new(Code::CompressionError, reason))
}

/// The sizes of the table that a section may begin with (section 6.3).
fn sizes(reader: &mut Reader<'_, '_>, remembered: &mut DynamicTable) -> Result<(), Unread> {
    let mut updates = 0;
    while let Some(0x20..=0x3f) = reader.first() {
        let size = reader.integer(5).and_then(|size| usize::try_from(size).ok());
        let size = size.filter(|size| *size <= MOST_TABLE && updates < MOST_UPDATES).ok_or(SIZE)?;
        remembered.resize(size);
        updates += 1;
    }
    Ok(())
}

/// A line (sections 6.1 and 6.2) that begins with this byte.
fn line(reader: &mut Reader<'_, '_>, remembered: &mut DynamicTable, first: u8) -> Option<Line> {
    match first {
        // Indexed.
        0x80.. => indexed(reader.integer(7)?, remembered),
        // To be remembered.
        0x40..=0x7f => {
            let line = literal(reader, remembered, 6)?;
            remembered.insert(line, reader);
            Some(line)
        }
        // Behind the first line the table keeps its size.
        0x20..=0x3f => None,
        // Not to be remembered: never, or not by us.
        0x00..=0x1f => literal(reader, remembered, 4),
    }
}

/// A line in words, but for its name perhaps.
fn literal(reader: &mut Reader<'_, '_>, remembered: &DynamicTable, prefix: u32) -> Option<Line> {
    let name = match reader.integer(prefix)? {
        0 => reader.string(7)?,
        index => indexed(index, remembered)?.name,
    };
    Some(Line { name, value: reader.string(7)? })
}

/// The line of an index (section 2.3.3): first those of the static table, then those that
/// are remembered, the last first.
fn indexed(index: u64, remembered: &DynamicTable) -> Option<Line> {
    let place = usize::try_from(index).ok()?.checked_sub(1)?;
    match place.checked_sub(TABLE.lines.len()) {
        None => Line::of_table(&TABLE, place),
        Some(age) => remembered.line(age),
    }
}
