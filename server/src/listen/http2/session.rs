//! What a connection speaks, without its socket: frames come in as bytes, and answers go
//! out as bytes.
//!
//! A question of a proxy, which is one frame, leaves nothing behind: no task, no future,
//! no entry in a table.

mod bodies;
mod control;
mod requests;

use std::{
    mem,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{StreamExt as _, future::Abortable, stream::FuturesUnordered};

use super::{
    answer::FrameWriter,
    fault::{Http2Error, Http2ErrorCode},
    frame::{self, Frame, MAX_31_BITS, flag, kind},
    hpack::DynamicTable,
    patience::AbuseBudget,
    preface::PREFACE,
    settings,
    stream::{Http2Stream, Http2StreamState, ResetStreams, Streams},
};
use crate::{
    clock::Stopwatch, config::Server, http::BODY_TOO_SLOW, listen::exchange::ConnectionContext,
    routes::Reply,
};

/// The requests that a client may have waiting at a time. Envoy asks for 100 and more
/// only of those that allow it.
const MAX_CONCURRENT_STREAMS: usize = 128;
/// For how many a connection keeps room that has none waiting.
const MAX_IDLE_STREAM_CAPACITY: usize = 32;
/// The longest list of header fields, each with 32 bytes more (RFC 9113 section 6.5.2):
/// what a head of HTTP/1 may have.
const MAX_FIELD_SECTION_SIZE: usize = 32 * 1024;
/// What a client may have on its way of one body, and of all together. It may send as much
/// again as soon as that has come, so that no honest one has to wait: what is kept of
/// bodies is bounded by how long one may be, and by how many streams there are.
const STREAM_WINDOW: usize = 64 * 1024;
const CONNECTION_WINDOW: usize = 256 * 1024;
/// How much is to be sent when nothing more is taken: few bytes can ask for many.
const MAX_OUTGOING: usize = 32 * 1024;
/// How long a client that was told to go may take, whatever else it asks.
pub(super) const LINGER_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection, as far as it is bytes.
pub(super) struct Http2Session<'c> {
    context: ConnectionContext<'c>,
    has_preface: bool,
    has_settings: bool,
    dynamic_table: DynamicTable,
    /// A field section that is not all there.
    block: Option<requests::FieldBlock>,
    streams: Streams<'c>,
    /// Answers that take a while, unless their requests are taken back.
    waiting: FuturesUnordered<Abortable<Answering<'c>>>,
    reset_streams: ResetStreams,
    /// The last request that has come.
    last: u32,
    /// How much more all bodies together may be before the client hears of it.
    credit: usize,
    abuse_budget: AbuseBudget,
    state: CloseState,
    /// Whether a request has come since this was asked.
    has_new_request: bool,
    outgoing: FrameWriter<'c>,
}

/// The answer to the request of a stream.
type Answering<'c> = Pin<Box<dyn Future<Output = (u32, Reply)> + 'c>>;

/// How far a connection has come to its end (RFC 9113 section 6.8).
#[derive(Clone, Copy, Debug)]
enum CloseState {
    Open,
    /// The client was told to ask for nothing more. What is on its way is answered.
    ShuttingDown(Stopwatch),
    /// It was told which request was the last.
    Closing(u32),
    /// It was told what is wrong.
    Failed,
}

impl<'c> Http2Session<'c> {
    /// A connection on which nothing was said yet.
    pub(super) fn new(context: ConnectionContext<'c>) -> Self {
        let mut outgoing = FrameWriter::new(context);
        let more = CONNECTION_WINDOW - outgoing.initial as usize;
        settings::write(
            &mut outgoing.bytes,
            count(MAX_CONCURRENT_STREAMS),
            count(STREAM_WINDOW),
            count(MAX_FIELD_SECTION_SIZE),
        );
        frame::window_update(&mut outgoing.bytes, 0, count(more));
        Self {
            context,
            has_preface: false,
            has_settings: false,
            dynamic_table: DynamicTable::default(),
            block: None,
            streams: Streams::default(),
            waiting: FuturesUnordered::new(),
            reset_streams: ResetStreams::default(),
            last: 0,
            credit: CONNECTION_WINDOW,
            abuse_budget: AbuseBudget::default(),
            state: CloseState::Open,
            has_new_request: false,
            outgoing,
        }
    }

    /// Takes the frames that `bytes` begin with, and returns how many bytes those are.
    /// There may be more when there [is enough to be sent](Self::is_full).
    pub(super) fn receive(&mut self, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        let taken = self.take_frames(&mut rest);
        self.release_memory();
        if let Err(fault) = taken {
            self.fail(fault);
            return bytes.len();
        }
        bytes.len() - rest.len()
    }

    /// Gives back the memory of a busy moment: it may be long until the next one.
    fn release_memory(&mut self) {
        self.dynamic_table.release_memory();
        if self.streams.is_empty() && self.streams.capacity() > MAX_IDLE_STREAM_CAPACITY {
            self.streams = Streams::default();
        }
    }

    fn take_frames(&mut self, bytes: &mut &[u8]) -> Result<(), Http2Error> {
        if !self.has_preface {
            let length = PREFACE.len().min(bytes.len());
            if bytes[..length] != PREFACE[..length] {
                return Err(Http2Error::protocol("a connection begins in another way"));
            }
            if length < PREFACE.len() {
                return Ok(());
            }
            *bytes = &bytes[length..];
            self.has_preface = true;
        }
        let server = self.context.worker.app.server();
        while !self.is_full()
            && let Some(frame) = Frame::take(bytes)?
        {
            self.handle_frame(frame, &server)?;
        }
        Ok(())
    }

    fn handle_frame(&mut self, frame: Frame<'_>, server: &Server) -> Result<(), Http2Error> {
        let may_begin = frame.kind == kind::SETTINGS && !frame.has(flag::ACK);
        if !mem::replace(&mut self.has_settings, true) && !may_begin {
            return Err(Http2Error::protocol("a client begins with something else than settings"));
        }
        if self.block.is_some() && frame.kind != kind::CONTINUATION {
            return Err(Http2Error::protocol(
                "something else is between the parts of a field section",
            ));
        }
        match frame.kind {
            kind::HEADERS => self.headers(frame, server),
            kind::DATA => self.data(frame),
            kind::CONTINUATION => self.continuation(frame, server),
            kind::RST_STREAM => self.reset(frame),
            kind::WINDOW_UPDATE => self.window_update(frame),
            kind::SETTINGS => self.settings(frame),
            kind::PING => self.ping(frame),
            kind::GOAWAY => self.goaway(frame),
            kind::PRIORITY => self.priority(frame),
            kind::PUSH_PROMISE => Err(Http2Error::protocol("a client pushes")),
            _ => self.abuse_budget.charge_control_frame(),
        }
    }

    /// Takes the answers that have taken a while.
    pub(super) fn poll_replies(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some(answer)) = self.waiting.poll_next_unpin(cx) {
            if let Ok((id, reply)) = answer {
                self.reply(id, &reply);
            }
            self.release_memory();
        }
    }

    /// What is to be sent.
    pub(super) fn outgoing(&mut self) -> &mut Vec<u8> {
        &mut self.outgoing.bytes
    }

    /// Whether so much is to be sent that nothing more is taken before it is.
    pub(super) fn is_full(&self) -> bool {
        self.outgoing.bytes.len() >= MAX_OUTGOING
    }

    /// Whether nothing is to be said any more, once everything is sent.
    pub(super) fn is_finished(&self) -> bool {
        match self.state {
            CloseState::Open | CloseState::ShuttingDown(_) => false,
            CloseState::Closing(_) => self.streams.is_empty(),
            CloseState::Failed => true,
        }
    }

    /// Whether requests are not done with.
    pub(super) fn has_streams(&self) -> bool {
        !self.streams.is_empty()
    }

    /// Whether it has begun, and not with a part of something.
    pub(super) fn is_between_requests(&self) -> bool {
        self.has_settings && self.block.is_none()
    }

    /// Whether a request has come since this was asked.
    pub(super) fn take_has_new_request(&mut self) -> bool {
        mem::take(&mut self.has_new_request)
    }

    /// How long a client that was told to go may still take.
    pub(super) fn shutdown_time_left(&self) -> Option<Duration> {
        match self.state {
            CloseState::ShuttingDown(since) => Some(LINGER_TIMEOUT.saturating_sub(since.elapsed())),
            _ => None,
        }
    }

    /// How long it is until a request has waited for its client for so long.
    pub(super) fn time_to_deadline(&self, limit: Duration) -> Duration {
        let first = self.streams.values().filter_map(Http2Stream::since).min();
        first.map_or(limit, |since| limit.saturating_sub(since.elapsed()))
    }

    /// Gives up the requests that have waited for their client for so long.
    pub(super) fn expire(&mut self, limit: Duration) {
        let late = self
            .streams
            .iter()
            .filter(|(_, stream)| stream.since().is_some_and(|since| since.elapsed() >= limit));
        for id in late.map(|(id, _)| *id).collect::<Vec<_>>() {
            let Some(stream) = self.streams.remove(&id) else { continue };
            match stream.state {
                Http2StreamState::Body(incoming) => {
                    let reply = incoming.waiting.refuse(&BODY_TOO_SLOW);
                    self.send(id, &reply, stream.window, stream.is_head, stream.is_open);
                }
                Http2StreamState::Answering(_) | Http2StreamState::Sending { .. } => {
                    self.reset_stream(id, Http2ErrorCode::Cancel, stream.is_open)
                }
            }
        }
    }

    /// Tells the client to ask for nothing more; what it has asked is answered, and what
    /// is on its way.
    pub(super) fn begin_shutdown(&mut self) {
        if let CloseState::Open = self.state {
            self.state = CloseState::ShuttingDown(Stopwatch::start());
            frame::goaway(&mut self.outgoing.bytes, MAX_31_BITS, SHUTDOWN);
            // To which it is answered when nothing more is on its way.
            frame::frame(
                &mut self.outgoing.bytes,
                kind::PING,
                flag::NONE,
                0,
                &control::SHUTDOWN_PING,
            );
        }
    }

    /// Tells it which of its requests was the last.
    pub(super) fn finish_shutdown(&mut self) {
        if let CloseState::Open | CloseState::ShuttingDown(_) = self.state {
            self.state = CloseState::Closing(self.last);
            frame::goaway(&mut self.outgoing.bytes, self.last, SHUTDOWN);
        }
    }

    /// Asks a client whether it is there.
    pub(super) fn send_keepalive_ping(&mut self) {
        frame::frame(&mut self.outgoing.bytes, kind::PING, flag::NONE, 0, &control::KEEPALIVE_PING);
    }

    /// Ends the connection.
    pub(super) fn fail(&mut self, fault: Http2Error) {
        tracing::debug!(client = %self.context.peer.address, code = ?fault.code, "HTTP/2: {}", fault.reason);
        if fault.code == Http2ErrorCode::EnhanceYourCalm {
            self.context.record_abuse();
        }
        let last = if let CloseState::Closing(last) = self.state { last } else { self.last };
        frame::goaway(&mut self.outgoing.bytes, last, fault);
        self.state = CloseState::Failed;
        self.streams.clear();
        self.waiting.clear();
    }
}

const SHUTDOWN: Http2Error = Http2Error::new(Http2ErrorCode::NoError, "");

/// A number of ours, which are all small.
fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
