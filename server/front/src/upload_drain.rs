//! Draining of uploads that are answered early, over HTTP/2 and HTTP/3.
//!
//! A response may be complete before its request is, such as that to a check whose body nothing
//! reads. Resetting the stream at once is allowed (RFC 9113 section 8.1, RFC 9114 section 4.1), but
//! clients such as curl 7.88 and httpx then report an error and lose the response. So the rest of
//! the request is received and discarded for a moment. It holds no memory, and the stream counts as
//! a concurrent one meanwhile.

use std::time::Duration;

use crate::clock::Stopwatch;

/// Maximum number of bytes discarded per request.
const MAX_BYTES: usize = 256 * 1024;
/// Time after the response for which a request is still received.
const TIMEOUT: Duration = Duration::from_secs(1);

/// The rest of a request whose response is complete.
#[derive(Clone, Copy)]
pub(crate) struct UploadDrain {
    bytes_left: usize,
    since: Stopwatch,
}

impl UploadDrain {
    pub(crate) fn start() -> Self {
        Self { bytes_left: MAX_BYTES, since: Stopwatch::start() }
    }

    /// Counts discarded bytes, and returns whether more may be received.
    pub(crate) fn discard(&mut self, bytes: usize) -> bool {
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        self.bytes_left > 0
    }

    pub(crate) fn time_left(&self) -> Duration {
        TIMEOUT.saturating_sub(self.since.elapsed())
    }
}
