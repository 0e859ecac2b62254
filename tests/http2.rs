//! HPACK interoperability: field sections encoded by `h2` decode to the original lines, through
//! all insertions into and evictions from the dynamic table.

use bytes::Bytes;
use countersign_front::{
    RequestLimits,
    fields::section::SectionBuffer,
    http2::hpack::{self, DynamicTable},
};
use countersign_tests::frames::{Frame, flag, kind};
use h2::client::{self, SendRequest};
use http::{HeaderName, HeaderValue, Request};
use proptest::{collection::vec, prelude::*};
use tokio::io::{AsyncReadExt as _, DuplexStream};

/// Limits that no generated section reaches.
const LIMITS: RequestLimits = RequestLimits { head_bytes: 1 << 20, header_lines: 1000 };

/// Header line: name, value, and whether it is sensitive (never indexed).
type GeneratedLine = (String, Vec<u8>, bool);

/// Generated request.
#[derive(Clone, Debug)]
struct GeneratedRequest {
    path: String,
    lines: Vec<GeneratedLine>,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn hpack_sections_of_h2_decode_to_the_same_lines(requests in vec(generated_request(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (expected, sections) = runtime.block_on(encode_with_h2(&requests));
        let (mut table, mut room) = (DynamicTable::default(), SectionBuffer::default());
        prop_assert_eq!(expected.len(), sections.len());
        for (expected, section) in expected.iter().zip(&sections) {
            let Ok(read) = hpack::read(&mut table, &mut room, section, &LIMITS) else { panic!("section does not decode: {section:02x?}") };
            let lines: Vec<_> = read.lines().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
            prop_assert_eq!(&lines, expected);
        }
    }
}

/// Strategy with few names and values, so that they repeat, and some that fill the table.
fn generated_request() -> impl Strategy<Value = GeneratedRequest> {
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
    ("/[!-\"$-;=@-Z_a-z~]{0,30}", vec(line, 0..12))
        .prop_map(|(path, lines)| GeneratedRequest { path, lines })
}

type Lines = Vec<(Vec<u8>, Vec<u8>)>;

/// Returns the lines of the requests in order, and the field sections that `h2` encodes.
async fn encode_with_h2(generated: &[GeneratedRequest]) -> (Vec<Lines>, Vec<Vec<u8>>) {
    let (ours, mut theirs) = tokio::io::duplex(1 << 24);
    let (mut sender, connection): (SendRequest<Bytes>, _) = client::handshake(ours).await.unwrap();
    let encoding = async {
        let mut expected = Vec::new();
        let mut streams = Vec::new();
        for one in generated {
            let Ok(request) = request(one) else { continue };
            let lines = request.headers().iter().map(|(name, value)| {
                (name.as_str().as_bytes().to_vec(), value.as_bytes().to_vec())
            });
            let pseudo = [
                (":method", "GET"),
                (":scheme", "http"),
                (":authority", "t"),
                (":path", &one.path),
            ];
            let pseudo =
                pseudo.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
            expected.push(pseudo.into_iter().chain(lines).collect::<Lines>());
            sender = sender.clone().ready().await.unwrap();
            // Kept, because dropping a stream would reset it.
            streams.push(sender.send_request(request, true).unwrap());
        }
        let sections = sections(&mut theirs, expected.len()).await;
        (expected, sections)
    };
    tokio::select! {
        result = encoding => result,
        ended = connection => panic!("h2 closed the connection: {ended:?}"),
    }
}

fn request(generated: &GeneratedRequest) -> Result<Request<()>, http::Error> {
    let mut request = Request::get(format!("http://t{}", generated.path)).body(())?;
    for (name, value, is_secret) in &generated.lines {
        let mut value = HeaderValue::from_bytes(value)?;
        value.set_sensitive(*is_secret);
        // h2 rejects these headers.
        if !["connection", "upgrade", "te", "host"].contains(&name.as_str()) {
            request.headers_mut().append(HeaderName::from_bytes(name.as_bytes())?, value);
        }
    }
    Ok(request)
}

/// Reads the first `count` field sections after the preface.
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
