//! Connections of HAProxy: answers to any bytes, received in any pieces. A decoder that shares no
//! code with the server's reads the answers, and decides which messages are checks.

use super::http1::{TOKEN, configuration};
use crate::{
    front::{ConnectionOutput, Front},
    spop::{SpopFrame, is_check, kind, usual_hello},
};

/// Fuzz target: any bytes as the input of a connection, with and without a handshake before them,
/// and as the messages of a NOTIFY frame. They are sent at once, and again in pieces of a size given
/// by the first byte.
pub fn spop(data: &[u8]) {
    let Some((piece, bytes)) = data.split_first() else { return };
    let hello = usual_hello().bytes();
    check_connection(*piece, bytes);
    check_connection(*piece, &[&hello[..], bytes].concat());

    let notify = SpopFrame::new(kind::NOTIFY, (1, 1), bytes).bytes();
    let answers = check_connection(*piece, &[&hello[..], &notify].concat());
    let is_answered = answers.iter().any(|answer| answer.kind == kind::ACK);
    let fits = notify.len() <= 4 + MAX_FRAME;
    assert_eq!(is_answered, fits && is_check(bytes), "{answers:?}");
}

/// The maximum length of frames in the handshake.
const MAX_FRAME: usize = 16_380;

/// Sends the bytes at once and in pieces, and returns the answers.
fn check_connection(piece: u8, bytes: &[u8]) -> Vec<SpopFrame> {
    let whole = exchange(bytes, bytes.len());
    let answers = frames(&whole);
    let is_closed = answers.last().is_some_and(|last| last.kind == kind::AGENT_DISCONNECT);
    let is_health_check = answers.len() == 1 && answers[0].kind == kind::AGENT_HELLO;
    assert!(whole.is_closed == is_closed || is_health_check, "the last one closes: {answers:?}");
    let has_token = TOKEN.with(|token| bytes.windows(token.len()).any(|window| window == token));
    for (index, answer) in answers.iter().enumerate() {
        match answer.kind {
            kind::AGENT_HELLO => assert_eq!((index, answer.ids), (0, (0, 0))),
            kind::ACK => assert_allowed_answer(answer, has_token),
            kind::AGENT_DISCONNECT => assert_eq!(index + 1, answers.len()),
            _ => panic!("an unknown frame: {answer:?}"),
        }
    }
    // Limits the number of pieces, so that long inputs are not slower than short ones.
    let piece = usize::from(piece).max(bytes.len() / 64);
    assert_eq!(exchange(bytes, piece), whole, "pieces do not change the answers");
    answers
}

fn assert_allowed_answer(answer: &SpopFrame, has_token: bool) {
    let variables = answer.variables();
    if variables.is_empty() {
        // They are longer than the maximum that the input asks for, so the request is refused.
        return;
    }
    let status: u16 = variables["status"].parse().expect("a status is a number");
    let is_allowed = variables["allowed"] == "true";
    assert_eq!(is_allowed, status == 200);
    assert!([200, 401, 431].contains(&status), "{variables:?}");
    assert!(!is_allowed || has_token, "an identity without a token: {variables:?}");
    assert_eq!(variables.contains_key("x_auth_subject"), is_allowed, "{variables:?}");
}

thread_local! {
    static FRONT: Front = Front::new(&configuration());
}

fn exchange(bytes: &[u8], piece: usize) -> ConnectionOutput {
    FRONT.with(|front| front.exchange_spop(bytes.chunks(piece.max(1))))
}

fn frames(output: &ConnectionOutput) -> Vec<SpopFrame> {
    let (mut rest, mut frames) = (&output.bytes[..], Vec::new());
    while let Some((frame, length)) = SpopFrame::read(rest) {
        frames.push(frame);
        rest = &rest[length..];
    }
    assert!(rest.is_empty(), "an answer is incomplete");
    frames
}
