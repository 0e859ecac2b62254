//! Reading field sections.

use super::table::TABLE;
use crate::{
    http::Malformed,
    listen::{
        fields::section::{Line, Reader, Room, Section},
        http3::fault::{Code, Fault},
    },
};

/// Why a field section was not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unread {
    /// It is larger than we read: a request that gets an answer.
    TooLarge(Malformed),
    /// It cannot be read. Its connection ends.
    Fault(Fault),
}

/// Reads the field section that is the whole of `payload`, whose size as RFC 9114
/// counts it, each line 32 bytes more than its text, is at most `most`.
///
/// # Errors
/// It is too large, or is none.
pub fn read<'r>(room: &'r mut Room, payload: &'r [u8], most: usize) -> Result<Section<'r>, Unread> {
    let mut reader = room.reader(&TABLE, payload);
    prefix(&mut reader).ok_or(PREFIX)?;
    while let Some(first) = reader.first() {
        let line = line(&mut reader, first).ok_or(LINE)?;
        reader.push(line, most).map_err(Unread::TooLarge)?;
    }
    Ok(room.section(&TABLE, payload, &[]))
}

const PREFIX: Unread = unreadable("a field section refers to a dynamic table, which has no room");
const LINE: Unread = unreadable("a field line cannot be read");

const fn unreadable(reason: &'static str) -> Unread {
    Unread::Fault(Fault::new(Code::QpackDecompressionFailed, reason))
}

/// The prefix (section 4.5.1) of a section that needs no entry of a dynamic table. A base
/// below it is none.
fn prefix(reader: &mut Reader<'_, '_>) -> Option<()> {
    let required = reader.integer(8)?;
    let is_negative = reader.first()? & 0x80 != 0;
    let _base = reader.integer(7)?;
    (required == 0 && !is_negative).then_some(())
}

/// A line (sections 4.5.2 to 4.5.6) that begins with this byte.
fn line(reader: &mut Reader<'_, '_>, first: u8) -> Option<Line> {
    match first {
        // Indexed.
        0xc0.. => of_table(reader.integer(6)?),
        // With a name of the table: never to be indexed, or as one likes.
        0x50..=0x5f | 0x70..=0x7f => {
            let Line { name, .. } = of_table(reader.integer(4)?)?;
            Some(Line { name, value: reader.string(7)? })
        }
        // With a name in words.
        0x20..=0x3f => {
            let name = reader.string(3)?;
            Some(Line { name, value: reader.string(7)? })
        }
        // Of the dynamic table.
        _ => None,
    }
}

fn of_table(index: u64) -> Option<Line> {
    Line::of_table(&TABLE, usize::try_from(index).ok()?)
}
