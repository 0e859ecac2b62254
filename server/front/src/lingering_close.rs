//! The end of a connection whose peer may still be sending. Closing the socket at once, with unread
//! input, would send a reset, which could destroy the last bytes on their way (RFC 9112 section
//! 9.6).

use std::{
    io,
    task::{Context, Poll},
    time::Duration,
};

use tokio::io::AsyncWriteExt as _;

use crate::{
    deadline::{Deadline, DeadlineElapsed},
    stream::MaybeTlsStream,
    worker_context::BufferPool,
};

/// Time for which input is still read.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum number of bytes read and discarded during [`LINGER_TIMEOUT`].
const MAX_LINGER_BYTES: usize = 1 << 20;

/// Closes our side, and then reads and discards input for up to [`LINGER_TIMEOUT`].
pub(crate) async fn close(deadline: &Deadline, buffers: &BufferPool, stream: &mut MaybeTlsStream) {
    deadline.due_within(LINGER_TIMEOUT);
    let _ignored = deadline.run(stream.shutdown()).await;
    let mut discarded = 0;
    while discarded < MAX_LINGER_BYTES {
        match deadline.poll_fn(|cx| poll_discard(cx, buffers, stream)).await {
            Ok(Ok(length)) => discarded += length,
            Ok(Err(_)) | Err(DeadlineElapsed) => return,
        }
    }
}

fn poll_discard(
    cx: &mut Context<'_>,
    buffers: &BufferPool,
    stream: &mut MaybeTlsStream,
) -> Poll<io::Result<usize>> {
    let mut buffer = buffers.take_input();
    let polled = stream.poll_read_some(cx, &mut buffer);
    buffers.return_input(buffer);
    polled
}
