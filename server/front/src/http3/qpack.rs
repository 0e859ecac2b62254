//! QPACK field compression (RFC 9204) without a dynamic table. The server announces a capacity of
//! zero, so field sections never refer to one another, block, or need acknowledgement.
//!
//! Decoding copies only Huffman-coded strings, and allocates nothing once the
//! [`SectionBuffer`](super::super::fields::section::SectionBuffer) is warm. Encoding appends to a
//! buffer.

mod decode;
mod encode;
mod instruction;
mod table;

pub use decode::{QpackError, read};
pub use encode::{field, prefix, status};
pub use instruction::{DecoderStream, check_encoder_stream};

#[cfg(test)]
mod tests;
