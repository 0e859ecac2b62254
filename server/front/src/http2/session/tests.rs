use futures_util::future;

use super::*;
use crate::{
    http2::{response::SendWindow, stream::ResponseStream},
    test_service::{TestService, connection, worker},
};

/// A session after the exchange of settings, with an empty send buffer.
fn established() -> Http2Session<'static, TestService> {
    let mut session = Http2Session::new(connection(worker()));
    let settings = [PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
    assert_eq!(session.receive(&settings), settings.len());
    session.outgoing().clear();
    session
}

/// A HEADERS frame: a POST with this path and further field lines.
fn head(stream: u32, flags: u8, path: &str, lines: &[u8]) -> Vec<u8> {
    let path = [&[0x04, u8::try_from(path.len()).unwrap()], path.as_bytes()].concat();
    let fields = [&[0x83, 0x86][..], &path, &[0x01, 1, b't'], lines].concat();
    let mut out = Vec::new();
    frame::frame(&mut out, kind::HEADERS, flags | flag::END_HEADERS, stream, &fields);
    out
}

/// Takes the send buffer: kind, flags and stream of each frame.
fn sent_frames(session: &mut Http2Session<'_, TestService>) -> Vec<(u8, u8, u32)> {
    let bytes = mem::take(session.outgoing());
    let (mut rest, mut frames) = (&bytes[..], Vec::new());
    while let Some(Frame { kind, flags, stream, .. }) = Frame::take(&mut rest).unwrap() {
        frames.push((kind, flags, stream));
    }
    assert!(rest.is_empty());
    frames
}

#[test]
fn session_releases_memory_after_a_burst() {
    let mut session = established();
    // A long name in the dynamic table, referenced many times by a few bytes each. The section is
    // too large, but not by the factor that closes the connection.
    let name = [&[0x40, 0x7f, 0xbd, 0x1d][..], &[b'x'; 3900], &[0]].concat();
    let again = [0x7e, 0].repeat(31);
    session.receive(&head(1, flag::END_STREAM, "/auth", &[name, again].concat()));
    assert_eq!(sent_frames(&mut session)[0], (kind::HEADERS, flag::END_HEADERS, 1));
    let [size, lines, memory] = session.dynamic_table.measures();
    assert_eq!((size, lines), (3932, 1));
    assert!(memory <= 16 * 1024, "{memory} bytes");
    // As many concurrent requests as allowed, and a reset of each.
    let streams = || (1..=128).map(|number| 2 * number + 1);
    session.receive(
        &streams().flat_map(|stream| head(stream, 0, "/v1/verify", &[])).collect::<Vec<_>>(),
    );
    assert_eq!(session.streams.len(), MAX_CONCURRENT_STREAMS);
    for stream in streams() {
        let mut reset = Vec::new();
        frame::reset(&mut reset, stream, Http2ErrorCode::Cancel);
        session.receive(&reset);
    }
    assert!(
        session.streams.capacity() <= MAX_IDLE_STREAM_CAPACITY,
        "{}",
        session.streams.capacity()
    );
}

#[test]
fn reset_of_a_pending_request_frees_its_place() {
    let mut session = established();
    let mut cx = Context::from_waker(std::task::Waker::noop());
    session.last = 255;
    for id in (1..=session.last).step_by(2) {
        let response = ResponseStream::new(id, SendWindow::new(0), false);
        let held = session.memory.hold_nothing(MemoryPurpose::Other);
        session.wait_for(Box::pin(future::pending()), held, response);
    }
    session.poll_replies(&mut cx);
    assert_eq!(session.pending_replies.len(), MAX_CONCURRENT_STREAMS);
    session.receive(&head(257, flag::END_STREAM, "/auth", &[]));
    assert_eq!(sent_frames(&mut session), [(kind::RST_STREAM, flag::NONE, 257)]);
    for id in (1..=255).step_by(2) {
        let mut reset = Vec::new();
        frame::reset(&mut reset, id, Http2ErrorCode::Cancel);
        session.receive(&reset);
    }
    session.poll_replies(&mut cx);
    assert!(session.pending_replies.is_empty());
    session.receive(&head(259, flag::END_STREAM, "/auth", &[]));
    assert_eq!(
        sent_frames(&mut session),
        [(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 259)]
    );
}

#[test]
fn send_buffer_is_bounded_for_tiny_requests() {
    let mut session = established();
    let first =
        head(1, flag::END_STREAM, "/auth", &[&[0x40, 1, b'x', 100][..], &[b'y'; 100]].concat());
    let requests =
        (1..3000).flat_map(|number| head(2 * number + 1, flag::END_STREAM, "/auth", &[0xbe]));
    let bytes: Vec<u8> = first.into_iter().chain(requests).collect();
    let (mut rest, mut answers) = (&bytes[..], 0);
    while !rest.is_empty() {
        rest = &rest[session.receive(rest)..];
        assert!(session.outgoing().len() < MAX_OUTGOING + 1024);
        assert!(rest.is_empty() || session.is_full());
        answers +=
            sent_frames(&mut session).iter().filter(|(kind, ..)| *kind == kind::HEADERS).count();
    }
    assert_eq!(answers, 3000);
}
