//! HTTP/3 client over quinn. Each request is encoded once, and only the status of an answer is
//! read: h3 would take as long for that as quinn takes for the rest. Requests that the slots of one
//! connection send in one turn leave together.

mod field_section;

use std::{
    cell::RefCell, collections::BTreeMap, convert::Infallible, io, net::Ipv4Addr, net::SocketAddr,
    rc::Rc, sync::Arc,
};

use countersign_front::http3::error::Http3ErrorCode;
use quinn::{
    ClientConfig, Connection, Endpoint, SendStream, VarInt, crypto::rustls::QuicClientConfig,
};
use tokio::task::yield_now;

use super::{
    credential::{Credential, RequestBytes},
    protocol::{Protocol, RequestSlot, ResetStorm, SharedConnections},
    tls::Tls,
};

/// HTTP/3 client of one server, or of several that share the load.
pub struct Http3 {
    addresses: Vec<SocketAddr>,
    tls: Rc<Tls>,
    /// One socket per connection, as if each came from another client.
    endpoints: RefCell<BTreeMap<usize, Endpoint>>,
    shared: SharedConnections<Http3Connection>,
}

impl Http3 {
    /// Creates a client of these addresses. Connections go to each address in turn.
    #[must_use]
    pub fn new(addresses: Vec<SocketAddr>, tls: Rc<Tls>) -> Self {
        Self { addresses, tls, endpoints: RefCell::default(), shared: SharedConnections::default() }
    }

    async fn connect(&self, number: usize) -> io::Result<Http3Connection> {
        /// The control stream (RFC 9114 section 6.2.1) with an empty SETTINGS frame.
        const CONTROL: &[u8] = b"\0\x04\0";
        let tls = QuicClientConfig::try_from(self.tls.config(number)).map_err(io::Error::other)?;
        let address = self.addresses[number % self.addresses.len()];
        let connecting = self.endpoint(number)?.connect_with(
            ClientConfig::new(Arc::new(tls)),
            address,
            "localhost",
        );
        let connection = connecting.map_err(io::Error::other)?.await?;
        let mut control = connection.open_uni().await?;
        control.write_all(CONTROL).await?;
        Ok(Http3Connection { connection, _control: control })
    }

    fn endpoint(&self, number: usize) -> io::Result<Endpoint> {
        if let Some(endpoint) = self.endpoints.borrow().get(&number) {
            return Ok(endpoint.clone());
        }
        let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into())?;
        self.endpoints.borrow_mut().insert(number, endpoint.clone());
        Ok(endpoint)
    }
}

/// A QUIC connection with its control stream.
struct Http3Connection {
    connection: Connection,
    /// Must stay open until the connection ends.
    _control: SendStream,
}

impl Protocol for Http3 {
    type Wire = RequestBytes;
    type RequestSlot = Http3Slot;

    /// Encodes one HEADERS frame.
    fn encode(&self, credential: Option<&Credential>) -> RequestBytes {
        let (section, fresh) = field_section::request(credential);
        let mut bytes = vec![HEADERS];
        push_varint(&mut bytes, section.len());
        let fresh = fresh.map(|at| bytes.len() + at);
        bytes.extend(section);
        RequestBytes::new(bytes, fresh)
    }

    async fn open(&self, connection: usize) -> io::Result<Http3Slot> {
        let connection = self.shared.get(connection, self.connect(connection)).await?;
        Ok(Http3Slot { connection, answer: Vec::new() })
    }

    async fn storm(&self, storm: &ResetStorm) -> io::Result<Infallible> {
        /// A number that no other connection has.
        const NUMBER: usize = usize::MAX;
        let request = self.encode(None).with_serial(0);
        loop {
            let connection = self.connect(NUMBER).await?;
            storm.connected();
            // The server has closed the connection, with one error or another. Connect again.
            let _ignored = send_resets(&connection.connection, &request, storm).await;
        }
    }
}

/// Sends requests and resets them (RFC 9114 section 4.1.1) until the connection ends.
async fn send_resets(
    connection: &Connection,
    request: &[u8],
    storm: &ResetStorm,
) -> io::Result<()> {
    loop {
        let mut streams = Vec::new();
        for _ in 0..ResetStorm::BURST {
            let (mut send, receive) = connection.open_bi().await?;
            send.write_all(request).await?;
            streams.push((send, receive));
        }
        // Quinn would not send a request at all that is reset before it has left.
        yield_now().await;
        for (mut send, mut receive) in streams {
            // Resetting a stream fails if it has been answered already.
            let code = error_code(Http3ErrorCode::RequestCancelled);
            let _ignored = (send.reset(code), receive.stop(code));
        }
        storm.reset_burst();
        yield_now().await;
    }
}

/// A request slot on an HTTP/3 connection: one stream at a time.
pub struct Http3Slot {
    connection: Rc<Http3Connection>,
    answer: Vec<u8>,
}

impl RequestSlot for Http3Slot {
    type Wire = RequestBytes;

    async fn exchange(&mut self, wire: &RequestBytes, serial: u64) -> io::Result<u16> {
        /// Maximum length of an answer.
        const MAX_ANSWER_BYTES: usize = 8 * 1024;
        let (mut send, mut receive) = self.connection.connection.open_bi().await?;
        send.write_all(&wire.with_serial(serial)).await?;
        send.finish()?;
        self.answer = receive.read_to_end(MAX_ANSWER_BYTES).await.map_err(io::Error::other)?;
        status(&self.answer).ok_or_else(|| {
            io::Error::other(format!("not an HTTP/3 answer: {}", self.last_answer()))
        })
    }

    fn last_answer(&self) -> String {
        self.answer.escape_ascii().to_string()
    }

    async fn close(self) -> io::Result<()> {
        if let Some(Http3Connection { connection, .. }) = Rc::into_inner(self.connection) {
            connection.close(error_code(Http3ErrorCode::NoError), b"");
            // Let the connection's task send CONNECTION_CLOSE: this thread may not run it again.
            yield_now().await;
        }
        Ok(())
    }
}

fn error_code(code: Http3ErrorCode) -> VarInt {
    VarInt::from_u64(code.number()).unwrap_or(VarInt::MAX)
}

/// Frame type (RFC 9114 section 7.2.2).
const HEADERS: u8 = 0x01;

/// Returns the status of an answer, from its first HEADERS frame. Frames of unknown types are
/// skipped.
fn status(mut answer: &[u8]) -> Option<u16> {
    loop {
        let kind = varint(&mut answer)?;
        let length = varint(&mut answer)?.try_into().ok()?;
        let frame = answer.split_off(..length)?;
        if kind == u64::from(HEADERS) {
            return field_section::status(frame);
        }
    }
}

/// Reads a variable-length integer (RFC 9000 section 16): the top two bits give its length.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let length = 1 << (bytes.first()? >> 6);
    let (first, rest) = bytes.split_off(..length)?.split_first()?;
    Some(rest.iter().fold(u64::from(first & 0x3f), |value, byte| value << 8 | u64::from(*byte)))
}

/// Appends an integer in four bytes, which is valid but not the shortest form.
fn push_varint(bytes: &mut Vec<u8>, value: usize) {
    const FOUR_BYTES: u32 = 2 << 30;
    bytes.extend((u32::try_from(value).unwrap_or(u32::MAX) | FOUR_BYTES).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varint_reads_the_examples_of_rfc9000() {
        let read = |mut bytes: &[u8]| varint(&mut bytes);
        assert_eq!(read(b"\xc2\x19\x7c\x5e\xff\x14\xe8\x8c"), Some(151_288_809_941_952_652));
        assert_eq!(read(b"\x9d\x7f\x3e\x7d"), Some(494_878_333));
        assert_eq!(read(b"\x7b\xbd"), Some(15_293));
        assert_eq!(read(b"\x25"), Some(37));
        assert_eq!(read(b"\x7b"), None);
        let mut bytes = Vec::new();
        push_varint(&mut bytes, 1_000);
        assert_eq!(read(&bytes), Some(1_000));
    }

    #[test]
    fn status_is_found_after_unknown_frames() {
        assert_eq!(status(b"\x01\x03\0\0\xd9"), Some(200));
        assert_eq!(status(b"\x21\x02no\x01\x03\0\0\xd9\0\x02ok"), Some(200));
        assert_eq!(status(b"\x01\x04\0\0\xd9"), None);
        assert_eq!(status(b""), None);
    }
}
