//! External authorization over gRPC, in the test process. The partial decoder agrees with `prost`,
//! and a check allocates no more than its response.

use std::net::{IpAddr, Ipv4Addr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use countersign_front::{Peer, Step};
use countersign_server::{
    app::AppService,
    auth::grpc::check_request::CheckRequest,
    base::{reply::Reply, route::Route},
    observe::metrics::MetricEvent,
};
use countersign_tests::{
    allocations::{CountingAllocator, allocation_count},
    engine::{AUDIENCE, HEADER, ISSUER, SECRET, claims, token},
    front,
    fuzz::assert_same,
    grpc::{self, CheckOutcome, check_request, check_with_header_map, framed},
};
use envoy_types::pb::{
    envoy::{
        config::core::v3::{
            Address, HeaderMap, HeaderValue, Pipe, SocketAddress, address::Address as Kind,
        },
        service::auth::v3::{
            self as envoy, AttributeContext,
            attribute_context::{HttpRequest, Peer as Source, Request},
        },
    },
    google::protobuf::Timestamp,
};
use proptest::{collection::vec, option, prelude::*};
use prost::Message as _;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Header lines of a browser behind a proxy.
const USUAL: [(&str, &str); 14] = [
    (":authority", "shop.example"),
    (":method", "GET"),
    (":path", "/page?x=1"),
    (":scheme", "https"),
    ("accept", "text/html,application/xhtml+xml"),
    ("accept-encoding", "gzip, deflate, br"),
    ("accept-language", "en"),
    ("cookie", "a=b; c=d"),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64)"),
    ("x-auth-user", "root"),
    ("x-auth-tenant", "root"),
    ("x-forwarded-for", "203.0.113.9"),
    ("x-forwarded-proto", "https"),
    ("x-request-id", "b7d7a8e2-61d8-4f31-9f7e-2a3c0d5a7c55"),
];

/// Returns the number of allocations of a check, whether its token was cached, and the outcome.
fn measure(envoy: &envoy::CheckRequest) -> (u64, bool, CheckOutcome) {
    let app = front::app(&format!(
        "[auth_jwt_test]\nalgorithm=HS256\nsign=true\nexpire=0\nclient_types=api\nkey={}\nissuer={ISSUER}\naudience={AUDIENCE}\n\
         [listen]\ntrusted_proxies=192.0.2.0/24\n",
        URL_SAFE_NO_PAD.encode(SECRET)
    ));
    let service = AppService::new(app, 0);
    let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    let peer = Peer { address, listener: 0, certificates: &[], tls: None };
    let body = Bytes::from(framed(&envoy.encode_to_vec()));
    let ask = || -> Reply {
        match service.call_grpc(peer, Route::Check, &body, None) {
            Step::Done(reply) => reply,
            Step::Wait(_) => panic!("the key is configured"),
        }
    };
    // The first call allocates thread-local buffers, the second finds the token in the cache.
    drop((ask(), ask()));
    let (hits_before, before) =
        (service.app.authenticator.metrics.event_count(MetricEvent::CacheHit), allocation_count());
    let reply = ask();
    let (count, is_cached) = (
        allocation_count() - before,
        service.app.authenticator.metrics.event_count(MetricEvent::CacheHit) > hits_before,
    );
    (
        count,
        is_cached,
        CheckOutcome::of(envoy::CheckResponse::decode(&reply.response.body()[5..]).unwrap()),
    )
}

#[test]
fn check_of_cached_token_allocates_only_the_response() {
    let authorization = format!("Bearer {}", token(HEADER, claims("")));
    let lines =
        [&USUAL[..], &[("authorization", &authorization), ("x_auth_user", "root")]].concat();
    for envoy in [check_request(&lines), check_with_header_map(&lines)] {
        let (count, is_cached, outcome) = measure(&grpc::with_source(envoy, "203.0.113.9", ""));
        assert_eq!(
            (outcome.status, outcome.removed.contains(&"x_auth_user".to_owned())),
            (200, true)
        );
        assert_eq!((is_cached, count), (true, 1), "{outcome:?}");
    }
}

#[test]
fn check_refusal_allocates_three_times() {
    for authorization in ["Bearer abc", "Basic abc", ""] {
        let lines = [&USUAL[..], &[("authorization", authorization)]].concat();
        let (count, _, outcome) = measure(&check_request(&lines));
        assert_eq!(outcome.status, 401);
        // Two for the map of header lines, as in `/auth`, and one for the response.
        assert_eq!(count, 3, "{outcome:?}");
    }
}

#[test]
fn check_with_over_1024_headers_is_refused() {
    let authorization = format!("Bearer {}", token(HEADER, claims("")));
    let lines = |others: usize| {
        [vec![("x-other", "1"); others], vec![("authorization", authorization.as_str())]].concat()
    };
    assert_eq!(measure(&check_request(&lines(1023))).2.status, 200);
    let (_, _, outcome) = measure(&check_request(&lines(1024)));
    assert_eq!((outcome.status, outcome.removed.is_empty()), (431, true), "{outcome:?}");
}

/// Usual and unusual texts.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        ".{0,12}",
        Just(String::new()),
        "[a-z-]{1,20}",
        Just("authorization".to_owned()),
        "x{120,300}"
    ]
}

fn line() -> impl Strategy<Value = HeaderValue> {
    let value = prop_oneof![
        text().prop_map(|value| (value, Vec::new())),
        vec(any::<u8>(), 0..20).prop_map(|raw_value| (String::new(), raw_value))
    ];
    (text(), value).prop_map(|(key, (value, raw_value))| HeaderValue { key, value, raw_value })
}

fn http() -> impl Strategy<Value = HttpRequest> {
    let texts = (text(), text(), text(), text(), text());
    let headers = proptest::collection::hash_map(text(), text(), 0..5);
    let header_map = option::of(vec(line(), 0..8).prop_map(|headers| HeaderMap { headers }));
    // Fields that Countersign skips.
    let others = (any::<i64>(), text(), vec(any::<u8>(), 0..30));
    (texts, headers, header_map, others).prop_map(
        |(texts, headers, header_map, (size, protocol, raw_body))| {
            let (id, method, path, host, scheme) = texts;
            HttpRequest {
                id,
                method,
                path,
                host,
                scheme,
                headers,
                header_map,
                size,
                protocol,
                raw_body,
                ..HttpRequest::default()
            }
        },
    )
}

fn peer() -> impl Strategy<Value = Source> {
    let socket = (text(), any::<i32>()).prop_map(|(address, protocol)| {
        Kind::SocketAddress(SocketAddress { address, protocol, ..SocketAddress::default() })
    });
    let pipe = (text(), any::<u32>()).prop_map(|(path, mode)| Kind::Pipe(Pipe { path, mode }));
    let address =
        option::of(option::of(prop_oneof![socket, pipe]).prop_map(|address| Address { address }));
    let labels = proptest::collection::hash_map(text(), text(), 0..3);
    (address, text(), labels, text(), text()).prop_map(
        |(address, service, labels, principal, certificate)| Source {
            address,
            service,
            labels,
            principal,
            certificate,
        },
    )
}

/// Boxed, because nested strategies take megabytes of the stack without optimizations.
fn check_requests() -> BoxedStrategy<envoy::CheckRequest> {
    let time = option::of(
        (any::<i64>(), any::<i32>()).prop_map(|(seconds, nanos)| Timestamp { seconds, nanos }),
    );
    let request =
        (time, option::of(http().boxed())).prop_map(|(time, http)| Request { time, http });
    let request = request.boxed();
    let extensions = proptest::collection::hash_map(text(), text(), 0..3);
    let peers = [peer(), peer()].map(|peer| option::of(peer.boxed()));
    let [source, destination] = peers;
    let attributes = (source, destination, option::of(request), extensions);
    let attributes = attributes.prop_map(|(source, destination, request, context_extensions)| {
        AttributeContext {
            source,
            destination,
            request,
            context_extensions,
            ..AttributeContext::default()
        }
    });
    let attributes = option::of(attributes.boxed());
    attributes.prop_map(|attributes| envoy::CheckRequest { attributes }).boxed()
}

proptest! {
    #[test]
    fn check_encoded_by_prost_decodes_alike(check_request in check_requests()) {
        let bytes = check_request.encode_to_vec();
        assert_same(&CheckRequest::read(&bytes).unwrap(), &check_request);
    }

    #[test]
    fn check_damaged_is_refused_or_decodes_alike(
        check_request in check_requests(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = check_request.encode_to_vec();
        for (index, byte) in damage {
            if !bytes.is_empty() {
                let index = index.index(bytes.len());
                bytes[index] = byte;
            }
        }
        if let (Ok(ours), Ok(theirs)) = (CheckRequest::read(&bytes), envoy::CheckRequest::decode(&*bytes)) {
            assert_same(&ours, &theirs);
        }
    }
}
