//! Detection of HTTP/2 with prior knowledge on connections without TLS (RFC 9113 section 3.3), by
//! the connection preface (section 3.4).

use crate::{
    connection::ConnectionContext, deadline::Deadline, service::Service, stream::MaybeTlsStream,
};

/// The client connection preface.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Reads until the connection preface is matched or ruled out. Returns whether the client speaks
/// HTTP/2, and the bytes read. Returns `None` if the connection ends or times out first.
pub async fn read<S: Service>(
    connection: ConnectionContext<'_, S>,
    deadline: &Deadline,
    stream: &mut MaybeTlsStream,
) -> Option<(bool, Vec<u8>)> {
    let (mut bytes, mut length) = ([0; PREFACE.len()], 0);
    deadline.idle_for(connection.worker.timeouts.idle);
    loop {
        let is_prefix = bytes[..length] == PREFACE[..length];
        if !is_prefix || length == PREFACE.len() {
            return Some((is_prefix, bytes[..length].into()));
        }
        let read = deadline
            .poll_fn(|cx| stream.poll_read_some(cx, &mut bytes[length..]))
            .await
            .ok()?
            .ok()?;
        if length == 0 {
            deadline.due_within(connection.worker.timeouts.head);
        }
        length += read;
    }
}
