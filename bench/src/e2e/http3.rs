//! HTTP/3 over quinn. Requests are made once, for all their sendings, and of answers no
//! more is read than the status: h3 would take as long for that as quinn for the rest.
//! What lanes of one connection send in one turn leaves together.

mod field_section;

use std::{
    cell::RefCell, collections::BTreeMap, convert::Infallible, io, net::Ipv4Addr, net::SocketAddr,
    rc::Rc, sync::Arc,
};

use quinn::{
    ClientConfig, Connection, Endpoint, SendStream, VarInt, crypto::rustls::QuicClientConfig,
};
use tokio::task::yield_now;

use super::{
    corpus::{Credential, FRESH, write_fresh},
    protocol::{Lane, Protocol, Shared, Storm},
    tls::Tls,
};

/// HTTP/3 towards one server, or several that share the load.
pub struct Http3 {
    addresses: Vec<SocketAddr>,
    tls: Rc<Tls>,
    /// A socket for each connection, as they are of different clients.
    endpoints: RefCell<BTreeMap<usize, Endpoint>>,
    shared: Shared<Channel>,
}

/// Errors (RFC 9114 section 8.1).
const NO_ERROR: VarInt = VarInt::from_u32(0x100);
const REQUEST_CANCELLED: VarInt = VarInt::from_u32(0x10c);

impl Http3 {
    /// To these addresses, one connection each in turn.
    #[must_use]
    pub fn new(addresses: Vec<SocketAddr>, tls: Rc<Tls>) -> Self {
        Self { addresses, tls, endpoints: RefCell::default(), shared: Shared::default() }
    }

    async fn connect(&self, number: usize) -> io::Result<Channel> {
        /// A control stream (RFC 9114 section 6.2.1), and on it SETTINGS that say nothing.
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
        Ok(Channel { connection, _control: control })
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

/// A connection.
struct Channel {
    connection: Connection,
    /// Which must not end before the connection does.
    _control: SendStream,
}

/// The bytes of a request: a frame of HEADERS.
pub struct Headers {
    bytes: Vec<u8>,
    /// Where in them the characters are that change with every sending.
    fresh: Option<usize>,
}

impl Protocol for Http3 {
    type Wire = Headers;
    type Lane = Http3Lane;

    fn encode(&self, credential: Option<&Credential>) -> Headers {
        let (section, fresh) = field_section::request(credential);
        let mut bytes = vec![HEADERS];
        push_varint(&mut bytes, section.len());
        let fresh = fresh.map(|at| bytes.len() + at);
        bytes.extend(section);
        Headers { bytes, fresh }
    }

    async fn open(&self, connection: usize) -> io::Result<Http3Lane> {
        let channel = self.shared.get(connection, self.connect(connection)).await?;
        Ok(Http3Lane { channel, changed: Vec::new(), answer: Vec::new() })
    }

    async fn storm(&self, storm: &Storm) -> io::Result<Infallible> {
        /// The number of no other connection.
        const NUMBER: usize = usize::MAX;
        let request = self.encode(None).bytes;
        loop {
            let channel = self.connect(NUMBER).await?;
            storm.connected();
            // However it ends, the server has had enough of it.
            let _ended = rage(&channel.connection, &request, storm).await;
        }
    }
}

/// Sends requests and takes them back (RFC 9114 section 4.1.1) until the connection ends.
async fn rage(connection: &Connection, request: &[u8], storm: &Storm) -> io::Result<()> {
    loop {
        let mut streams = Vec::new();
        for _ in 0..Storm::BURST {
            let (mut send, receive) = connection.open_bi().await?;
            send.write_all(request).await?;
            streams.push((send, receive));
        }
        // What was reset before it has left would not be sent at all.
        yield_now().await;
        for (mut send, mut receive) in streams {
            // Streams that are over, since they were answered, are none to be reset.
            let _over = (send.reset(REQUEST_CANCELLED), receive.stop(REQUEST_CANCELLED));
        }
        storm.reset_burst();
        yield_now().await;
    }
}

/// One of the streams of a connection.
pub struct Http3Lane {
    channel: Rc<Channel>,
    /// The request that is sent, if it is not as it was made.
    changed: Vec<u8>,
    answer: Vec<u8>,
}

impl Lane for Http3Lane {
    type Wire = Headers;

    async fn ask(&mut self, wire: &Headers, serial: u64) -> io::Result<u16> {
        /// The longest answer there may be.
        const MOST: usize = 8 * 1024;
        let bytes = match wire.fresh {
            None => &wire.bytes,
            Some(at) => {
                self.changed.clear();
                self.changed.extend_from_slice(&wire.bytes);
                write_fresh(&mut self.changed[at..at + FRESH], serial);
                &self.changed
            }
        };
        let (mut send, mut receive) = self.channel.connection.open_bi().await?;
        send.write_all(bytes).await?;
        send.finish()?;
        self.answer = receive.read_to_end(MOST).await.map_err(io::Error::other)?;
        status(&self.answer)
            .ok_or_else(|| io::Error::other(format!("not an answer of HTTP/3: {}", self.said())))
    }

    fn said(&self) -> String {
        self.answer.escape_ascii().to_string()
    }

    async fn close(self) -> io::Result<()> {
        if let Some(Channel { connection, .. }) = Rc::into_inner(self.channel) {
            connection.close(NO_ERROR, b"");
            // The task of the connection has its turn, to say so: nobody may come back.
            yield_now().await;
        }
        Ok(())
    }
}

/// The type of a frame (RFC 9114 section 7.2.2).
const HEADERS: u8 = 0x01;

/// The status of an answer: frames, of which the first HEADERS has it, and those of no
/// known type are passed over.
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

/// An integer of QUIC (RFC 9000 section 16): two bits say how many bytes it has.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let length = 1 << (bytes.first()? >> 6);
    let (first, rest) = bytes.split_off(..length)?.split_first()?;
    Some(rest.iter().fold(u64::from(first & 0x3f), |value, byte| value << 8 | u64::from(*byte)))
}

/// In four bytes, which is not the shortest.
fn push_varint(bytes: &mut Vec<u8>, value: usize) {
    const FOUR_BYTES: u32 = 2 << 30;
    bytes.extend((u32::try_from(value).unwrap_or(u32::MAX) | FOUR_BYTES).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_as_the_examples_of_rfc_9000_are() {
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
    fn a_status_is_found_behind_frames_of_no_known_type() {
        assert_eq!(status(b"\x01\x03\0\0\xd9"), Some(200));
        assert_eq!(status(b"\x21\x02no\x01\x03\0\0\xd9\0\x02ok"), Some(200));
        assert_eq!(status(b"\x01\x04\0\0\xd9"), None);
        assert_eq!(status(b""), None);
    }
}
