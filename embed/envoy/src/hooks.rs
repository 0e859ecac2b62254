//! The functions that Envoy calls. Envoy looks all of them up when it loads a filter, so those that
//! have nothing to do exist, too.
//!
//! Each turns Envoy's pointers into references once, at its start, and catches panics: a request is
//! then refused with 500, and a configuration rejected.
#![expect(unsafe_code, reason = "pointers of Envoy")]

use std::{
    cell::RefCell,
    ffi::{c_char, c_uint, c_void},
    ptr::{self, NonNull},
    sync::Arc,
};

use http::StatusCode;

use crate::{
    abi::{
        CONTINUE, ConfigPointer, STOP_ALL_AND_WATERMARK, STOP_ITERATION, StreamPointer,
        TESTED_VERSIONS, TextBuffer, VERSION,
    },
    envoy::{EnvoyConfig, EnvoyStream, LogLevel, log},
    filter::{FilterConfig, StreamProgress, respond_with},
    options::RouteRules,
    panics::{caught, report_panics},
    pending::PendingStream,
};

/// Returns the version of the interface, of which Envoy only warns if it has another.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn envoy_dynamic_module_on_program_init() -> *const c_char {
    report_panics();
    let interface = VERSION.to_string_lossy();
    log(
        LogLevel::Info,
        &format!(
            "countersign {}: written for version {interface} of the interface, tested with \
             Envoy {}",
            env!("CARGO_PKG_VERSION"),
            TESTED_VERSIONS.join(", ")
        ),
    );
    VERSION.as_ptr()
}

// ---- configurations, on the main thread ----

#[unsafe(no_mangle)]
pub(crate) extern "C" fn envoy_dynamic_module_on_http_filter_config_new(
    envoy: ConfigPointer,
    name: TextBuffer,
    config: TextBuffer,
) -> *const FilterConfig {
    // SAFETY: the configuration of this hook, and texts that Envoy keeps while it runs.
    let (envoy, name, config) = unsafe { (EnvoyConfig::new(envoy), name.bytes(), config.bytes()) };
    created("filter", || FilterConfig::new(&envoy, name, config))
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn envoy_dynamic_module_on_http_filter_config_destroy(
    config: *mut FilterConfig,
) {
    // SAFETY: of the hook before. Envoy has destroyed its streams.
    unsafe { destroy(config) }
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn envoy_dynamic_module_on_http_filter_per_route_config_new(
    name: TextBuffer,
    config: TextBuffer,
) -> *const RouteRules {
    // SAFETY: texts that Envoy keeps while this hook runs.
    let (name, config) = unsafe { (name.bytes(), config.bytes()) };
    created("route", || RouteRules::read(name, config))
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn envoy_dynamic_module_on_http_filter_per_route_config_destroy(
    rules: *mut RouteRules,
) {
    // SAFETY: of the hook before. Streams of this route keep it.
    unsafe { destroy(rules) }
}

/// Returns a new configuration, or logs why it is rejected and returns null.
fn created<T>(kind: &str, create: impl FnOnce() -> Result<T, String>) -> *const T {
    match caught(create) {
        Some(Ok(config)) => return Box::into_raw(Box::new(config)),
        Some(Err(reason)) => {
            log(LogLevel::Error, &format!("countersign: {kind} rejected: {reason}"));
        }
        // Reported by the panic hook.
        None => {}
    }
    ptr::null()
}

/// Frees a configuration.
///
/// # Safety
/// It is null, or of [`created`] and not used again.
unsafe fn destroy<T>(config: *mut T) {
    if !config.is_null() {
        // SAFETY: of `Box::into_raw`, as stated.
        let config = unsafe { Box::from_raw(config) };
        let _defect = caught(|| drop(config));
    }
}

// ---- streams, each on the thread of its worker ----

/// The state of a stream in this module.
pub(crate) struct StreamState {
    /// Its filter's configuration, which Envoy destroys after the stream.
    config: NonNull<FilterConfig>,
    /// If its decision waits.
    pending: Option<Arc<PendingStream>>,
}

/// Boxed, because Envoy keeps a pointer to it.
type FormerState = Box<StreamState>;

thread_local! {
    /// Memory of former streams, so that a new one does not allocate.
    static FORMER: RefCell<Vec<FormerState>> = const { RefCell::new(Vec::new()) };
}

/// The most former states that a thread keeps.
const MAX_FORMER: usize = 256;

#[unsafe(no_mangle)]
pub(crate) extern "C" fn envoy_dynamic_module_on_http_filter_new(
    config: *mut FilterConfig,
    _: StreamPointer,
) -> *const StreamState {
    let Some(config) = NonNull::new(config) else { return ptr::null() };
    let state = caught(|| match FORMER.with_borrow_mut(Vec::pop) {
        Some(mut former) => {
            former.config = config;
            former
        }
        None => Box::new(StreamState { config, pending: None }),
    });
    // Envoy closes a stream without a state.
    state.map_or(ptr::null(), |state| Box::into_raw(state).cast_const())
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn envoy_dynamic_module_on_http_filter_request_headers(
    stream: StreamPointer,
    state: *mut StreamState,
    _: bool,
) -> c_uint {
    // SAFETY: of `filter_new`, and only used on this thread, in one hook at a time, until its
    // stream calls Envoy.
    let Some(config) = (unsafe { state.as_ref() }).map(|state| state.config) else {
        return refuse_defect(stream);
    };
    // SAFETY: Envoy keeps the configuration of a stream. The stream is that of this hook.
    let (config, own) = unsafe { (config.as_ref(), EnvoyStream::new(stream)) };
    match caught(|| config.on_request(own)) {
        Some(StreamProgress::Passed) => CONTINUE,
        // The state may be gone, if the response has ended the stream.
        Some(StreamProgress::Refused) => STOP_ITERATION,
        Some(StreamProgress::Pending(pending)) => {
            // SAFETY: as above. A stream that waits has not ended.
            if let Some(state) = unsafe { state.as_mut() } {
                state.pending = Some(pending);
            }
            STOP_ALL_AND_WATERMARK
        }
        None => refuse_defect(stream),
    }
}

/// The tier has decided about a stream that waited.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn envoy_dynamic_module_on_http_filter_scheduled(
    stream: StreamPointer,
    state: *mut StreamState,
    _: u64,
) {
    // SAFETY: as in the hook before.
    let Some(state) = (unsafe { state.as_mut() }) else { return };
    let (config, pending) = (state.config, state.pending.take());
    // SAFETY: as in the hook before. The state is not used again, because the stream may end.
    let (config, own) = unsafe { (config.as_ref(), EnvoyStream::new(stream)) };
    let resumed = caught(|| {
        if let Some(decision) = pending.and_then(|pending| pending.take()) {
            config.on_decision(own, &decision);
        }
    });
    if resumed.is_none() {
        refuse_defect(stream);
    }
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn envoy_dynamic_module_on_http_filter_destroy(state: *mut StreamState) {
    if state.is_null() {
        return;
    }
    // SAFETY: of `filter_new`, and not used again.
    let mut state = unsafe { Box::from_raw(state) };
    let _defect = caught(|| {
        if let Some(pending) = state.pending.take() {
            pending.end();
        }
        FORMER.with_borrow_mut(|former| {
            if former.len() < MAX_FORMER {
                former.push(state);
            }
        });
    });
}

/// Refuses a request because of a defect of this module.
fn refuse_defect(stream: StreamPointer) -> c_uint {
    // SAFETY: the stream of the hook that is running, whose other value is gone.
    let stream = unsafe { EnvoyStream::new(stream) };
    let _defect = caught(|| respond_with(stream, StatusCode::INTERNAL_SERVER_ERROR));
    STOP_ITERATION
}

// ---- hooks with nothing to do ----

/// Defines hooks that let a stream continue.
macro_rules! continuing {
    ($($name:ident($($argument:ty),*);)*) => {$(
        #[unsafe(no_mangle)]
        extern "C" fn $name($(_: $argument),*) -> c_uint {
            CONTINUE
        }
    )*};
}

/// Defines hooks that return nothing.
macro_rules! ignoring {
    ($($name:ident($($argument:ty),*);)*) => {$(
        #[unsafe(no_mangle)]
        extern "C" fn $name($(_: $argument),*) {}
    )*};
}

continuing! {
    envoy_dynamic_module_on_http_filter_request_body(StreamPointer, *mut StreamState, bool);
    envoy_dynamic_module_on_http_filter_request_trailers(StreamPointer, *mut StreamState);
    envoy_dynamic_module_on_http_filter_response_headers(StreamPointer, *mut StreamState, bool);
    envoy_dynamic_module_on_http_filter_response_body(StreamPointer, *mut StreamState, bool);
    envoy_dynamic_module_on_http_filter_response_trailers(StreamPointer, *mut StreamState);
}

ignoring! {
    envoy_dynamic_module_on_http_filter_stream_complete(StreamPointer, *mut StreamState);
    envoy_dynamic_module_on_http_filter_http_callout_done(
        StreamPointer, *mut StreamState, u64, c_uint, *mut c_void, usize, *mut TextBuffer, usize
    );
    envoy_dynamic_module_on_http_filter_http_stream_headers(
        StreamPointer, *mut StreamState, u64, *mut c_void, usize, bool
    );
    envoy_dynamic_module_on_http_filter_http_stream_data(
        StreamPointer, *mut StreamState, u64, *const TextBuffer, usize, bool
    );
    envoy_dynamic_module_on_http_filter_http_stream_trailers(
        StreamPointer, *mut StreamState, u64, *mut c_void, usize
    );
    envoy_dynamic_module_on_http_filter_http_stream_complete(
        StreamPointer, *mut StreamState, u64
    );
    envoy_dynamic_module_on_http_filter_http_stream_reset(
        StreamPointer, *mut StreamState, u64, c_uint
    );
    envoy_dynamic_module_on_http_filter_downstream_above_write_buffer_high_watermark(
        StreamPointer, *mut StreamState
    );
    envoy_dynamic_module_on_http_filter_downstream_below_write_buffer_low_watermark(
        StreamPointer, *mut StreamState
    );
}
