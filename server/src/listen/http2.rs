//! HTTP/2 (RFC 9113), our own: under TLS by ALPN, without by prior knowledge. What gRPC
//! runs on, and Envoy with it.
//!
//! Requests that have come together are answered together: all of them are read where
//! they lie, answered by appending to bytes, and sent, so that reading and writing are two
//! system calls and not two for each. One that waits is a future among others of its
//! connection; there are never more than there may be streams.
//!
//! What a client could have us keep or do has bounds: streams, field sections and what
//! they may be decoded to, the dynamic table, windows, and requests that come to nothing
//! and frames that are about nothing, which the answers in between pay for. While a client
//! takes no answers nothing of it is read, and a connection reads 64 KiB before the other
//! connections of its thread have theirs.

mod answer;
pub mod fault;
mod frame;
pub mod hpack;
mod patience;
pub mod preface;
mod session;
mod settings;
mod stream;

use std::{
    io, mem,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::io::{AsyncWrite as _, AsyncWriteExt as _};

use self::{
    fault::{Code, Fault},
    session::{LINGER, Session},
};
use super::{
    exchange::Link,
    stream::Stream,
    watch::{TICK, TooLate, Watch, let_others_go_first},
};
use crate::clock::Stopwatch;

/// How many bytes are read before it is the turn of another connection of the thread.
const TURN: usize = 64 * 1024;
/// How long nothing is heard of an idle client before it is asked whether it is there.
const QUIET: Duration = Duration::from_secs(30);
/// How much of a client is read and thrown away that was told that nothing is answered
/// any more. To hang up at once could destroy what it was told on its way.
const LINGER_BYTES: usize = 1 << 20;

/// Serves a connection to its end; `ahead` of it was read already.
pub async fn serve(link: Link<'_>, watch: Rc<Watch>, stream: Stream, ahead: Vec<u8>) {
    let mut session = Session::new(link);
    let taken = session.take(&ahead);
    let connection = Connection {
        link,
        watch,
        stream,
        session,
        rest: ahead[taken..].to_vec(),
        is_behind: false,
        sent: 0,
        is_flushed: true,
        phase: Phase::Busy,
        idle: Stopwatch::start(),
    };
    connection.serve().await;
}

/// A connection that speaks HTTP/2.
struct Connection<'c> {
    link: Link<'c>,
    watch: Rc<Watch>,
    stream: Stream,
    session: Session<'c>,
    /// Bytes read and not taken: no whole frame, unless it is behind.
    rest: Vec<u8>,
    /// Whether there may be whole frames in it, which had to wait until something is sent.
    is_behind: bool,
    /// How much is sent of what is to be sent.
    sent: usize,
    /// Whether nothing of what was taken is still on its way through TLS.
    is_flushed: bool,
    phase: Phase,
    /// Since the last request.
    idle: Stopwatch,
}

/// What a connection waits for, each for a time of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing: it has just got on.
    Busy,
    /// A request.
    Idle,
    /// The beginning of the connection, or the rest of a head.
    Head,
    /// The client, to send the rest of a request or to take more of an answer; or us.
    Streams,
    /// The client, to take anything.
    Writing,
    /// The client, to say that it is there.
    Pinged,
    /// The client, to go as it was told.
    Leaving,
}

/// The connection is over.
enum Over {
    /// There is nobody to talk to.
    Gone,
    /// The client was told.
    Told,
}

impl Connection<'_> {
    async fn serve(mut self) {
        let watch = Rc::clone(&self.watch);
        loop {
            let over = match watch.in_time(|context| self.poll(context)).await {
                Ok(over) => Some(over),
                Err(TooLate) => self.be_late(),
            };
            match over {
                None => {}
                Some(Over::Gone) => return,
                Some(Over::Told) => return Box::pin(self.close()).await,
            }
        }
    }

    /// Reads, answers and sends all there is.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Over> {
        if self.watch.is_draining() {
            self.session.leave();
        }
        if self.session.lingers() == Some(Duration::ZERO) {
            self.session.leave_at_last();
        }
        let mut read = 0;
        loop {
            // First, and whether they can be sent or not: to those that they wait for it makes
            // a difference, and there are never more of them than streams.
            self.session.poll_answers(context);
            match self.poll_send(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Over::Gone),
                Poll::Pending => {
                    self.enter(Phase::Writing);
                    return Poll::Pending;
                }
            }
            if self.session.is_over() {
                return Poll::Ready(Over::Told);
            }
            // Few bytes can ask for much: what has to be sent first is a turn too.
            if read >= TURN || self.is_behind && read > 0 {
                // Who never stops sending has no more time for the rest than others.
                let limit = self.link.local.patience.body;
                if self.session.soonest(limit).is_zero() {
                    self.session.expire(limit);
                }
                self.enter(Phase::Busy);
                let_others_go_first(context);
                return Poll::Pending;
            }
            match self.poll_take(context) {
                Poll::Ready(Ok(length)) => read += length,
                Poll::Ready(Err(_)) => return Poll::Ready(Over::Gone),
                Poll::Pending => break,
            }
        }
        self.wait();
        Poll::Pending
    }

    /// Waits for what is missing.
    fn wait(&mut self) {
        self.enter(match self.phase {
            _ if self.session.has_streams() => Phase::Streams,
            _ if self.session.lingers().is_some() => Phase::Leaving,
            _ if !self.session.is_between_heads() || !self.rest.is_empty() => Phase::Head,
            Phase::Pinged => Phase::Pinged,
            _ => Phase::Idle,
        });
    }

    /// Reads more, unless it is behind with that, and answers what can be answered at once.
    /// Returns how much there was.
    fn poll_take(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.is_behind {
            let bytes = mem::take(&mut self.rest);
            self.take(&bytes);
            return Poll::Ready(Ok(bytes.len() - self.rest.len()));
        }
        let mut buffer = self.link.local.buffers.take_input();
        let kept = self.rest.len();
        buffer[..kept].copy_from_slice(&self.rest);
        let polled = self.stream.poll_some(context, &mut buffer[kept..]);
        if let Poll::Ready(Ok(read)) = polled {
            self.take(&buffer[..kept + read]);
        }
        self.link.local.buffers.return_input(buffer);
        polled
    }

    fn take(&mut self, bytes: &[u8]) {
        self.link.local.buffers.lend_output(self.session.outgoing());
        let taken = self.session.take(bytes);
        self.is_behind = self.session.is_full();
        match &bytes[taken..] {
            // Idle connections own no memory.
            [] => self.rest = Vec::new(),
            rest => {
                self.rest.clear();
                self.rest.extend_from_slice(rest);
            }
        }
        let has_asked = self.session.take_has_asked();
        if has_asked {
            self.idle = Stopwatch::start();
        }
        if has_asked || self.phase == Phase::Pinged {
            self.phase = Phase::Busy;
        }
    }

    /// Sends what there is to send.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let unsent = self.session.outgoing();
        if unsent.is_empty() && self.is_flushed {
            self.link.local.buffers.return_output(unsent);
            return Poll::Ready(Ok(()));
        }
        while self.sent < unsent.len() {
            match ready!(Pin::new(&mut self.stream).poll_write(context, &unsent[self.sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.sent += written,
            }
        }
        self.sent = 0;
        self.link.local.buffers.return_output(unsent);
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        // TLS takes more than the socket does: what it holds has to be seen off too.
        self.is_flushed = flushed.is_ready();
        flushed
    }

    /// Begins to wait for something, unless it waits for it already: who sends a byte
    /// now and then does not get more time for it.
    fn enter(&mut self, phase: Phase) {
        if mem::replace(&mut self.phase, phase) == phase {
            return;
        }
        let patience = &self.link.local.patience;
        match phase {
            Phase::Idle => {
                self.watch.idle_for(QUIET.min(patience.idle.saturating_sub(self.idle.elapsed())))
            }
            Phase::Head | Phase::Pinged => self.watch.due_within(patience.head),
            Phase::Streams => self.watch.due_within(self.session.soonest(patience.body)),
            Phase::Writing => self.watch.due_within(patience.body),
            Phase::Leaving => self.watch.due_within(self.session.lingers().unwrap_or(LINGER)),
            Phase::Busy => self.watch.due_within(Duration::MAX),
        }
    }

    /// Something has taken too long.
    fn be_late(&mut self) -> Option<Over> {
        // To be waited for anew.
        self.watch.due_within(Duration::MAX);
        match mem::replace(&mut self.phase, Phase::Busy) {
            Phase::Idle => self.stay_idle(),
            Phase::Streams => self.session.expire(self.link.local.patience.body),
            Phase::Leaving => self.session.leave_at_last(),
            Phase::Head => self
                .session
                .fail(Fault::new(Code::NoError, "the head of a request took too long to arrive")),
            Phase::Writing | Phase::Pinged | Phase::Busy => return Some(Over::Gone),
        }
        None
    }

    /// Nothing was heard for a while.
    fn stay_idle(&mut self) {
        // Sweeps are rarely exact.
        if self.idle.elapsed() + TICK >= self.link.local.patience.idle || self.watch.is_draining() {
            self.session.leave();
        } else {
            self.session.knock();
            self.enter(Phase::Pinged);
        }
    }

    /// Closes; first, as the client may be sending, listens to it for a while.
    async fn close(&mut self) {
        let watch = Rc::clone(&self.watch);
        watch.due_within(LINGER);
        let _whatever_comes = watch.finish(self.stream.shutdown()).await;
        let mut heard = 0;
        while heard < LINGER_BYTES {
            match watch.in_time(|context| self.poll_more(context)).await {
                Ok(Ok(length)) => heard += length,
                Ok(Err(_)) | Err(TooLate) => return,
            }
        }
    }

    /// Reads and throws away.
    fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut buffer = self.link.local.buffers.take_input();
        let polled = self.stream.poll_some(context, &mut buffer);
        self.link.local.buffers.return_input(buffer);
        polled
    }
}

#[cfg(test)]
mod tests;
