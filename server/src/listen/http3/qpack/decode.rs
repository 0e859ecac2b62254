//! Reading field sections.

use super::table::TABLE;
use crate::{
    http::BadRequest,
    listen::{
        fields::section::{FieldLine, FieldSection, SectionBuffer, SectionReader},
        http3::fault::{Http3Error, Http3ErrorCode},
    },
};

/// Why a field section was not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QpackError {
    /// It is larger than we read: a request that gets an answer.
    TooLarge(BadRequest),
    /// It cannot be read. Its connection ends.
    Connection(Http3Error),
}

/// Reads the field section that is the whole of `payload`, whose size as RFC 9114
/// counts it, each line 32 bytes more than its text, is at most `max_size`.
///
/// # Errors
/// It is too large, or is none.
pub fn read<'r>(
    room: &'r mut SectionBuffer,
    payload: &'r [u8],
    max_size: usize,
) -> Result<FieldSection<'r>, QpackError> {
    let mut reader = room.reader(&TABLE, payload);
    prefix(&mut reader).ok_or(PREFIX)?;
    while let Some(first) = reader.first() {
        let line = line(&mut reader, first).ok_or(LINE)?;
        reader.push(line, max_size).map_err(QpackError::TooLarge)?;
    }
    Ok(room.section(&TABLE, payload, &[]))
}

const PREFIX: QpackError =
    decompression_failed("a field section refers to a dynamic table, which has no room");
const LINE: QpackError = decompression_failed("a field line cannot be read");

const fn decompression_failed(reason: &'static str) -> QpackError {
    QpackError::Connection(Http3Error::new(Http3ErrorCode::QpackDecompressionFailed, reason))
}

/// The prefix (section 4.5.1) of a section that needs no entry of a dynamic table. A base
/// below it is none.
fn prefix(reader: &mut SectionReader<'_, '_>) -> Option<()> {
    let required = reader.integer(8)?;
    let is_negative = reader.first()? & 0x80 != 0;
    let _base = reader.integer(7)?;
    (required == 0 && !is_negative).then_some(())
}

/// A line (sections 4.5.2 to 4.5.6) that begins with this byte.
fn line(reader: &mut SectionReader<'_, '_>, first: u8) -> Option<FieldLine> {
    match first {
        // Indexed.
        0xc0.. => from_static(reader.integer(6)?),
        // With a name of the table: never to be indexed, or as one likes.
        0x50..=0x5f | 0x70..=0x7f => {
            let FieldLine { name, .. } = from_static(reader.integer(4)?)?;
            Some(FieldLine { name, value: reader.string(7)? })
        }
        // With a name in words.
        0x20..=0x3f => {
            let name = reader.string(3)?;
            Some(FieldLine { name, value: reader.string(7)? })
        }
        // Of the dynamic table.
        _ => None,
    }
}

fn from_static(index: u64) -> Option<FieldLine> {
    FieldLine::from_static(&TABLE, usize::try_from(index).ok()?)
}
