//! HTTP/2 (RFC 9113), by h2: under TLS by ALPN, without by prior knowledge. What gRPC
//! runs on, and Envoy with it.
//!
//! Requests that have come together are answered together: all of them are taken, then
//! answered, then sent, so that reading and writing are two system calls and not two for
//! each. One that waits is a future among others of its connection; there are never more
//! than there may be streams.
//!
//! Floods are bounded by h2 (streams, those reset before they were looked at, those we
//! had to reset, empty frames, header lists) and by turns: a connection reads 64 KiB
//! before the other connections of its thread have theirs.

mod answer;
mod meter;
pub mod preface;
mod request;

use std::{
    mem,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use h2::{
    Ping, PingPong, RecvStream,
    server::{self, SendResponse},
};
use http::Request;

use self::{
    answer::Responder,
    meter::{Meter, Metered},
    request::{Finishing, Incoming},
};
use super::{
    exchange::{self, Asked, Begun, Link},
    stream::Stream,
    watch::{TICK, TooLate, Watch},
};
use crate::clock::Stopwatch;

/// The requests that a client may have waiting at a time. Envoy asks for 100 and more
/// only of those that allow it.
const STREAMS: usize = 128;
/// The longest list of header fields, each with 32 bytes more (RFC 9113 section 6.5.2):
/// what a head of HTTP/1 may have.
const HEADER_LIST: u32 = 32 * 1024;
/// What a client may send of one body, and of all together, before it is read.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;
/// Answers written and not yet sent.
const SEND_BUFFER: usize = 64 * 1024;
/// How long nothing is heard of an idle client before it is asked whether it is there.
const QUIET: Duration = Duration::from_secs(30);
/// How long a client that was told to go may take, whatever else it asks.
const LINGER: Duration = Duration::from_secs(2);

/// Serves a connection to its end; `ahead` of it was read already.
pub async fn serve(link: Link<'_>, watch: Rc<Watch>, stream: Stream, ahead: Vec<u8>) {
    let meter = Rc::new(Meter::default());
    let handshake = server::Builder::new()
        .max_concurrent_streams(u32::try_from(STREAMS).unwrap_or(u32::MAX))
        .max_header_list_size(HEADER_LIST)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .handshake(Metered::new(stream, ahead, Rc::clone(&meter)));
    watch.due_within(link.local.patience.head);
    // What is no HTTP/2 is told so by h2.
    let Ok(Ok(mut h2)) = watch.finish(handshake).await else { return };
    let Some(pings) = h2.ping_pong() else { return };
    let connection = Connection {
        link,
        watch,
        meter,
        h2,
        pings,
        accepted: Vec::new(),
        waiting: FuturesUnordered::new(),
        phase: Phase::Busy,
        idle: Stopwatch::start(),
        leaving: None,
    };
    connection.serve().await;
}

/// A connection that speaks HTTP/2.
struct Connection<'c> {
    link: Link<'c>,
    watch: Rc<Watch>,
    meter: Rc<Meter>,
    h2: server::Connection<Metered, Bytes>,
    pings: PingPong,
    /// Requests that have come and are not answered yet.
    accepted: Vec<Accepted>,
    /// Those whose answers take a while.
    waiting: FuturesUnordered<Finishing<'c>>,
    phase: Phase,
    /// Since the last request.
    idle: Stopwatch,
    /// Since the client was told to go.
    leaving: Option<Stopwatch>,
}

type Accepted = (Request<RecvStream>, SendResponse<Bytes>);

/// What a connection waits for, each for a time of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing: it has just got on, or waits for us.
    Busy,
    /// A request.
    Idle,
    /// The client, to take its answers.
    Writing,
    /// The client, to say that it is there.
    Pinged,
    /// The client, to go as it was told.
    Leaving,
}

/// The connection is over.
struct Over;

impl Connection<'_> {
    async fn serve(mut self) {
        let watch = Rc::clone(&self.watch);
        loop {
            match watch.in_time(|context| self.poll(context)).await {
                Ok(Over) => return,
                Err(TooLate) if self.phase == Phase::Idle => self.stay_idle(),
                Err(TooLate) => return,
            }
        }
    }

    /// Reads, answers and sends all there is.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Over> {
        self.meter.begin_turn();
        if self.watch.is_draining() {
            self.leave();
        }
        loop {
            if self.poll_accept(context).is_ready() {
                return Poll::Ready(Over);
            }
            let have_come = !self.accepted.is_empty();
            self.answer_all(context);
            // Each that is done has something to be sent.
            let mut are_done = false;
            while let Poll::Ready(Some(())) = self.waiting.poll_next_unpin(context) {
                are_done = true;
            }
            if !(have_come || are_done) {
                break;
            }
        }
        if self.has_lingered() && self.waiting.is_empty() && !self.meter.is_blocked() {
            return Poll::Ready(Over);
        }
        if self.phase == Phase::Pinged && self.pings.poll_pong(context).is_ready() {
            self.enter(Phase::Busy);
        }
        self.enter(match self.phase {
            _ if self.meter.is_blocked() => Phase::Writing,
            _ if !self.waiting.is_empty() => Phase::Busy,
            _ if self.leaving.is_some() => Phase::Leaving,
            Phase::Pinged => Phase::Pinged,
            _ => Phase::Idle,
        });
        Poll::Pending
    }

    /// Takes all requests that have come, and sends what there is to send.
    fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<Over> {
        while self.waiting.len() + self.accepted.len() < STREAMS {
            match self.h2.poll_accept(context) {
                Poll::Ready(Some(Ok(request))) => self.accepted.push(request),
                Poll::Ready(Some(Err(error))) => {
                    tracing::debug!(client = %self.link.peer.address, "HTTP/2: {error}");
                    return Poll::Ready(Over);
                }
                Poll::Ready(None) => return Poll::Ready(Over),
                Poll::Pending => return Poll::Pending,
            }
        }
        self.h2.poll_closed(context).map(|_| Over)
    }

    fn answer_all(&mut self, context: &mut Context<'_>) {
        let mut accepted = mem::take(&mut self.accepted);
        if !accepted.is_empty() {
            self.enter(Phase::Busy);
            self.idle = Stopwatch::start();
        }
        for (request, respond) in accepted.drain(..) {
            self.answer(request, respond, context);
        }
        self.accepted = accepted;
    }

    /// Answers a request, or remembers it.
    fn answer(&self, request: Request<RecvStream>, respond: SendResponse<Bytes>, context: &mut Context<'_>) {
        let (head, body) = request.into_parts();
        let mut responder = Responder::new(self.link, respond, head.method == http::Method::HEAD);
        let begun = match request::check(&head) {
            Ok(()) => Asked::new(self.link, &self.link.local.app.server(), &head).answer(&mut responder),
            Err(malformed) => Begun::Malformed(malformed),
        };
        let finishing = match begun {
            Begun::Answered => None,
            Begun::Malformed(malformed) => return exchange::refuse(self.link, &malformed, &mut responder),
            Begun::Waits(waiting) => {
                let incoming = Incoming::new(body, request::length(&head), waiting.most_body());
                request::begin(waiting, incoming, responder, self.link.local.patience.body, context)
            }
        };
        // Most answers wait for nothing but a body, which may be there already.
        if let Some(mut finishing) = finishing
            && finishing.as_mut().poll(context).is_pending()
        {
            self.waiting.push(finishing);
        }
    }

    /// Begins to wait for something, unless it waits for it already.
    fn enter(&mut self, phase: Phase) {
        if mem::replace(&mut self.phase, phase) == phase {
            return;
        }
        let patience = &self.link.local.patience;
        match phase {
            Phase::Idle => self.watch.idle_for(QUIET.min(patience.idle.saturating_sub(self.idle.elapsed()))),
            Phase::Writing => self.watch.due_within(patience.body),
            Phase::Pinged => self.watch.due_within(patience.head),
            Phase::Leaving => self.watch.due_within(LINGER),
            // Each request has a limit of its own.
            Phase::Busy => self.watch.due_within(Duration::MAX),
        }
    }

    /// Nothing was heard for a while.
    fn stay_idle(&mut self) {
        // Sweeps are rarely exact.
        let is_over = self.idle.elapsed() + TICK >= self.link.local.patience.idle || self.watch.is_draining();
        if is_over || self.pings.send_ping(Ping::opaque()).is_err() {
            self.leave();
        } else {
            self.enter(Phase::Pinged);
        }
    }

    fn has_lingered(&self) -> bool {
        self.leaving.is_some_and(|leaving| leaving.elapsed() >= LINGER)
    }

    /// Tells the client to ask for nothing more; what it has asked is answered.
    fn leave(&mut self) {
        if self.leaving.is_none() {
            self.leaving = Some(Stopwatch::start());
            self.h2.graceful_shutdown();
        }
    }
}
