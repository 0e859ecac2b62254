//! The HTTP/1 front: responses to any bytes, received in any pieces. `httparse` counts the
//! expected requests independently.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use httparse::{EMPTY_HEADER, Header, Status};

use super::{AUDIENCE, ISSUER, SECRET, signed};
use crate::front::{ConnectionOutput, Front, ParsedResponse};

/// The default of `max_header_lines`.
const MAX_LINES: usize = 200;

/// Fuzz target: any bytes as the input of a connection. They are sent at once, and again in pieces
/// of a size given by the first byte.
pub fn http1(data: &[u8]) {
    let Some((piece, bytes)) = data.split_first() else { return };
    let requests = ParsedRequests::read(bytes, is_body_read);
    let (responses, is_closed) = exchange(bytes, bytes.len(), &requests);

    assert_eq!(
        responses.iter().position(ParsedResponse::closes),
        is_closed.then(|| responses.len() - 1),
        "exactly the last response closes"
    );
    if is_closed {
        assert!(responses.len() <= requests.whole.len() + 1, "more responses than requests");
    } else {
        assert_eq!(responses.len(), requests.whole.len(), "one response per request");
    }
    for (response, request) in responses.iter().zip(&requests.whole) {
        assert_allowed_response(response, &request.bytes);
    }

    // Limits the number of pieces, so that long inputs are not slower than short ones.
    let piece = usize::from(*piece).max(bytes.len() / 64);
    let (in_pieces, is_closed_too) = exchange(bytes, piece, &requests);
    match requests.unread {
        // Whether the connection stays open depends on how much of an unread body has arrived.
        Some(count) => assert_eq!(in_pieces.get(..count), responses.get(..count)),
        None => assert_eq!((in_pieces, is_closed_too), (responses, is_closed)),
    }
}

thread_local! {
    static FRONT: Front = Front::new(&configuration());
    pub(super) static TOKEN: Vec<u8> = token();
}

/// Configuration of one issuer with the known [`SECRET`].
pub(super) fn configuration() -> String {
    format!(
        "[auth_jwt_fuzz]\nalgorithm=HS256\nsign=true\nexpire=0\nclient_types=api\nkey={}\nissuer={ISSUER}\naudience={AUDIENCE}\n{}",
        URL_SAFE_NO_PAD.encode(SECRET),
        crate::binary::NO_BUDGETS
    )
}

/// Makes the only valid token of the corpus.
fn token() -> Vec<u8> {
    let claims = format!(
        r#"{{"iss":"{ISSUER}","aud":"{AUDIENCE}","sub":"someone","urn:inmanta:ct":["api"]}}"#
    );
    signed(br#"{"alg":"HS256"}"#, claims.as_bytes())
}

/// Returns the final responses to bytes in pieces of this size, and whether the connection was
/// closed. Interim responses (100) are left out, because they depend on the pieces.
fn exchange(bytes: &[u8], piece: usize, requests: &ParsedRequests) -> (Vec<ParsedResponse>, bool) {
    let output: ConnectionOutput = FRONT.with(|front| front.exchange(bytes.chunks(piece.max(1))));
    let mut responses = output.responses(|index| requests.is_head(index));
    responses.retain(|response| response.status != 100);
    (responses, output.is_closed)
}

fn assert_allowed_response(response: &ParsedResponse, request: &[u8]) {
    const STATUSES: [u16; 12] = [200, 400, 401, 403, 404, 405, 413, 414, 431, 501, 503, 505];
    assert!(STATUSES.contains(&response.status), "{response:?}");
    let has_token = TOKEN.with(|token| request.windows(token.len()).any(|window| window == token));
    let has_identity = response
        .headers
        .iter()
        .any(|(name, value)| name.starts_with("x-auth-") && value.contains("someone"));
    assert!(
        !has_identity || (has_token && response.status == 200),
        "an identity without a token: {response:?}"
    );
    // A body may contain the token in escaped form.
    let is_escaped = request.contains(&b'%') || request.contains(&b'\\');
    let is_verified = response.body.starts_with(br#"{"ok":true"#);
    assert!(!is_verified || has_token || is_escaped, "claims without a token: {response:?}");
}

/// Returns whether the server reads the body of a request. No client may revoke, so that the body
/// of `/v1/revoke` is not read.
fn is_body_read(request: &httparse::Request<'_, '_>) -> bool {
    let path = request.path.and_then(|path| path.split('?').next());
    request.method == Some("POST") && path == Some("/v1/verify")
}

/// Requests in the input, as parsed by the lenient `httparse`.
#[derive(Default)]
pub(super) struct ParsedRequests {
    /// Requests with complete bodies.
    pub(super) whole: Vec<ParsedRequest>,
    /// Number of requests before the first with a body that the server does not read.
    unread: Option<usize>,
    /// Whether they are followed by a HEAD request with an incomplete or malformed body.
    is_head_cut: bool,
}

/// One complete request.
pub(super) struct ParsedRequest {
    pub(super) is_head: bool,
    /// Head and decoded body.
    pub(super) bytes: Vec<u8>,
    /// Length of the head in `bytes`.
    pub(super) head_length: usize,
}

impl ParsedRequests {
    /// Returns whether the response with this index is to a HEAD request.
    pub(super) fn is_head(&self, index: usize) -> bool {
        self.whole.get(index).map_or(self.is_head_cut, |request| request.is_head)
    }

    /// Parses all complete requests. `is_read` returns whether the body of one is read.
    pub(super) fn read(bytes: &[u8], is_read: impl Fn(&httparse::Request<'_, '_>) -> bool) -> Self {
        let (mut requests, mut start) = (Self::default(), 0);
        loop {
            let mut lines = [EMPTY_HEADER; MAX_LINES];
            let mut request = httparse::Request::new(&mut lines);
            let Ok(Status::Complete(head)) = request.parse(&bytes[start..]) else {
                return requests;
            };
            let is_read = is_read(&request);
            let lines = &*request.headers;
            let has_body = lines
                .iter()
                .any(|line| is(line, "content-length") || is(line, "transfer-encoding"));
            if has_body && !is_read {
                requests.unread.get_or_insert(requests.whole.len());
            }
            let (head, rest) = bytes[start..].split_at(head);
            let Some((body, length)) = body(lines, rest) else {
                requests.is_head_cut = request.method == Some("HEAD");
                return requests;
            };
            start += head.len() + length;
            requests.whole.push(ParsedRequest {
                is_head: request.method == Some("HEAD"),
                bytes: [head, &body].concat(),
                head_length: head.len(),
            });
        }
    }
}

fn is(line: &Header<'_>, name: &str) -> bool {
    line.name.eq_ignore_ascii_case(name)
}

/// Returns the body at the start of `rest` and its encoded length, or `None` if it is incomplete.
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
        if size == 0 {
            let mut trailers = [EMPTY_HEADER; MAX_LINES];
            let Ok(Status::Complete((length, _))) =
                httparse::parse_headers(&rest[line..], &mut trailers)
            else {
                return None;
            };
            return Some((body, bytes.len() - rest.len() + line + length));
        }
        let chunk = rest.get(line..line.checked_add(usize::try_from(size).ok()?)?)?;
        body.extend_from_slice(chunk);
        rest = rest[line + chunk.len()..].strip_prefix(b"\r\n")?;
    }
}
