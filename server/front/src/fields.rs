//! Field sections of HTTP/2 and HTTP/3: what HPACK (RFC 7541) and QPACK (RFC 9204) share, and the
//! interpretation of a section as a request.

pub mod request;
pub mod section;
pub(super) mod expected_body;
mod huffman;
pub(super) mod integer;
mod known_strings;
mod string_memory;
pub(super) mod table;
#[cfg(test)]
pub(crate) mod test_text;
