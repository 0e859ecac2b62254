//! The front alone: a service that returns what the front read. `httparse` reads the same bytes
//! independently, so a request that both delimit differently is found.

use countersign_front::{
    BadRequest, IncomingRequest, Peer, PendingRequest, Reply, ReplyFuture, RequestHead,
    RequestLimits, ResponseWriter, Service, Step, Timeouts, WorkerContext,
};
use http::{Response, Version};

use super::http1::{ParsedRequest, ParsedRequests};
use crate::front::{Front, ParsedResponse};

const MAX_BODY_BYTES: usize = 4096;

/// Fuzz target: any bytes as the input of a connection. They are sent at once, and again in pieces
/// of a size given by the first byte.
pub fn front(data: &[u8]) {
    let Some((piece, bytes)) = data.split_first() else { return };
    let requests = ParsedRequests::read(bytes, |_request| true);
    let whole = exchange(bytes, bytes.len(), &requests);
    let echoed = whole.iter().take_while(|response| response.status == 200).count();
    assert!(echoed <= requests.whole.len(), "more responses than requests");
    assert!(whole.len() <= echoed + 1, "a connection goes on after a request that is refused");
    for (response, request) in whole[..echoed].iter().zip(&requests.whole) {
        assert_echoed(response, request);
    }

    // Limits the number of pieces, so that long inputs are not slower than short ones.
    let piece = usize::from(*piece).max(bytes.len() / 64);
    assert_eq!(exchange(bytes, piece, &requests), whole, "pieces do not change the responses");
}

thread_local! {
    static FRONT: Front<EchoService> = Front::serving(WorkerContext::new(
        EchoService,
        0,
        Timeouts::default(),
        RequestLimits::default(),
    ));
}

/// Returns the final responses to bytes in pieces of this size.
fn exchange(bytes: &[u8], piece: usize, requests: &ParsedRequests) -> Vec<ParsedResponse> {
    let output = FRONT.with(|front| front.exchange(bytes.chunks(piece.max(1))));
    let mut responses = output.responses(|index| requests.is_head(index));
    responses.retain(|response| response.status != 100);
    responses
}

fn assert_echoed(response: &ParsedResponse, request: &ParsedRequest) {
    let (head, body) = request.bytes.split_at(request.head_length);
    let method = head.trim_ascii_start().split(|byte| *byte == b' ').next().unwrap_or_default();
    let expected = [method, b"\n", body].concat();
    assert!(
        request.is_head || response.body == expected,
        "the front reads a request differently: {response:?}, expected {}",
        expected.escape_ascii()
    );
}

/// Responds with the method and the body.
struct EchoService;

impl Service for EchoService {
    type Settings = ();
    type Route = ();
    type Pending<'c> = EchoRequest;

    fn settings(&self) {}

    fn route(&self, (): &(), _listener: usize, _target: &str) {}

    fn reads_body<H: RequestHead>(_request: &IncomingRequest<'_, '_, Self, H>) -> bool {
        true
    }

    fn respond<'c, H: RequestHead>(
        request: &IncomingRequest<'_, 'c, Self, H>,
        _writer: &mut impl ResponseWriter,
    ) -> Result<Step<(), EchoRequest>, BadRequest> {
        Ok(Step::Wait(EchoRequest { method: request.head.method().to_owned() }))
    }

    fn reject(&self, _peer: Peer<'_>, _version: Version, reason: &BadRequest) -> Reply {
        let mut response = Response::new(reason.detail.clone().into_owned().into());
        *response.status_mut() = reason.status;
        response.into()
    }
}

/// A request whose body has not been received.
struct EchoRequest {
    method: String,
}

impl<'c> PendingRequest<'c> for EchoRequest {
    fn max_body_bytes(&self) -> usize {
        MAX_BODY_BYTES
    }

    fn held_bytes(&self) -> usize {
        size_of::<Self>() + self.method.len()
    }

    fn refuse(self, reason: &BadRequest) -> Reply {
        let peer =
            Peer { address: crate::front::CLIENT, listener: 0, certificates: &[], tls: None };
        EchoService.reject(peer, Version::HTTP_11, reason)
    }

    fn respond(self, body: &[u8], writer: &mut impl ResponseWriter) -> Step<(), ReplyFuture<'c>> {
        let echo = [self.method.as_bytes(), b"\n", body].concat();
        writer.reply(&Response::new(echo.into()).into());
        Step::Done(())
    }
}
