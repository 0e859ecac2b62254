use super::*;

const MAX_SECTION: usize = 1000;

/// A frame of this type.
fn framed(kind: u64, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame(&mut out, kind, payload);
    out
}

/// Parses a stream received in pieces, and describes its events as text. Parts of the body are
/// joined, as they depend on how the data is split.
fn describe<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> String {
    let (mut frames, mut seen, mut body) =
        (RequestFrames::new(MAX_SECTION), String::new(), Vec::new());
    for mut piece in pieces {
        loop {
            match frames.next(&mut piece) {
                Ok(None) => break assert!(piece.is_empty(), "all data is consumed"),
                Ok(Some(FrameEvent::Headers(section))) => seen += &format!("section {section:?} "),
                Ok(Some(FrameEvent::TooLarge)) => seen += "too large ",
                Ok(Some(FrameEvent::Trailers(section))) => {
                    seen += &format!("trailers {section:?} ")
                }
                Ok(Some(FrameEvent::Data(data))) => {
                    assert!(!data.is_empty());
                    body.extend_from_slice(data);
                }
                Err(error) => return format!("{seen}body {body:?} {}", describe_error(error)),
            }
        }
    }
    let end = frames.end().map_or_else(describe_error, |()| "end".into());
    format!("{seen}body {body:?} {end}")
}

fn describe_error(error: Http3Error) -> String {
    format!(
        "{:#x} of the {}",
        error.code.number(),
        if error.ends_connection() { "connection" } else { "stream" }
    )
}

/// The same, after checking that the result does not depend on how the data is split.
#[track_caller]
fn describe_split(stream: &[u8]) -> String {
    let whole = describe([stream]);
    for cut in 0..=stream.len() {
        assert_eq!(describe([&stream[..cut], &stream[cut..]]), whole, "split at {cut}");
    }
    assert_eq!(describe(stream.chunks(1)), whole, "byte by byte");
    whole
}

/// A HEADERS frame, with two arbitrary bytes as its field section.
const HEAD: [u8; 4] = [0x01, 0x02, 0xaa, 0xbb];
const UNEXPECTED: &str = "0x105 of the connection";

#[test]
fn request_is_headers_data_and_trailers() {
    assert_eq!(describe_split(&HEAD), "section [170, 187] body [] end");
    let with_body =
        [&HEAD[..], &framed(DATA, b"\x01\x02"), &framed(DATA, b""), &framed(DATA, b"\x03")]
            .concat();
    assert_eq!(describe_split(&with_body), "section [170, 187] body [1, 2, 3] end");
    let with_trailers = [&with_body[..], &HEAD].concat();
    assert_eq!(
        describe_split(&with_trailers),
        "section [170, 187] trailers [170, 187] body [1, 2, 3] end"
    );
    assert_eq!(
        describe_split(&[HEAD, HEAD].concat()),
        "section [170, 187] trailers [170, 187] body [] end"
    );
    assert_eq!(describe_split(&[0x01, 0x00]), "section [] body [] end");
}

#[test]
fn unknown_frames_are_skipped_anywhere() {
    for kind in [0x21, 0xa, 0xc, 0xe, 0xf, 0x40, 0x21 + 0x1f * 1_000_000, varint::MAX] {
        for payload in [&b""[..], b"x", &[0; 70]] {
            let unknown = framed(kind, payload);
            let parts =
                [&unknown, &HEAD[..], &unknown, &framed(DATA, b"\x01"), &unknown, &HEAD, &unknown];
            assert_eq!(
                describe_split(&parts.concat()),
                "section [170, 187] trailers [170, 187] body [1] end",
                "{kind:#x}"
            );
        }
    }
}

#[test]
fn complete_field_section_is_not_copied() {
    let mut frames = RequestFrames::new(MAX_SECTION);
    let mut bytes = &HEAD[..];
    let Ok(Some(FrameEvent::Headers(section))) = frames.next(&mut bytes) else {
        panic!("a complete section")
    };
    assert_eq!(section.as_ptr(), HEAD[2..].as_ptr());
    assert_eq!(frames.section.capacity(), 0);
}

#[test]
fn forbidden_frames_are_unexpected_anywhere() {
    for kind in [0x2, 0x3, 0x4, 0x5, 0x6, 0x7, 0x8, 0x9, 0xd] {
        let frame = framed(kind, b"");
        assert_eq!(describe_split(&frame), format!("body [] {UNEXPECTED}"), "{kind:#x}");
        assert_eq!(
            describe_split(&[&HEAD[..], &frame].concat()),
            format!("section [170, 187] body [] {UNEXPECTED}")
        );
        assert_eq!(
            describe_split(&[&HEAD[..], &HEAD, &frame].concat()),
            format!("section [170, 187] trailers [170, 187] body [] {UNEXPECTED}")
        );
    }
}

#[test]
fn frames_out_of_order_are_unexpected() {
    let data = framed(DATA, b"\x01");
    assert_eq!(describe_split(&data), format!("body [] {UNEXPECTED}"));
    assert_eq!(
        describe_split(&[&HEAD[..], &HEAD, &data].concat()),
        format!("section [170, 187] trailers [170, 187] body [] {UNEXPECTED}")
    );
    assert_eq!(
        describe_split(&[HEAD, HEAD, HEAD].concat()),
        format!("section [170, 187] trailers [170, 187] body [] {UNEXPECTED}")
    );
    assert_eq!(
        describe_split(&[&HEAD[..], &data, &HEAD, &data].concat()),
        format!("section [170, 187] trailers [170, 187] body [1] {UNEXPECTED}")
    );
}

#[test]
fn stream_that_ends_within_a_frame_is_an_error() {
    let whole = [&HEAD[..], &framed(DATA, b"\x01\x02"), &framed(HEADERS, b"\x03")].concat();
    let ends = [HEAD.len(), HEAD.len() + 4, whole.len()];
    for part in 1..=whole.len() {
        let seen = describe_split(&whole[..part]);
        let expected = if ends.contains(&part) { "end" } else { "0x106 of the connection" };
        assert!(seen.ends_with(expected), "{part}: {seen}");
    }
    for unknown in [framed(0x21, b"")[..1].to_vec(), framed(0x21, b"12")[..3].to_vec()] {
        assert!(describe_split(&unknown).ends_with("0x106 of the connection"));
    }
}

#[test]
fn stream_without_headers_is_incomplete() {
    assert_eq!(describe_split(&[]), "body [] 0x10d of the stream");
    assert_eq!(describe_split(&framed(0x21, b"grease")), "body [] 0x10d of the stream");
}

#[test]
fn oversized_section_is_reported_and_skipped() {
    let section = |length| framed(HEADERS, &vec![1; length]);
    assert!(describe_split(&section(MAX_SECTION)).starts_with("section [1, 1,"));
    assert_eq!(describe_split(&section(MAX_SECTION + 1)), "too large body [] end");
    assert_eq!(
        describe_split(&[section(MAX_SECTION + 1), framed(DATA, b"\x01")].concat()),
        "too large body [1] end"
    );
    let with_trailers = [&HEAD[..], &section(MAX_SECTION + 1)].concat();
    assert_eq!(describe_split(&with_trailers), "section [170, 187] body [] 0x10e of the stream");
    // Detected before any byte of the payload.
    assert_eq!(
        describe([&section(MAX_SECTION + 1)[..3]]),
        "too large body [] 0x106 of the connection"
    );
}

#[test]
fn huge_frame_is_not_buffered() {
    for kind in [DATA, 0x21] {
        let mut frames = RequestFrames::new(MAX_SECTION);
        assert!(frames.next(&mut &HEAD[..]).unwrap().is_some());
        let mut header = Vec::new();
        varint::write(&mut header, kind);
        varint::write(&mut header, 1 << 61);
        let mut header = &header[..];
        while frames.next(&mut header).unwrap().is_some() {}
        for _ in 0..100 {
            let piece = [0; 10_000];
            let mut bytes = &piece[..];
            while let Some(event) = frames.next(&mut bytes).unwrap() {
                assert_eq!(event, FrameEvent::Data(&piece));
            }
            assert!(bytes.is_empty());
        }
        assert_eq!(frames.section.capacity(), 0);
        assert_eq!(frames.end(), Err(TRUNCATED));
    }
    let mut frames = RequestFrames::new(MAX_SECTION);
    let mut announced = &[0x01, 0x43, 0xe8, 0x00][..];
    assert_eq!(frames.next(&mut announced), Ok(None));
    assert!(frames.section.capacity() < 100, "announced lengths are not reserved");
}

#[test]
fn written_frames_round_trip() {
    for length in [0, 1, 63, 64, 16_383, 16_384, 70_000] {
        let mut out = b"before".to_vec();
        headers(&mut out, |out| out.extend_from_slice(&vec![7; length]));
        data(&mut out, length);
        let stream = [&out[6..], &vec![9; length]].concat();
        let mut bytes = &stream[..];
        let mut frames = RequestFrames::new(100_000);
        assert_eq!(frames.next(&mut bytes), Ok(Some(FrameEvent::Headers(&vec![7; length]))));
        let body = vec![9; length];
        assert_eq!(frames.next(&mut bytes), Ok((length > 0).then_some(FrameEvent::Data(&body))));
        assert_eq!(frames.next(&mut bytes), Ok(None));
        assert_eq!(frames.end(), Ok(()));
        assert!(out.starts_with(b"before"));
    }
    let mut out = Vec::new();
    goaway(&mut out, 4);
    assert_eq!(out, [0x7, 1, 4]);
    goaway(&mut out, 400);
    assert_eq!(out[3..], [0x7, 2, 0x41, 0x90]);
}
