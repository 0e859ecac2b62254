//! HPACK encoding: entries and names of the [static table](TABLE) where possible, literals without
//! indexing otherwise. Clients never have to store anything. Strings are not Huffman-coded, as that
//! costs more time than the bytes it saves.

use http::StatusCode;

use super::table::TABLE;
use crate::fields::{integer, table::TableMatch};

/// Appends a table size update to zero (section 6.3). The encoder has no dynamic table anyway, but
/// it has to acknowledge a client that lowers the maximum.
pub(in crate::http2) fn table_size_zero(out: &mut Vec<u8>) {
    out.push(0x20);
}

/// Appends `:status`.
pub(in crate::http2) fn status(out: &mut Vec<u8>, status: StatusCode) {
    /// The index of the first `:status` entry.
    const STATUS: u8 = 8;
    out.push(match status.as_u16() {
        200 => 0x88,
        204 => 0x89,
        206 => 0x8a,
        304 => 0x8b,
        400 => 0x8c,
        404 => 0x8d,
        500 => 0x8e,
        _ => {
            out.push(STATUS);
            return string(out, status.as_str().as_bytes());
        }
    });
}

/// Appends a field line. `name` has to be in lower case.
pub(in crate::http2) fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    match TABLE.find(name, value) {
        Some(TableMatch::Entry(index)) => {
            return integer::write(out, 0x80, 7, usize::from(index) + 1);
        }
        Some(TableMatch::Name(index)) => integer::write(out, 0, 4, usize::from(index) + 1),
        None => {
            out.push(0);
            string(out, name.as_bytes());
        }
    }
    string(out, value);
}

fn string(out: &mut Vec<u8>, text: &[u8]) {
    integer::write(out, 0, 7, text.len());
    out.extend_from_slice(text);
}
