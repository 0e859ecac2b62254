//! Envoy's `CheckRequest` over gRPC. Countersign's partial decoder has to agree with `prost`,
//! which decodes every field, and every response has to be well-formed.

use std::collections::HashMap;

use bytes::Bytes;
use countersign_front::{Peer, Step};
use countersign_server::{
    app::AppService,
    auth::{
        grpc::check_request::{CheckRequest, TOO_MANY_HEADERS},
        message_headers::MessageHeader,
    },
    base::route::Route,
};
use envoy_types::pb::envoy::{
    config::core::v3::address,
    service::auth::v3::{self as envoy, attribute_context::HttpRequest},
};
use prost::Message as _;

use super::http1::{TOKEN, configuration};
use crate::{
    front::{self, CLIENT},
    grpc::{CheckOutcome, framed},
};

/// Fuzz target: any bytes as a `CheckRequest`.
pub fn check_request(data: &[u8]) {
    if let (Ok(ours), Ok(theirs)) = (CheckRequest::read(data), envoy::CheckRequest::decode(data)) {
        assert_same(&ours, &theirs);
    }
    let outcome = check(data);
    let (status, read) =
        (outcome.as_ref().map(|outcome| outcome.status), CheckRequest::read(data).map(drop));
    match read {
        Ok(()) => assert!([Some(200), Some(401)].contains(&status), "{outcome:?}"),
        Err(TOO_MANY_HEADERS) => assert_eq!(status, Some(431)),
        Err(_) => assert_eq!(status, None),
    }
    let has_token = TOKEN.with(|token| data.windows(token.len()).any(|window| window == token));
    assert!(
        has_token || outcome.is_none_or(|outcome| outcome.status != 200),
        "an identity without a token"
    );
}

/// Asserts that both decoders read the same request.
pub fn assert_same(ours: &CheckRequest<'_>, theirs: &envoy::CheckRequest) {
    let attributes = theirs.attributes.clone().unwrap_or_default();
    let source = attributes.source.unwrap_or_default();
    let address = match source.address.and_then(|address| address.address) {
        Some(address::Address::SocketAddress(socket)) => socket.address,
        _ => String::new(),
    };
    assert_eq!(ours.source.unwrap_or_default(), address.as_bytes());
    assert_eq!(ours.certificate, source.certificate.as_bytes());
    let http = attributes.request.and_then(|request| request.http).unwrap_or_default();
    let texts = [&http.id, &http.method, &http.path, &http.host, &http.scheme];
    assert_eq!(
        [ours.id, ours.method, ours.path, ours.host, ours.scheme],
        texts.map(|text| text.as_bytes())
    );
    assert_same_headers(ours, &http);
}

fn assert_same_headers(ours: &CheckRequest<'_>, http: &HttpRequest) {
    let listed = http.header_map.iter().flat_map(|map| &map.headers);
    let listed: Vec<_> = listed
        .map(|line| (line.key.as_bytes(), [line.value.as_bytes(), &line.raw_value].concat()))
        .collect();
    let lines: Vec<_> =
        ours.headers.iter().map(|MessageHeader { name, value }| (*name, value.to_vec())).collect();
    let (mapped, trailing) =
        lines.split_at(lines.len().checked_sub(listed.len()).expect("as many as there are"));
    assert_eq!(trailing, listed);
    // Countersign keeps duplicate map keys, prost keeps the last of them.
    let last: HashMap<_, _> =
        mapped.iter().map(|(name, value)| (*name, value.as_slice())).collect();
    let theirs: HashMap<_, _> =
        http.headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    assert_eq!(last, theirs);
}

/// Returns the outcome for an untrusted client, or `None` if the call fails with a gRPC error.
fn check(request: &[u8]) -> Option<CheckOutcome> {
    thread_local! {
        static SERVICE: AppService = AppService::new(front::app(&configuration()), 0);
    }
    let body = Bytes::from(framed(request));
    let reply = SERVICE.with(|service| {
        let peer = Peer { address: CLIENT, listener: 0, certificates: &[], tls: None };
        match service.call_grpc(peer, Route::Check, &body, None) {
            Step::Done(reply) => reply,
            Step::Wait(_) => panic!("no provider is configured to request keys from"),
        }
    });
    let response = || {
        envoy::CheckResponse::decode(&reply.response.body()[5..])
            .expect("the response is a CheckResponse")
    };
    reply.framing.map(|_| CheckOutcome::of(response()))
}
