//! Envoy's side of the interface, made safe: [`EnvoyStream`], [`StreamScheduler`],
//! [`DefinedCounter`] and the log.
//!
//! A reference into Envoy's memory borrows the [`EnvoyStream`], and a function that changes a
//! stream borrows it mutably or takes it. So no memory is used that a change has freed.
#![expect(unsafe_code, reason = "functions of Envoy")]

use std::{
    ffi::c_uint,
    marker::PhantomData,
    ptr::{self, NonNull},
    slice,
};

use countersign_server::embedding;

use crate::{abi, abi::TextBuffer, options::RouteRules};

/// The name of everything that this module leaves in a stream: metadata, and details of a response.
pub(crate) const NAMESPACE: &[u8] = b"countersign";

impl TextBuffer {
    pub(crate) const fn of(bytes: &[u8]) -> Self {
        Self { data: bytes.as_ptr(), length: bytes.len() }
    }

    const EMPTY: Self = Self { data: ptr::null(), length: 0 };

    /// Returns the bytes.
    ///
    /// # Safety
    /// `data` points to `length` bytes that do not change during `'b`, or `length` is 0.
    pub(crate) unsafe fn bytes<'b>(self) -> &'b [u8] {
        if self.length == 0 || self.data.is_null() {
            return &[];
        }
        // SAFETY: not null, and as stated.
        unsafe { slice::from_raw_parts(self.data, self.length) }
    }
}

/// A message to Envoy's log.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LogLevel {
    Info,
    Error,
}

/// Writes to Envoy's log.
pub(crate) fn log(level: LogLevel, text: &str) {
    let level = match level {
        LogLevel::Info => abi::LOG_INFO,
        LogLevel::Error => abi::LOG_ERROR,
    };
    // SAFETY: the text outlives the call. Any thread may call it.
    unsafe { abi::envoy_dynamic_module_callback_log(level, TextBuffer::of(text.as_bytes())) }
}

/// Whether Envoy only validates its configuration. Called on the main thread.
pub(crate) fn is_validating() -> bool {
    // SAFETY: without arguments, on the main thread.
    unsafe { abi::envoy_dynamic_module_callback_is_validation_mode() }
}

/// A counter of Envoy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DefinedCounter(usize);

/// A filter's configuration, while it is created.
pub(crate) struct EnvoyConfig(abi::ConfigPointer);

impl EnvoyConfig {
    /// Returns the configuration of a hook.
    ///
    /// # Safety
    /// The pointer is that of the hook that is running, and the value is not used after it.
    pub(crate) const unsafe fn new(pointer: abi::ConfigPointer) -> Self {
        Self(pointer)
    }

    /// Defines a counter without labels; `None` if Envoy refuses it.
    pub(crate) fn define_counter(&self, name: &str) -> Option<DefinedCounter> {
        let (name, mut id) = (TextBuffer::of(name.as_bytes()), 0);
        // SAFETY: the configuration of this hook. Name and id outlive the call.
        let result = unsafe {
            abi::envoy_dynamic_module_callback_http_filter_config_define_counter(
                self.0,
                name,
                ptr::null_mut(),
                0,
                &raw mut id,
            )
        };
        (result == abi::METRIC_SUCCESS).then_some(DefinedCounter(id))
    }
}

/// A header line of a request, in the memory of Envoy.
#[repr(transparent)]
pub(crate) struct EnvoyHeader<'l> {
    line: abi::HeaderLine,
    stream: PhantomData<&'l [u8]>,
}

impl embedding::HeaderLine for EnvoyHeader<'_> {
    fn name(&self) -> &[u8] {
        // SAFETY: a line that Envoy wrote, and whose stream is borrowed, so that it is unchanged.
        unsafe { self.line.name.bytes() }
    }

    fn value(&self) -> &[u8] {
        // SAFETY: as above.
        unsafe { self.line.value.bytes() }
    }
}

/// Memory for header lines, which is used again.
#[derive(Default)]
pub(crate) struct HeaderMemory(Vec<abi::HeaderLine>);

impl HeaderMemory {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }
}

/// A stream, in a hook on its own thread.
pub(crate) struct EnvoyStream<'h> {
    pointer: abi::StreamPointer,
    hook: PhantomData<&'h ()>,
}

impl EnvoyStream<'_> {
    /// Returns the stream of a hook.
    ///
    /// # Safety
    /// The pointer is that of the hook that is running, the value is not used after it, and there
    /// is one value at a time.
    pub(crate) const unsafe fn new(pointer: abi::StreamPointer) -> Self {
        Self { pointer, hook: PhantomData }
    }

    /// Returns the header lines, with pseudo-headers first. Empty if Envoy has none.
    pub(crate) fn headers<'l>(&'l self, memory: &'l mut HeaderMemory) -> &'l [EnvoyHeader<'l>] {
        let (kind, lines) = (abi::REQUEST_HEADERS, &mut memory.0);
        lines.clear();
        // SAFETY: the stream of this hook.
        let count =
            unsafe { abi::envoy_dynamic_module_callback_http_get_headers_size(self.pointer, kind) };
        lines.reserve(count);
        // SAFETY: as above. There is room for as many lines as Envoy has, and it writes them all.
        unsafe {
            let is_written = abi::envoy_dynamic_module_callback_http_get_headers(
                self.pointer,
                kind,
                lines.as_mut_ptr(),
            );
            lines.set_len(if is_written { count } else { 0 });
        }
        // SAFETY: the same type but for the lifetime, which is that of the borrowed stream.
        unsafe { slice::from_raw_parts(lines.as_ptr().cast(), lines.len()) }
    }

    /// Returns an attribute that is a text.
    pub(crate) fn attribute(&self, attribute: c_uint) -> Option<&[u8]> {
        let mut value = TextBuffer::EMPTY;
        // SAFETY: the stream of this hook, and memory for the value.
        let is_known = unsafe {
            abi::envoy_dynamic_module_callback_http_filter_get_attribute_string(
                self.pointer,
                attribute,
                &raw mut value,
            )
        };
        // SAFETY: a value that Envoy wrote, of the borrowed stream.
        is_known.then(|| unsafe { value.bytes() })
    }

    /// Returns the address of the connection's peer, as text with its port. That of a client may be
    /// another: Envoy takes it from header lines if it is configured to.
    pub(crate) fn peer(&self) -> Option<&[u8]> {
        let mut address = TextBuffer::EMPTY;
        // SAFETY: the stream of this hook, and memory for the address.
        let is_known = unsafe {
            abi::envoy_dynamic_module_callback_http_get_downstream_direct_remote_address(
                self.pointer,
                &raw mut address,
            )
        };
        // SAFETY: an address that Envoy wrote, of the borrowed stream.
        is_known.then(|| unsafe { address.bytes() })
    }

    /// Returns the rules of the route, if it has its own.
    pub(crate) fn route(&self) -> Option<&RouteRules> {
        // SAFETY: the stream of this hook. The result is null or of `RouteRules::into_pointer`, and
        // the stream keeps its route until it is changed.
        unsafe {
            abi::envoy_dynamic_module_callback_get_most_specific_route_config(self.pointer)
                .cast::<RouteRules>()
                .as_ref()
        }
    }

    /// Returns a scheduler of this stream.
    pub(crate) fn scheduler(&self) -> Option<StreamScheduler> {
        // SAFETY: the stream of this hook, on its own thread.
        let scheduler =
            unsafe { abi::envoy_dynamic_module_callback_http_filter_scheduler_new(self.pointer) };
        NonNull::new(scheduler).map(StreamScheduler)
    }

    /// Adds one to a counter, if Envoy has it.
    pub(crate) fn count(&self, counter: Option<DefinedCounter>) {
        let Some(DefinedCounter(id)) = counter else { return };
        // SAFETY: the stream of this hook, and a counter of its configuration.
        let _not_found = unsafe {
            abi::envoy_dynamic_module_callback_http_filter_increment_counter(
                self.pointer,
                id,
                ptr::null_mut(),
                0,
                1,
            )
        };
    }

    /// Replaces the header lines of this name with one. Returns `false` if the request has ended.
    #[must_use]
    pub(crate) fn set_header(&mut self, name: &[u8], value: &[u8]) -> bool {
        self.change_header(name, TextBuffer::of(value))
    }

    /// Adds a header line, of a name that the request does not have. Returns `false` if the request
    /// has ended.
    #[must_use]
    pub(crate) fn add_header(&mut self, name: &[u8], value: &[u8]) -> bool {
        // SAFETY: the stream of this hook. Envoy copies name and value.
        unsafe {
            abi::envoy_dynamic_module_callback_http_add_header(
                self.pointer,
                abi::REQUEST_HEADERS,
                TextBuffer::of(name),
                TextBuffer::of(value),
            )
        }
    }

    /// Removes the header lines of this name. Returns `false` if the request has ended.
    #[must_use]
    pub(crate) fn remove_header(&mut self, name: &[u8]) -> bool {
        self.change_header(name, TextBuffer::EMPTY)
    }

    /// Sets a header to a value, or removes it if the value is null.
    fn change_header(&mut self, name: &[u8], value: TextBuffer) -> bool {
        // SAFETY: the stream of this hook. Envoy copies name and value.
        unsafe {
            abi::envoy_dynamic_module_callback_http_set_header(
                self.pointer,
                abi::REQUEST_HEADERS,
                TextBuffer::of(name),
                value,
            )
        }
    }

    /// Sets dynamic metadata to a number.
    pub(crate) fn set_number(&mut self, key: &[u8], value: f64) {
        let (namespace, key) = (TextBuffer::of(NAMESPACE), TextBuffer::of(key));
        // SAFETY: the stream of this hook. Envoy copies the texts, also below.
        unsafe {
            abi::envoy_dynamic_module_callback_http_set_dynamic_metadata_number(
                self.pointer,
                namespace,
                key,
                value,
            );
        }
    }

    /// Sets dynamic metadata to a text.
    pub(crate) fn set_text(&mut self, key: &[u8], value: &[u8]) {
        let (namespace, key, value) =
            (TextBuffer::of(NAMESPACE), TextBuffer::of(key), TextBuffer::of(value));
        // SAFETY: as above.
        unsafe {
            abi::envoy_dynamic_module_callback_http_set_dynamic_metadata_string(
                self.pointer,
                namespace,
                key,
                value,
            );
        }
    }

    /// Sets dynamic metadata to a truth value.
    pub(crate) fn set_bool(&mut self, key: &[u8], value: bool) {
        let (namespace, key) = (TextBuffer::of(NAMESPACE), TextBuffer::of(key));
        // SAFETY: as above.
        unsafe {
            abi::envoy_dynamic_module_callback_http_set_dynamic_metadata_bool(
                self.pointer,
                namespace,
                key,
                value,
            );
        }
    }

    /// Appends a text to a list in the dynamic metadata.
    pub(crate) fn add_text(&mut self, key: &[u8], value: &[u8]) {
        let (namespace, key, value) =
            (TextBuffer::of(NAMESPACE), TextBuffer::of(key), TextBuffer::of(value));
        // SAFETY: as above.
        let _not_a_list = unsafe {
            abi::envoy_dynamic_module_callback_http_add_dynamic_metadata_list_string(
                self.pointer,
                namespace,
                key,
                value,
            )
        };
    }

    /// Lets Envoy choose the route again.
    pub(crate) fn clear_route_cache(&mut self) {
        // SAFETY: the stream of this hook.
        unsafe { abi::envoy_dynamic_module_callback_http_clear_route_cache(self.pointer) }
    }

    /// Continues a stream that waits. Other hooks may run before this returns.
    pub(crate) fn continue_decoding(self) {
        // SAFETY: the stream of this hook, which is not used again: it may end here.
        unsafe { abi::envoy_dynamic_module_callback_http_filter_continue_decoding(self.pointer) }
    }

    /// Responds to the request. `details` are for Envoy's access log. Other hooks may run before
    /// this returns.
    pub(crate) fn respond<'d>(
        self,
        status: u16,
        lines: impl Iterator<Item = (&'d [u8], &'d [u8])>,
        body: &[u8],
        details: &[u8],
    ) {
        let line = |(name, value)| abi::HeaderLine {
            name: TextBuffer::of(name),
            value: TextBuffer::of(value),
        };
        let mut lines: Vec<_> = lines.map(line).collect();
        // SAFETY: the stream of this hook, which is not used again. Envoy copies the texts
        // before this returns.
        unsafe {
            abi::envoy_dynamic_module_callback_http_send_response(
                self.pointer,
                status.into(),
                lines.as_mut_ptr(),
                lines.len(),
                TextBuffer::of(body),
                TextBuffer::of(details),
            );
        }
    }
}

/// A scheduler of Envoy, by which another thread wakes a stream. Dropping it deletes it.
pub(crate) struct StreamScheduler(NonNull<std::ffi::c_void>);

// SAFETY: Envoy states that any thread may commit. Deleting it frees two pointers of its own.
unsafe impl Send for StreamScheduler {}

impl StreamScheduler {
    /// Makes Envoy call the stream's hook for scheduled events. The stream must not have ended: the
    /// event loop of its thread may have ended with it.
    pub(crate) fn commit(&self) {
        // SAFETY: a scheduler that is not deleted yet.
        unsafe {
            abi::envoy_dynamic_module_callback_http_filter_scheduler_commit(self.0.as_ptr(), 0);
        }
    }
}

impl Drop for StreamScheduler {
    fn drop(&mut self) {
        // SAFETY: of `scheduler_new`, and deleted once.
        unsafe {
            abi::envoy_dynamic_module_callback_http_filter_scheduler_delete(self.0.as_ptr());
        }
    }
}
