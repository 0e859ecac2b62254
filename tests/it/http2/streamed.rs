use countersign_front::http2::error::Http2ErrorCode;
use countersign_tests::{
    binary::Sandbox,
    frames::{Frame, RawConnection, flag, kind, setting},
};

use super::{assert_reset, assert_served, end, fields, serve};
use crate::fixture;

/// Returns the head of a batch of tokens.
fn batch(stream: u32) -> Frame {
    Frame::head(stream, &fields("POST", "/v1/verify/batch"))
}

/// Returns a part of a body.
fn part(stream: u32, data: impl Into<Vec<u8>>) -> Frame {
    Frame::new(kind::DATA, flag::NONE, stream, data)
}

fn line() -> String {
    fixture::good_token() + "\n"
}

#[test]
fn stream_is_answered_before_it_ends() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    let mut raw = RawConnection::open(server.address, &[]);
    raw.send(&[batch(1), part(1, line())]);
    assert_eq!(raw.receive_status(1), 200);
    for _ in 0..3 {
        let answer = raw.receive_frame(kind::DATA, 1);
        assert!(answer.payload.ends_with(b"}\n") && answer.flags & flag::END_STREAM == 0);
        raw.send(&[part(1, line())]);
    }
    assert_served(&mut raw, 3);
    raw.send(&[end(1, "bad")]);
    let rest: Vec<_> = raw_data_until_end(&mut raw, 1);
    assert_eq!(rest.iter().filter(|byte| **byte == b'\n').count(), 2);
}

/// Returns the rest of the data of a stream.
fn raw_data_until_end(raw: &mut RawConnection, stream: u32) -> Vec<u8> {
    let mut data = Vec::new();
    loop {
        let frame = raw.receive_frame(kind::DATA, stream);
        data.extend(&frame.payload);
        if frame.flags & flag::END_STREAM != 0 {
            return data;
        }
    }
}

#[test]
fn slow_stream_is_cancelled() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "[limits]\nbody_timeout=1");
    let mut raw = RawConnection::open(server.address, &[]);
    raw.send(&[batch(1), part(1, line()), part(1, "a.b")]);
    assert_eq!(raw.receive_status(1), 200);
    assert_reset(&mut raw, 1, Http2ErrorCode::Cancel);
}

#[test]
fn sender_is_held_back_while_answers_wait() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "[limits]\nbody_timeout=1");
    let mut raw = RawConnection::open(server.address, &[(setting::INITIAL_WINDOW_SIZE, 100)]);
    let lines = line().repeat(16_000 / line().len());
    raw.send(&[batch(1), part(1, &*lines), part(1, &*lines), part(1, &*lines), part(1, &*lines)]);
    assert_eq!(raw.receive_status(1), 200);
    assert_eq!(raw.receive_frame(kind::DATA, 1).payload.len(), 100);
    raw.send(&[part(1, &*lines)]);
    let reset = raw.receive_frame(kind::RST_STREAM, 1);
    assert_eq!(reset.code(), Http2ErrorCode::FlowControlError.number());
    // Answers that are not read at all end the stream.
    raw.send(&[batch(3), part(3, line())]);
    assert_eq!(raw.receive_status(3), 200);
    assert_reset(&mut raw, 3, Http2ErrorCode::Cancel);
}

#[test]
fn window_updates_of_a_long_stream_are_no_abuse() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    let mut raw = RawConnection::open(server.address, &[]);
    raw.send(&[batch(1)]);
    assert_eq!(raw.receive_status(1), 200);
    // More than the budget of control frames.
    for _ in 0..5000 {
        raw.send(&[part(1, "bad\n")]);
        let length = u32::try_from(raw.receive_frame(kind::DATA, 1).payload.len()).unwrap();
        for stream in [0, 1] {
            let update = length.to_be_bytes();
            raw.send(&[Frame::new(kind::WINDOW_UPDATE, flag::NONE, stream, update)]);
        }
    }
    raw.send(&[end(1, "")]);
    assert_eq!(raw_data_until_end(&mut raw, 1), b"");
    assert_served(&mut raw, 3);
}
