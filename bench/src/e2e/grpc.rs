//! Envoy's authorization check over gRPC: `envoy.service.auth.v3.Authorization/Check`. Messages are
//! encoded and decoded by hand, so that the generator uses little CPU.

use std::{convert::Infallible, io, net::SocketAddr, rc::Rc};

use http::{HeaderMap, HeaderValue, Method, Request, header};

use super::{
    credential::{Credential, RequestBytes},
    http2::{Http2Connections, Http2Response, Http2Stream},
    protocol::{Protocol, RequestSlot, ResetStorm},
    tls::Tls,
};

/// gRPC client of one server, or of several that share the load.
pub struct Grpc(Http2Connections);

impl Grpc {
    /// Creates a client of these addresses, in plain text unless `tls` is given. Connections go to
    /// each address in turn.
    #[must_use]
    pub fn new(addresses: Vec<SocketAddr>, tls: Option<Rc<Tls>>) -> Self {
        Self(Http2Connections::new(addresses, tls))
    }
}

/// An encoded `Check` call.
pub struct CheckCall {
    head: Request<()>,
    body: RequestBytes,
}

impl Protocol for Grpc {
    type Wire = CheckCall;
    type RequestSlot = GrpcSlot;

    fn encode(&self, credential: Option<&Credential>) -> CheckCall {
        let mut head = Request::new(());
        *head.method_mut() = Method::POST;
        *head.uri_mut() = self.0.uri("/envoy.service.auth.v3.Authorization/Check");
        head.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
        head.headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        // As Envoy sends it, from `timeout` in its configuration.
        head.headers_mut().insert("grpc-timeout", HeaderValue::from_static("10000m"));
        let message = check_request(credential.map(|credential| credential.text.as_str()));
        let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
        let body = [&[NOT_COMPRESSED], &length[..], &message].concat();
        let fresh = credential.and_then(|credential| {
            Some(find(&body, credential.text.as_bytes())? + credential.fresh?)
        });
        CheckCall { head, body: RequestBytes::new(body, fresh) }
    }

    async fn open(&self, connection: usize) -> io::Result<GrpcSlot> {
        Ok(GrpcSlot(self.0.stream(connection).await?))
    }

    async fn storm(&self, storm: &ResetStorm) -> io::Result<Infallible> {
        self.0.storm(storm).await
    }
}

/// A gRPC message starts with this flag and its length in four bytes.
const NOT_COMPRESSED: u8 = 0;
const PREFIX: usize = 5;

fn find(bytes: &[u8], text: &[u8]) -> Option<usize> {
    bytes.windows(text.len()).position(|window| window == text)
}

/// A request slot on an HTTP/2 connection: one call at a time.
pub struct GrpcSlot(Http2Stream);

impl RequestSlot for GrpcSlot {
    type Wire = CheckCall;

    async fn exchange(&mut self, wire: &CheckCall, serial: u64) -> io::Result<u16> {
        let status =
            status(self.0.exchange(wire.head.clone(), wire.body.with_serial(serial)).await?);
        status
            .ok_or_else(|| io::Error::other(format!("not a CheckResponse: {}", self.last_answer())))
    }

    fn last_answer(&self) -> String {
        self.0.last_answer()
    }

    async fn close(self) -> io::Result<()> {
        self.0.close().await
    }
}

/// Returns the status that Envoy's client would get; `None` if the call itself failed.
fn status(answer: &Http2Response) -> Option<u16> {
    let is_ok = |fields: &HeaderMap| fields.get("grpc-status").is_some_and(|status| status == "0");
    if answer.head.status != 200 || !answer.trailers.as_ref().is_some_and(is_ok) {
        return None;
    }
    check_response(answer.body.get(PREFIX..)?)
}

/// Encodes a `CheckRequest` as Envoy makes it from a browser's request, by the field numbers of
/// `envoy/service/auth/v3/attribute_context.proto`.
fn check_request(token: Option<&str>) -> Vec<u8> {
    let http = |http: &mut Message| {
        http.text(1, "13359530607844510314"); // id
        http.text(2, "GET");
        for (name, value) in CLIENT {
            http.header(name, value);
        }
        if let Some(token) = token {
            http.header("authorization", &format!("Bearer {token}"));
        }
        http.text(4, PATH);
        http.text(5, HOST);
        http.text(6, "https"); // scheme
        http.text(10, "HTTP/2"); // protocol
    };
    let mut request = Message::default();
    request.message(1, |attributes| {
        attributes.message(1, |source| address(source, "192.0.2.7", 52_143));
        attributes.message(2, |destination| address(destination, "198.51.100.1", 443));
        attributes.message(4, |request| {
            request.message(1, |time| {
                time.number(1, 1_763_800_000);
                time.number(2, 218_433_000);
            });
            request.message(2, http);
        });
    });
    request.0
}

const HOST: &str = "shop.example.com";
const PATH: &str = "/orders/4711?expand=items";

/// Headers in Envoy's request: pseudo-headers, those of a browser, and Envoy's own.
const CLIENT: [(&str, &str); 14] = [
    (":authority", HOST),
    (":method", "GET"),
    (":path", PATH),
    (":scheme", "https"),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("accept-language", "en-US,en;q=0.5"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("referer", "https://shop.example.com/orders"),
    ("sec-fetch-dest", "document"),
    ("sec-fetch-mode", "navigate"),
    ("x-forwarded-for", "192.0.2.7"),
    ("x-forwarded-proto", "https"),
    ("x-request-id", "8b1f2c54-6a0e-4f0b-9a43-0f4f5a3f1c22"),
];

fn address(peer: &mut Message, address: &str, port: u64) {
    peer.message(1, |of| {
        of.message(1, |socket| {
            socket.text(2, address);
            socket.number(3, port);
        });
    });
}

/// Encoder of a Protocol Buffers message.
#[derive(Default)]
struct Message(Vec<u8>);

/// Protocol Buffers wire types.
const VARINT: u64 = 0;
const EIGHT_BYTES: u64 = 1;
const LENGTH_DELIMITED: u64 = 2;
const FOUR_BYTES: u64 = 5;

impl Message {
    fn number(&mut self, field: u64, value: u64) {
        self.varint(field << 3 | VARINT);
        self.varint(value);
    }

    fn text(&mut self, field: u64, text: &str) {
        self.bytes(field, text.as_bytes());
    }

    fn message(&mut self, field: u64, write: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        write(&mut inner);
        self.bytes(field, &inner.0);
    }

    /// Appends an entry of the header map.
    fn header(&mut self, name: &str, value: &str) {
        self.message(3, |entry| {
            entry.text(1, name);
            entry.text(2, value);
        });
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | LENGTH_DELIMITED);
        self.varint(bytes.len().try_into().unwrap_or(u64::MAX));
        self.0.extend_from_slice(bytes);
    }

    /// Appends a base-128 varint, low bits first.
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(0x80 | low_byte(value));
            value >>= 7;
        }
        self.0.push(low_byte(value));
    }
}

fn low_byte(value: u64) -> u8 {
    value.to_le_bytes()[0]
}

/// Returns the status in a `CheckResponse`; `None` if the message is malformed. Envoy answers 403
/// for a denial without an HTTP status.
fn check_response(message: &[u8]) -> Option<u16> {
    let denied = submessage(message, 2)?;
    let code = field(submessage(message, 1)?.unwrap_or_default(), 1)?;
    match (denied, code) {
        (None, None | Some(Value::Number(0))) => Some(200),
        (None, _) => Some(403),
        (Some(denied), _) => match field(submessage(denied, 1)?.unwrap_or_default(), 1)? {
            Some(Value::Number(status)) => status.try_into().ok(),
            _ => Some(403),
        },
    }
}

enum Value<'b> {
    Number(u64),
    Bytes(&'b [u8]),
}

/// Returns the submessage in this field, if present; `None` if the message is malformed.
fn submessage(message: &[u8], number: u64) -> Option<Option<&[u8]>> {
    match field(message, number)? {
        None => Some(None),
        Some(Value::Bytes(bytes)) => Some(Some(bytes)),
        Some(Value::Number(_)) => None,
    }
}

/// Returns the value of a field, if present; `None` if the message is malformed.
fn field(mut message: &[u8], number: u64) -> Option<Option<Value<'_>>> {
    while !message.is_empty() {
        let key = varint(&mut message)?;
        let value = match key & 7 {
            VARINT => Value::Number(varint(&mut message)?),
            LENGTH_DELIMITED => {
                let length = varint(&mut message)?.try_into().ok()?;
                Value::Bytes(message.split_off(..length)?)
            }
            EIGHT_BYTES => Value::Bytes(message.split_off(..8)?),
            FOUR_BYTES => Value::Bytes(message.split_off(..4)?),
            _ => return None,
        };
        if key >> 3 == number {
            return Some(Some(value));
        }
    }
    Some(None)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = u64::from(*bytes.split_off_first()?);
        value |= (byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Follows nested fields by number and returns the bytes of the last one.
    fn path<'m>(message: &'m [u8], numbers: &[u64]) -> &'m [u8] {
        numbers
            .iter()
            .fold(message, |message, number| submessage(message, *number).unwrap().unwrap())
    }

    #[test]
    fn check_request_contains_the_http_request() {
        let message = check_request(Some("a.b.c"));
        let http = path(&message, &[1, 4, 2]);
        assert_eq!(
            (path(http, &[2]), path(http, &[4]), path(http, &[5])),
            (&b"GET"[..], PATH.as_bytes(), HOST.as_bytes())
        );
        assert_eq!(path(&message, &[1, 1, 1, 1, 2]), b"192.0.2.7");
        assert!(matches!(
            field(path(&message, &[1, 1, 1, 1]), 3),
            Some(Some(Value::Number(52_143)))
        ));
        let authorization = b"\x0a\x0dauthorization\x12\x0cBearer a.b.c";
        assert!(find(http, authorization).is_some());
        assert!(find(&check_request(None), b"authorization").is_none());
    }

    #[test]
    fn check_call_has_its_length_and_fresh_offset() {
        let protocol = Grpc::new(vec![([127, 0, 0, 1], 1).into()], None);
        let call =
            protocol.encode(Some(&Credential { text: "a.b.0123456789".into(), fresh: Some(5) }));
        let body = call.body.with_serial(0);
        let length = u32::from_be_bytes(body[1..PREFIX].try_into().unwrap());
        assert_eq!(usize::try_from(length).unwrap(), body.len() - PREFIX);
        assert!(find(&body, b"Bearer a.b.0AAAAAA789").is_some());
    }

    #[test]
    fn check_response_maps_to_envoy_status() {
        let response = |code: Option<u64>, denied: Option<Option<u64>>| {
            let mut message = Message::default();
            message.message(1, |status| code.into_iter().for_each(|code| status.number(1, code)));
            if let Some(http) = denied {
                message.message(2, |denied| {
                    http.into_iter().for_each(|code| denied.message(1, |of| of.number(1, code)))
                });
            }
            check_response(&message.0)
        };
        assert_eq!(response(None, None), Some(200));
        assert_eq!(response(Some(0), None), Some(200));
        assert_eq!(response(Some(7), None), Some(403));
        assert_eq!(response(Some(16), Some(Some(401))), Some(401));
        assert_eq!(response(Some(16), Some(None)), Some(403));
        assert_eq!(check_response(b"\x0a\x7f"), None);
        assert_eq!(check_response(b"\xff"), None);
    }
}
