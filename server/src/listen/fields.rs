//! Field sections as HTTP/2 and HTTP/3 have them: the parts that HPACK (RFC 7541) and
//! QPACK (RFC 9204) share, and what a section means as a request.

pub mod request;
pub mod section;
mod huffman;
pub(super) mod integer;
pub(super) mod table;
