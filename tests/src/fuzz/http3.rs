//! What clients send over the streams of HTTP/3, in whatever pieces it comes.

use countersign_server::listen::{
    exchange::RequestHead as _,
    fields::{
        request::{DecodedHead, MalformedReason},
        section::{FieldSection, SectionBuffer},
    },
    http3::{
        fault::Http3Error,
        frame::{self, FrameEvent, RequestFrames},
        qpack::{self, QpackError},
        unidirectional::{CriticalStreams, StreamAction, UnidirectionalStream},
    },
};
use http::{StatusCode, Version};

/// Any bytes as a request stream, a unidirectional stream, or a field section; the first
/// of them says as which. The second says how large the pieces are in which a stream
/// comes the second time.
pub fn http3(data: &[u8]) {
    let [kind, piece, bytes @ ..] = data else { return };
    let pieces = || bytes.chunks(usize::from(*piece).max(1));
    match kind % 3 {
        0 => assert_eq!(
            requested(pieces()),
            requested([bytes]),
            "a request stream is the same in pieces"
        ),
        1 => assert_eq!(
            told(pieces()),
            told([bytes]),
            "a unidirectional stream is the same in pieces"
        ),
        _ => drop(understood(bytes)),
    }
}

/// The largest payload of `HEADERS`: small, so that what is too large is short.
const MOST_FRAME: usize = 512;
/// The largest field section.
const MOST_SECTION: usize = 1024;
/// The most lines of one.
const MOST_LINES: usize = 104;

/// What a request stream comes to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Requested {
    /// Field sections as they are understood, and those that are too large.
    heads: Vec<Option<Result<Understood, QpackError>>>,
    body: Vec<u8>,
    fault: Option<Http3Error>,
}

fn requested<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> Requested {
    let (mut frames, mut requested) = (RequestFrames::new(MOST_FRAME), Requested::default());
    for mut piece in pieces {
        loop {
            match frames.next(&mut piece) {
                Ok(None) => break assert!(piece.is_empty(), "what is left would be lost"),
                Ok(Some(FrameEvent::Headers(payload))) => {
                    assert!(payload.len() <= MOST_FRAME);
                    requested.heads.push(Some(understood(payload)));
                }
                Ok(Some(FrameEvent::TooLarge)) => requested.heads.push(None),
                Ok(Some(FrameEvent::Data(data))) => {
                    assert!(
                        !data.is_empty() && !requested.heads.is_empty(),
                        "a body of no request"
                    );
                    requested.body.extend_from_slice(data);
                }
                Err(fault) => return Requested { fault: Some(fault), ..requested },
            }
        }
    }
    let fault = frames.end().err();
    assert!(requested.heads.len() <= 2 && (fault.is_some() || !requested.heads.is_empty()));
    Requested { fault, ..requested }
}

/// A field section: its lines, and whether they are a request.
type Understood = (Vec<(Vec<u8>, Vec<u8>)>, Result<(), MalformedReason>);

fn understood(payload: &[u8]) -> Result<Understood, QpackError> {
    let mut room = SectionBuffer::default();
    let section = qpack::read(&mut room, payload, MOST_SECTION)?;
    let lines: Vec<_> =
        section.lines().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
    let size: usize = lines.iter().map(|(name, value)| name.len() + value.len() + 32).sum();
    assert!(
        size <= MOST_SECTION && lines.len() <= MOST_LINES,
        "{size} bytes and {} lines",
        lines.len()
    );
    assert_written_alike(&lines);
    let request =
        DecodedHead::read(section, Version::HTTP_3).map(|head| assert_request(&head, section));
    Ok((lines, request))
}

/// Lines that we would send are read as they were meant.
fn assert_written_alike(lines: &[(Vec<u8>, Vec<u8>)]) {
    let texts =
        || lines.iter().filter_map(|(name, value)| Some((str::from_utf8(name).ok()?, value)));
    let mut out = Vec::new();
    frame::headers(&mut out, |out| {
        qpack::status(out, StatusCode::OK);
        texts().for_each(|(name, value)| qpack::field(out, name, value));
    });
    let (mut frames, mut room, mut bytes) =
        (RequestFrames::new(out.len()), SectionBuffer::default(), &out[..]);
    let Ok(Some(FrameEvent::Headers(section))) = frames.next(&mut bytes) else {
        panic!("no frame was written")
    };
    let Ok(section) = qpack::read(&mut room, section, usize::MAX) else {
        return assert!(lines.len() == MOST_LINES, "our own section cannot be read");
    };
    let read = section.lines().skip(1).map(|(name, value)| (name, value.to_vec()));
    assert!(read.eq(texts().map(|(name, value)| (name.as_bytes(), value.clone()))));
}

/// What every request is that is one.
pub(super) fn assert_request(head: &DecodedHead<'_>, section: FieldSection<'_>) {
    let lines = || section.lines().filter(|(name, _)| !name.starts_with(b":"));
    assert!(!head.method().is_empty() && !head.authority.is_empty());
    let is_visible = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    assert!([head.method(), head.target(), head.authority].into_iter().all(is_visible));
    assert!(head.target().starts_with('/') || ["OPTIONS", "CONNECT"].contains(&head.method()));
    for (name, value) in lines() {
        assert!(
            !name.is_empty()
                && name.iter().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase())
        );
        assert!(
            !value.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n'))
                && value.trim_ascii() == value
        );
        assert!(![&b"connection"[..], b"transfer-encoding", b"upgrade"].contains(&name));
    }
    // There is no saying it only where the target is more than a URI may be.
    match head.to_request() {
        Ok(request) => {
            assert_eq!(
                (request.method().as_str(), request.headers().len()),
                (head.method(), lines().count())
            );
        }
        Err(malformed) => assert_eq!(malformed.code, "request_target"),
    }
}

/// What becomes of a unidirectional stream.
fn told<'p>(
    pieces: impl IntoIterator<Item = &'p [u8]>,
) -> (Result<StreamAction, Http3Error>, Result<(), Http3Error>) {
    let (mut stream, mut opened, mut interest) =
        (UnidirectionalStream::default(), CriticalStreams::default(), StreamAction::Read);
    for piece in pieces {
        match stream.read(piece, &mut opened) {
            Ok(now) => interest = now,
            Err(fault) => return (Err(fault), Ok(())),
        }
    }
    (Ok(interest), stream.end())
}
