//! Reading field sections.

use super::{
    dynamic::{DynamicTable, MAX_TABLE_SIZE},
    table::TABLE,
};
use crate::{
    http::BadRequest,
    listen::{
        fields::section::{FieldLine, FieldSection, SectionBuffer, SectionReader},
        http2::fault::{Http2Error, Http2ErrorCode},
    },
};

/// Why a field section was not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HpackError {
    /// It is larger than we read: a request that gets an answer. What it has said for
    /// later ones is remembered.
    TooLarge(BadRequest),
    /// It cannot be read. Its connection ends.
    Connection(Http2Error),
}

/// How many times too large a section may be and still be read to its end. Few bytes can
/// refer to many, but nobody does that by mistake.
const MAX_SIZE_FACTOR: usize = 4;
/// How often the size of the table may change at the start of a section (section 4.2).
const MAX_SIZE_UPDATES: usize = 2;

/// Reads the field section that is the whole of `payload`, whose size as RFC 9113 counts
/// it, each line 32 bytes more than its text, is at most `max_size`.
///
/// # Errors
/// It is too large, or is none.
pub fn read<'r>(
    table: &'r mut DynamicTable,
    room: &'r mut SectionBuffer,
    payload: &'r [u8],
    max_size: usize,
) -> Result<FieldSection<'r>, HpackError> {
    table.release_memory();
    let mut reader = room.reader(&TABLE, payload);
    size_updates(&mut reader, table)?;
    let mut excess = None;
    while let Some(first) = reader.first() {
        let line = line(&mut reader, table, first).ok_or(LINE)?;
        if let Err(malformed) = reader.push(line, max_size) {
            // What it says for later ones is wanted all the same.
            excess.get_or_insert(malformed);
            if reader.size > MAX_SIZE_FACTOR.saturating_mul(max_size) {
                return Err(EXCESSIVE);
            }
        }
    }
    match excess {
        Some(malformed) => Err(HpackError::TooLarge(malformed)),
        None => Ok(room.section(&TABLE, payload, table.bytes())),
    }
}

const LINE: HpackError = compression_error("a field line cannot be read");
const SIZE: HpackError = compression_error("the size of the table cannot be changed so");
const EXCESSIVE: HpackError = HpackError::Connection(Http2Error::new(
    Http2ErrorCode::EnhanceYourCalm,
    "a field section is much too large",
));

const fn compression_error(reason: &'static str) -> HpackError {
    HpackError::Connection(Http2Error::new(Http2ErrorCode::CompressionError, reason))
}

/// The sizes of the table that a section may begin with (section 6.3).
fn size_updates(
    reader: &mut SectionReader<'_, '_>,
    table: &mut DynamicTable,
) -> Result<(), HpackError> {
    let mut updates = 0;
    while let Some(0x20..=0x3f) = reader.first() {
        let size = reader.integer(5).and_then(|size| usize::try_from(size).ok());
        let size = size
            .filter(|size| *size <= MAX_TABLE_SIZE && updates < MAX_SIZE_UPDATES)
            .ok_or(SIZE)?;
        table.resize(size);
        updates += 1;
    }
    Ok(())
}

/// A line (sections 6.1 and 6.2) that begins with this byte.
fn line(
    reader: &mut SectionReader<'_, '_>,
    table: &mut DynamicTable,
    first: u8,
) -> Option<FieldLine> {
    match first {
        // Indexed.
        0x80.. => indexed(reader.integer(7)?, table),
        // To be remembered.
        0x40..=0x7f => {
            let line = literal(reader, table, 6)?;
            table.insert(line, reader);
            Some(line)
        }
        // Behind the first line the table keeps its size.
        0x20..=0x3f => None,
        // Not to be remembered: never, or not by us.
        0x00..=0x1f => literal(reader, table, 4),
    }
}

/// A line in words, but for its name perhaps.
fn literal(
    reader: &mut SectionReader<'_, '_>,
    table: &DynamicTable,
    prefix: u32,
) -> Option<FieldLine> {
    let name = match reader.integer(prefix)? {
        0 => reader.string(7)?,
        index => indexed(index, table)?.name,
    };
    Some(FieldLine { name, value: reader.string(7)? })
}

/// The line of an index (section 2.3.3): first those of the static table, then those that
/// are remembered, the last first.
fn indexed(index: u64, table: &DynamicTable) -> Option<FieldLine> {
    let place = usize::try_from(index).ok()?.checked_sub(1)?;
    match place.checked_sub(TABLE.lines.len()) {
        None => FieldLine::from_static(&TABLE, place),
        Some(age) => table.line(age),
    }
}
