//! What clients send over HTTP/2: frames, in whatever pieces they come, and field sections
//! that refer to each other.

use std::collections::BTreeMap;

use countersign_server::listen::{
    fields::{request::DecodedHead, section::SectionBuffer},
    http2::{
        fault::Http2ErrorCode,
        hpack::{self, DynamicTable, HpackError},
    },
};
use http::Version;

use super::http1::configuration;
use crate::{
    frames::{Frame, PREFACE, code, flag, kind},
    front::Front,
};

/// Any bytes as the frames of a connection, as a whole connection, or as field sections
/// one behind the other; the first of them says as what. The second says how large the
/// pieces are in which frames come the second time.
pub fn http2(data: &[u8]) {
    let [kind, piece, bytes @ ..] = data else { return };
    match kind % 3 {
        0 => connection(&[PREFACE, &Frame::settings(&[]).bytes(), bytes].concat(), *piece),
        1 => connection(bytes, *piece),
        _ => sections(bytes),
    }
}

thread_local! {
    static FRONT: Front = Front::new(&configuration());
}

/// What is said to a client: of each stream, and of none.
type Said = BTreeMap<u32, Vec<Frame>>;

fn connection(bytes: &[u8], piece: u8) {
    // Not too many of them, so that long inputs are tried as often as short ones.
    let piece = usize::from(piece).max(bytes.len() / 64).max(1);
    let (whole, in_pieces) = (hear([bytes]), hear(bytes.chunks(piece)));
    // What goes wrong may do so before or behind an answer that takes a while, and what is
    // said of windows and of answers that are not wanted, too.
    let changes = [kind::RST_STREAM, kind::SETTINGS, kind::GOAWAY, kind::WINDOW_UPDATE];
    let is_changed = frames(bytes.get(PREFACE.len() + 9..).unwrap_or_default())
        .any(|frame| changes.contains(&frame.kind));
    if !is_changed && !went_wrong(&whole) && !went_wrong(&in_pieces) {
        assert_eq!(shown(&in_pieces), shown(&whole), "answers are the same in pieces");
    }
}

fn frames(mut bytes: &[u8]) -> impl Iterator<Item = Frame> {
    std::iter::from_fn(move || {
        let (frame, length) = Frame::read(bytes)?;
        bytes = &bytes[length..];
        Some(frame)
    })
}

fn went_wrong(said: &Said) -> bool {
    let ends = |frame: &Frame| {
        matches!(frame.kind, kind::RST_STREAM | kind::GOAWAY) && frame.code() != code::NO_ERROR
    };
    said.values().flatten().any(ends)
}

/// What is the same at any time: the length of a date is, and of which kind frames are.
fn shown(said: &Said) -> Vec<(u32, u8, u8, usize)> {
    said.values()
        .flatten()
        .map(|frame| (frame.stream, frame.kind, frame.flags, frame.payload.len()))
        .collect()
}

/// What comes back, which has to be HTTP/2 whatever has come.
fn hear<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> Said {
    let heard = FRONT.with(|front| front.hear_http2(pieces));
    let mut said = Said::new();
    let mut length = 0;
    for frame in frames(&heard.bytes) {
        length += 9 + frame.payload.len();
        assert!(frame.payload.len() <= 16 * 1024, "a frame is longer than any client need take");
        said.entry(frame.stream).or_default().push(frame);
    }
    assert_eq!(length, heard.bytes.len(), "what comes back is frames");
    for (stream, frames) in &said {
        if *stream == 0 {
            assert_connection(frames, heard.is_closed)
        } else {
            assert_answer(*stream, frames)
        }
    }
    said
}

fn assert_connection(frames: &[Frame], is_closed: bool) {
    const ALLOWED: [u8; 4] = [kind::SETTINGS, kind::PING, kind::GOAWAY, kind::WINDOW_UPDATE];
    assert!(frames.iter().all(|frame| ALLOWED.contains(&frame.kind)), "{frames:?}");
    assert_eq!((frames[0].kind, frames[0].flags), (kind::SETTINGS, flag::NONE));
    let end = frames.iter().position(|frame| frame.kind == kind::GOAWAY);
    assert!(end.is_some() || !is_closed, "who is hung up on is told why");
    let codes = frames.iter().filter(|frame| frame.kind == kind::GOAWAY).map(Frame::code);
    assert!(
        codes.rev().skip(1).all(|code| code == code::NO_ERROR),
        "a connection fails once: {frames:?}"
    );
}

/// A head, a body perhaps, trailers perhaps, and an end; or an end alone.
fn assert_answer(stream: u32, frames: &[Frame]) {
    assert!(!stream.is_multiple_of(2));
    let heads = frames.iter().filter(|frame| frame.kind == kind::HEADERS).count();
    let ends = frames
        .iter()
        .filter(|frame| frame.kind != kind::RST_STREAM && frame.flags & flag::END_STREAM != 0)
        .count();
    assert!(heads <= 2 && ends <= 1, "{frames:?}");
    let is_answered = frames[0].kind == kind::HEADERS;
    assert!(is_answered || heads == 0, "{frames:?}");
    let allowed =
        [kind::HEADERS, kind::CONTINUATION, kind::DATA, kind::RST_STREAM, kind::WINDOW_UPDATE];
    assert!(frames.iter().all(|frame| allowed.contains(&frame.kind)), "{frames:?}");
    let end = frames
        .iter()
        .position(|frame| frame.kind != kind::RST_STREAM && frame.flags & flag::END_STREAM != 0);
    if let Some(end) = end {
        assert!(frames[end + 1..].iter().all(|frame| frame.kind == kind::RST_STREAM), "{frames:?}");
    }
}

/// The largest field section.
const MOST_SECTION: usize = 1024;
/// The most lines of one.
const MOST_LINES: usize = 104;

/// Each section has a byte before it that says how long it is.
fn sections(mut bytes: &[u8]) {
    let (mut table, mut room) = (DynamicTable::default(), SectionBuffer::default());
    let (mut cold, mut count) = (DynamicTable::default(), 0);
    while let Some((length, rest)) = bytes.split_first() {
        let (payload, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        bytes = rest;
        count += 1;
        let read = understood(&mut table, &mut room, payload);
        // What is left in a room is nobody's.
        assert_eq!(
            understood(&mut cold, &mut SectionBuffer::default(), payload),
            read,
            "section {count}"
        );
        if let Err(HpackError::Connection(fault)) = read {
            return assert!(
                [Http2ErrorCode::CompressionError, Http2ErrorCode::EnhanceYourCalm]
                    .contains(&fault.code)
            );
        }
    }
}

type Lines = Vec<(Vec<u8>, Vec<u8>)>;

fn understood(
    table: &mut DynamicTable,
    room: &mut SectionBuffer,
    payload: &[u8],
) -> Result<Lines, HpackError> {
    let section = hpack::read(table, room, payload, MOST_SECTION)?;
    let lines: Lines =
        section.lines().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
    let size: usize = lines.iter().map(|(name, value)| name.len() + value.len() + 32).sum();
    assert!(
        size <= MOST_SECTION && lines.len() <= MOST_LINES,
        "{size} bytes and {} lines",
        lines.len()
    );
    if let Ok(head) = DecodedHead::read(section, Version::HTTP_2) {
        super::http3::assert_request(&head, section);
    }
    Ok(lines)
}
