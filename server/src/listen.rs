//! Sockets, and the protocols spoken on them.

pub mod accept;
pub mod certificate;
pub mod exchange;
pub mod fields;
pub mod http1;
pub mod http2;
pub mod http3;
pub mod origin;
pub mod peer;
pub mod proxy_protocol;
pub mod quic;
pub mod stream;
pub mod tls;
pub mod watch;
