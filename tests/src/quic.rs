//! A QUIC client that writes any bytes as HTTP/3, valid or not ([`QuicClient`]), and a UDP
//! relay that counts and drops datagrams ([`UdpRelay`]).

use std::{
    future::Future,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use countersign_front::{
    RequestLimits,
    fields::section::SectionBuffer,
    http3::{
        error::Http3ErrorCode,
        frame::{FrameEvent, RequestFrames},
        qpack,
    },
};
use quinn::{
    Connection, ConnectionError, Endpoint, RecvStream, SendStream, TransportConfig, VarInt,
    crypto::rustls::QuicClientConfig,
};
use tokio::time::timeout;

use crate::{client::runtime, tls};

/// QUIC client with one connection.
pub struct QuicClient {
    endpoint: Endpoint,
    /// Connection.
    pub connection: Connection,
}

/// Time limit of an operation.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(20);

impl QuicClient {
    /// Connects without opening a stream.
    ///
    /// # Errors
    /// The server refused the connection.
    pub fn connect(tls: &tls::TlsClient, address: SocketAddr) -> Result<Self, ConnectionError> {
        Self::connect_with(tls, address, TransportConfig::default())
    }

    /// Like [`connect`](Self::connect), with transport parameters such as windows.
    ///
    /// # Errors
    /// The server refused the connection.
    pub fn connect_with(
        tls: &tls::TlsClient,
        address: SocketAddr,
        transport: TransportConfig,
    ) -> Result<Self, ConnectionError> {
        let (endpoint, connecting) = start_connecting(tls, address, transport);
        let connection = wait_for(connecting)?;
        Ok(Self { endpoint, connection })
    }

    /// Returns whether a session ticket of the client allows early data (0-RTT).
    pub fn may_send_early_data(tls: &tls::TlsClient, address: SocketAddr) -> bool {
        let (_endpoint, connecting) = start_connecting(tls, address, TransportConfig::default());
        let _guard = runtime().enter();
        connecting.into_0rtt().is_ok()
    }

    /// Migrates the connection to another port.
    pub fn move_to_another_port(&self) {
        let _guard = runtime().enter();
        self.endpoint.rebind(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
    }

    /// Waits for a future, at most `OPERATION_TIMEOUT`.
    pub fn wait<F: Future>(&self, future: F) -> F::Output {
        wait_for(future)
    }

    /// Opens a bidirectional stream and writes these bytes.
    pub fn open(&self, bytes: &[u8]) -> (SendStream, RecvStream) {
        self.wait(async {
            let (mut send, receive) = self.connection.open_bi().await.unwrap();
            send.write_all(bytes).await.unwrap();
            (send, receive)
        })
    }

    /// Opens a unidirectional stream and writes these bytes.
    pub fn open_one_way(&self, bytes: &[u8]) -> SendStream {
        self.wait(async {
            let mut send = self.connection.open_uni().await.unwrap();
            send.write_all(bytes).await.unwrap();
            send
        })
    }

    /// Sends these bytes as a request and reads the response.
    ///
    /// # Errors
    /// The code of a stream reset.
    pub fn request(&self, bytes: &[u8]) -> Result<Http3Response, VarInt> {
        let (mut send, mut receive) = self.open(&[]);
        // The server may respond early and stop the stream.
        let _ignored = self.wait(send.write_all(bytes));
        let _ignored = send.finish();
        self.receive_response(&mut receive)
    }

    /// Reads a whole response.
    ///
    /// # Errors
    /// The code of a stream reset.
    pub fn receive_response(&self, receive: &mut RecvStream) -> Result<Http3Response, VarInt> {
        match self.wait(receive.read_to_end(1 << 20)) {
            Ok(bytes) => Ok(Http3Response::read(&bytes)),
            Err(quinn::ReadToEndError::Read(quinn::ReadError::Reset(code))) => Err(code),
            Err(error) => panic!("{error}"),
        }
    }

    /// Waits until the server closes the connection and returns the error code.
    pub fn close_code(&self) -> u64 {
        match self.wait(self.connection.closed()) {
            ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
            error => panic!("{error}"),
        }
    }
}

fn wait_for<F: Future>(future: F) -> F::Output {
    // The timer needs the runtime's context.
    let _guard = runtime().enter();
    runtime()
        .block_on(timeout(OPERATION_TIMEOUT, future))
        .expect("the operation did not finish within 20 s")
}

fn start_connecting(
    tls: &tls::TlsClient,
    address: SocketAddr,
    transport: TransportConfig,
) -> (Endpoint, quinn::Connecting) {
    let mut config =
        quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls.config()).unwrap()));
    config.transport_config(Arc::new(transport));
    let _guard = runtime().enter();
    let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let connecting = endpoint.connect_with(config, address, "localhost").unwrap();
    (endpoint, connecting)
}

/// Returns an error code as quinn takes and reports it.
pub fn error_code(code: Http3ErrorCode) -> VarInt {
    VarInt::from_u64(code.number()).unwrap()
}

/// HTTP/3 response.
#[derive(Debug, PartialEq, Eq)]
pub struct Http3Response {
    /// Status code.
    pub status: u16,
    /// Field lines in order, without `:status`.
    pub lines: Vec<(String, String)>,
    /// Body.
    pub body: String,
}

impl Http3Response {
    fn read(mut bytes: &[u8]) -> Self {
        let (mut frames, mut lines, mut body) =
            (RequestFrames::new(1 << 20), Vec::new(), Vec::new());
        while let Some(event) = frames.next(&mut bytes).unwrap() {
            match event {
                FrameEvent::Headers(payload) => {
                    let mut room = SectionBuffer::default();
                    let section =
                        qpack::read(&mut room, payload, &RequestLimits::default()).unwrap();
                    let text = |text: &[u8]| String::from_utf8(text.into()).unwrap();
                    lines =
                        section.lines().map(|(name, value)| (text(name), text(value))).collect();
                }
                // The status of gRPC.
                FrameEvent::Trailers(_) => {}
                FrameEvent::Data(data) => body.extend_from_slice(data),
                FrameEvent::TooLarge => unreachable!("nothing of ours is that large"),
            }
        }
        frames.end().unwrap();
        let (name, status) = lines.remove(0);
        assert_eq!(name, ":status");
        Self { status: status.parse().unwrap(), lines, body: String::from_utf8(body).unwrap() }
    }

    /// Returns the value of a field, or `None` if it is absent.
    ///
    /// # Panics
    /// The field occurs more than once.
    pub fn line(&self, name: &str) -> Option<&str> {
        let mut lines = self.lines.iter().filter(|(line, _)| line == name);
        let line = lines.next()?;
        assert!(lines.next().is_none(), "{name} occurs twice: {self:?}");
        Some(&line.1)
    }
}

/// Encodes a frame.
pub fn frame(kind: u64, payload: &[u8]) -> Vec<u8> {
    [&integer(kind), &integer(payload.len() as u64), payload].concat()
}

/// Encodes a variable-length integer (RFC 9000 section 16), always in eight bytes.
pub fn integer(value: u64) -> [u8; 8] {
    (value | 0xc0 << 56).to_be_bytes()
}

/// Encodes a `HEADERS` frame of literal field lines.
pub fn headers(lines: &[(&str, &str)]) -> Vec<u8> {
    let mut section = vec![0, 0];
    for (name, value) in lines {
        literal(&mut section, 0x20, 3, name);
        literal(&mut section, 0, 7, value);
    }
    frame(0x1, &section)
}

/// Appends a string literal whose length has a prefix of `prefix` bits (RFC 9204 section
/// 4.1.2).
fn literal(out: &mut Vec<u8>, mark: u8, prefix: u32, text: &str) {
    let most = (1 << prefix) - 1;
    let mut length = text.len();
    if length < most {
        out.push(mark | u8::try_from(length).unwrap());
    } else {
        out.push(mark | u8::try_from(most).unwrap());
        length -= most;
        while length >= 0x80 {
            out.push(0x80 | u8::try_from(length & 0x7f).unwrap());
            length >>= 7;
        }
        out.push(u8::try_from(length).unwrap());
    }
    out.extend_from_slice(text.as_bytes());
}

/// Encodes a `GET` or `POST` of a path, with additional field lines.
pub fn request(method: &str, path: &str, lines: &[(&str, &str)]) -> Vec<u8> {
    let pseudo =
        [(":method", method), (":scheme", "https"), (":authority", "localhost"), (":path", path)];
    headers(&[&pseudo, lines].concat())
}

/// UDP relay between one client and a server. It runs until the process ends.
pub struct UdpRelay {
    /// Address for the client.
    pub address: SocketAddr,
    /// Number of relayed `Retry` packets.
    pub retries: Arc<AtomicUsize>,
}

impl UdpRelay {
    /// Starts a relay to `server`. With `loses`, it drops every n-th datagram in each
    /// direction.
    pub fn start(server: SocketAddr, loses: Option<usize>) -> Self {
        let front = UdpSocket::bind("127.0.0.1:0").unwrap();
        let back = UdpSocket::bind("127.0.0.1:0").unwrap();
        back.connect(server).unwrap();
        let (address, retries) = (front.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let client = Arc::new(std::sync::Mutex::new(None));
        let is_lost = move |number: &mut usize| {
            *number += 1;
            loses.is_some_and(|loses| number.is_multiple_of(loses))
        };
        let (there, from) = (back.try_clone().unwrap(), Arc::clone(&client));
        let here = front.try_clone().unwrap();
        std::thread::spawn(move || {
            let (mut bytes, mut number) = ([0; 65536], 0);
            while let Ok((length, sender)) = here.recv_from(&mut bytes) {
                *from.lock().unwrap() = Some(sender);
                if !is_lost(&mut number) {
                    drop(there.send(&bytes[..length]));
                }
            }
        });
        let retry_count = Arc::clone(&retries);
        std::thread::spawn(move || {
            let (mut bytes, mut number) = ([0; 65536], 0);
            loop {
                // An error, such as port unreachable, is temporary while the server restarts.
                let Ok(length) = back.recv(&mut bytes) else { continue };
                if bytes[0] & 0xf0 == 0xf0 {
                    retry_count.fetch_add(1, Ordering::Relaxed);
                }
                let Some(client) = *client.lock().unwrap() else { continue };
                if !is_lost(&mut number) {
                    drop(front.send_to(&bytes[..length], client));
                }
            }
        });
        Self { address, retries }
    }
}
