//! Memory of the caller as slices.
#![expect(unsafe_code, reason = "pointers of C")]

use std::{ffi::c_char, slice};

use countersign_server::embedding::HeaderLine;

use crate::layout::{cs_line, cs_text};

impl HeaderLine for cs_line {
    fn name(&self) -> &[u8] {
        // SAFETY: the lines of a `cs_request`, whose texts are as stated while it is checked.
        unsafe { bytes(self.name) }
    }

    fn value(&self) -> &[u8] {
        // SAFETY: as above.
        unsafe { bytes(self.value) }
    }
}

/// Returns the bytes of a text.
///
/// # Safety
/// `data` points to `length` bytes that do not change during `'t`, or `length` is 0.
pub(crate) unsafe fn bytes<'t>(text: cs_text) -> &'t [u8] {
    if text.length == 0 || text.data.is_null() {
        return &[];
    }
    // SAFETY: not null, and as stated.
    unsafe { slice::from_raw_parts(text.data.cast(), text.length) }
}

/// Returns the bytes of a buffer.
///
/// # Safety
/// `data` points to `size` bytes that nothing else uses during `'b`, or `size` is 0.
pub(crate) unsafe fn bytes_mut<'b>(data: *mut c_char, size: usize) -> &'b mut [u8] {
    if size == 0 || data.is_null() {
        return &mut [];
    }
    // SAFETY: not null, and as stated. Any bytes are a valid `u8`, and these are only written.
    unsafe { slice::from_raw_parts_mut(data.cast(), size) }
}
