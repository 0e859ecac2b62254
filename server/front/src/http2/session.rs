//! The HTTP/2 protocol state of a connection, without its socket: received bytes in, bytes to send
//! out.
//!
//! A request without a body is one HEADERS frame. If [`Service::respond`] answers it at once, it
//! takes no task, no future and no entry in the stream table.

mod bodies;
mod control;
mod exchanges;
mod requests;

use std::{
    mem,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{
    StreamExt as _,
    future::{Abortable, Aborted},
    stream::FuturesUnordered,
};

use super::{
    error::{Http2Error, Http2ErrorCode},
    frame::{self, FRAME_HEADER_LENGTH, Frame, MAX_31_BITS, MAX_PAYLOAD, flag, kind},
    hpack::DynamicTable,
    preface::PREFACE,
    response::FrameWriter,
    settings,
    stream::{Http2StreamState, ResetStreams, Streams},
};
use crate::{
    abuse_budget::AbuseBudget,
    clock::Stopwatch,
    connection::ConnectionContext,
    frame_stream::FrameSession,
    message::{BODY_TOO_SLOW, Reply},
    request_memory::{ConnectionMemory, HeldMemory, MemoryExceeded, MemoryPurpose},
    service::{PendingRequest as _, Service},
};

/// Maximum concurrent requests per connection (`SETTINGS_MAX_CONCURRENT_STREAMS`). Envoy opens at
/// most 100 unless the server allows more.
const MAX_CONCURRENT_STREAMS: usize = 128;
/// Largest capacity of the stream table that an idle connection keeps.
const MAX_IDLE_STREAM_CAPACITY: usize = 32;
/// Initial flow-control windows of a stream and of the connection. They are replenished as soon as
/// data arrives, so that an honest client never waits. The memory for bodies is bounded by the
/// limit on one body and the number of streams, not by these windows.
pub(super) const STREAM_WINDOW: usize = 64 * 1024;
const CONNECTION_WINDOW: usize = 256 * 1024;
/// Size of the [send buffer](FrameWriter::bytes) above which no more frames are parsed: a few bytes
/// can request a large output.
const MAX_OUTGOING: usize = 32 * 1024;
/// Time a client has to close the connection after the first GOAWAY, even if it sends more
/// requests.
pub(super) const LINGER_TIMEOUT: Duration = Duration::from_secs(2);

/// The protocol state of a connection: its [`Streams`], windows, and [`AbuseBudget`].
pub(super) struct Http2Session<'c, S: Service> {
    connection: ConnectionContext<'c, S>,
    has_preface: bool,
    has_settings: bool,
    dynamic_table: DynamicTable,
    /// A field block whose CONTINUATION frames have not all arrived.
    block: Option<requests::FieldBlock<'c>>,
    streams: Streams<'c, S>,
    /// Replies that are not ready yet. Resetting a stream aborts its reply.
    pending_replies: FuturesUnordered<Abortable<PendingReply<'c>>>,
    /// The streams whose requests and responses are streams, and perhaps some that have ended.
    exchanges: Vec<u32>,
    reset_streams: ResetStreams,
    /// The highest stream identifier received.
    last: u32,
    /// Receive window of the connection that is left until the next WINDOW_UPDATE.
    credit: usize,
    abuse_budget: AbuseBudget,
    state: CloseState,
    /// Whether a request arrived since [`take_has_new_request`](Self::take_has_new_request).
    has_new_request: bool,
    /// Whether a drain began since [`take_has_new_drain`](Self::take_has_new_drain).
    has_new_drain: bool,
    outgoing: FrameWriter<'c>,
    memory: Rc<ConnectionMemory<'c>>,
    /// Memory held by input that is not parsed yet.
    held_input: HeldMemory<'c>,
}

/// The reply to the request of a stream, once it is ready; `None` if it was written in parts.
type PendingReply<'c> = Pin<Box<dyn Future<Output = (u32, Option<Reply>)> + 'c>>;

/// Progress of a graceful shutdown (RFC 9113 section 6.8).
#[derive(Clone, Copy, Debug)]
enum CloseState {
    Open,
    /// The first GOAWAY was sent. Requests in flight are still answered.
    ShuttingDown(Stopwatch),
    /// The final GOAWAY was sent, with this last stream.
    Closing(u32),
    /// A GOAWAY with an error was sent.
    Failed,
}

impl<'c, S: Service> Http2Session<'c, S> {
    /// A new connection: SETTINGS and a WINDOW_UPDATE are the first frames to send.
    pub(super) fn new(connection: ConnectionContext<'c, S>) -> Self {
        let mut outgoing = FrameWriter::new(connection.alt_svc());
        let more = CONNECTION_WINDOW - outgoing.initial as usize;
        settings::write(
            &mut outgoing.bytes,
            count(MAX_CONCURRENT_STREAMS),
            count(STREAM_WINDOW),
            count(connection.worker.limits.head_bytes),
        );
        frame::window_update(&mut outgoing.bytes, 0, count(more));
        let memory = ConnectionMemory::new(connection);
        Self {
            connection,
            has_preface: false,
            has_settings: false,
            dynamic_table: DynamicTable::default(),
            block: None,
            streams: Streams::default(),
            pending_replies: FuturesUnordered::new(),
            exchanges: Vec::new(),
            reset_streams: ResetStreams::default(),
            last: 0,
            credit: CONNECTION_WINDOW,
            abuse_budget: AbuseBudget::default(),
            state: CloseState::Open,
            has_new_request: false,
            has_new_drain: false,
            outgoing,
            held_input: memory.hold_nothing(MemoryPurpose::Other),
            memory,
        }
    }

    /// Holds memory for input that is kept, and closes the connection of a client whose unfinished
    /// requests hold too much.
    fn hold_input(&mut self, bytes: usize) -> Result<(), Http2Error> {
        if self.memory.is_abused() {
            return Err(TOO_MUCH_MEMORY);
        }
        // Room for one frame belongs to the connection, as its TLS record does. Without it, a
        // request could not even be refused.
        let beyond_a_frame = bytes.saturating_sub(FRAME_HEADER_LENGTH + MAX_PAYLOAD);
        self.held_input.resize(beyond_a_frame).map_err(input_error)
    }

    /// Releases the memory of a burst, as the next one may be far away.
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
                return Err(Http2Error::protocol("invalid connection preface"));
            }
            if length < PREFACE.len() {
                return Ok(());
            }
            *bytes = &bytes[length..];
            self.has_preface = true;
        }
        let settings = self.connection.worker.service.settings();
        while !self.is_full()
            && let Some(frame) = Frame::take(bytes)?
        {
            self.handle_frame(frame, &settings)?;
        }
        Ok(())
    }

    fn handle_frame(&mut self, frame: Frame<'_>, settings: &S::Settings) -> Result<(), Http2Error> {
        let may_begin = frame.kind == kind::SETTINGS && !frame.has(flag::ACK);
        if !mem::replace(&mut self.has_settings, true) && !may_begin {
            return Err(Http2Error::protocol("the first frame of a client is not SETTINGS"));
        }
        if self.block.is_some() && frame.kind != kind::CONTINUATION {
            return Err(Http2Error::protocol("a frame interrupts a field block"));
        }
        match frame.kind {
            kind::HEADERS => self.headers(frame, settings),
            kind::DATA => self.data(frame),
            kind::CONTINUATION => self.continuation(frame, settings),
            kind::RST_STREAM => self.reset(frame),
            kind::WINDOW_UPDATE => self.window_update(frame),
            kind::SETTINGS => self.settings(frame),
            kind::PING => self.ping(frame),
            kind::GOAWAY => self.goaway(frame),
            kind::PRIORITY => self.priority(frame),
            kind::PUSH_PROMISE => Err(Http2Error::protocol("a client sent PUSH_PROMISE")),
            _ => self.abuse_budget.charge_control_frame(),
        }
    }

    /// Sends the replies that have become ready.
    pub(super) fn poll_replies(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some(ready)) = self.pending_replies.poll_next_unpin(cx) {
            match ready {
                Ok((id, Some(reply))) => self.reply(id, &reply),
                Ok((id, None)) => self.finish_handler(id),
                Err(Aborted) => {}
            }
            self.release_memory();
        }
        self.advance_exchanges();
    }

    /// Whether the connection can close once the send buffer is empty.
    pub(super) fn is_finished(&self) -> bool {
        match self.state {
            CloseState::Open | CloseState::ShuttingDown(_) => false,
            CloseState::Closing(_) => self.streams.is_empty(),
            CloseState::Failed => true,
        }
    }

    /// Whether any request is unfinished.
    pub(super) fn has_streams(&self) -> bool {
        !self.streams.is_empty()
    }

    /// Whether the preface has arrived and no field block is incomplete.
    pub(super) fn is_between_requests(&self) -> bool {
        self.has_settings && self.block.is_none()
    }

    /// Returns and clears whether a request arrived.
    pub(super) fn take_has_new_request(&mut self) -> bool {
        mem::take(&mut self.has_new_request)
    }

    /// Returns and clears whether a drain began, so that the next deadline may be earlier.
    pub(super) fn take_has_new_drain(&mut self) -> bool {
        mem::take(&mut self.has_new_drain)
    }

    /// Returns the time that is left to a client after the first GOAWAY.
    pub(super) fn shutdown_time_left(&self) -> Option<Duration> {
        match self.state {
            CloseState::ShuttingDown(since) => Some(LINGER_TIMEOUT.saturating_sub(since.elapsed())),
            _ => None,
        }
    }

    /// Returns the time until the first stream has waited for its client for `limit`, or has been
    /// drained for long enough.
    pub(super) fn time_to_deadline(&self, limit: Duration) -> Duration {
        let times = self.streams.values().filter_map(|stream| stream.time_left(limit));
        times.min().unwrap_or(limit)
    }

    /// Ends the streams that have waited for their client for `limit`, and those that have been
    /// drained for long enough.
    pub(super) fn expire(&mut self, limit: Duration) {
        let expired = self
            .streams
            .iter()
            .filter(|(_, stream)| stream.time_left(limit) == Some(Duration::ZERO));
        for id in expired.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.end_drain(id);
            let Some(stream) = self.streams.remove(&id) else { continue };
            let response = stream.response(id);
            match stream.state {
                Http2StreamState::Body(incoming) => {
                    self.memory.record_slow_body();
                    self.send(&incoming.pending.refuse(&BODY_TOO_SLOW), response);
                    // The body has had its time.
                    self.end_drain(id);
                }
                Http2StreamState::Streaming(_) => {
                    self.memory.record_slow_body();
                    self.reset_stream(id, Http2ErrorCode::Cancel, response.is_open);
                }
                _ => self.reset_stream(id, Http2ErrorCode::Cancel, response.is_open),
            }
        }
        if self.memory.is_abused() {
            self.fail(TOO_MUCH_MEMORY);
        }
    }

    /// Begins a graceful shutdown: asks the client to open no more streams. Requests already sent
    /// or in flight are answered.
    pub(super) fn begin_shutdown(&mut self) {
        if let CloseState::Open = self.state {
            self.state = CloseState::ShuttingDown(Stopwatch::start());
            frame::goaway(&mut self.outgoing.bytes, MAX_31_BITS, SHUTDOWN);
            // When the client acknowledges this ping, it has seen the GOAWAY, and no more requests
            // are in flight.
            frame::frame(
                &mut self.outgoing.bytes,
                kind::PING,
                flag::NONE,
                0,
                &control::SHUTDOWN_PING,
            );
        }
    }

    /// Sends the final GOAWAY, with the last stream that is processed.
    pub(super) fn finish_shutdown(&mut self) {
        if let CloseState::Open | CloseState::ShuttingDown(_) = self.state {
            self.state = CloseState::Closing(self.last);
            frame::goaway(&mut self.outgoing.bytes, self.last, SHUTDOWN);
        }
    }

    /// Pings an idle client to find out whether the connection is alive.
    pub(super) fn send_keepalive_ping(&mut self) {
        frame::frame(&mut self.outgoing.bytes, kind::PING, flag::NONE, 0, &control::KEEPALIVE_PING);
    }

    /// Closes the connection with an error.
    pub(super) fn fail(&mut self, error: Http2Error) {
        tracing::debug!(client = %self.connection.peer.address, code = ?error.code, "HTTP/2: {}", error.reason);
        if error.code == Http2ErrorCode::EnhanceYourCalm {
            self.connection.record_abuse();
        }
        let last = if let CloseState::Closing(last) = self.state { last } else { self.last };
        frame::goaway(&mut self.outgoing.bytes, last, error);
        self.state = CloseState::Failed;
        self.streams.clear();
        self.pending_replies.clear();
    }
}

impl<S: Service> FrameSession for Http2Session<'_, S> {
    fn receive(&mut self, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        let consumed = self.take_frames(&mut rest).and_then(|()| self.hold_input(rest.len()));
        self.release_memory();
        if let Err(error) = consumed {
            self.fail(error);
            return bytes.len();
        }
        bytes.len() - rest.len()
    }

    fn outgoing(&mut self) -> &mut Vec<u8> {
        &mut self.outgoing.bytes
    }

    fn is_full(&self) -> bool {
        self.outgoing.bytes.len() >= MAX_OUTGOING
    }
}

/// Returns the error of a connection whose input cannot be kept. Only the client itself is to blame
/// for its own share; that of its source, and of the process, may be held by others.
const fn input_error(exceeded: MemoryExceeded) -> Http2Error {
    match exceeded {
        MemoryExceeded::Connection => TOO_MUCH_MEMORY,
        MemoryExceeded::Source | MemoryExceeded::Process => Http2Error::new(
            Http2ErrorCode::NoError,
            "unfinished requests of all connections hold too much memory",
        ),
    }
}

const TOO_MUCH_MEMORY: Http2Error =
    Http2Error::new(Http2ErrorCode::EnhanceYourCalm, "unfinished requests hold too much memory");
const SHUTDOWN: Http2Error = Http2Error::new(Http2ErrorCode::NoError, "");

/// Converts a setting or a length of a window, all of which fit.
fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
