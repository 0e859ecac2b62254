//! QPACK decoding.

use super::table::TABLE;
use crate::{
    fields::section::{FieldLine, FieldSection, SectionBuffer, SectionReader},
    http3::error::{Http3Error, Http3ErrorCode},
    message::BadRequest,
    request_limits::RequestLimits,
};

/// Error of decoding a field section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QpackError {
    /// Above a limit. The request gets a 431 response.
    TooLarge(BadRequest),
    /// Undecodable. The connection closes.
    Connection(Http3Error),
}

/// Decodes the field section in `payload`, up to `limits`.
///
/// # Errors
/// The section is too large or malformed.
pub fn read<'r>(
    buffer: &'r mut SectionBuffer,
    payload: &'r [u8],
    limits: &RequestLimits,
) -> Result<FieldSection<'r>, QpackError> {
    let mut reader = buffer.reader(&TABLE, payload);
    prefix(&mut reader).ok_or(PREFIX)?;
    while let Some(first) = reader.first() {
        let line = line(&mut reader, first).ok_or(LINE)?;
        reader.push(line, limits).map_err(QpackError::TooLarge)?;
    }
    buffer.section(&TABLE, payload, &[], limits).map_err(QpackError::TooLarge)
}

const PREFIX: QpackError =
    decompression_failed("a field section refers to the dynamic table, whose capacity is zero");
const LINE: QpackError = decompression_failed("a field line cannot be decoded");

const fn decompression_failed(reason: &'static str) -> QpackError {
    QpackError::Connection(Http3Error::new(Http3ErrorCode::QpackDecompressionFailed, reason))
}

/// Reads the prefix (section 4.5.1) of a section without dynamic references: the required insert
/// count is zero, and the sign of the base is not negative.
fn prefix(reader: &mut SectionReader<'_, '_>) -> Option<()> {
    let required = reader.integer(8)?;
    let is_negative = reader.first()? & 0x80 != 0;
    let _base = reader.integer(7)?;
    (required == 0 && !is_negative).then_some(())
}

/// Reads a field line (sections 4.5.2 to 4.5.6), given its first byte.
fn line(reader: &mut SectionReader<'_, '_>, first: u8) -> Option<FieldLine> {
    match first {
        // Indexed, static table.
        0xc0.. => from_static(reader.integer(6)?),
        // Literal with a static name reference, with or without the never-indexed bit.
        0x50..=0x5f | 0x70..=0x7f => {
            let FieldLine { name, .. } = from_static(reader.integer(4)?)?;
            Some(FieldLine { name, value: reader.string(7)? })
        }
        // Literal with a literal name.
        0x20..=0x3f => {
            let name = reader.string(3)?;
            Some(FieldLine { name, value: reader.string(7)? })
        }
        // References to the dynamic table.
        _ => None,
    }
}

fn from_static(index: u64) -> Option<FieldLine> {
    FieldLine::from_static(&TABLE, usize::try_from(index).ok()?)
}
