//! A client of QUIC that writes HTTP/3 byte by byte, what is wrong included, and a relay
//! between it and a server that sees and loses datagrams.

use std::{
    future::Future,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use countersign_server::listen::{
    fields::section::SectionBuffer,
    http3::{
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

/// A client with one connection.
pub struct Client {
    endpoint: Endpoint,
    /// The connection.
    pub connection: Connection,
}

/// How long something may take that has to come to pass.
const LIMIT: Duration = Duration::from_secs(20);

impl Client {
    /// Connects, and opens no stream.
    ///
    /// # Errors
    /// The server does not want it.
    pub fn connect(tls: &tls::Client, address: SocketAddr) -> Result<Self, ConnectionError> {
        Self::connect_with(tls, address, TransportConfig::default())
    }

    /// The same, with windows of its own.
    ///
    /// # Errors
    /// The server does not want it.
    pub fn connect_with(
        tls: &tls::Client,
        address: SocketAddr,
        transport: TransportConfig,
    ) -> Result<Self, ConnectionError> {
        let (endpoint, connecting) = begin(tls, address, transport);
        let connection = wait_for(connecting)?;
        Ok(Self { endpoint, connection })
    }

    /// Whether a ticket that the client has allows it to send before it is answered.
    pub fn may_send_early_data(tls: &tls::Client, address: SocketAddr) -> bool {
        let (_endpoint, connecting) = begin(tls, address, TransportConfig::default());
        let _inside = runtime().enter();
        connecting.into_0rtt().is_ok()
    }

    /// Goes on from another port.
    pub fn move_to_another_port(&self) {
        let _inside = runtime().enter();
        self.endpoint.rebind(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
    }

    /// Waits for something that has to come to pass.
    pub fn wait<F: Future>(&self, future: F) -> F::Output {
        wait_for(future)
    }

    /// Opens a stream and writes these bytes.
    pub fn open(&self, bytes: &[u8]) -> (SendStream, RecvStream) {
        self.wait(async {
            let (mut send, receive) = self.connection.open_bi().await.unwrap();
            send.write_all(bytes).await.unwrap();
            (send, receive)
        })
    }

    /// Opens a stream that goes one way and writes these bytes.
    pub fn open_one_way(&self, bytes: &[u8]) -> SendStream {
        self.wait(async {
            let mut send = self.connection.open_uni().await.unwrap();
            send.write_all(bytes).await.unwrap();
            send
        })
    }

    /// Sends a request that is these bytes, and reads the answer.
    ///
    /// # Errors
    /// The code with which the stream was reset.
    pub fn ask(&self, bytes: &[u8]) -> Result<Answer, VarInt> {
        let (mut send, mut receive) = self.open(bytes);
        // It may be answered already, and not wanted to its end.
        let _stopped = send.finish();
        self.answer(&mut receive)
    }

    /// Reads an answer to its end.
    ///
    /// # Errors
    /// The code with which the stream was reset.
    pub fn answer(&self, receive: &mut RecvStream) -> Result<Answer, VarInt> {
        match self.wait(receive.read_to_end(1 << 20)) {
            Ok(bytes) => Ok(Answer::read(&bytes)),
            Err(quinn::ReadToEndError::Read(quinn::ReadError::Reset(code))) => Err(code),
            Err(error) => panic!("{error}"),
        }
    }

    /// Waits until the server ends the connection, and returns its code.
    pub fn closed(&self) -> u64 {
        match self.wait(self.connection.closed()) {
            ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
            error => panic!("{error}"),
        }
    }
}

fn wait_for<F: Future>(future: F) -> F::Output {
    // What keeps the time belongs to the runtime.
    let _inside = runtime().enter();
    runtime().block_on(timeout(LIMIT, future)).expect("it has not come to pass in 20 s")
}

fn begin(
    tls: &tls::Client,
    address: SocketAddr,
    transport: TransportConfig,
) -> (Endpoint, quinn::Connecting) {
    let mut config =
        quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls.config()).unwrap()));
    config.transport_config(Arc::new(transport));
    let _inside = runtime().enter();
    let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let connecting = endpoint.connect_with(config, address, "localhost").unwrap();
    (endpoint, connecting)
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The field lines, in order.
    pub lines: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Answer {
    fn read(mut bytes: &[u8]) -> Self {
        let (mut frames, mut lines, mut body) =
            (RequestFrames::new(1 << 20), Vec::new(), Vec::new());
        while let Some(event) = frames.next(&mut bytes).unwrap() {
            match event {
                FrameEvent::Headers(payload) => {
                    let mut room = SectionBuffer::default();
                    let section = qpack::read(&mut room, payload, 1 << 20).unwrap();
                    let text = |text: &[u8]| String::from_utf8(text.into()).unwrap();
                    lines =
                        section.lines().map(|(name, value)| (text(name), text(value))).collect();
                }
                FrameEvent::Data(data) => body.extend_from_slice(data),
                FrameEvent::TooLarge => unreachable!("nothing of ours is that large"),
            }
        }
        frames.end().unwrap();
        let (name, status) = lines.remove(0);
        assert_eq!(name, ":status");
        Self { status: status.parse().unwrap(), lines, body: String::from_utf8(body).unwrap() }
    }

    /// The value of the only line of this name.
    pub fn line(&self, name: &str) -> Option<&str> {
        let mut lines = self.lines.iter().filter(|(line, _)| line == name);
        let line = lines.next()?;
        assert!(lines.next().is_none(), "{name} is there twice: {self:?}");
        Some(&line.1)
    }
}

/// A frame.
pub fn frame(kind: u64, payload: &[u8]) -> Vec<u8> {
    [&integer(kind), &integer(payload.len() as u64), payload].concat()
}

/// An integer of QUIC (RFC 9000 section 16), always of eight bytes.
pub fn integer(value: u64) -> [u8; 8] {
    (value | 0xc0 << 56).to_be_bytes()
}

/// A `HEADERS` frame with these lines, written out.
pub fn headers(lines: &[(&str, &str)]) -> Vec<u8> {
    let mut section = vec![0, 0];
    for (name, value) in lines {
        literal(&mut section, 0x20, 3, name);
        literal(&mut section, 0, 7, value);
    }
    frame(0x1, &section)
}

/// A text behind its length, which has a prefix of so many bits (RFC 9204 section 4.1.2).
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

/// A `GET` or `POST` of a path, with further lines.
pub fn request(method: &str, path: &str, lines: &[(&str, &str)]) -> Vec<u8> {
    let pseudo =
        [(":method", method), (":scheme", "https"), (":authority", "localhost"), (":path", path)];
    headers(&[&pseudo, lines].concat())
}

/// Stands between a client and a server. It lives as long as the process.
pub struct Relay {
    /// Where the client finds it.
    pub address: SocketAddr,
    /// How many `Retry` packets it has seen.
    pub retries: Arc<AtomicUsize>,
}

impl Relay {
    /// Before this server; loses one datagram in so many, either way, if any.
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
        let seen = Arc::clone(&retries);
        std::thread::spawn(move || {
            let (mut bytes, mut number) = ([0; 65536], 0);
            loop {
                // Nobody may be there for a while.
                let Ok(length) = back.recv(&mut bytes) else { continue };
                if bytes[0] & 0xf0 == 0xf0 {
                    seen.fetch_add(1, Ordering::Relaxed);
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
