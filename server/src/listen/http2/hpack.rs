//! Field sections (RFC 7541): those of a client may refer to what its former ones have
//! said, ours never do.
//!
//! Reading copies what is Huffman-coded or to be remembered and nothing else, and
//! allocates nothing once the table and the [`SectionBuffer`](super::super::fields::section::Room)
//! are warm. Writing is appending.

mod decode;
mod dynamic;
mod encode;
mod table;

pub use decode::{HpackError, read};
pub use dynamic::DynamicTable;
pub(super) use encode::{field, status, table_size_zero};

#[cfg(test)]
mod tests;
