//! Comparison of a request body with Content-Length (RFC 9113 section 8.1.1, RFC 9114 section
//! 4.1.2). It includes bodies that are discarded.

use super::request::MalformedReason;

/// The number of body bytes that a request still has to send; `None` without Content-Length.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ExpectedBody(Option<u64>);

impl ExpectedBody {
    /// The body of a request with this Content-Length.
    pub(crate) const fn new(content_length: Option<u64>) -> Self {
        Self(content_length)
    }

    /// Counts a part of the body, which ends with it if `is_end` is set.
    ///
    /// # Errors
    /// The body is longer than Content-Length, or ends before it.
    pub(crate) fn receive(&mut self, length: usize, is_end: bool) -> Result<(), MalformedReason> {
        const MISMATCH: MalformedReason = "the body length differs from Content-Length";
        let Some(left) = &mut self.0 else { return Ok(()) };
        *left = left.checked_sub(length as u64).ok_or(MISMATCH)?;
        if is_end && *left > 0 { Err(MISMATCH) } else { Ok(()) }
    }
}
