//! An HTTP/3 connection. One pass reads stream data, answers the requests that can be answered at
//! once, and writes the responses.
//!
//! A request without a body usually arrives in one piece. If [`Service::respond`] answers it at
//! once, it takes no task, no future and no entry in the stream table.

mod exchanges;

use std::{
    collections::HashMap,
    mem,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use quinn_proto::{Dir, Event, ReadError, Side, StreamEvent, StreamId, VarInt, WriteError};

use super::{
    control,
    error::{Http3Error, Http3ErrorCode},
    frame,
    response::Http3ResponseWriter,
    stream::{Http3Stream, StreamStep, TOO_MUCH_MEMORY},
    unidirectional::{CriticalStreams, StreamAction, UnidirectionalStream},
};
use crate::{
    abuse_budget::AbuseBudget,
    clock::{self, Stopwatch},
    connection::ConnectionContext,
    deadline::{Deadline, DeadlineElapsed, TICK},
    message::{BODY_TOO_SLOW, Reply},
    quic::{ConnectionDriver, MAX_CONCURRENT_STREAMS},
    request_memory::ConnectionMemory,
    service::{PendingRequest as _, Service},
};

/// An HTTP/3 connection: a [`ConnectionDriver`] and the state of its streams.
pub(super) struct Http3Connection<'c, S: Service> {
    connection: ConnectionContext<'c, S>,
    deadline: Rc<Deadline>,
    driver: ConnectionDriver,
    /// Unfinished requests.
    streams: HashMap<StreamId, Box<Http3Stream<'c, S>>>,
    /// Replies that are not ready yet.
    pending_replies: FuturesUnordered<PendingReply<'c>>,
    /// The streams whose requests and responses are streams, and perhaps some that have ended.
    exchanges: Vec<StreamId>,
    /// Unidirectional streams that the client opened.
    unidirectional: HashMap<StreamId, UnidirectionalStream>,
    opened: CriticalStreams,
    /// The server's control stream.
    control: Option<StreamId>,
    /// Index of the first request stream that has not been opened, sent in GOAWAY.
    next_request: u64,
    /// Its requests are charged, not its control frames.
    abuse_budget: AbuseBudget,
    state: Http3CloseState,
    phase: Http3Phase,
    /// Time since the last request.
    idle: Stopwatch,
    memory: Rc<ConnectionMemory<'c>>,
    /// Data read from one stream; kept to reuse its memory.
    pieces: Vec<Bytes>,
}

/// The reply to the request of a stream, once it is ready; `None` if it was written in parts.
type PendingReply<'c> = Pin<Box<dyn Future<Output = (StreamId, Option<Reply>)> + 'c>>;

/// Progress of a shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Http3CloseState {
    Open,
    /// GOAWAY was sent. Requests received before it are still answered.
    ShuttingDown,
    /// The connection is closed, except for packets in flight.
    Closed,
}

/// The phase of a connection, named by what it waits for. Each phase has its own timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Http3Phase {
    /// Nothing, or a close that is in progress.
    Busy,
    /// A request.
    Idle,
    /// Open streams: the rest of a request, or window for a response.
    Streams,
    /// The client, to close after GOAWAY.
    ShuttingDown,
}

/// The connection has closed and is drained.
struct Http3Closed;

/// Progress of the receiving part of a stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StreamEnd {
    /// More data may arrive.
    Open,
    /// All data has been received.
    Finished,
    /// The client has reset it.
    Reset,
}

impl<'c, S: Service> Http3Connection<'c, S> {
    /// A connection whose handshake is complete.
    pub(super) fn new(
        connection: ConnectionContext<'c, S>,
        deadline: Rc<Deadline>,
        driver: ConnectionDriver,
    ) -> Self {
        Self {
            connection,
            deadline,
            driver,
            streams: HashMap::new(),
            pending_replies: FuturesUnordered::new(),
            exchanges: Vec::new(),
            unidirectional: HashMap::new(),
            opened: CriticalStreams::default(),
            control: None,
            next_request: 0,
            abuse_budget: AbuseBudget::default(),
            state: Http3CloseState::Open,
            phase: Http3Phase::Busy,
            idle: Stopwatch::start(),
            memory: ConnectionMemory::new(connection),
            pieces: Vec::new(),
        }
    }

    /// Serves the connection until it is drained.
    pub(super) async fn serve(mut self) {
        let deadline = Rc::clone(&self.deadline);
        deadline.due_within(Duration::MAX);
        self.open_control();
        loop {
            match deadline.poll_fn(|cx| self.poll(cx)).await {
                Ok(Http3Closed) => return,
                Err(DeadlineElapsed) => self.handle_deadline(),
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Http3Closed> {
        self.driver.poll_in(cx);
        if self.deadline.is_draining() {
            self.begin_shutdown();
        }
        loop {
            let mut made_progress = false;
            while let Some(event) = self.driver.connection.poll() {
                self.handle_event(event);
                made_progress = true;
            }
            while let Poll::Ready(Some((id, reply))) = self.pending_replies.poll_next_unpin(cx) {
                match reply {
                    Some(reply) => self.reply(id, &reply),
                    None => self.finish_handler(id),
                }
                made_progress = true;
            }
            made_progress |= self.advance_exchanges();
            if !made_progress {
                break;
            }
        }
        if self.driver.poll_out(cx).is_ready() {
            return Poll::Ready(Http3Closed);
        }
        self.enter_phase(match self.state {
            Http3CloseState::Closed => Http3Phase::Busy,
            _ if !self.streams.is_empty() => Http3Phase::Streams,
            Http3CloseState::ShuttingDown => Http3Phase::ShuttingDown,
            Http3CloseState::Open => Http3Phase::Idle,
        });
        Poll::Pending
    }

    fn handle_event(&mut self, event: Event) {
        match event {
            Event::ConnectionLost { reason } => {
                tracing::debug!(client = %self.connection.peer.address, "QUIC: {reason}");
                self.end();
            }
            _ if self.state == Http3CloseState::Closed => {}
            Event::Stream(StreamEvent::Opened { dir }) => {
                while let Some(id) = self.driver.connection.streams().accept(dir) {
                    match dir {
                        Dir::Bi => self.accept(id),
                        Dir::Uni => self.receive_unidirectional(id),
                    }
                }
            }
            Event::Stream(StreamEvent::Readable { id }) => match id.dir() {
                Dir::Bi => self.receive(id),
                Dir::Uni => self.receive_unidirectional(id),
            },
            Event::Stream(StreamEvent::Writable { id }) => self.write(id),
            Event::Stream(StreamEvent::Stopped { id, .. }) => self.cancel(id),
            Event::Stream(StreamEvent::Finished { .. }) => self.abuse_budget.credit_response(),
            _ => {}
        }
    }

    /// Accepts a request stream.
    fn accept(&mut self, id: StreamId) {
        // A cancelled request stays among the pending replies until it is ready.
        let is_at_limit = self.pending_replies.len() >= MAX_CONCURRENT_STREAMS as usize;
        if self.state == Http3CloseState::ShuttingDown || is_at_limit {
            return self.refuse(id, Http3ErrorCode::RequestRejected);
        }
        self.next_request = self.next_request.max(id.index() + 1);
        (self.phase, self.idle) = (Http3Phase::Busy, Stopwatch::start());
        let stream = Http3Stream::new(&self.connection.worker.limits, &self.memory);
        self.receive_from(id, stream);
    }

    /// Continues an unfinished request.
    fn receive(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.remove(&id) {
            self.receive_from(id, *stream);
        }
    }

    fn receive_from(&mut self, id: StreamId, mut stream: Http3Stream<'c, S>) {
        let end = self.read(id, stream.room());
        if end == StreamEnd::Reset {
            if !stream.is_draining() {
                self.cancel(id);
            }
            // Otherwise the client ends an upload that was answered early, as the server would have
            // done.
            return;
        }
        let mut response = Vec::new();
        self.connection.worker.buffers.lend_output(&mut response);
        let is_end = end == StreamEnd::Finished;
        match stream.receive(self.connection, &self.pieces, is_end, &mut response) {
            Ok(StreamStep::NeedsData) => self.keep(id, stream),
            Ok(StreamStep::Done) => self.send(id, &response, stream),
            Ok(StreamStep::Oversized) => {
                self.send(id, &response, stream);
                // More than the response refills.
                self.charge(2);
            }
            Ok(StreamStep::Wait(reply)) => {
                self.streams.insert(id, Box::new(stream));
                self.pending_replies.push(Box::pin(async move { (id, Some(reply.await)) }));
            }
            Ok(StreamStep::Stream(handler)) => {
                self.streams.insert(id, Box::new(stream));
                self.exchanges.push(id);
                self.pending_replies.push(Box::pin(async move {
                    handler.await;
                    (id, None)
                }));
            }
            Err(error) => self.fail(id, error),
        }
        self.pieces.clear();
        self.connection.worker.buffers.return_output(&mut response);
        self.close_if_abused();
    }

    /// Closes the connection of a client whose unfinished requests hold too much memory, again and
    /// again.
    fn close_if_abused(&mut self) {
        if self.memory.is_abused() {
            self.close(TOO_MUCH_MEMORY);
        }
    }

    /// Keeps a stream whose request or response is not finished.
    fn keep(&mut self, id: StreamId, mut stream: Http3Stream<'c, S>) {
        let received = self.pieces.iter().map(Bytes::len).sum();
        if stream.discard(received) {
            self.stop(id);
        } else if !(stream.is_draining() && stream.is_ended()) {
            self.streams.insert(id, Box::new(stream));
        }
    }

    /// Stops receiving a request whose response is complete (RFC 9114 section 4.1).
    fn stop(&mut self, id: StreamId) {
        let code = quic_code(Http3ErrorCode::NoError);
        let _ignored = self.driver.connection.recv_stream(id).stop(code);
    }

    /// Reads the available data of a stream into [`pieces`](Self::pieces), at most `max` bytes.
    fn read(&mut self, id: StreamId, max: usize) -> StreamEnd {
        self.pieces.clear();
        let mut stream = self.driver.connection.recv_stream(id);
        let Ok(mut chunks) = stream.read(true) else { return StreamEnd::Open };
        let mut left = max;
        let end = loop {
            if left == 0 {
                break StreamEnd::Open;
            }
            match chunks.next(left) {
                Ok(Some(chunk)) => {
                    left -= chunk.bytes.len();
                    self.pieces.push(chunk.bytes);
                }
                Ok(None) => break StreamEnd::Finished,
                Err(ReadError::Blocked) => break StreamEnd::Open,
                Err(ReadError::Reset(_)) => break StreamEnd::Reset,
            }
        };
        // Flow-control updates are sent with the next packets, in [`poll`](Self::poll).
        let _ignored = chunks.finalize();
        end
    }

    /// Sends a reply that has become ready.
    fn reply(&mut self, id: StreamId, reply: &Reply) {
        // The request may have been cancelled meanwhile.
        let Some(stream) = self.streams.remove(&id) else { return };
        let mut response = Vec::new();
        self.connection.worker.buffers.lend_output(&mut response);
        Http3ResponseWriter::new(&mut response, stream.is_head()).write(reply);
        self.send(id, &response, *stream);
        self.connection.worker.buffers.return_output(&mut response);
    }

    /// Sends a response. What the client's window does not allow yet is kept. The rest of the
    /// request is drained after it.
    fn send(&mut self, id: StreamId, response: &[u8], mut stream: Http3Stream<'c, S>) {
        let mut out = self.driver.connection.send_stream(id);
        let mut sent = 0;
        while sent < response.len() {
            match out.write(&response[sent..]) {
                Ok(length) => sent += length,
                Err(WriteError::Blocked) => break,
                // A separate event reports that the client stopped the stream.
                Err(WriteError::Stopped(_) | WriteError::ClosedStream) => return,
            }
        }
        if sent < response.len() {
            if !stream.is_ended() {
                self.stop(id);
            }
            match stream.send_later(response[sent..].into()) {
                Ok(()) => drop(self.streams.insert(id, Box::new(stream))),
                Err(_) => self.refuse(id, Http3ErrorCode::RequestCancelled),
            }
            return;
        }
        let _ignored = out.finish();
        if !stream.is_ended() {
            stream.drain();
            self.streams.insert(id, Box::new(stream));
            // Its deadline may be the next one.
            self.phase = Http3Phase::Busy;
        }
    }

    /// Resumes a response for which the client granted window.
    fn write(&mut self, id: StreamId) {
        if let Some(unsent) = self.streams.get_mut(&id).and_then(|stream| stream.take_unsent())
            && let Some(stream) = self.streams.remove(&id)
        {
            self.send(id, &unsent, *stream);
        }
        self.advance_exchange(id);
    }

    /// Handles a request that the client cancelled, and charges the budget.
    fn cancel(&mut self, id: StreamId) {
        if id.dir() == Dir::Uni {
            return self.fail(
                id,
                Http3Error::new(
                    Http3ErrorCode::ClosedCriticalStream,
                    "the client closed our control stream",
                ),
            );
        }
        self.streams.remove(&id);
        self.refuse(id, Http3ErrorCode::RequestCancelled);
        self.charge(1);
    }

    /// Charges a request that was cancelled or malformed, at the price of that many responses.
    fn charge(&mut self, responses: u32) {
        if let Err(error) = self.abuse_budget.charge_request(responses) {
            self.close(error);
        }
    }

    fn fail(&mut self, id: StreamId, error: Http3Error) {
        tracing::debug!(client = %self.connection.peer.address, code = ?error.code, "HTTP/3: {}", error.reason);
        if error.ends_connection() {
            return self.close(error);
        }
        self.refuse(id, error.code);
        self.charge(1);
    }

    /// Resets and stops both directions of a request stream.
    fn refuse(&mut self, id: StreamId, reason: Http3ErrorCode) {
        // Either direction may have ended already.
        let _ignored = self.driver.connection.recv_stream(id).stop(quic_code(reason));
        let _ignored = self.driver.connection.send_stream(id).reset(quic_code(reason));
    }

    /// Handles data on a unidirectional stream.
    fn receive_unidirectional(&mut self, id: StreamId) {
        let end = self.read(id, usize::MAX);
        let stream = self.unidirectional.entry(id).or_default();
        let mut action = Ok(StreamAction::Read);
        for piece in &self.pieces {
            action = action.and_then(|_| stream.read(piece, &mut self.opened));
        }
        self.pieces.clear();
        let is_over = end != StreamEnd::Open;
        if is_over {
            action = action.and_then(|_| stream.end()).map(|()| StreamAction::Read);
        }
        if is_over || action == Ok(StreamAction::Stop) {
            self.unidirectional.remove(&id);
        }
        match action {
            Err(error) => self.fail(id, error),
            Ok(StreamAction::Stop) => {
                let _ignored = self
                    .driver
                    .connection
                    .recv_stream(id)
                    .stop(quic_code(Http3ErrorCode::StreamCreationError));
            }
            Ok(StreamAction::Read) => {}
        }
    }

    fn open_control(&mut self) {
        self.control = self.driver.connection.streams().open(Dir::Uni);
        let mut bytes = Vec::new();
        control::open(&mut bytes, self.connection.worker.limits.head_bytes as u64);
        self.write_control(&bytes);
    }

    fn write_control(&mut self, bytes: &[u8]) {
        if let Some(id) = self.control {
            // Control frames are few and small, and the client grants window for them.
            let _ignored = self.driver.connection.send_stream(id).write(bytes);
        }
    }

    /// Acts on an elapsed deadline.
    fn handle_deadline(&mut self) {
        match self.phase {
            Http3Phase::Streams => self.expire(),
            Http3Phase::Idle => self.begin_shutdown(),
            Http3Phase::ShuttingDown | Http3Phase::Busy => {
                self.close(Http3Error::new(Http3ErrorCode::NoError, ""))
            }
        }
        // The next phase sets its own deadline.
        self.phase = Http3Phase::Busy;
        self.deadline.due_within(Duration::MAX);
    }

    /// Ends requests that have made no progress within the body timeout, and those that have been
    /// drained for long enough.
    fn expire(&mut self) {
        let limit = self.connection.worker.timeouts.body;
        let streams = self.streams.iter();
        let expired = streams.filter(|(_, stream)| stream.time_left(limit) == Some(Duration::ZERO));
        for id in expired.map(|(id, _)| *id).collect::<Vec<_>>() {
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            if let Some(pending) = stream.take_pending() {
                self.memory.record_slow_body();
                self.reply(id, &pending.refuse(&BODY_TOO_SLOW));
            } else if !stream.is_draining() {
                if stream.exchange().is_some() {
                    self.memory.record_slow_body();
                }
                self.streams.remove(&id);
                self.refuse(id, Http3ErrorCode::RequestCancelled);
            }
            // A body that was too slow has had its time.
            if self.streams.get(&id).is_some_and(|stream| stream.is_draining()) {
                self.streams.remove(&id);
                self.stop(id);
            }
        }
        self.close_if_abused();
    }

    /// Returns the time until the first stream expires.
    fn time_to_deadline(&self) -> Duration {
        let limit = self.connection.worker.timeouts.body;
        self.streams.values().filter_map(|stream| stream.time_left(limit)).min().unwrap_or(limit)
    }

    /// Starts the timeout of a phase, unless the connection is already in it.
    fn enter_phase(&mut self, phase: Http3Phase) {
        if mem::replace(&mut self.phase, phase) == phase {
            return;
        }
        let timeouts = &self.connection.worker.timeouts;
        match phase {
            Http3Phase::Idle => {
                self.deadline.idle_for(timeouts.idle.saturating_sub(self.idle.elapsed()))
            }
            Http3Phase::Streams => self.deadline.due_within(self.time_to_deadline()),
            Http3Phase::ShuttingDown => self.deadline.due_within(TICK),
            Http3Phase::Busy => self.deadline.due_within(Duration::MAX),
        }
    }

    /// Begins a graceful shutdown: asks the client to send no more requests. Those already received
    /// are answered.
    fn begin_shutdown(&mut self) {
        if self.state == Http3CloseState::Open {
            self.state = Http3CloseState::ShuttingDown;
            let mut bytes = Vec::new();
            frame::goaway(
                &mut bytes,
                StreamId::new(Side::Client, Dir::Bi, self.next_request).into(),
            );
            self.write_control(&bytes);
        }
    }

    fn close(&mut self, error: Http3Error) {
        // Several events of one batch may each close the connection.
        if self.state == Http3CloseState::Closed {
            return;
        }
        if error.code == Http3ErrorCode::ExcessiveLoad {
            self.connection.record_abuse();
        }
        let reason = Bytes::from_static(error.reason.as_bytes());
        self.driver.connection.close(clock::instant(), quic_code(error.code), reason);
        self.end();
    }

    /// Marks the connection as closed, and drops all requests.
    fn end(&mut self) {
        self.state = Http3CloseState::Closed;
        self.streams.clear();
        self.pending_replies.clear();
        self.unidirectional.clear();
    }
}

/// Converts an error code to quinn's type.
fn quic_code(code: Http3ErrorCode) -> VarInt {
    VarInt::from_u64(code.number()).unwrap_or(VarInt::MAX)
}
