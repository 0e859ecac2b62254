//! The HTTP/1 front: what any bytes are answered with, in whatever pieces they come.
//! How many requests they are is judged by `httparse` alone.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use httparse::{EMPTY_HEADER, Header, Status};

use super::{AUDIENCE, ISSUER, SECRET, signed};
use crate::front::{Answer, Front, Heard};

/// Any bytes as what a client sends. The first of them says how large the pieces are
/// in which the others come the second time.
pub fn http1(data: &[u8]) {
    let Some((piece, bytes)) = data.split_first() else { return };
    let asked = Asked::read(bytes);
    let (answers, is_closed) = hear(bytes, bytes.len(), &asked);

    assert_eq!(
        answers.iter().position(Answer::closes),
        is_closed.then(|| answers.len() - 1),
        "the last one says so"
    );
    if is_closed {
        assert!(answers.len() <= asked.whole.len() + 1, "more answers than requests");
    } else {
        assert_eq!(answers.len(), asked.whole.len(), "one answer for each request");
    }
    for (answer, request) in answers.iter().zip(&asked.whole) {
        assert_deserved(answer, &request.bytes);
    }

    // Not too many of them, so that long inputs are tried as often as short ones.
    let piece = usize::from(*piece).max(bytes.len() / 64);
    let (in_pieces, is_closed_too) = hear(bytes, piece, &asked);
    match asked.unread {
        // Whether the connection is kept hangs on how much of a body that nobody
        // reads has come.
        Some(count) => assert_eq!(in_pieces.get(..count), answers.get(..count)),
        None => assert_eq!((in_pieces, is_closed_too), (answers, is_closed)),
    }
}

thread_local! {
    static FRONT: Front = Front::new(&configuration());
    pub(super) static TOKEN: Vec<u8> = token();
}

/// One issuer, whose secret is known.
pub(super) fn configuration() -> String {
    format!(
        "[auth_jwt_fuzz]\nalgorithm=HS256\nsign=true\nexpire=0\nclient_types=api\nkey={}\nissuer={ISSUER}\naudience={AUDIENCE}\n{}",
        URL_SAFE_NO_PAD.encode(SECRET),
        crate::binary::NO_BUDGETS
    )
}

/// The only token that the corpus has and that is good.
fn token() -> Vec<u8> {
    let claims = format!(
        r#"{{"iss":"{ISSUER}","aud":"{AUDIENCE}","sub":"someone","urn:inmanta:ct":["api"]}}"#
    );
    signed(br#"{"alg":"HS256"}"#, claims.as_bytes())
}

/// The final answers to bytes that come in pieces of this size, and whether the
/// connection was closed. A word in between is not said when it is not needed.
fn hear(bytes: &[u8], piece: usize, asked: &Asked) -> (Vec<Answer>, bool) {
    let heard: Heard = FRONT.with(|front| front.hear(bytes.chunks(piece.max(1))));
    let mut answers =
        heard.answers(|nth| asked.whole.get(nth).is_some_and(|request| request.is_head));
    answers.retain(|answer| answer.status != 100);
    (answers, heard.is_closed)
}

fn assert_deserved(answer: &Answer, request: &[u8]) {
    const STATUSES: [u16; 12] = [200, 400, 401, 403, 404, 405, 413, 414, 431, 501, 503, 505];
    assert!(STATUSES.contains(&answer.status), "{answer:?}");
    let has_token = TOKEN.with(|token| request.windows(token.len()).any(|window| window == token));
    let tells = answer
        .headers
        .iter()
        .any(|(name, value)| name.starts_with("x-auth-") && value.contains("someone"));
    assert!(!tells || (has_token && answer.status == 200), "an identity for no token: {answer:?}");
    // A token can be escaped in a body.
    let is_escaped = request.contains(&b'%') || request.contains(&b'\\');
    let is_verified = answer.body.starts_with(br#"{"ok":true"#);
    assert!(!is_verified || has_token || is_escaped, "claims for no token: {answer:?}");
}

/// The requests that bytes are, for a reader that forgives much.
struct Asked {
    /// Those that are there with their bodies.
    whole: Vec<Request>,
    /// How many come before one with a body that nobody reads.
    unread: Option<usize>,
}

struct Request {
    is_head: bool,
    /// Head and body, the chunks put together.
    bytes: Vec<u8>,
}

impl Asked {
    fn read(bytes: &[u8]) -> Self {
        let (mut asked, mut start) = (Self { whole: Vec::new(), unread: None }, 0);
        loop {
            let mut lines = [EMPTY_HEADER; 100];
            let mut request = httparse::Request::new(&mut lines);
            let Ok(Status::Complete(head)) = request.parse(&bytes[start..]) else { return asked };
            let path = request.path.and_then(|path| path.split('?').next());
            let is_read =
                request.method == Some("POST") && matches!(path, Some("/v1/verify" | "/v1/revoke"));
            let lines = &*request.headers;
            let has_body = lines
                .iter()
                .any(|line| is(line, "content-length") || is(line, "transfer-encoding"));
            if has_body && !is_read {
                asked.unread.get_or_insert(asked.whole.len());
            }
            let (head, rest) = bytes[start..].split_at(head);
            let Some((body, length)) = body(lines, rest) else { return asked };
            start += head.len() + length;
            asked.whole.push(Request {
                is_head: request.method == Some("HEAD"),
                bytes: [head, &body].concat(),
            });
        }
    }
}

fn is(line: &Header<'_>, name: &str) -> bool {
    line.name.eq_ignore_ascii_case(name)
}

/// The body at the start of `rest`, and how many bytes of it that takes; `None` if it
/// is not all there.
fn body(lines: &[Header<'_>], rest: &[u8]) -> Option<(Vec<u8>, usize)> {
    if lines.iter().any(|line| is(line, "transfer-encoding")) {
        return chunks(rest);
    }
    let Some(line) = lines.iter().find(|line| is(line, "content-length")) else {
        return Some((Vec::new(), 0));
    };
    let length = str::from_utf8(line.value).ok()?.trim().parse().ok()?;
    Some((rest.get(..length)?.to_vec(), length))
}

fn chunks(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut body, mut rest) = (Vec::new(), bytes);
    loop {
        let Ok(Status::Complete((line, size))) = httparse::parse_chunk_size(rest) else {
            return None;
        };
        let chunk = rest.get(line..line.checked_add(usize::try_from(size).ok()?)?)?;
        body.extend_from_slice(chunk);
        rest = rest[line + chunk.len()..].strip_prefix(b"\r\n")?;
        if size == 0 {
            return Some((body, bytes.len() - rest.len()));
        }
    }
}
