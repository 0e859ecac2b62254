use std::{mem, task::Waker};

use super::*;
use crate::{
    spop::{
        frame::LENGTH_BYTES,
        value::{PayloadReader, SpopValue, put_text},
    },
    test_service::{LATER, NOW, TestService, connection, worker},
};

type TestSession = SpopSession<'static, TestService>;

fn session() -> TestSession {
    SpopSession::new(connection(worker()))
}

fn frame(kind: u8, stream: u64, payload: &[u8]) -> Vec<u8> {
    let ids = FrameIds { stream, frame: u64::from(stream > 0) };
    let mut out = Vec::new();
    put_frame(&mut out, kind, ids, |out| out.extend_from_slice(payload));
    out
}

fn notify(stream: u64, payload: &[u8]) -> Vec<u8> {
    frame(kind::NOTIFY, stream, payload)
}

/// The payload of HAPROXY-HELLO, with this maximum and this further item.
fn hello_payload(max_frame: u64, item: Option<(&str, SpopValue<'_>)>) -> Vec<u8> {
    let mut payload = Vec::new();
    let items = [
        ("supported-versions", SpopValue::Text(b"2.0")),
        ("max-frame-size", SpopValue::Integer(max_frame)),
        ("capabilities", SpopValue::Text(b"pipelining")),
    ];
    for (name, value) in items.into_iter().chain(item) {
        put_text(&mut payload, name.as_bytes());
        value.put(&mut payload);
    }
    payload
}

fn hello() -> Vec<u8> {
    frame(kind::HAPROXY_HELLO, 0, &hello_payload(16_380, None))
}

/// Removes the frames to send: their kinds, streams and payloads.
fn take(session: &mut TestSession) -> Vec<(u8, u64, Vec<u8>)> {
    let bytes = mem::take(&mut session.outgoing);
    let (mut rest, mut frames) = (&bytes[..], Vec::new());
    while let Some(frame) = SpopFrame::take(&mut rest, MAX_FRAME_BYTES).unwrap() {
        assert_eq!(frame.ids.frame, u64::from(frame.ids.stream > 0));
        frames.push((frame.kind, frame.ids.stream, frame.payload.to_vec()));
    }
    assert!(rest.is_empty());
    frames
}

/// Sends frames on a new connection after the handshake, and returns the answers to them.
fn answers(frames: &[&[u8]]) -> (TestSession, Vec<(u8, u64, Vec<u8>)>) {
    let mut session = session();
    let hello = hello();
    assert_eq!(session.receive(&hello), hello.len());
    take(&mut session);
    let bytes = frames.concat();
    assert_eq!(session.receive(&bytes), bytes.len());
    let answers = take(&mut session);
    (session, answers)
}

/// Returns the status of the AGENT-DISCONNECT that these frames cause, without a handshake.
fn refusal(bytes: &[u8]) -> Option<u64> {
    let mut session = session();
    assert_eq!(session.receive(bytes), bytes.len());
    let (kind, _, payload) = take(&mut session).pop()?;
    (kind == kind::AGENT_DISCONNECT && session.is_closed()).then(|| status(&payload))
}

/// Returns the status in the payload of AGENT-DISCONNECT.
fn status(payload: &[u8]) -> u64 {
    let mut reader = PayloadReader::new(payload);
    assert_eq!(reader.text(), Ok(&b"status-code"[..]));
    let Ok(SpopValue::Integer(status)) = reader.value() else { panic!("not a number") };
    status
}

fn dropped_notifications(session: &TestSession) -> usize {
    session.connection.worker.service.dropped_notifications.get()
}

fn poll_pending(session: &mut TestSession) {
    session.poll_pending(&mut Context::from_waker(Waker::noop()));
}

#[test]
fn frames_are_answered_after_the_handshake() {
    let mut session = session();
    let bytes = [hello(), notify(7, b""), notify(8, b"")].concat();
    assert_eq!(session.receive(&bytes), bytes.len());
    let answers = take(&mut session);
    assert_eq!(answers[0].0, kind::AGENT_HELLO);
    assert_eq!(answers[1..], [(kind::ACK, 7, NOW.to_vec()), (kind::ACK, 8, NOW.to_vec())]);
}

#[test]
fn pieces_of_any_size_have_the_same_answers() {
    let bytes = [hello(), notify(7, b"wait"), notify(300, b""), notify(8, b"long")].concat();
    let answers = |piece: usize| {
        let (mut session, mut rest) = (session(), Vec::new());
        for piece in bytes.chunks(piece) {
            rest.extend_from_slice(piece);
            let taken = session.receive(&rest);
            rest.drain(..taken);
        }
        assert!(rest.is_empty());
        poll_pending(&mut session);
        take(&mut session)
    };
    let whole = answers(bytes.len());
    assert_eq!(whole.len(), 4);
    for piece in 1..40 {
        assert_eq!(answers(piece), whole, "{piece} bytes");
    }
}

#[test]
fn frame_that_waits_does_not_block_others() {
    let (mut session, answers) = answers(&[&notify(1, b"wait"), &notify(2, b"")]);
    assert_eq!(answers, [(kind::ACK, 2, NOW.to_vec())]);
    assert!(session.has_pending());
    poll_pending(&mut session);
    assert_eq!(take(&mut session), [(kind::ACK, 1, LATER.to_vec())]);
    assert!(!session.has_pending());
}

#[test]
fn frames_beyond_the_limits_get_no_actions() {
    let (_, too_long) = answers(&[&notify(1, b"long")]);
    assert_eq!(too_long, [(kind::ACK, 1, Vec::new())]);
    let (session, too_large) = answers(&[&notify(1, b"huge")]);
    assert_eq!(too_large, [(kind::ACK, 1, Vec::new())]);
    assert_eq!(dropped_notifications(&session), 1);
    let waiting = notify(1, b"never");
    let all = vec![&waiting[..]; MAX_PENDING];
    let (mut session, none) = answers(&all);
    assert!(none.is_empty());
    assert_eq!(dropped_notifications(&session), 0);
    assert_eq!(session.receive(&waiting), waiting.len());
    assert_eq!(take(&mut session), [(kind::ACK, 1, Vec::new())]);
    assert_eq!(dropped_notifications(&session), 1);
}

#[test]
fn full_send_buffer_defers_frames() {
    let mut session = session();
    session.receive(&hello());
    let one = notify(1, b"");
    let many = one.repeat(10_000);
    let taken = session.receive(&many);
    assert!(session.is_full() && taken < many.len() && taken.is_multiple_of(one.len()));
    let mut answered = take(&mut session).len() - 1;
    let mut rest = &many[taken..];
    while !rest.is_empty() {
        rest = &rest[session.receive(rest)..];
        answered += take(&mut session).len();
    }
    assert_eq!(answered, 10_000);
}

#[test]
fn first_frame_must_be_hello() {
    let invalid = Some(SpopStatus::InvalidFrame.number().into());
    assert_eq!(refusal(&notify(1, b"")), invalid);
    assert_eq!(refusal(&frame(kind::AGENT_HELLO, 0, b"")), invalid);
    assert_eq!(refusal(&frame(kind::HAPROXY_HELLO, 1, &hello_payload(256, None))), invalid);
    let http = refusal(b"GET /auth HTTP/1.1\r\n\r\n");
    assert_eq!(http, Some(SpopStatus::FrameTooBig.number().into()));
    let small = frame(kind::HAPROXY_HELLO, 0, &hello_payload(255, None));
    assert_eq!(refusal(&small), Some(SpopStatus::BadMaxFrameSize.number().into()));
    assert_eq!(refusal(&hello()), None);
}

#[test]
fn unexpected_frames_close_the_connection() {
    let mut fragment = notify(1, b"");
    fragment[LENGTH_BYTES + 4] = 0;
    for (frame, expected) in [
        (hello(), SpopStatus::InvalidFrame),
        (frame(kind::ACK, 1, b""), SpopStatus::InvalidFrame),
        (frame(9, 1, b""), SpopStatus::InvalidFrame),
        (notify(1, b"bad"), SpopStatus::InvalidFrame),
        (fragment, SpopStatus::Fragmented),
        ([&16_381_u32.to_be_bytes()[..], b"x"].concat(), SpopStatus::FrameTooBig),
    ] {
        let waiting = notify(1, b"wait");
        let (mut session, answers) = answers(&[&waiting, &frame, &notify(2, b"")]);
        let [(kind::AGENT_DISCONNECT, 0, payload)] = &answers[..] else { panic!("{answers:?}") };
        assert_eq!(status(payload), u64::from(expected.number()));
        poll_pending(&mut session);
        assert!(session.is_closed() && take(&mut session).is_empty());
    }
}

#[test]
fn disconnect_is_answered_with_one() {
    let disconnect = frame(kind::HAPROXY_DISCONNECT, 0, b"");
    let (session, answers) = answers(&[&notify(1, b"wait"), &disconnect]);
    assert_eq!((answers.len(), answers[0].0), (1, kind::AGENT_DISCONNECT));
    assert_eq!(status(&answers[0].2), 0);
    assert!(session.is_closed());
}

#[test]
fn health_check_ends_after_the_handshake() {
    let item = Some(("healthcheck", SpopValue::Flag(true)));
    let mut session = session();
    let hello = frame(kind::HAPROXY_HELLO, 0, &hello_payload(16_380, item));
    session.receive(&hello);
    let answers = take(&mut session);
    assert_eq!((answers.len(), answers[0].0), (1, kind::AGENT_HELLO));
    assert!(session.is_closed());
}
