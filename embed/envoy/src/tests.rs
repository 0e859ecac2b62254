//! The hooks, called as Envoy calls them, with a [`FakeStream`].

use std::{
    ptr,
    sync::{Arc, atomic::Ordering},
};

use countersign_server::embedding::CheckDecision;
use http::StatusCode;
use tempfile::TempDir;

use crate::{
    abi::{CONTINUE, STOP_ITERATION, TextBuffer},
    fake_envoy::{FakeStream, LOG, created},
    filter::{FilterConfig, FilterCounters},
    hooks::{
        StreamState, envoy_dynamic_module_on_http_filter_config_new as config_new,
        envoy_dynamic_module_on_http_filter_destroy as stream_destroy,
        envoy_dynamic_module_on_http_filter_new as stream_new,
        envoy_dynamic_module_on_http_filter_per_route_config_new as route_new,
        envoy_dynamic_module_on_http_filter_request_headers as request_headers,
        envoy_dynamic_module_on_program_init as program_init,
    },
    pending::PendingStream,
};

const CONFIGURATION: &str = "[auth_jwt_default]\nalgorithm=HS256\nclient_types=api\n\
                             key=rID3kG4OwGpajIsxnGDhat4UFcMkyFZQc1y3oKQTPRs\n\
                             issuer=i\naudience=a\n";

/// Creates a filter by the hook, from a configuration file with this text.
fn configured(text: &str) -> *const FilterConfig {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("auth.cfg");
    #[expect(clippy::disallowed_methods, reason = "a file of a test")]
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    config_new(ptr::null_mut(), TextBuffer::of(b"countersign"), TextBuffer::of(file.as_bytes()))
}

/// Passes the headers of a stream to a filter. Returns the status of the hook.
fn pass(config: *const FilterConfig, stream: &FakeStream) -> u32 {
    let state = stream_new(config.cast_mut(), stream.pointer());
    let state: *mut StreamState = state.cast_mut();
    let status = request_headers(stream.pointer(), state, true);
    stream_destroy(state);
    status
}

fn is_logged(text: &str) -> bool {
    LOG.lock().unwrap().iter().any(|line| line.contains(text))
}

#[test]
fn panic_in_a_hook_refuses_the_request() {
    assert!(!program_init().is_null());
    let config = configured(CONFIGURATION);
    assert!(!config.is_null());
    let good = FakeStream::get(&[]);
    assert_eq!((pass(config, &good), good.responses.borrow()[0].0), (STOP_ITERATION, 401));
    // No configuration has a listener with this index.
    let tier = created(config).tier.clone();
    let (metadata_claims, counters) = (Vec::new(), FilterCounters::default());
    let listener = 1000;
    let broken =
        FilterConfig { tier, listener, clear_route_cache: false, metadata_claims, counters };
    for _ in 0..3 {
        let stream = FakeStream::get(&[("authorization", "Bearer secret-token")]);
        assert_eq!(pass(&raw const broken, &stream), STOP_ITERATION);
        assert_eq!(stream.responses.borrow()[0].0, 500);
    }
    assert!(is_logged("countersign: defect at ") && !is_logged("secret-token"));
    let good = FakeStream::get(&[]);
    assert_eq!((pass(config, &good), good.responses.borrow()[0].0), (STOP_ITERATION, 401));
}

#[test]
fn route_that_is_off_removes_identity_headers() {
    let config = configured(CONFIGURATION);
    let off = route_new(TextBuffer::of(b"off"), TextBuffer::of(b""));
    let stream = FakeStream::get(&[("x-auth-user", "root"), ("x_auth_user", "root"), ("a", "b")]);
    stream.route.set(off.cast());
    assert_eq!(pass(config, &stream), CONTINUE);
    let left = ["x-auth-user", "x_auth_user", "a"].map(|name| stream.count(name));
    assert_eq!((left, stream.responses.borrow().len()), ([0, 0, 1], 0));
    // A header that stays would be an identity.
    let stream = FakeStream::get(&[("x-auth-user", "root")]);
    stream.route.set(off.cast());
    stream.is_frozen.set(true);
    assert_eq!(pass(config, &stream), STOP_ITERATION);
    assert_eq!(stream.responses.borrow()[0].0, 500);
}

#[test]
fn route_of_an_unknown_listener_is_refused() {
    let config = configured(CONFIGURATION);
    let other = route_new(TextBuffer::of(b"other"), TextBuffer::of(b""));
    let stream = FakeStream::get(&[]);
    stream.route.set(other.cast());
    assert_eq!(pass(config, &stream), STOP_ITERATION);
    assert_eq!(stream.responses.borrow()[0].0, 500);
    assert!(is_logged("has no section [listener_other]"));
}

#[test]
fn rejected_configuration_is_null_and_logged() {
    assert!(configured("[auth_jwt_x]\nalgorithm=none\n").is_null());
    assert!(is_logged("auth.cfg:2"));
    let config = TextBuffer::of(b"{\"file\":1}");
    assert!(config_new(ptr::null_mut(), TextBuffer::of(b"countersign"), config).is_null());
    assert!(route_new(TextBuffer::of(b""), TextBuffer::of(b"")).is_null());
}

#[test]
fn scheduler_is_deleted_once_whatever_ends_first() {
    let mut refusal = CheckDecision::new();
    refusal.refuse(StatusCode::UNAUTHORIZED);
    for ends_first in [false, true] {
        let stream = FakeStream::get(&[]);
        let scheduler = stream.in_hook().scheduler().unwrap();
        let pending = Arc::new(PendingStream::new(scheduler));
        let decided = Arc::clone(&pending);
        if ends_first {
            pending.end();
        }
        std::thread::scope(|scope| {
            scope.spawn(|| decided.decide(&refusal));
        });
        pending.end();
        pending.end();
        let commits = stream.schedulers.commits.load(Ordering::SeqCst);
        let deletions = stream.schedulers.deletions.load(Ordering::SeqCst);
        assert_eq!((commits, deletions), (usize::from(!ends_first), 1));
        assert_eq!(pending.take().is_some(), !ends_first);
    }
}
