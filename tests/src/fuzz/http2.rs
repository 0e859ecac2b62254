//! HTTP/2 input: frames received in any pieces, and sequences of field sections that share a
//! dynamic table.

use std::collections::BTreeMap;

use countersign_front::{
    RequestLimits,
    fields::{request::DecodedHead, section::SectionBuffer},
    http2::{
        error::Http2ErrorCode,
        hpack::{self, DynamicTable, HpackError},
    },
};
use http::Version;

use super::http1::configuration;
use crate::{
    frames::{Frame, PREFACE, flag, kind},
    front::Front,
};

/// Fuzz target: any bytes as the frames after a preface, as a whole connection, or as a sequence of
/// field sections. The first byte selects the form, the second the size of the pieces.
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

/// Received frames by stream, with 0 for the connection.
type FramesByStream = BTreeMap<u32, Vec<Frame>>;

fn connection(bytes: &[u8], piece: u8) {
    // Limits the number of pieces, so that long inputs are not slower than short ones.
    let piece = usize::from(piece).max(bytes.len() / 64).max(1);
    let (whole, in_pieces) = (exchange([bytes]), exchange(bytes.chunks(piece)));
    // Errors may occur before or after a response that takes a while. Window updates and resets
    // may take effect before or after it, too. Such inputs are not compared.
    let changes = [kind::RST_STREAM, kind::SETTINGS, kind::GOAWAY, kind::WINDOW_UPDATE];
    let is_changed = frames(bytes.get(PREFACE.len() + 9..).unwrap_or_default())
        .any(|frame| changes.contains(&frame.kind));
    if !is_changed && !has_error(&whole) && !has_error(&in_pieces) {
        assert_eq!(
            stable_parts(&in_pieces),
            stable_parts(&whole),
            "pieces do not change the responses"
        );
    }
}

fn frames(mut bytes: &[u8]) -> impl Iterator<Item = Frame> {
    std::iter::from_fn(move || {
        let (frame, length) = Frame::read(bytes)?;
        bytes = &bytes[length..];
        Some(frame)
    })
}

fn has_error(streams: &FramesByStream) -> bool {
    let ends = |frame: &Frame| {
        matches!(frame.kind, kind::RST_STREAM | kind::GOAWAY)
            && frame.code() != Http2ErrorCode::NoError.number()
    };
    streams.values().flatten().any(ends)
}

/// Returns the parts of the frames that do not depend on the time: a date has a constant length.
fn stable_parts(streams: &FramesByStream) -> Vec<(u32, u8, u8, usize)> {
    streams
        .values()
        .flatten()
        .map(|frame| (frame.stream, frame.kind, frame.flags, frame.payload.len()))
        .collect()
}

/// Returns the output of the server, which has to be valid HTTP/2 for any input.
fn exchange<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> FramesByStream {
    let output = FRONT.with(|front| front.exchange_http2(pieces));
    let mut streams = FramesByStream::new();
    let mut length = 0;
    for frame in frames(&output.bytes) {
        length += 9 + frame.payload.len();
        assert!(
            frame.payload.len() <= 16 * 1024,
            "a frame exceeds the default SETTINGS_MAX_FRAME_SIZE"
        );
        streams.entry(frame.stream).or_default().push(frame);
    }
    assert_eq!(length, output.bytes.len(), "the output consists of whole frames");
    for (stream, frames) in &streams {
        if *stream == 0 {
            assert_connection(frames, output.is_closed)
        } else {
            assert_answer(*stream, frames)
        }
    }
    streams
}

fn assert_connection(frames: &[Frame], is_closed: bool) {
    const ALLOWED: [u8; 4] = [kind::SETTINGS, kind::PING, kind::GOAWAY, kind::WINDOW_UPDATE];
    assert!(frames.iter().all(|frame| ALLOWED.contains(&frame.kind)), "{frames:?}");
    assert_eq!((frames[0].kind, frames[0].flags), (kind::SETTINGS, flag::NONE));
    let end = frames.iter().position(|frame| frame.kind == kind::GOAWAY);
    assert!(end.is_some() || !is_closed, "a closed connection has a GOAWAY");
    let codes = frames.iter().filter(|frame| frame.kind == kind::GOAWAY).map(Frame::code);
    assert!(
        codes.rev().skip(1).all(|code| code == Http2ErrorCode::NoError.number()),
        "a connection fails once: {frames:?}"
    );
}

/// Asserts that the frames are one response (headers, optional body, optional trailers, end of
/// stream) or only a reset.
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

/// Limits of a field section, small so that short inputs exceed them.
const LIMITS: RequestLimits = RequestLimits { head_bytes: 1024, header_lines: 20 };

/// Decodes sections, each preceded by its length in one byte.
fn sections(mut bytes: &[u8]) {
    let (mut table, mut room) = (DynamicTable::default(), SectionBuffer::default());
    let (mut fresh, mut count) = (DynamicTable::default(), 0);
    while let Some((length, rest)) = bytes.split_first() {
        let (payload, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        bytes = rest;
        count += 1;
        let read = read_lines(&mut table, &mut room, payload);
        // A reused buffer must not change the result.
        assert_eq!(
            read_lines(&mut fresh, &mut SectionBuffer::default(), payload),
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

fn read_lines(
    table: &mut DynamicTable,
    room: &mut SectionBuffer,
    payload: &[u8],
) -> Result<Lines, HpackError> {
    let section = hpack::read(table, room, payload, &LIMITS)?;
    let lines: Lines =
        section.lines().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
    let size: usize = lines.iter().map(|(name, value)| name.len() + value.len() + 32).sum();
    let count = lines.len();
    assert!(
        size <= LIMITS.head_bytes && count <= LIMITS.header_lines + 3,
        "{size} bytes, {count} lines"
    );
    if let Ok(head) = DecodedHead::read(section, Version::HTTP_2) {
        super::http3::assert_request(&head, section);
    }
    Ok(lines)
}
