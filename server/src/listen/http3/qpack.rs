//! Field sections (RFC 9204) without a dynamic table: we announce that it has no room,
//! so that none refers to another, waits for one, or is acknowledged.
//!
//! Reading copies what is Huffman-coded and nothing else, and allocates nothing once a
//! [`SectionBuffer`](super::super::fields::section::Room) is warm. Writing is appending.

mod decode;
mod encode;
mod instruction;
mod table;

pub use decode::{QpackError, read};
pub use encode::{field, prefix, status};
pub use instruction::{DecoderStream, check_encoder_stream};

#[cfg(test)]
mod tests;
