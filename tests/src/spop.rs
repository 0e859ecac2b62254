//! A client of SPOP, as HAProxy is: [`SpopClient`], with an encoding of its own that shares no code
//! with the server's.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use crate::http::Request as RecordedRequest;

/// Frame types.
pub mod kind {
    /// The first frame of HAProxy.
    pub const HAPROXY_HELLO: u8 = 1;
    /// The last frame of HAProxy.
    pub const HAPROXY_DISCONNECT: u8 = 2;
    /// Messages about a request.
    pub const NOTIFY: u8 = 3;
    /// The first frame of the server.
    pub const AGENT_HELLO: u8 = 101;
    /// The last frame of the server.
    pub const AGENT_DISCONNECT: u8 = 102;
    /// The answer to a NOTIFY.
    pub const ACK: u8 = 103;
}

/// A frame with its payload, not fragmented.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpopFrame {
    /// The type.
    pub kind: u8,
    /// The stream, and the frame in it.
    pub ids: (u64, u64),
    /// The payload.
    pub payload: Vec<u8>,
}

impl SpopFrame {
    /// Creates a frame.
    pub fn new(kind: u8, ids: (u64, u64), payload: impl Into<Vec<u8>>) -> Self {
        Self { kind, ids, payload: payload.into() }
    }

    /// Returns its bytes, with the length first.
    pub fn bytes(&self) -> Vec<u8> {
        let (stream, frame) = self.ids;
        let head = [&[self.kind, 0, 0, 0, 1][..], &varint(stream), &varint(frame)].concat();
        let length = u32::try_from(head.len() + self.payload.len()).unwrap();
        [&length.to_be_bytes()[..], &head, &self.payload].concat()
    }

    /// Reads the first frame of these bytes, and returns it with its length; `None` if it is
    /// incomplete.
    ///
    /// # Panics
    /// The frame is malformed, or its flags are not those of a complete payload.
    pub fn read(bytes: &[u8]) -> Option<(Self, usize)> {
        let length = u32::from_be_bytes(*bytes.first_chunk()?);
        let end = 4 + usize::try_from(length).unwrap();
        let mut rest = bytes.get(4..end)?;
        let head: [u8; 5] = take(&mut rest, 5).try_into().unwrap();
        assert_eq!(head[1..], [0, 0, 0, 1], "the flags of a complete payload");
        let ids = (take_varint(&mut rest), take_varint(&mut rest));
        Some((Self::new(head[0], ids, rest), end))
    }

    /// Returns the variables that an ACK sets, with their values as text.
    ///
    /// # Panics
    /// It is not an ACK, or has other actions, or sets a variable twice.
    #[track_caller]
    pub fn variables(&self) -> BTreeMap<String, String> {
        assert_eq!(self.kind, kind::ACK, "{self:?}");
        let (mut rest, mut variables) = (&self.payload[..], BTreeMap::new());
        while !rest.is_empty() {
            assert_eq!(take(&mut rest, 3), [1, 3, 2], "an action sets a variable");
            let name = take_text(&mut rest);
            let value = take_value(&mut rest);
            assert_eq!(variables.insert(name, value), None, "a variable is set twice");
        }
        variables
    }

    /// Returns the items of the payload of a HELLO or DISCONNECT.
    pub fn items(&self) -> BTreeMap<String, String> {
        let (mut rest, mut items) = (&self.payload[..], BTreeMap::new());
        while !rest.is_empty() {
            let name = take_text(&mut rest);
            items.insert(name, take_value(&mut rest));
        }
        items
    }
}

/// A check as HAProxy sends it, with the shipped configuration.
#[derive(Clone, Debug)]
pub struct CheckMessage<'m> {
    /// The id of the request.
    pub id: &'m str,
    /// The method.
    pub method: &'m str,
    /// The path and query.
    pub path: &'m str,
    /// `http` or `https`.
    pub scheme: &'m str,
    /// The address of the client.
    pub source: IpAddr,
    /// The header lines.
    pub lines: Vec<(&'m str, &'m str)>,
}

impl<'m> CheckMessage<'m> {
    /// Returns the check of `GET /page?x=1` with these header lines, of the client 203.0.113.9.
    pub fn of(lines: &[(&'m str, &'m str)]) -> Self {
        Self {
            id: "17",
            method: "GET",
            path: "/page?x=1",
            scheme: "http",
            source: Ipv4Addr::new(203, 0, 113, 9).into(),
            lines: [&[("host", "shop.example")], lines].concat(),
        }
    }

    /// Returns the payload of a NOTIFY.
    pub fn payload(&self) -> Vec<u8> {
        let headers: Vec<u8> = self
            .lines
            .iter()
            .chain(&[("", "")])
            .flat_map(|(name, value)| [text(name), text(value)].concat())
            .collect();
        let source = match self.source {
            IpAddr::V4(address) => [&[6][..], &address.octets()].concat(),
            IpAddr::V6(address) => [&[7][..], &address.octets()].concat(),
        };
        message(&[
            ("id", typed(8, self.id.as_bytes())),
            ("method", typed(8, self.method.as_bytes())),
            ("path", typed(8, self.path.as_bytes())),
            ("scheme", typed(8, self.scheme.as_bytes())),
            ("src", source),
            ("headers", typed(9, &headers)),
        ])
    }

    /// Returns a NOTIFY of this stream.
    pub fn notify(&self, stream: u64) -> SpopFrame {
        SpopFrame::new(kind::NOTIFY, (stream, 1), self.payload())
    }
}

/// Returns a message `check` with these encoded arguments.
pub fn message(arguments: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let count = u8::try_from(arguments.len()).unwrap();
    let arguments: Vec<_> =
        arguments.iter().flat_map(|(name, value)| [text(name), value.clone()].concat()).collect();
    [&text("check")[..], &[count], &arguments].concat()
}

/// Returns HAPROXY-HELLO with these versions, maximum length of frames and capabilities.
pub fn hello(versions: &str, max_frame: u64, capabilities: &str) -> SpopFrame {
    let items = [
        ("supported-versions", typed(8, versions.as_bytes())),
        ("max-frame-size", [&[3][..], &varint(max_frame)].concat()),
        ("capabilities", typed(8, capabilities.as_bytes())),
        ("engine-id", typed(8, b"b0a7ef5c")),
    ];
    let payload: Vec<_> =
        items.iter().flat_map(|(name, value)| [text(name), value.clone()].concat()).collect();
    SpopFrame::new(kind::HAPROXY_HELLO, (0, 0), payload)
}

/// Returns the HAPROXY-HELLO of HAProxy 2.6.
pub fn usual_hello() -> SpopFrame {
    hello("2.0", 16_380, "pipelining,async")
}

/// A connection to the server.
pub struct SpopClient<S = TcpStream> {
    stream: S,
    received: Vec<u8>,
}

impl SpopClient {
    /// Connects, without a handshake.
    pub fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Self::over(stream)
    }

    /// Connects, and performs the handshake.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        let mut client = Self::open(address);
        client.shake_hands();
        client
    }
}

impl<S: Read + Write> SpopClient<S> {
    /// Wraps another stream, such as TLS.
    pub fn over(stream: S) -> Self {
        Self { stream, received: Vec::new() }
    }

    /// Performs the handshake.
    #[track_caller]
    pub fn shake_hands(&mut self) {
        self.send(&[usual_hello()]);
        let answer = self.receive().expect("an answer to HAPROXY-HELLO");
        assert_eq!(answer.kind, kind::AGENT_HELLO, "{:?}", answer.items());
    }

    /// Sends frames.
    pub fn send(&mut self, frames: &[SpopFrame]) {
        let bytes: Vec<_> = frames.iter().flat_map(SpopFrame::bytes).collect();
        self.send_raw(&bytes);
    }

    /// Sends bytes as they are.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Receives a frame; `None` at the end of the connection.
    #[track_caller]
    pub fn receive(&mut self) -> Option<SpopFrame> {
        loop {
            if let Some((frame, length)) = SpopFrame::read(&self.received) {
                self.received.drain(..length);
                return Some(frame);
            }
            let mut buffer = [0; 16 * 1024];
            match self.stream.read(&mut buffer) {
                Ok(0) => {
                    assert!(self.received.is_empty(), "a frame is incomplete");
                    return None;
                }
                Ok(read) => self.received.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Sends a check, and returns the variables of its answer.
    #[track_caller]
    pub fn check(&mut self, check: &CheckMessage<'_>) -> BTreeMap<String, String> {
        self.send(&[check.notify(7)]);
        let answer = self.receive().expect("an answer to NOTIFY");
        assert_eq!(answer.ids, (7, 1), "the identifiers of the NOTIFY");
        answer.variables()
    }

    /// Returns the status of the AGENT-DISCONNECT that ends the connection.
    #[track_caller]
    pub fn receive_disconnect(&mut self) -> String {
        let last = self.receive().expect("AGENT-DISCONNECT");
        assert_eq!((last.kind, last.ids), (kind::AGENT_DISCONNECT, (0, 0)));
        assert_eq!(self.receive(), None);
        last.items().remove("status-code").unwrap()
    }
}

/// Whether the recorded bytes of a connection begin with HAPROXY-HELLO.
pub fn is_recording(bytes: &[u8]) -> bool {
    bytes.get(4..9) == Some(&[kind::HAPROXY_HELLO, 0, 0, 0, 1])
}

/// Whether the recorded bytes of a connection begin with the HAPROXY-HELLO of a health check.
pub fn is_health_check(bytes: &[u8]) -> bool {
    is_recording(bytes)
        && SpopFrame::read(bytes)
            .is_some_and(|(hello, _)| hello.items().contains_key("healthcheck"))
}

/// Decodes the checks in the recorded bytes of a connection. Each is returned as the HTTP request
/// it checks. Lines about the body are left out, because HAProxy does not send the body along.
pub fn recorded_checks(bytes: &[u8]) -> Vec<RecordedRequest> {
    let (mut rest, mut requests) = (bytes, Vec::new());
    while let Some((frame, length)) = SpopFrame::read(rest) {
        rest = &rest[length..];
        if frame.kind == kind::NOTIFY {
            requests.push(recorded_check(&frame.payload));
        }
    }
    requests
}

fn recorded_check(mut payload: &[u8]) -> RecordedRequest {
    const OF_THE_BODY: [&str; 3] = ["content-length", "transfer-encoding", "expect"];
    assert_eq!(take_text(&mut payload), "check");
    let count = take(&mut payload, 1)[0];
    let mut request = RecordedRequest {
        method: String::new(),
        target: String::new(),
        headers: Vec::new(),
        body: String::new(),
    };
    for _ in 0..count {
        let name = take_text(&mut payload);
        let (mut rest, value) = (payload, take_value(&mut payload));
        match name.as_str() {
            "method" => request.method = value,
            "path" => request.target = value,
            "headers" => {
                assert_eq!(take(&mut rest, 1), [9]);
                let length = take_varint(&mut rest);
                let mut lines = take(&mut rest, usize::try_from(length).unwrap());
                while !lines.is_empty() {
                    request.headers.push((take_text(&mut lines), take_text(&mut lines)));
                }
                assert_eq!(request.headers.pop(), Some((String::new(), String::new())));
            }
            _ => {}
        }
    }
    request.headers.retain(|(name, _)| !OF_THE_BODY.contains(&name.as_str()));
    request
}

/// Encodes a value of this type with a length.
pub fn typed(kind: u8, bytes: &[u8]) -> Vec<u8> {
    [&[kind][..], &varint(u64::try_from(bytes.len()).unwrap()), bytes].concat()
}

/// Encodes a text with its length.
pub fn text(text: &str) -> Vec<u8> {
    [&varint(u64::try_from(text.len()).unwrap())[..], text.as_bytes()].concat()
}

/// Encodes an integer: below 240 as a byte, and otherwise four bits and groups of seven, each less
/// the values that fewer bytes have.
pub fn varint(number: u64) -> Vec<u8> {
    if number < 240 {
        return vec![u8::try_from(number).unwrap()];
    }
    let (mut rest, mut bytes) = (number - 240, vec![]);
    bytes.push(u8::try_from(240 + rest % 16).unwrap());
    rest /= 16;
    while rest >= 128 {
        rest -= 128;
        bytes.push(u8::try_from(128 + rest % 128).unwrap());
        rest /= 128;
    }
    bytes.push(u8::try_from(rest).unwrap());
    bytes
}

/// Whether these bytes are the payload of a NOTIFY with a check that has all its arguments, each of
/// its type.
pub fn is_check(mut payload: &[u8]) -> bool {
    let mut is_message = || -> Option<bool> {
        let name = try_take_bytes(&mut payload)?;
        let count = try_take(&mut payload, 1)?[0];
        let mut types = BTreeMap::new();
        for _ in 0..count {
            let name = try_take_bytes(&mut payload)?;
            let kind = *payload.first()?;
            let mut value = payload;
            try_take_value(&mut payload)?;
            let is_malformed = name == b"headers" && kind == 9 && !are_headers(&mut value)?;
            if types.insert(name, kind).is_some() || is_malformed {
                return None;
            }
        }
        let allowed: [(&[u8], u8, bool); 6] = [
            (b"id", 8, false),
            (b"scheme", 8, false),
            (b"method", 8, true),
            (b"path", 8, true),
            (b"src", 6, true),
            (b"headers", 9, true),
        ];
        let is_known = allowed.iter().all(|(name, kind, is_required)| {
            types.remove(name).map_or(!is_required, |found| {
                found == 0 || found == *kind || *name == b"src" && found == 7
            })
        });
        Some(name == b"check" && payload.is_empty() && is_known && types.is_empty())
    };
    is_message().unwrap_or(false)
}

/// Whether a value has header lines in HAProxy's form.
fn are_headers(value: &mut &[u8]) -> Option<bool> {
    try_take(value, 1)?;
    let mut lines = try_take_bytes(value)?;
    loop {
        match (try_take_bytes(&mut lines)?, try_take_bytes(&mut lines)?) {
            (b"", b"") => return Some(lines.is_empty()),
            (b"", _) => return Some(false),
            _ => {}
        }
    }
}

fn take<'b>(bytes: &mut &'b [u8], length: usize) -> &'b [u8] {
    try_take(bytes, length).expect("a value is truncated")
}

fn take_varint(bytes: &mut &[u8]) -> u64 {
    try_take_varint(bytes).expect("a 64-bit integer")
}

fn take_text(bytes: &mut &[u8]) -> String {
    shown(try_take_bytes(bytes).expect("a text is truncated"))
}

fn take_value(bytes: &mut &[u8]) -> String {
    try_take_value(bytes).expect("a value of a known type")
}

fn try_take<'b>(bytes: &mut &'b [u8], length: usize) -> Option<&'b [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn try_take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let first = try_take(bytes, 1)?[0];
    let (mut number, mut factor) = (u128::from(first), 16);
    let mut is_last = first < 240;
    while !is_last {
        let byte = try_take(bytes, 1)?[0];
        number += u128::from(byte) * factor;
        u64::try_from(number).ok()?;
        factor *= 128;
        is_last = byte < 128;
    }
    u64::try_from(number).ok()
}

fn try_take_bytes<'b>(bytes: &mut &'b [u8]) -> Option<&'b [u8]> {
    let length = usize::try_from(try_take_varint(bytes)?).ok()?;
    try_take(bytes, length)
}

fn try_take_value(bytes: &mut &[u8]) -> Option<String> {
    let kind = try_take(bytes, 1)?[0];
    Some(match kind {
        0 => "null".into(),
        0x01 => "false".into(),
        0x11 => "true".into(),
        2..=5 => try_take_varint(bytes)?.to_string(),
        6 => IpAddr::from(<[u8; 4]>::try_from(try_take(bytes, 4)?).ok()?).to_string(),
        7 => IpAddr::from(<[u8; 16]>::try_from(try_take(bytes, 16)?).ok()?).to_string(),
        8 | 9 => shown(try_take_bytes(bytes)?),
        _ => return None,
    })
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
