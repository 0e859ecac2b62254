//! How a connection without TLS begins that speaks HTTP/2 by prior knowledge (RFC 9113
//! section 3.4).

use crate::listen::{exchange::Link, stream::Stream, watch::Watch};

/// What such a connection begins with.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Reads until it can be told whether a client speaks HTTP/2, and returns that and what
/// was read; `None` if nothing comes of the connection.
pub async fn read(link: Link<'_>, watch: &Watch, stream: &mut Stream) -> Option<(bool, Vec<u8>)> {
    let (mut bytes, mut length) = ([0; PREFACE.len()], 0);
    watch.idle_for(link.local.patience.idle);
    loop {
        let begins = bytes[..length] == PREFACE[..length];
        if !begins || length == PREFACE.len() {
            return Some((begins, bytes[..length].into()));
        }
        let read = watch
            .in_time(|context| stream.poll_some(context, &mut bytes[length..]))
            .await
            .ok()?
            .ok()?;
        if length == 0 {
            watch.due_within(link.local.patience.head);
        }
        length += read;
    }
}
