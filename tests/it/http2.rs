//! What is HTTP/2's own: its frames, its streams, and how a connection comes to speak it.
//! What is answered is the matter of the other modules, which ask by it too.

/// How a connection begins and ends.
mod connections;
/// Which frames may come, and what is said to others.
mod frames;
/// Requests that are none, or come in an odd way.
mod requests;
/// What costs a client nothing and might cost us something.
mod floods;

use std::io::{Read, Write};

use countersign_tests::{
    binary::{Sandbox, Server},
    client::{Client, Protocol},
    frames::{Frame, Raw, code, flag, kind},
};

use crate::given::{self, SIGNING};

/// A server without TLS that speaks HTTP/2, with these sections.
fn serve<'s>(sandbox: &'s Sandbox, sections: &str) -> Server<'s> {
    sandbox.serve(&format!("{SIGNING}[listen]\nprotocols=http/1.1, h2\n{sections}\n"))
}

fn client(server: &Server<'_>) -> Client {
    Client::plain(Protocol::Http2, server.address)
}

/// The fields that every request has.
fn fields<'f>(method: &'f str, path: &'f str) -> Vec<(&'f str, &'f str)> {
    vec![(":method", method), (":scheme", "http"), (":path", path), (":authority", "t")]
}

/// A question without a token.
fn question(stream: u32) -> Frame {
    Frame::request(stream, &fields("GET", "/auth"))
}

/// The head of `POST /v1/verify`.
fn verify(stream: u32) -> Frame {
    Frame::head(stream, &fields("POST", "/v1/verify"))
}

/// The end of a body.
fn end(stream: u32, body: impl Into<Vec<u8>>) -> Frame {
    Frame::new(kind::DATA, flag::END_STREAM, stream, body)
}

/// Asks on a connection, and is answered.
#[track_caller]
fn served<S: Read + Write>(raw: &mut Raw<S>, stream: u32) {
    raw.send(&[question(stream)]);
    assert_eq!(raw.answer(stream), 401);
}

/// A server that has not suffered.
#[track_caller]
fn unharmed(server: &Server<'_>) {
    let head = format!("GET /auth HTTP/1.1\r\nAuthorization: Bearer {}\r\n", given::good_token());
    assert_eq!(client(server).request(&head, b"").status, 200);
    assert_eq!(server.operations("/live").status, 200);
}

/// The connection ends, with this reason.
#[track_caller]
fn told_to_go<S: Read + Write>(raw: &mut Raw<S>, code: u32) {
    let frames = raw.receive_all();
    let last = frames.iter().rfind(|frame| frame.kind == kind::GOAWAY);
    assert_eq!(last.map(Frame::code), Some(code), "{frames:?}");
}

/// One stream ends, with this reason, and the connection goes on.
#[track_caller]
fn taken_back<S: Read + Write>(raw: &mut Raw<S>, stream: u32, code: u32) {
    assert_eq!(raw.receive_of(kind::RST_STREAM, stream).code(), code);
    served(raw, stream + 2);
}

/// A stream that is answered, and ended before all of its body has come.
#[track_caller]
fn cut_short<S: Read + Write>(raw: &mut Raw<S>, stream: u32, status: u16) {
    assert_eq!(raw.answer(stream), status);
    taken_back(raw, stream, code::NO_ERROR);
}
