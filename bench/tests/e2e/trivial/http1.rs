//! HTTP/1.1 server, with one thread per connection.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
};

use rustls::{HandshakeKind, ServerConfig, ServerConnection, StreamOwned};

use super::{Answer, CLOSE_CONNECTION, ServerCounters, bearer, count};

pub(super) fn start(
    tls: Option<Arc<ServerConfig>>,
    counters: Arc<ServerCounters>,
    answer: Arc<Answer>,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            stream.set_nodelay(true).unwrap();
            count(&counters.connections);
            let (tls, counters, answer) = (tls.clone(), Arc::clone(&counters), Arc::clone(&answer));
            // Errors of a connection show in the generator.
            thread::spawn(move || match tls {
                None => drop(serve(stream, &*answer)),
                Some(config) => drop(serve_tls(stream, config, &counters, &*answer)),
            });
        }
    });
    address
}

fn serve_tls(
    mut stream: TcpStream,
    config: Arc<ServerConfig>,
    counters: &ServerCounters,
    answer: &Answer,
) -> std::io::Result<()> {
    let mut connection = ServerConnection::new(config).unwrap();
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    if connection.handshake_kind() == Some(HandshakeKind::Resumed) {
        count(&counters.resumed);
    }
    serve(StreamOwned::new(connection, stream), answer)
}

fn serve(mut stream: impl Read + Write, answer: &Answer) -> std::io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let mut filled = 0;
        while !buffer[..filled].ends_with(b"\r\n\r\n") {
            match stream.read(&mut buffer[filled..])? {
                0 => return Ok(()),
                read => filled += read,
            }
        }
        let text = std::str::from_utf8(&buffer[..filled]).unwrap();
        let credential =
            text.lines().find_map(|line| bearer(line.strip_prefix("Authorization: ")?));
        match answer(credential) {
            CLOSE_CONNECTION => return Ok(()),
            status => write!(stream, "HTTP/1.1 {status} Trivial\r\nContent-Length: 2\r\n\r\n{{}}")?,
        }
        stream.flush()?;
    }
}
