//! Envoy's interface for dynamic modules, as far as this module uses it: types, constants and the
//! functions that Envoy exports. Written for version 0.2.0, that of Envoy 1.40.
//!
//! Envoy does not check signatures, and only warns of another version. So a change here needs a
//! test with each supported Envoy, see [`TESTED_VERSIONS`].
#![expect(unsafe_code, reason = "functions of Envoy")]

use std::{
    ffi::{CStr, c_uint, c_void},
    mem::offset_of,
};

/// The version of the interface that this module is written for.
pub(crate) const VERSION: &CStr = c"v0.2.0";

/// The versions of Envoy that the tests run this module in.
pub(crate) const TESTED_VERSIONS: &[&str] = &["1.40.0"];

/// Bytes of Envoy or of the module. Those of Envoy are valid until the hook returns or changes
/// something. `data` may be null if `length` is 0.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct TextBuffer {
    pub(crate) data: *const u8,
    pub(crate) length: usize,
}

/// A header line of Envoy or of the module.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct HeaderLine {
    pub(crate) name: TextBuffer,
    pub(crate) value: TextBuffer,
}

// The header file of Envoy has four members in a header line, in this order.
const _: () = assert!(size_of::<TextBuffer>() == 2 * size_of::<usize>());
const _: () = assert!(offset_of!(TextBuffer, length) == size_of::<usize>());
const _: () = assert!(size_of::<HeaderLine>() == 4 * size_of::<usize>());
const _: () = assert!(offset_of!(HeaderLine, value) == 2 * size_of::<usize>());
const _: () = assert!(align_of::<HeaderLine>() == align_of::<usize>());
// Envoy's enumerations are of this type.
const _: () = assert!(size_of::<c_uint>() == 4);

/// A filter's configuration of Envoy.
pub(crate) type ConfigPointer = *mut c_void;
/// A filter of Envoy in one stream.
pub(crate) type StreamPointer = *mut c_void;
/// A scheduler of Envoy for one stream.
pub(crate) type SchedulerPointer = *mut c_void;

/// `http_header_type`: the header lines of a request.
pub(crate) const REQUEST_HEADERS: c_uint = 0;

/// `on_http_filter_*_status`: the stream continues.
pub(crate) const CONTINUE: c_uint = 0;
/// `on_http_filter_request_headers_status`: the filter has responded.
pub(crate) const STOP_ITERATION: c_uint = 1;
/// `on_http_filter_request_headers_status`: the stream waits, and the client's body with it.
pub(crate) const STOP_ALL_AND_WATERMARK: c_uint = 4;

/// `log_level`.
pub(crate) const LOG_INFO: c_uint = 2;
/// `log_level`.
pub(crate) const LOG_ERROR: c_uint = 4;

/// `attribute_id`: the version of TLS on the client's connection.
pub(crate) const CONNECTION_TLS_VERSION: c_uint = 31;
/// `attribute_id`: the SHA-256 digest of the client's certificate, in hexadecimal.
pub(crate) const SHA256_PEER_CERTIFICATE: c_uint = 38;

/// `metrics_result`: success.
pub(crate) const METRIC_SUCCESS: c_uint = 0;

unsafe extern "C" {
    pub(crate) fn envoy_dynamic_module_callback_log(level: c_uint, message: TextBuffer);
    pub(crate) fn envoy_dynamic_module_callback_is_validation_mode() -> bool;

    pub(crate) fn envoy_dynamic_module_callback_http_filter_config_define_counter(
        config: ConfigPointer,
        name: TextBuffer,
        label_names: *mut TextBuffer,
        label_count: usize,
        id: *mut usize,
    ) -> c_uint;
    pub(crate) fn envoy_dynamic_module_callback_http_filter_increment_counter(
        stream: StreamPointer,
        id: usize,
        label_values: *mut TextBuffer,
        label_count: usize,
        value: u64,
    ) -> c_uint;

    pub(crate) fn envoy_dynamic_module_callback_http_get_headers_size(
        stream: StreamPointer,
        kind: c_uint,
    ) -> usize;
    pub(crate) fn envoy_dynamic_module_callback_http_get_headers(
        stream: StreamPointer,
        kind: c_uint,
        lines: *mut HeaderLine,
    ) -> bool;
    pub(crate) fn envoy_dynamic_module_callback_http_set_header(
        stream: StreamPointer,
        kind: c_uint,
        name: TextBuffer,
        value: TextBuffer,
    ) -> bool;
    pub(crate) fn envoy_dynamic_module_callback_http_add_header(
        stream: StreamPointer,
        kind: c_uint,
        name: TextBuffer,
        value: TextBuffer,
    ) -> bool;
    pub(crate) fn envoy_dynamic_module_callback_http_filter_get_attribute_string(
        stream: StreamPointer,
        attribute: c_uint,
        value: *mut TextBuffer,
    ) -> bool;
    pub(crate) fn envoy_dynamic_module_callback_http_get_downstream_direct_remote_address(
        stream: StreamPointer,
        address: *mut TextBuffer,
    ) -> bool;
    pub(crate) fn envoy_dynamic_module_callback_get_most_specific_route_config(
        stream: StreamPointer,
    ) -> *const c_void;
    pub(crate) fn envoy_dynamic_module_callback_http_clear_route_cache(stream: StreamPointer);

    pub(crate) fn envoy_dynamic_module_callback_http_set_dynamic_metadata_number(
        stream: StreamPointer,
        namespace: TextBuffer,
        key: TextBuffer,
        value: f64,
    );
    pub(crate) fn envoy_dynamic_module_callback_http_set_dynamic_metadata_string(
        stream: StreamPointer,
        namespace: TextBuffer,
        key: TextBuffer,
        value: TextBuffer,
    );
    pub(crate) fn envoy_dynamic_module_callback_http_set_dynamic_metadata_bool(
        stream: StreamPointer,
        namespace: TextBuffer,
        key: TextBuffer,
        value: bool,
    );
    pub(crate) fn envoy_dynamic_module_callback_http_add_dynamic_metadata_list_string(
        stream: StreamPointer,
        namespace: TextBuffer,
        key: TextBuffer,
        value: TextBuffer,
    ) -> bool;

    pub(crate) fn envoy_dynamic_module_callback_http_send_response(
        stream: StreamPointer,
        status: u32,
        lines: *mut HeaderLine,
        line_count: usize,
        body: TextBuffer,
        details: TextBuffer,
    );
    pub(crate) fn envoy_dynamic_module_callback_http_filter_continue_decoding(
        stream: StreamPointer,
    );

    pub(crate) fn envoy_dynamic_module_callback_http_filter_scheduler_new(
        stream: StreamPointer,
    ) -> SchedulerPointer;
    pub(crate) fn envoy_dynamic_module_callback_http_filter_scheduler_commit(
        scheduler: SchedulerPointer,
        event: u64,
    );
    pub(crate) fn envoy_dynamic_module_callback_http_filter_scheduler_delete(
        scheduler: SchedulerPointer,
    );
}
