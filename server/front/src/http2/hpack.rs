//! HPACK field compression (RFC 7541). The field blocks of a client may refer to entries of its
//! [`DynamicTable`]; the server's own never do.
//!
//! Decoding copies only strings that are Huffman-coded or inserted into the table. It allocates
//! nothing once the table and the [`SectionBuffer`](super::super::fields::section::SectionBuffer)
//! are warm. Encoding appends to a buffer.

mod decode;
mod dynamic;
mod encode;
mod table;

pub use decode::{HpackError, read};
pub use dynamic::DynamicTable;
pub(super) use encode::{field, status, table_size_zero};

#[cfg(test)]
mod tests;
