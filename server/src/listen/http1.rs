//! HTTP/1.1 and 1.0 (RFC 9112), made for questions of proxies: one is read, verified
//! and answered in one go ([`pipeline`]), without a future or a header map of its
//! own. All other requests take the way of every protocol ([`routes::answer`](crate::routes::answer)).
//!
//! A connection keeps no memory between requests: bytes are read into buffers that
//! belong to the thread, and only what is left over of them is kept.

pub mod answer;
pub mod body;
pub mod head;
pub mod pipeline;

use std::{
    io, mem,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use tokio::io::{AsyncWrite as _, AsyncWriteExt as _};

use self::{
    answer::Outgoing,
    body::{BodyFault, Incoming},
    head::{Framing, Persistence},
    pipeline::{Pending, Step, refuse, take},
};
use super::{
    exchange::{Link, Waiting},
    stream::Stream,
    watch::{TooLate, Watch, let_others_go_first},
};
use crate::http::{BODY_TOO_SLOW, Malformed};

/// How long a client is listened to that was refused in the middle of its request.
/// To hang up at once could destroy the answer on its way (RFC 9112 section 9.6).
const LINGER: Duration = Duration::from_secs(2);
/// How many bytes of it.
const LINGER_BYTES: usize = 1 << 20;

/// How many bytes of requests are answered before it is the turn of another connection
/// of the thread. Who sends one request after the other comes nowhere near.
const TURN: usize = 64 * 1024;

/// A connection that speaks HTTP/1.
pub struct Connection<'c> {
    link: Link<'c>,
    watch: Rc<Watch>,
    stream: Stream,
    /// Bytes read and not taken.
    rest: Vec<u8>,
    /// How many of them are known not to hold a whole head.
    seen: usize,
    /// Answers that the client has not taken yet.
    unsent: Outgoing,
    /// Whether nothing of what was taken is still on its way through TLS.
    is_flushed: bool,
    /// What to do when they are sent.
    then: Option<Step<'c>>,
    phase: Phase,
}

/// What a connection waits for, each for a time of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing: it has just got on.
    Busy,
    /// A request.
    Idle,
    /// The rest of a head.
    Head,
    /// The client, to take its answers.
    Writing,
}

/// The client has gone.
struct Gone;

impl<'c> Connection<'c> {
    /// A connection of which so much was read already.
    pub fn new(link: Link<'c>, watch: Rc<Watch>, stream: Stream, rest: Vec<u8>) -> Self {
        let unsent = Outgoing::default();
        Self {
            link,
            watch,
            stream,
            rest,
            seen: 0,
            unsent,
            is_flushed: true,
            then: None,
            phase: Phase::Busy,
        }
    }

    /// Serves it to its end.
    pub async fn serve(mut self) {
        let watch = Rc::clone(&self.watch);
        loop {
            match watch.in_time(|context| self.poll_step(context)).await {
                Ok(Ok(Step::Answer(pending))) => Box::pin(self.answer(*pending)).await,
                Ok(Ok(Step::Close { is_sending })) => {
                    return Box::pin(self.close(is_sending)).await;
                }
                Ok(Err(Gone)) => return,
                Err(TooLate) if self.phase == Phase::Head => {
                    self.then = Some(refuse(self.link, &HEAD_TOO_SLOW, false, &mut self.unsent));
                    self.phase = Phase::Busy;
                }
                // Under TLS even this is said.
                Err(TooLate) if self.phase == Phase::Idle => {
                    return Box::pin(self.close(false)).await;
                }
                Err(TooLate) => return,
            }
        }
    }

    /// Sends and reads, and answers what can be answered at once.
    fn poll_step(&mut self, context: &mut Context<'_>) -> Poll<Result<Step<'c>, Gone>> {
        let mut read = 0;
        loop {
            ready!(self.poll_send(context)).map_err(|_| Gone)?;
            if let Some(step) = self.then.take() {
                return Poll::Ready(Ok(step));
            }
            if read >= TURN {
                self.watch.due_within(self.link.local.patience.idle);
                let_others_go_first(context);
                return Poll::Pending;
            }
            // Some of it may be left over from before a request that took a while.
            if self.seen == self.rest.len() {
                read += ready!(self.poll_take(context)).map_err(|_| Gone)?;
            } else {
                let bytes = mem::take(&mut self.rest);
                self.take(&bytes);
            }
        }
    }

    /// Reads more, and answers what can be answered at once. Returns how much was read.
    fn poll_take(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut buffer = self.link.local.buffers.take_input();
        let kept = self.rest.len();
        buffer[..kept].copy_from_slice(&self.rest);
        let polled = self.stream.poll_some(context, &mut buffer[kept..]);
        match polled {
            Poll::Ready(Ok(read)) => self.take(&buffer[..kept + read]),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.enter(if kept == 0 { Phase::Idle } else { Phase::Head }),
        }
        self.link.local.buffers.return_input(buffer);
        polled
    }

    fn take(&mut self, bytes: &[u8]) {
        self.link.local.buffers.lend_output(&mut self.unsent.0);
        let taken = take(self.link, bytes, self.seen, &mut self.unsent);
        let rest = &bytes[taken.bytes..];
        match rest {
            // Idle connections own no memory.
            [] => self.rest = Vec::new(),
            rest => {
                self.rest.clear();
                self.rest.extend_from_slice(rest);
            }
        }
        if taken.bytes > 0 {
            // What comes next is another request, with a time of its own.
            self.phase = Phase::Busy;
        }
        (self.seen, self.then) = (taken.seen, taken.step);
    }

    /// Sends the answers there are.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unsent.0.is_empty() && self.is_flushed {
            return Poll::Ready(Ok(()));
        }
        let mut sent = 0;
        while sent < self.unsent.0.len() {
            match Pin::new(&mut self.stream).poll_write(context, &self.unsent.0[sent..])? {
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(written) => sent += written,
                Poll::Pending => {
                    self.unsent.0.drain(..sent);
                    self.enter(Phase::Writing);
                    return Poll::Pending;
                }
            }
        }
        self.link.local.buffers.return_output(&mut self.unsent.0);
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        // TLS takes more than the socket does: what it holds has to be seen off too.
        self.is_flushed = flushed.is_ready();
        if !self.is_flushed {
            self.enter(Phase::Writing);
        }
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
            Phase::Idle => self.watch.idle_for(patience.idle),
            Phase::Head => self.watch.due_within(patience.head),
            Phase::Writing | Phase::Busy => self.watch.due_within(patience.body),
        }
    }

    /// Answers a request whose answer takes a while.
    async fn answer(&mut self, pending: Pending<'c>) {
        let Pending { waiting, framing, expects_continue, mut manner, mut is_sending } = pending;
        self.enter(Phase::Busy);
        let received = if waiting.reads_body {
            self.receive(&waiting, framing, expects_continue).await
        } else {
            Ok(Bytes::new())
        };
        let reply = match received {
            Ok(body) => {
                // However long it takes: whoever answers has limits of its own.
                self.watch.due_within(Duration::MAX);
                match waiting.answer(&body, &mut self.unsent.in_this(manner)) {
                    Some(answering) => answering.await,
                    None => {
                        self.then = (manner.persistence == Persistence::Close)
                            .then_some(Step::Close { is_sending });
                        return;
                    }
                }
            }
            Err(Unreceived::Gone) => {
                self.then = Some(Step::Close { is_sending: false });
                return;
            }
            Err(Unreceived::Refused(malformed)) => {
                (manner.persistence, is_sending) = (Persistence::Close, true);
                waiting.refuse(&malformed)
            }
        };
        if self.watch.is_draining() {
            manner.persistence = Persistence::Close;
        }
        self.unsent.response(&reply.response, manner);
        self.then =
            (manner.persistence == Persistence::Close).then_some(Step::Close { is_sending });
        self.phase = Phase::Busy;
    }

    /// Receives the body of a request.
    async fn receive(
        &mut self,
        waiting: &Waiting<'_>,
        framing: Framing,
        mut expects: bool,
    ) -> Result<Bytes, Unreceived> {
        let most = waiting.most_body();
        let mut incoming =
            Incoming::new(framing, most).map_err(|fault| Unreceived::of(fault, most))?;
        self.watch.due_within(self.link.local.patience.body);
        loop {
            let taken = incoming.take(&self.rest).map_err(|fault| Unreceived::of(fault, most))?;
            self.rest.drain(..taken);
            if incoming.is_complete() {
                return Ok(incoming.bytes.into());
            }
            if mem::take(&mut expects) && self.rest.is_empty() {
                self.unsent.0.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
            let watch = Rc::clone(&self.watch);
            match watch.in_time(|context| self.poll_more(context)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(Unreceived::Gone),
                Err(TooLate) => return Err(BODY_TOO_SLOW.into()),
            }
        }
    }

    /// Reads more into what is left over.
    fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(context))?;
        let mut buffer = self.link.local.buffers.take_input();
        let polled = self.stream.poll_some(context, &mut buffer);
        if let Poll::Ready(Ok(read)) = &polled {
            self.rest.extend_from_slice(&buffer[..*read]);
        }
        self.link.local.buffers.return_input(buffer);
        polled.map_ok(|_| ())
    }

    /// Closes; first, while the client is sending, listens to it for a while.
    async fn close(&mut self, is_sending: bool) {
        // What has come already and is not answered may not be all there is.
        let is_sending = is_sending || !self.rest.is_empty();
        let watch = Rc::clone(&self.watch);
        watch.due_within(LINGER);
        if is_sending || self.stream.is_encrypted() {
            let _whatever_comes = watch.finish(self.stream.shutdown()).await;
        }
        let mut heard = 0;
        while is_sending && heard < LINGER_BYTES {
            self.rest.clear();
            match watch.in_time(|context| self.poll_more(context)).await {
                Ok(Ok(())) => heard += self.rest.len(),
                Ok(Err(_)) | Err(TooLate) => return,
            }
        }
    }
}

/// Why a body was not received.
enum Unreceived {
    /// The client has gone.
    Gone,
    /// It is refused.
    Refused(Malformed),
}

impl From<Malformed> for Unreceived {
    fn from(malformed: Malformed) -> Self {
        Self::Refused(malformed)
    }
}

impl Unreceived {
    fn of(fault: BodyFault, most: usize) -> Self {
        Self::Refused(match fault {
            BodyFault::TooLarge => Malformed::body_too_large(most),
            BodyFault::Malformed(detail) => Malformed::bad("body", detail),
        })
    }
}

const HEAD_TOO_SLOW: Malformed =
    Malformed::too_slow("head_timeout", "the head of the request took too long to arrive");
