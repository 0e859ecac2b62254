//! Writing field sections: whole lines and names of the static table where it has them,
//! nothing that a client would have to remember, and nothing Huffman-coded, which would
//! take longer than the bytes that it saves.

use http::StatusCode;

use super::table::TABLE;
use crate::listen::fields::{integer, table::TableMatch};

/// Appends that our table has no room (section 6.3). It never has, but a client that
/// makes its own smaller than we might use wants to hear that we know.
pub(in crate::listen::http2) fn table_size_zero(out: &mut Vec<u8>) {
    out.push(0x20);
}

/// Appends the line that an answer begins with.
pub(in crate::listen::http2) fn status(out: &mut Vec<u8>, status: StatusCode) {
    /// The index of the first line with that name.
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

/// Appends a line. Its name is in lower case.
pub(in crate::listen::http2) fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    match TABLE.find(name, value) {
        Some(TableMatch::Entry(place)) => {
            return integer::write(out, 0x80, 7, usize::from(place) + 1);
        }
        Some(TableMatch::Name(place)) => integer::write(out, 0, 4, usize::from(place) + 1),
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
