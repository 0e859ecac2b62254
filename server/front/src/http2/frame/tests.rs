use super::*;

fn take_one(bytes: &[u8]) -> (Result<Option<Frame<'_>>, Http2ErrorCode>, usize) {
    let mut rest = bytes;
    let frame = Frame::take(&mut rest).map_err(|error| error.code);
    (frame, bytes.len() - rest.len())
}

#[test]
fn frame_is_taken_only_when_complete() {
    let mut bytes = Vec::new();
    frame(&mut bytes, kind::DATA, flag::END_STREAM, 7, b"abc");
    let whole = Frame { kind: kind::DATA, flags: flag::END_STREAM, stream: 7, payload: b"abc" };
    for length in 0..bytes.len() {
        assert_eq!(take_one(&bytes[..length]), (Ok(None), 0));
    }
    bytes.extend_from_slice(b"next");
    assert_eq!(take_one(&bytes), (Ok(Some(whole)), FRAME_HEADER_LENGTH + 3));
    // The highest bit of a stream identifier is ignored.
    bytes[5] = 0x80;
    assert_eq!(take_one(&bytes), (Ok(Some(whole)), FRAME_HEADER_LENGTH + 3));
}

#[test]
fn oversized_frame_is_rejected_by_its_header() {
    assert_eq!(take_one(&[0, 0x40, 0x00, 0xff, 0, 0, 0, 0, 1]), (Ok(None), 0));
    for length in [[0, 0x40, 0x01], [0x01, 0, 0], [0xff; 3]] {
        let header = [&length[..], &[kind::DATA, 0, 0, 0, 0, 1]].concat();
        assert_eq!(take_one(&header), (Err(Http2ErrorCode::FrameSizeError), 0));
    }
}

#[test]
fn padding_is_removed_and_bounded() {
    let unpadded = |flags, payload| {
        Frame { kind: kind::DATA, flags, stream: 1, payload }.unpadded().map_err(|error| error.code)
    };
    assert_eq!(unpadded(flag::NONE, b"\x01ab"), Ok(&b"\x01ab"[..]));
    assert_eq!(unpadded(flag::PADDED, b"\x01ab"), Ok(&b"a"[..]));
    assert_eq!(unpadded(flag::PADDED, b"\x02ab"), Ok(&b""[..]));
    assert_eq!(unpadded(flag::PADDED, b"\0"), Ok(&b""[..]));
    assert_eq!(unpadded(flag::PADDED, b"\x03ab"), Err(Http2ErrorCode::ProtocolError));
    assert_eq!(unpadded(flag::PADDED, b""), Err(Http2ErrorCode::FrameSizeError));
}

#[test]
fn long_field_block_is_split_into_continuations() {
    for (length, count) in
        [(0, 1), (1, 1), (MAX_PAYLOAD, 1), (MAX_PAYLOAD + 1, 2), (3 * MAX_PAYLOAD, 3)]
    {
        for ends_stream in [false, true] {
            let section: Vec<_> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
            let mut out = b"before".to_vec();
            headers(&mut out, 5, ends_stream, |out| out.extend_from_slice(&section));
            let (mut rest, mut frames) = (&out[6..], Vec::new());
            while let Some(frame) = Frame::take(&mut rest).unwrap() {
                frames.push(frame);
            }
            assert!(rest.is_empty() && frames.len() == count && out.starts_with(b"before"));
            assert_eq!(
                frames.iter().map(|frame| frame.payload).collect::<Vec<_>>().concat(),
                section
            );
            for (nth, frame) in frames.iter().enumerate() {
                let kind = if nth == 0 { kind::HEADERS } else { kind::CONTINUATION };
                assert_eq!(
                    (frame.kind, frame.stream, frame.has(flag::END_HEADERS)),
                    (kind, 5, nth + 1 == count)
                );
                assert_eq!(frame.has(flag::END_STREAM), ends_stream && nth == 0);
            }
        }
    }
}
