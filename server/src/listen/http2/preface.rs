//! How a connection without TLS begins that speaks HTTP/2 by prior knowledge (RFC 9113
//! section 3.4).

use crate::listen::{exchange::ConnectionContext, stream::MaybeTlsStream, watch::Deadline};

/// What such a connection begins with.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Reads until it can be told whether a client speaks HTTP/2, and returns that and what
/// was read; `None` if nothing comes of the connection.
pub async fn read(
    context: ConnectionContext<'_>,
    deadline: &Deadline,
    stream: &mut MaybeTlsStream,
) -> Option<(bool, Vec<u8>)> {
    let (mut bytes, mut length) = ([0; PREFACE.len()], 0);
    deadline.idle_for(context.worker.timeouts.idle);
    loop {
        let begins = bytes[..length] == PREFACE[..length];
        if !begins || length == PREFACE.len() {
            return Some((begins, bytes[..length].into()));
        }
        let read = deadline
            .poll_fn(|cx| stream.poll_read_some(cx, &mut bytes[length..]))
            .await
            .ok()?
            .ok()?;
        if length == 0 {
            deadline.due_within(context.worker.timeouts.head);
        }
        length += read;
    }
}
