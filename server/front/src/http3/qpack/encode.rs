//! QPACK encoding: entries and names of the [static table](TABLE) where possible, literals
//! otherwise. Strings are not Huffman-coded, as that costs more time than the bytes it saves.

use http::StatusCode;

use super::table::TABLE;
use crate::fields::{integer, table::TableMatch};

/// Appends the prefix of a field section without dynamic references.
pub fn prefix(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0, 0]);
}

/// Appends the start of a response's field section: prefix and `:status`.
pub fn status(out: &mut Vec<u8>, status: StatusCode) {
    /// The index of the first `:status` entry.
    const STATUS: usize = 24;
    prefix(out);
    match indexed(status) {
        Some(index) => static_entry(out, index),
        None => {
            static_name(out, STATUS);
            string(out, status.as_str().as_bytes());
        }
    }
}

/// Returns the static entry for a status.
const fn indexed(status: StatusCode) -> Option<usize> {
    Some(match status.as_u16() {
        200 => 25,
        400 => 67,
        403 => 68,
        404 => 27,
        500 => 71,
        503 => 28,
        103 => 24,
        304 => 26,
        100 => 63,
        204 => 64,
        206 => 65,
        302 => 66,
        421 => 69,
        425 => 70,
        _ => return None,
    })
}

/// Appends a field line. `name` has to be in lower case.
pub fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    match TABLE.find(name, value) {
        Some(TableMatch::Entry(index)) => return static_entry(out, index.into()),
        Some(TableMatch::Name(index)) => static_name(out, index.into()),
        None => {
            integer::write(out, 0x20, 3, name.len());
            out.extend_from_slice(name.as_bytes());
        }
    }
    string(out, value);
}

fn static_entry(out: &mut Vec<u8>, index: usize) {
    integer::write(out, 0xc0, 6, index);
}

fn static_name(out: &mut Vec<u8>, index: usize) {
    integer::write(out, 0x50, 4, index);
}

fn string(out: &mut Vec<u8>, text: &[u8]) {
    integer::write(out, 0, 7, text.len());
    out.extend_from_slice(text);
}
