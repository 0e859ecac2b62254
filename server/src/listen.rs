//! Sockets: what accepts connections and speaks TLS and HTTP/1.1 on them.

pub mod tcp;
pub mod tls;
pub mod peer;
pub mod http1;
pub mod drain;
