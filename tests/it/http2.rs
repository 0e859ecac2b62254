//! HTTP/2 itself: frames, streams, and protocol selection. The content of answers is tested in the
//! other modules, which also use HTTP/2.

/// Start and end of connections.
mod connections;
/// Valid and invalid frames.
mod frames;
/// Malformed and unusual requests.
mod requests;
/// Requests whose bodies and responses are streams.
mod streamed;
/// Floods that are cheap for the client.
mod floods;

use std::io::{Read, Write};

use countersign_front::http2::error::Http2ErrorCode;
use countersign_tests::{
    binary::{Sandbox, Server},
    client::{Client, Protocol},
    frames::{Frame, RawConnection, flag, kind},
};

use crate::fixture::{self, SIGNING};

/// Starts a [`Server`] with HTTP/2 by prior knowledge and these sections.
fn serve<'s>(sandbox: &'s Sandbox, sections: &str) -> Server<'s> {
    sandbox.serve(&format!("{SIGNING}[listen]\nprotocols=http/1.1, h2\n{sections}\n"))
}

fn client(server: &Server<'_>) -> Client {
    Client::plain(Protocol::Http2, server.address)
}

/// Returns the fields of every request.
fn fields<'f>(method: &'f str, path: &'f str) -> Vec<(&'f str, &'f str)> {
    vec![(":method", method), (":scheme", "http"), (":path", path), (":authority", "t")]
}

/// Returns a [`Frame`] with a request for `/auth` without a token.
fn auth_frame(stream: u32) -> Frame {
    Frame::request(stream, &fields("GET", "/auth"))
}

/// Returns a [`Frame`] with the head of `POST /v1/verify`.
fn verify(stream: u32) -> Frame {
    Frame::head(stream, &fields("POST", "/v1/verify"))
}

/// Returns the last DATA [`Frame`] of a body.
fn end(stream: u32, body: impl Into<Vec<u8>>) -> Frame {
    Frame::new(kind::DATA, flag::END_STREAM, stream, body)
}

/// Sends a request and checks that it is answered.
#[track_caller]
fn assert_served<S: Read + Write>(raw: &mut RawConnection<S>, stream: u32) {
    raw.send(&[auth_frame(stream)]);
    assert_eq!(raw.receive_status(stream), 401);
}

/// Checks that the server still serves requests and probes.
#[track_caller]
fn assert_healthy(server: &Server<'_>) {
    let head = format!("GET /auth HTTP/1.1\r\nAuthorization: Bearer {}\r\n", fixture::good_token());
    assert_eq!(client(server).request(&head, b"").status, 200);
    assert_eq!(server.operations("/live").status, 200);
}

/// Checks that the connection ends with GOAWAY and this code.
#[track_caller]
fn assert_goaway<S: Read + Write>(raw: &mut RawConnection<S>, code: Http2ErrorCode) {
    let frames = raw.receive_all();
    let last = frames.iter().rfind(|frame| frame.kind == kind::GOAWAY);
    assert_eq!(last.map(Frame::code), Some(code.number()), "{frames:?}");
}

/// Checks that one stream is reset with this code and the connection stays open.
#[track_caller]
fn assert_reset<S: Read + Write>(raw: &mut RawConnection<S>, stream: u32, code: Http2ErrorCode) {
    assert_eq!(raw.receive_frame(kind::RST_STREAM, stream).code(), code.number());
    assert_served(raw, stream + 2);
}

/// Checks that a stream is answered, and reset before all of its body has arrived.
#[track_caller]
fn assert_answered_early<S: Read + Write>(raw: &mut RawConnection<S>, stream: u32, status: u16) {
    assert_eq!(raw.receive_status(stream), status);
    assert_reset(raw, stream, Http2ErrorCode::NoError);
}
