//! HPACK decoding.

use super::{
    dynamic::{DynamicTable, MAX_TABLE_SIZE},
    table::TABLE,
};
use crate::{
    fields::section::{FieldLine, FieldSection, SectionBuffer, SectionReader},
    http2::error::{Http2Error, Http2ErrorCode},
    message::BadRequest,
    request_limits::RequestLimits,
};

/// Error of decoding a field section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HpackError {
    /// Above a limit. The request gets a 431 response. The section was decoded to its end, so that
    /// the dynamic table still equals the client's.
    TooLarge(BadRequest),
    /// Undecodable, or far above the limit. The connection closes.
    Connection(Http2Error),
}

/// Multiple of the size limit up to which an oversized section is still decoded to its end. A few
/// bytes can refer to a large entry many times, but no client does that by accident.
const MAX_SIZE_FACTOR: usize = 4;
/// Table size updates allowed at the start of a section (section 4.2).
const MAX_SIZE_UPDATES: usize = 2;

/// Decodes the field section in `payload`, up to `limits`.
///
/// # Errors
/// The section is too large or malformed.
pub fn read<'r>(
    table: &'r mut DynamicTable,
    buffer: &'r mut SectionBuffer,
    payload: &'r [u8],
    limits: &RequestLimits,
) -> Result<FieldSection<'r>, HpackError> {
    table.release_memory();
    let mut reader = buffer.reader(&TABLE, payload);
    size_updates(&mut reader, table)?;
    let mut excess = None;
    while let Some(first) = reader.first() {
        let line = line(&mut reader, table, first).ok_or(LINE)?;
        if let Err(bad_request) = reader.push(line, limits) {
            // Decoding continues, because later sections may refer to entries that this one
            // inserts.
            excess.get_or_insert(bad_request);
            if reader.size > MAX_SIZE_FACTOR.saturating_mul(limits.head_bytes) {
                return Err(EXCESSIVE);
            }
        }
    }
    match excess {
        Some(bad_request) => Err(HpackError::TooLarge(bad_request)),
        None => {
            buffer.section(&TABLE, payload, table.bytes(), limits).map_err(HpackError::TooLarge)
        }
    }
}

const LINE: HpackError = compression_error("a field line cannot be decoded");
const SIZE: HpackError = compression_error("invalid table size update");
const EXCESSIVE: HpackError = HpackError::Connection(Http2Error::new(
    Http2ErrorCode::EnhanceYourCalm,
    "a field section is far above the limit",
));

const fn compression_error(reason: &'static str) -> HpackError {
    HpackError::Connection(Http2Error::new(Http2ErrorCode::CompressionError, reason))
}

/// Reads the table size updates a section may begin with (section 6.3).
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

/// Reads a field line (sections 6.1 and 6.2), given its first byte.
fn line(
    reader: &mut SectionReader<'_, '_>,
    table: &mut DynamicTable,
    first: u8,
) -> Option<FieldLine> {
    match first {
        // Indexed.
        0x80.. => indexed(reader.integer(7)?, table),
        // Literal with incremental indexing.
        0x40..=0x7f => {
            let line = literal(reader, table, 6)?;
            table.insert(line, reader);
            Some(line)
        }
        // Table size updates are allowed only before the first line.
        0x20..=0x3f => None,
        // Literal without indexing, or never indexed.
        0x00..=0x1f => literal(reader, table, 4),
    }
}

/// Reads a literal field line, whose name may be indexed.
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

/// Returns the entry of an index (section 2.3.3): static entries first, then dynamic ones, newest
/// first.
fn indexed(index: u64, table: &DynamicTable) -> Option<FieldLine> {
    let position = usize::try_from(index).ok()?.checked_sub(1)?;
    match position.checked_sub(TABLE.lines.len()) {
        None => FieldLine::from_static(&TABLE, position),
        Some(age) => table.line(age),
    }
}
