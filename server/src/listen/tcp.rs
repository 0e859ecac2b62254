//! Listening and accepting.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tokio::net::{TcpListener, TcpStream};

/// Listens on an address.
///
/// # Errors
/// The system's, with the address and a remedy in its text.
pub fn bind(address: SocketAddr, option: &str) -> io::Result<TcpListener> {
    let listen = || {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    };
    listen().map_err(|error| {
        io::Error::new(error.kind(), format!("cannot listen on {address}: {error}; choose another with {option}"))
    })
}

/// Accepts connections for ever, handing each to `hand_over` with the address it
/// comes from.
pub async fn accept(listener: TcpListener, mut hand_over: impl FnMut(TcpStream, IpAddr)) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Answers are small: waiting to fill a segment only adds latency.
                let _best_effort = stream.set_nodelay(true);
                hand_over(stream, peer.ip());
            }
            // Out of file descriptors, most likely: they come back when connections end.
            Err(error) => {
                tracing::warn!("accepting a connection failed: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}
