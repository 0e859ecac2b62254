//! The front by itself, with the service of the example: nothing else of this repository is
//! needed to serve requests.

#[path = "../examples/hello/service.rs"]
mod service;

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    sync::mpsc::channel,
    thread,
};

use countersign_front::ListenAddress;

/// Starts the server and connects to it.
fn connect() -> TcpStream {
    let (sender, bound) = channel();
    thread::spawn(move || {
        let address = ListenAddress::Tcp(([127, 0, 0, 1], 0).into());
        service::serve(&address, |bound| sender.send(bound.address().unwrap()).unwrap())
    });
    TcpStream::connect(bound.recv().unwrap()).unwrap()
}

/// Sends `request`, and returns everything that comes back until the server closes.
fn exchange(request: &[u8]) -> Vec<u8> {
    let mut connection = connect();
    connection.write_all(request).unwrap();
    connection.shutdown(Shutdown::Write).unwrap();
    let mut response = Vec::new();
    connection.read_to_end(&mut response).unwrap();
    response
}

#[test]
fn http1_requests_are_answered_in_order() {
    let requests = "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n";
    let response = String::from_utf8(exchange(requests.as_bytes())).unwrap();
    assert_eq!(response.matches("HTTP/1.1 200 OK\r\n").count(), 2, "{response}");
    assert_eq!(response.matches("\r\n\r\nhello, 127.0.0.1\n").count(), 2, "{response}");
    assert!(response.ends_with("hello, 127.0.0.1\n"), "{response}");
}

#[test]
fn malformed_request_is_rejected_by_the_service() {
    let response = String::from_utf8(exchange(b"GET / HTTP/1.1\r\n\r\n")).unwrap();
    assert!(response.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{response}");
}

#[test]
fn http2_is_served_by_prior_knowledge() {
    /// Indexed `:method: GET`, `:scheme: http` and `:path: /`, then `:authority: a` as a literal.
    const FIELDS: [u8; 6] = [0x82, 0x86, 0x84, 0x01, 1, b'a'];
    let mut request = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    request.extend([0, 0, 0, 0x4, 0, 0, 0, 0, 0]);
    request.extend([0, 0, 6, 0x1, 0x5, 0, 0, 0, 1]);
    request.extend(FIELDS);
    let response = exchange(&request);
    // HEADERS of stream 1 that begin with indexed `:status: 200`.
    let headers = response.windows(10).any(|bytes| bytes[3..] == [0x1, 0x4, 0, 0, 0, 1, 0x88]);
    assert!(headers, "{response:02x?}");
    assert!(response.windows(17).any(|bytes| bytes == b"hello, 127.0.0.1\n"), "{response:02x?}");
}
