//! Envoy's side of the interface for unit tests: [`FakeStream`], and the functions that the module
//! calls with a pointer to it.
#![expect(unsafe_code, reason = "pointers of the module")]
#![expect(clippy::disallowed_types, reason = "a test may wait")]

use std::{
    cell::{Cell, RefCell},
    ffi::{c_uint, c_void},
    ptr,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::{
    abi::{ConfigPointer, HeaderLine, SchedulerPointer, StreamPointer, TextBuffer},
    envoy::EnvoyStream,
    filter::FilterConfig,
};

/// A stream with the request of a client.
#[derive(Default)]
pub(crate) struct FakeStream {
    pub(crate) headers: RefCell<Vec<(Vec<u8>, Vec<u8>)>>,
    /// Whether header lines can be changed.
    pub(crate) is_frozen: Cell<bool>,
    /// The rules of its route, or null.
    pub(crate) route: Cell<*const c_void>,
    /// Status and header lines of the response.
    pub(crate) responses: RefCell<Vec<(u32, Vec<String>)>>,
    pub(crate) continued: Cell<usize>,
    pub(crate) schedulers: SchedulerCounts,
}

/// The number of calls to the schedulers of a stream.
#[derive(Default)]
pub(crate) struct SchedulerCounts {
    pub(crate) commits: AtomicUsize,
    pub(crate) deletions: AtomicUsize,
}

/// The lines of the log.
pub(crate) static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());

impl FakeStream {
    /// Creates a stream with a GET request and these header lines.
    pub(crate) fn get(lines: &[(&str, &str)]) -> Self {
        let pseudo = [(":method", "GET"), (":path", "/"), (":authority", "shop.example")];
        let all = pseudo.iter().chain(lines);
        let all = all.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        Self { headers: RefCell::new(all.collect()), ..Self::default() }
    }

    pub(crate) fn pointer(&self) -> StreamPointer {
        ptr::from_ref(self).cast_mut().cast()
    }

    /// Returns the stream, as in a hook.
    pub(crate) fn in_hook(&self) -> EnvoyStream<'_> {
        // SAFETY: its functions are those below, for this type.
        unsafe { EnvoyStream::new(self.pointer()) }
    }

    /// Returns the number of lines of a header.
    pub(crate) fn count(&self, name: &str) -> usize {
        self.headers.borrow().iter().filter(|(header, _)| header == name.as_bytes()).count()
    }

    /// Returns the stream of a call.
    ///
    /// # Safety
    /// The pointer is of [`pointer`](Self::pointer), and the stream is alive.
    unsafe fn of<'s>(pointer: StreamPointer) -> &'s Self {
        // SAFETY: as stated.
        unsafe { &*pointer.cast::<Self>() }
    }
}

/// Returns a configuration of the module.
pub(crate) fn created<'c>(config: *const FilterConfig) -> &'c FilterConfig {
    // SAFETY: of the hook that creates one, and no test destroys it.
    unsafe { config.as_ref() }.unwrap()
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_log(_: c_uint, message: TextBuffer) {
    // SAFETY: a text of the module.
    let text = unsafe { message.bytes() };
    LOG.lock().unwrap().push(String::from_utf8_lossy(text).into_owned());
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_is_validation_mode() -> bool {
    false
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_filter_config_define_counter(
    _: ConfigPointer,
    _: TextBuffer,
    _: *mut TextBuffer,
    _: usize,
    _: *mut usize,
) -> c_uint {
    // Not found.
    1
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_filter_increment_counter(
    _: StreamPointer,
    _: usize,
    _: *mut TextBuffer,
    _: usize,
    _: u64,
) -> c_uint {
    1
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_get_headers_size(
    stream: StreamPointer,
    _: c_uint,
) -> usize {
    // SAFETY: a stream of a test, as below.
    unsafe { FakeStream::of(stream) }.headers.borrow().len()
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_get_headers(
    stream: StreamPointer,
    _: c_uint,
    lines: *mut HeaderLine,
) -> bool {
    // SAFETY: as above.
    let headers = unsafe { FakeStream::of(stream) }.headers.borrow();
    for (index, (name, value)) in headers.iter().enumerate() {
        let line = HeaderLine { name: TextBuffer::of(name), value: TextBuffer::of(value) };
        // SAFETY: the module has room for as many lines as there are.
        unsafe { lines.add(index).write(line) };
    }
    true
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_set_header(
    stream: StreamPointer,
    _: c_uint,
    name: TextBuffer,
    value: TextBuffer,
) -> bool {
    // SAFETY: as above, and texts of the module.
    let (stream, name, text) = unsafe { (FakeStream::of(stream), name.bytes(), value.bytes()) };
    if stream.is_frozen.get() {
        return false;
    }
    let mut headers = stream.headers.borrow_mut();
    headers.retain(|(header, _)| !header.eq_ignore_ascii_case(name));
    if !value.data.is_null() {
        headers.push((name.to_vec(), text.to_vec()));
    }
    true
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_add_header(
    stream: StreamPointer,
    _: c_uint,
    name: TextBuffer,
    value: TextBuffer,
) -> bool {
    // SAFETY: as above.
    let (stream, name, text) = unsafe { (FakeStream::of(stream), name.bytes(), value.bytes()) };
    if stream.is_frozen.get() {
        return false;
    }
    stream.headers.borrow_mut().push((name.to_vec(), text.to_vec()));
    true
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_filter_get_attribute_string(
    _: StreamPointer,
    _: c_uint,
    _: *mut TextBuffer,
) -> bool {
    false
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_get_downstream_direct_remote_address(
    _: StreamPointer,
    address: *mut TextBuffer,
) -> bool {
    // SAFETY: the module has memory for it.
    unsafe { address.write(TextBuffer::of(b"127.0.0.1:50000")) };
    true
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_get_most_specific_route_config(
    stream: StreamPointer,
) -> *const c_void {
    // SAFETY: as above.
    unsafe { FakeStream::of(stream) }.route.get()
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_clear_route_cache(_: StreamPointer) {}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_set_dynamic_metadata_number(
    _: StreamPointer,
    _: TextBuffer,
    _: TextBuffer,
    _: f64,
) {
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_set_dynamic_metadata_string(
    _: StreamPointer,
    _: TextBuffer,
    _: TextBuffer,
    _: TextBuffer,
) {
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_set_dynamic_metadata_bool(
    _: StreamPointer,
    _: TextBuffer,
    _: TextBuffer,
    _: bool,
) {
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_add_dynamic_metadata_list_string(
    _: StreamPointer,
    _: TextBuffer,
    _: TextBuffer,
    _: TextBuffer,
) -> bool {
    true
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_send_response(
    stream: StreamPointer,
    status: u32,
    lines: *mut HeaderLine,
    line_count: usize,
    _: TextBuffer,
    _: TextBuffer,
) {
    let line = |index| {
        // SAFETY: lines of the module, as many as stated, and their texts.
        let name = unsafe { (*lines.add(index)).name.bytes() };
        String::from_utf8_lossy(name).into_owned()
    };
    let lines = (0..line_count).map(line).collect();
    // SAFETY: as above.
    unsafe { FakeStream::of(stream) }.responses.borrow_mut().push((status, lines));
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_filter_continue_decoding(stream: StreamPointer) {
    // SAFETY: as above.
    let stream = unsafe { FakeStream::of(stream) };
    stream.continued.set(stream.continued.get() + 1);
}

/// A scheduler is a pointer to the counts of its stream.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_filter_scheduler_new(
    stream: StreamPointer,
) -> SchedulerPointer {
    // SAFETY: as above.
    let counts = &unsafe { FakeStream::of(stream) }.schedulers;
    ptr::from_ref(counts).cast_mut().cast()
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_filter_scheduler_commit(
    scheduler: SchedulerPointer,
    _: u64,
) {
    // SAFETY: of `scheduler_new`, as below.
    let counts = unsafe { &*scheduler.cast::<SchedulerCounts>() };
    assert_eq!(counts.deletions.load(Ordering::SeqCst), 0, "it is deleted");
    counts.commits.fetch_add(1, Ordering::SeqCst);
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_filter_scheduler_delete(
    scheduler: SchedulerPointer,
) {
    // SAFETY: as above.
    let counts = unsafe { &*scheduler.cast::<SchedulerCounts>() };
    counts.deletions.fetch_add(1, Ordering::SeqCst);
}
