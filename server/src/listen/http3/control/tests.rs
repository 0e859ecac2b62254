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

/// What a control stream is refused for, the same however it is cut.
#[track_caller]
fn refused(stream: &[u8]) -> Option<Http3ErrorCode> {
    let read = |pieces: &[&[u8]]| {
        let mut control = ControlStream::default();
        pieces.iter().find_map(|piece| control.read(piece).err())
    };
    let whole = read(&[stream]);
    for cut in 0..=stream.len() {
        assert_eq!(read(&[&stream[..cut], &stream[cut..]]), whole, "cut at {cut}");
    }
    assert_eq!(read(&stream.chunks(1).collect::<Vec<_>>()), whole, "byte by byte");
    assert!(whole.is_none_or(Http3Error::ends_connection));
    whole.map(|fault| fault.code)
}

/// The same behind settings.
#[track_caller]
fn refused_behind(frames: &[Vec<u8>]) -> Option<Http3ErrorCode> {
    refused(&[settings_of(&[]), frames.concat()].concat())
}

#[test]
fn our_own_control_stream_would_do() {
    let mut out = Vec::new();
    open(&mut out, 32 * 1024);
    assert_eq!(out, [0, 4, 9, 1, 0, 6, 0x80, 0, 0x80, 0, 7, 0]);
    assert_eq!(refused(&out[1..]), None);
}

#[test]
fn a_control_stream_begins_with_settings_and_has_them_once() {
    assert_eq!(refused(&[]), None);
    assert_eq!(refused(&settings_of(&[])), None);
    assert_eq!(
        refused(&settings_of(&[
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
            refused(&framed(kind, &[0])),
            Some(Http3ErrorCode::MissingSettings),
            "{kind:#x}"
        );
    }
    assert_eq!(refused_behind(&[settings_of(&[])]), Some(Http3ErrorCode::FrameUnexpected));
}

#[test]
fn settings_come_once_each_and_none_is_of_http_2() {
    for identifier in 0x2..=0x5 {
        assert_eq!(refused(&settings_of(&[(identifier, 0)])), Some(Http3ErrorCode::SettingsError));
    }
    assert_eq!(
        refused(&settings_of(&[(0x6, 1), (0x21, 1), (0x6, 1)])),
        Some(Http3ErrorCode::SettingsError)
    );
    let many: Vec<_> = (0..1000).map(|nth| (0x40 + nth, 1)).collect();
    assert_eq!(refused(&settings_of(&many)), None);
    assert_eq!(
        refused(&settings_of(&[&many[..], &[(0x40, 2)]].concat())),
        Some(Http3ErrorCode::SettingsError)
    );
}

#[test]
fn settings_that_end_within_one_are_no_frame() {
    for payload in [&[0x6][..], &[0x46], &[0x6, 0x40], &[0x6, 0, 0x1]] {
        assert_eq!(
            refused(&framed(SETTINGS, payload)),
            Some(Http3ErrorCode::FrameError),
            "{payload:?}"
        );
    }
}

#[test]
fn more_settings_than_anybody_has_are_refused_before_they_come() {
    let settings = framed(SETTINGS, &[0x21; 4097]);
    assert_eq!(refused(&settings[..3]), Some(Http3ErrorCode::ExcessiveLoad));
    assert_eq!(
        refused(&[4, 0xe0, 0, 0, 0, 0, 0, 0, 0]),
        Some(Http3ErrorCode::ExcessiveLoad),
        "2^61 bytes"
    );
}

#[test]
fn what_is_said_behind_settings_has_the_length_of_its_integer() {
    for kind in [GOAWAY, MAX_PUSH_ID, CANCEL_PUSH] {
        for payload in [&[][..], &[0x40], &[1, 1], &[0; 8], &[0; 9]] {
            assert_eq!(
                refused_behind(&[framed(kind, payload)]),
                Some(Http3ErrorCode::FrameError),
                "{kind:#x} {payload:?}"
            );
        }
    }
    for kind in [GOAWAY, MAX_PUSH_ID] {
        assert_eq!(refused_behind(&[framed(kind, &[1])]), None);
        assert_eq!(refused_behind(&[framed(kind, &[0xc0, 0, 0, 0, 0, 0, 0, 1])]), None);
    }
}

#[test]
fn identifiers_go_their_way_and_were_given_before() {
    let goaway = |id| framed(GOAWAY, &[id]);
    let max_push = |id| framed(MAX_PUSH_ID, &[id]);
    assert_eq!(refused_behind(&[goaway(8), goaway(8), goaway(4)]), None);
    assert_eq!(refused_behind(&[goaway(4), goaway(8)]), Some(Http3ErrorCode::IdError));
    assert_eq!(refused_behind(&[max_push(4), max_push(4), max_push(8)]), None);
    assert_eq!(refused_behind(&[max_push(8), max_push(4)]), Some(Http3ErrorCode::IdError));
    assert_eq!(refused_behind(&[framed(CANCEL_PUSH, &[0])]), Some(Http3ErrorCode::IdError));
}

#[test]
fn frames_of_requests_of_servers_and_of_http_2_are_unexpected() {
    for kind in [0x0, 0x1, 0x2, 0x5, 0x6, 0x8, 0x9] {
        assert_eq!(
            refused_behind(&[framed(kind, &[0])]),
            Some(Http3ErrorCode::FrameUnexpected),
            "{kind:#x}"
        );
    }
}

#[test]
fn frames_of_unknown_types_are_passed_over_and_kept_nowhere() {
    let unknown = framed(0x21, &[0; 100]);
    assert_eq!(
        refused_behind(&[unknown.clone(), framed(0x21, &[]), framed(GOAWAY, &[0]), unknown]),
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
