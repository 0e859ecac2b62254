//! HTTP/3 (RFC 9114): what its streams say, without a socket or a clock. Frames and
//! field sections are read from bytes as they come and written by appending to bytes.

pub mod fault;
pub mod varint;
pub mod frame;
pub mod control;
pub mod unidirectional;
pub mod qpack;
pub mod request;
