//! Sockets: what accepts connections and speaks HTTP/1.1 on them.

pub mod tcp;
pub mod peer;
pub mod http1;
pub mod drain;
