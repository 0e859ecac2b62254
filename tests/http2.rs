//! What another implementation of HTTP/2 writes is read as it was meant: its field
//! sections, whatever it has us remember and forget.

use bytes::Bytes;
use countersign_server::listen::{
    fields::section::SectionBuffer,
    http2::hpack::{self, DynamicTable},
};
use countersign_tests::frames::{Frame, flag, kind};
use h2::client::{self, SendRequest};
use http::{HeaderName, HeaderValue, Request};
use proptest::{collection::vec, prelude::*};
use tokio::io::{AsyncReadExt as _, DuplexStream};

/// A line of a request, and whether it is a secret.
type GeneratedLine = (String, Vec<u8>, bool);

#[derive(Clone, Debug)]
struct GeneratedRequest {
    path: String,
    lines: Vec<GeneratedLine>,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn what_h2_writes_is_read_as_it_was_meant(asked in vec(asked(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (expected, sections) = runtime.block_on(written(&asked));
        let (mut table, mut room) = (DynamicTable::default(), SectionBuffer::default());
        prop_assert_eq!(expected.len(), sections.len());
        for (expected, section) in expected.iter().zip(&sections) {
            let Ok(read) = hpack::read(&mut table, &mut room, section, 1 << 20) else { panic!("not read: {section:02x?}") };
            let lines: Vec<_> = read.lines().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
            prop_assert_eq!(&lines, expected);
        }
    }
}

/// Few names and values, so that they come again, and some that fill the table.
fn asked() -> impl Strategy<Value = GeneratedRequest> {
    let name = prop_oneof![
        "x-[a-d]",
        "[a-z][a-z0-9-]{0,40}",
        Just("cookie".to_owned()),
        Just("authorization".to_owned()),
        Just("user-agent".to_owned()),
        Just("accept-encoding".to_owned()),
    ];
    let value = prop_oneof![
        "[a-c]{0,2}".prop_map(String::into_bytes),
        "[ -~]{0,60}".prop_map(String::into_bytes),
        vec(prop_oneof![Just(b'\t'), 0x20..=0x7e_u8, 0x80..=0xff_u8], 0..200),
        (0..4000_usize).prop_map(|length| vec![b'v'; length]),
    ];
    let line = (name, value, any::<bool>());
    ("/[!-\"$-;=@-Z_a-z~]{0,30}", vec(line, 0..12)).prop_map(|(path, lines)| GeneratedRequest { path, lines })
}

type Lines = Vec<(Vec<u8>, Vec<u8>)>;

/// What requests say, in order, and the sections that h2 makes of them.
async fn written(asked: &[GeneratedRequest]) -> (Vec<Lines>, Vec<Vec<u8>>) {
    let (ours, mut theirs) = tokio::io::duplex(1 << 24);
    let (mut requests, connection): (SendRequest<Bytes>, _) =
        client::handshake(ours).await.unwrap();
    let writing = async {
        let mut expected = Vec::new();
        let mut streams = Vec::new();
        for asked in asked {
            let Ok(request) = request(asked) else { continue };
            let lines = request.headers().iter().map(|(name, value)| {
                (name.as_str().as_bytes().to_vec(), value.as_bytes().to_vec())
            });
            let pseudo = [
                (":method", "GET"),
                (":scheme", "http"),
                (":authority", "t"),
                (":path", &asked.path),
            ];
            let pseudo =
                pseudo.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
            expected.push(pseudo.into_iter().chain(lines).collect::<Lines>());
            requests = requests.clone().ready().await.unwrap();
            // Kept, so that none is taken back.
            streams.push(requests.send_request(request, true).unwrap());
        }
        let sections = sections(&mut theirs, expected.len()).await;
        (expected, sections)
    };
    tokio::select! {
        written = writing => written,
        ended = connection => panic!("h2 has ended: {ended:?}"),
    }
}

fn request(asked: &GeneratedRequest) -> Result<Request<()>, http::Error> {
    let mut request = Request::get(format!("http://t{}", asked.path)).body(())?;
    for (name, value, is_secret) in &asked.lines {
        let mut value = HeaderValue::from_bytes(value)?;
        value.set_sensitive(*is_secret);
        // These are not for h2 to send.
        if !["connection", "upgrade", "te", "host"].contains(&name.as_str()) {
            request.headers_mut().append(HeaderName::from_bytes(name.as_bytes())?, value);
        }
    }
    Ok(request)
}

/// The first field sections behind the preface.
async fn sections(stream: &mut DuplexStream, count: usize) -> Vec<Vec<u8>> {
    const PREFACE: usize = 24;
    let (mut bytes, mut sections, mut block) = (Vec::new(), Vec::new(), Vec::new());
    let mut at = PREFACE;
    while sections.len() < count {
        assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0);
        while let Some((frame, length)) = bytes.get(at..).and_then(Frame::read) {
            at += length;
            if matches!(frame.kind, kind::HEADERS | kind::CONTINUATION) {
                block.extend(frame.payload);
                if frame.flags & flag::END_HEADERS != 0 {
                    sections.push(std::mem::take(&mut block));
                }
            }
        }
    }
    sections
}
