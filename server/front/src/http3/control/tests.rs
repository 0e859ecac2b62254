use super::*;

fn framed(kind: u64, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::frame(&mut out, kind, payload);
    out
}

fn settings_of(settings: &[(u64, u64)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (identifier, value) in settings {
        varint::write(&mut payload, *identifier);
        varint::write(&mut payload, *value);
    }
    framed(SETTINGS, &payload)
}

/// Returns the error of a control stream, after checking that it does not depend on how the data is
/// split.
#[track_caller]
fn error_of(stream: &[u8]) -> Option<Http3ErrorCode> {
    let read = |pieces: &[&[u8]]| {
        let mut control = ControlStream::default();
        pieces.iter().find_map(|piece| control.read(piece).err())
    };
    let whole = read(&[stream]);
    for cut in 0..=stream.len() {
        assert_eq!(read(&[&stream[..cut], &stream[cut..]]), whole, "split at {cut}");
    }
    assert_eq!(read(&stream.chunks(1).collect::<Vec<_>>()), whole, "byte by byte");
    assert!(whole.is_none_or(Http3Error::ends_connection));
    whole.map(|error| error.code)
}

/// The same for frames that follow SETTINGS.
#[track_caller]
fn error_after_settings(frames: &[Vec<u8>]) -> Option<Http3ErrorCode> {
    error_of(&[settings_of(&[]), frames.concat()].concat())
}

#[test]
fn own_control_stream_is_valid() {
    let mut out = Vec::new();
    open(&mut out, 32 * 1024);
    assert_eq!(out, [0, 4, 9, 1, 0, 6, 0x80, 0, 0x80, 0, 7, 0]);
    assert_eq!(error_of(&out[1..]), None);
}

#[test]
fn control_stream_begins_with_settings_once() {
    assert_eq!(error_of(&[]), None);
    assert_eq!(error_of(&settings_of(&[])), None);
    assert_eq!(
        error_of(&settings_of(&[
            (0x6, 4000),
            (0x1, 4096),
            (0x7, 100),
            (0x21, 7),
            (varint::MAX, varint::MAX)
        ])),
        None
    );
    for kind in [0x0, 0x1, 0x2, 0x3, 0x5, 0x7, 0xd, 0x21] {
        assert_eq!(
            error_of(&framed(kind, &[0])),
            Some(Http3ErrorCode::MissingSettings),
            "{kind:#x}"
        );
    }
    assert_eq!(error_after_settings(&[settings_of(&[])]), Some(Http3ErrorCode::FrameUnexpected));
}

#[test]
fn duplicate_and_http_2_settings_are_rejected() {
    for identifier in 0x2..=0x5 {
        assert_eq!(error_of(&settings_of(&[(identifier, 0)])), Some(Http3ErrorCode::SettingsError));
    }
    assert_eq!(
        error_of(&settings_of(&[(0x6, 1), (0x21, 1), (0x6, 1)])),
        Some(Http3ErrorCode::SettingsError)
    );
    let many: Vec<_> = (0..1000).map(|nth| (0x40 + nth, 1)).collect();
    assert_eq!(error_of(&settings_of(&many)), None);
    assert_eq!(
        error_of(&settings_of(&[&many[..], &[(0x40, 2)]].concat())),
        Some(Http3ErrorCode::SettingsError)
    );
}

#[test]
fn truncated_settings_are_a_frame_error() {
    for payload in [&[0x6][..], &[0x46], &[0x6, 0x40], &[0x6, 0, 0x1]] {
        assert_eq!(
            error_of(&framed(SETTINGS, payload)),
            Some(Http3ErrorCode::FrameError),
            "{payload:?}"
        );
    }
}

#[test]
fn oversized_settings_are_rejected_by_their_header() {
    let settings = framed(SETTINGS, &[0x21; 4097]);
    assert_eq!(error_of(&settings[..3]), Some(Http3ErrorCode::ExcessiveLoad));
    assert_eq!(
        error_of(&[4, 0xe0, 0, 0, 0, 0, 0, 0, 0]),
        Some(Http3ErrorCode::ExcessiveLoad),
        "2^61 bytes"
    );
}

#[test]
fn control_frames_hold_exactly_one_integer() {
    for kind in [GOAWAY, MAX_PUSH_ID, CANCEL_PUSH] {
        for payload in [&[][..], &[0x40], &[1, 1], &[0; 8], &[0; 9]] {
            assert_eq!(
                error_after_settings(&[framed(kind, payload)]),
                Some(Http3ErrorCode::FrameError),
                "{kind:#x} {payload:?}"
            );
        }
    }
    for kind in [GOAWAY, MAX_PUSH_ID] {
        assert_eq!(error_after_settings(&[framed(kind, &[1])]), None);
        assert_eq!(error_after_settings(&[framed(kind, &[0xc0, 0, 0, 0, 0, 0, 0, 1])]), None);
    }
}

#[test]
fn identifiers_move_in_one_direction() {
    let goaway = |id| framed(GOAWAY, &[id]);
    let max_push = |id| framed(MAX_PUSH_ID, &[id]);
    assert_eq!(error_after_settings(&[goaway(8), goaway(8), goaway(4)]), None);
    assert_eq!(error_after_settings(&[goaway(4), goaway(8)]), Some(Http3ErrorCode::IdError));
    assert_eq!(error_after_settings(&[max_push(4), max_push(4), max_push(8)]), None);
    assert_eq!(error_after_settings(&[max_push(8), max_push(4)]), Some(Http3ErrorCode::IdError));
    assert_eq!(error_after_settings(&[framed(CANCEL_PUSH, &[0])]), Some(Http3ErrorCode::IdError));
}

#[test]
fn other_known_frames_are_unexpected() {
    for kind in [0x0, 0x1, 0x2, 0x5, 0x6, 0x8, 0x9] {
        assert_eq!(
            error_after_settings(&[framed(kind, &[0])]),
            Some(Http3ErrorCode::FrameUnexpected),
            "{kind:#x}"
        );
    }
}

#[test]
fn unknown_frames_are_skipped_without_buffering() {
    let unknown = framed(0x21, &[0; 100]);
    assert_eq!(
        error_after_settings(&[unknown.clone(), framed(0x21, &[]), framed(GOAWAY, &[0]), unknown]),
        None
    );
    let mut control = ControlStream::default();
    control.read(&settings_of(&[(0x6, 1)])).unwrap();
    control.read(&[0x21, 0xe0, 0, 0, 0, 0, 0, 0, 0]).unwrap();
    for _ in 0..100 {
        control.read(&[0; 10_000]).unwrap();
    }
    assert_eq!(control.payload.capacity(), 0);
}
