//! HTTP/3 input: request streams and unidirectional streams received in any pieces, and field
//! sections.

use countersign_front::{
    KeptHead, RequestHead as _, RequestLimits,
    fields::{
        request::{DecodedHead, MalformedReason},
        section::{FieldSection, SectionBuffer},
    },
    http3::{
        error::Http3Error,
        frame::{self, FrameEvent, RequestFrames},
        qpack::{self, QpackError},
        unidirectional::{CriticalStreams, StreamAction, UnidirectionalStream},
    },
};
use http::{StatusCode, Version};

/// Fuzz target: any bytes as a request stream, a unidirectional stream or a field section. The
/// first byte selects the form, the second the size of the pieces.
pub fn http3(data: &[u8]) {
    let [kind, piece, bytes @ ..] = data else { return };
    let pieces = || bytes.chunks(usize::from(*piece).max(1));
    match kind % 3 {
        0 => assert_eq!(
            read_request_stream(pieces()),
            read_request_stream([bytes]),
            "pieces do not change a request stream"
        ),
        1 => assert_eq!(
            read_unidirectional(pieces()),
            read_unidirectional([bytes]),
            "pieces do not change a unidirectional stream"
        ),
        _ => drop(read_section(bytes)),
    }
}

/// Limit of a `HEADERS` payload, small so that short inputs exceed it.
const MAX_FRAME: usize = 512;
/// Limits of a field section, small so that short inputs exceed them.
const LIMITS: RequestLimits = RequestLimits { head_bytes: 1024, header_lines: 20 };

/// Result of reading a request stream.
#[derive(Debug, Default, PartialEq, Eq)]
struct RequestStreamOutcome {
    /// Decoded field sections, or `None` for those over the limit.
    heads: Vec<Option<Result<SectionOutcome, QpackError>>>,
    body: Vec<u8>,
    fault: Option<Http3Error>,
}

fn read_request_stream<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> RequestStreamOutcome {
    let (mut frames, mut requested) =
        (RequestFrames::new(MAX_FRAME), RequestStreamOutcome::default());
    for mut piece in pieces {
        loop {
            match frames.next(&mut piece) {
                Ok(None) => break assert!(piece.is_empty(), "what is left would be lost"),
                Ok(Some(FrameEvent::Headers(payload) | FrameEvent::Trailers(payload))) => {
                    assert!(payload.len() <= MAX_FRAME);
                    requested.heads.push(Some(read_section(payload)));
                }
                Ok(Some(FrameEvent::TooLarge)) => requested.heads.push(None),
                Ok(Some(FrameEvent::Data(data))) => {
                    assert!(
                        !data.is_empty() && !requested.heads.is_empty(),
                        "a body before the headers"
                    );
                    requested.body.extend_from_slice(data);
                }
                Err(fault) => return RequestStreamOutcome { fault: Some(fault), ..requested },
            }
        }
    }
    let fault = frames.end().err();
    assert!(requested.heads.len() <= 2 && (fault.is_some() || !requested.heads.is_empty()));
    RequestStreamOutcome { fault, ..requested }
}

/// Decoded field section: its lines, and whether they are a valid request.
type SectionOutcome = (Vec<(Vec<u8>, Vec<u8>)>, Result<(), MalformedReason>);

fn read_section(payload: &[u8]) -> Result<SectionOutcome, QpackError> {
    let mut room = SectionBuffer::default();
    let section = qpack::read(&mut room, payload, &LIMITS)?;
    let lines: Vec<_> =
        section.lines().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
    let size: usize = lines.iter().map(|(name, value)| name.len() + value.len() + 32).sum();
    let count = lines.len();
    assert!(
        size <= LIMITS.head_bytes && count <= LIMITS.header_lines + 3,
        "{size} bytes, {count} lines"
    );
    assert_encoding_round_trips(&lines);
    let request =
        DecodedHead::read(section, Version::HTTP_3).map(|head| assert_request(&head, section));
    Ok((lines, request))
}

/// Asserts that lines written by our encoder decode to the same lines.
fn assert_encoding_round_trips(lines: &[(Vec<u8>, Vec<u8>)]) {
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
    // Encoding adds lines.
    let limits = RequestLimits { head_bytes: usize::MAX, header_lines: 2 * LIMITS.header_lines };
    let Ok(section) = qpack::read(&mut room, section, &limits) else {
        panic!("an encoded section does not decode")
    };
    let read = section.lines().skip(1).map(|(name, value)| (name, value.to_vec()));
    assert!(read.eq(texts().map(|(name, value)| (name.as_bytes(), value.clone()))));
}

/// Asserts the properties of every valid request.
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
    // Conversion fails only if the target is longer than the limit of `Uri`.
    match KeptHead::new(head, head.target(), |_| true).and_then(|kept| kept.into_request(())) {
        Ok(request) => {
            assert_eq!(
                (request.method().as_str(), request.headers().len()),
                (head.method(), lines().count())
            );
        }
        Err(malformed) => assert_eq!(malformed.code, "request_target"),
    }
}

/// Returns the result of reading a unidirectional stream, and of its end.
fn read_unidirectional<'p>(
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
