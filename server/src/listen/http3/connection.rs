//! One connection that speaks HTTP/3: what comes over its streams is read, answered on
//! the spot where that is possible, and written, all in one go.
//!
//! A question of a proxy that has come in one piece, as they do, leaves nothing behind:
//! no task, no future, no entry in a table.

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
    answer::Http3ResponseWriter,
    control,
    fault::{Http3Error, Http3ErrorCode},
    frame,
    stream::{Http3Stream, MAX_FIELD_SECTION_SIZE, StreamStep},
    unidirectional::{CriticalStreams, StreamAction, UnidirectionalStream},
};
use crate::{
    clock::{self, Stopwatch},
    http::BODY_TOO_SLOW,
    listen::{
        exchange::ConnectionContext,
        quic::{ConnectionDriver, MAX_CONCURRENT_STREAMS},
        watch::{Deadline, DeadlineElapsed, TICK},
    },
    routes::Reply,
};

/// A connection that speaks HTTP/3.
pub(super) struct Http3Connection<'c> {
    context: ConnectionContext<'c>,
    deadline: Rc<Deadline>,
    driver: ConnectionDriver,
    /// The requests that are not done with.
    streams: HashMap<StreamId, Http3Stream<'c>>,
    /// Answers that take a while.
    waiting: FuturesUnordered<Answering<'c>>,
    /// The client's streams that go one way.
    unidirectional: HashMap<StreamId, UnidirectionalStream>,
    opened: CriticalStreams,
    /// Our control stream.
    control: Option<StreamId>,
    /// The number of the first request that has not come yet.
    next_request: u64,
    /// How many more requests may be taken back.
    resets_left: u32,
    state: Http3CloseState,
    phase: Http3Phase,
    /// Since the last request.
    idle: Stopwatch,
    /// What has just come over a stream.
    pieces: Vec<Bytes>,
}

/// The answer to the request of a stream.
type Answering<'c> = Pin<Box<dyn Future<Output = (StreamId, Reply)> + 'c>>;

/// How many requests a client may take back beyond the answers that it has received.
const MAX_RESETS: u32 = 256;

/// How far a connection has come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Http3CloseState {
    Open,
    /// The client was told to ask for nothing more.
    ShuttingDown,
    /// It is over, but for what is still on its way.
    Closed,
}

/// What a connection waits for, each for a time of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Http3Phase {
    /// Nothing, or us.
    Busy,
    /// A request.
    Idle,
    /// The client, to send the rest of a request, or to take an answer.
    Streams,
    /// The client, to go as it was told.
    ShuttingDown,
}

/// The connection is over.
struct Http3Closed;

/// How it stands with what comes over a stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StreamEnd {
    /// More is to come.
    Open,
    /// It is all there.
    Finished,
    /// The client has taken it back.
    Reset,
}

impl<'c> Http3Connection<'c> {
    /// A connection whose handshake is done.
    pub(super) fn new(
        context: ConnectionContext<'c>,
        deadline: Rc<Deadline>,
        driver: ConnectionDriver,
    ) -> Self {
        Self {
            context,
            deadline,
            driver,
            streams: HashMap::new(),
            waiting: FuturesUnordered::new(),
            unidirectional: HashMap::new(),
            opened: CriticalStreams::default(),
            control: None,
            next_request: 0,
            resets_left: MAX_RESETS,
            state: Http3CloseState::Open,
            phase: Http3Phase::Busy,
            idle: Stopwatch::start(),
            pieces: Vec::new(),
        }
    }

    /// Serves it to its end.
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
            while let Poll::Ready(Some((id, reply))) = self.waiting.poll_next_unpin(cx) {
                self.reply(id, &reply);
                made_progress = true;
            }
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
                tracing::debug!(client = %self.context.peer.address, "QUIC: {reason}");
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
            Event::Stream(StreamEvent::Finished { .. }) => {
                self.resets_left = MAX_RESETS.min(self.resets_left + 1)
            }
            _ => {}
        }
    }

    /// A new request.
    fn accept(&mut self, id: StreamId) {
        // Answers that nobody waits for any more are still on their way.
        let are_too_many = self.waiting.len() >= MAX_CONCURRENT_STREAMS as usize;
        if self.state == Http3CloseState::ShuttingDown || are_too_many {
            return self.refuse(id, Http3ErrorCode::RequestRejected);
        }
        self.next_request = self.next_request.max(id.index() + 1);
        (self.phase, self.idle) = (Http3Phase::Busy, Stopwatch::start());
        self.receive_from(id, Http3Stream::new());
    }

    /// More of a request that is not all there.
    fn receive(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.remove(&id) {
            self.receive_from(id, stream);
        }
    }

    fn receive_from(&mut self, id: StreamId, mut stream: Http3Stream<'c>) {
        let end = self.read(id);
        if end == StreamEnd::Reset {
            return self.cancel(id);
        }
        let mut answer = Vec::new();
        self.context.worker.buffers.lend_output(&mut answer);
        match stream.receive(self.context, &self.pieces, end == StreamEnd::Finished, &mut answer) {
            Ok(StreamStep::More) => drop(self.streams.insert(id, stream)),
            Ok(StreamStep::Answered) => self.send(id, &answer, end),
            Ok(StreamStep::Waits(reply)) => {
                self.streams.insert(id, stream);
                self.waiting.push(Box::pin(async move { (id, reply.await) }));
            }
            Err(fault) => self.fail(id, fault),
        }
        self.pieces.clear();
        self.context.worker.buffers.return_output(&mut answer);
    }

    /// Reads what has come over a stream.
    fn read(&mut self, id: StreamId) -> StreamEnd {
        self.pieces.clear();
        let mut stream = self.driver.connection.recv_stream(id);
        let Ok(mut chunks) = stream.read(true) else { return StreamEnd::Open };
        let end = loop {
            match chunks.next(usize::MAX) {
                Ok(Some(chunk)) => self.pieces.push(chunk.bytes),
                Ok(None) => break StreamEnd::Finished,
                Err(ReadError::Blocked) => break StreamEnd::Open,
                Err(ReadError::Reset(_)) => break StreamEnd::Reset,
            }
        };
        // What there is to say about windows is said with everything else.
        let _is_to_be_sent = chunks.finalize();
        end
    }

    /// An answer that took a while.
    fn reply(&mut self, id: StreamId, reply: &Reply) {
        // Unless the request was taken back.
        let Some(stream) = self.streams.remove(&id) else { return };
        let mut answer = Vec::new();
        self.context.worker.buffers.lend_output(&mut answer);
        Http3ResponseWriter::new(&mut answer, stream.is_head()).write(reply);
        self.send(id, &answer, StreamEnd::Open);
        self.context.worker.buffers.return_output(&mut answer);
    }

    /// Sends an answer. What the client does not take now is kept for later.
    fn send(&mut self, id: StreamId, answer: &[u8], end: StreamEnd) {
        let mut stream = self.driver.connection.send_stream(id);
        let mut sent = 0;
        while sent < answer.len() {
            match stream.write(&answer[sent..]) {
                Ok(length) => sent += length,
                Err(WriteError::Blocked) => break,
                // It was stopped, which is an event of its own.
                Err(WriteError::Stopped(_) | WriteError::ClosedStream) => return,
            }
        }
        if sent == answer.len() {
            let _stopped = stream.finish();
        } else {
            self.streams.insert(id, Http3Stream::sending(answer[sent..].into()));
        }
        if end == StreamEnd::Open {
            // Whatever else it wants to say, it is answered (RFC 9114 section 4.1).
            let _all_there =
                self.driver.connection.recv_stream(id).stop(quic_code(Http3ErrorCode::NoError));
        }
    }

    /// The client takes more of an answer.
    fn write(&mut self, id: StreamId) {
        if let Some(unsent) = self.streams.get_mut(&id).and_then(Http3Stream::take_unsent) {
            self.streams.remove(&id);
            self.send(id, &unsent, StreamEnd::Finished);
        }
    }

    /// The client has taken a request back.
    fn cancel(&mut self, id: StreamId) {
        if id.dir() == Dir::Uni {
            return self.fail(
                id,
                Http3Error::new(
                    Http3ErrorCode::ClosedCriticalStream,
                    "the control stream is needed",
                ),
            );
        }
        self.streams.remove(&id);
        self.refuse(id, Http3ErrorCode::RequestCancelled);
        self.resets_left = self.resets_left.saturating_sub(1);
        if self.resets_left == 0 {
            self.close(Http3Error::new(
                Http3ErrorCode::ExcessiveLoad,
                "too many requests are taken back",
            ));
        }
    }

    fn fail(&mut self, id: StreamId, fault: Http3Error) {
        tracing::debug!(client = %self.context.peer.address, code = ?fault.code, "HTTP/3: {}", fault.reason);
        if fault.ends_connection() { self.close(fault) } else { self.refuse(id, fault.code) }
    }

    /// Ends a request's stream both ways.
    fn refuse(&mut self, id: StreamId, reason: Http3ErrorCode) {
        // Whichever way has ended already.
        let _is_over = self.driver.connection.recv_stream(id).stop(quic_code(reason));
        let _is_over = self.driver.connection.send_stream(id).reset(quic_code(reason));
    }

    /// Something of a stream that goes one way.
    fn receive_unidirectional(&mut self, id: StreamId) {
        let end = self.read(id);
        let stream = self.unidirectional.entry(id).or_default();
        let mut interest = Ok(StreamAction::Read);
        for piece in &self.pieces {
            interest = interest.and_then(|_| stream.read(piece, &mut self.opened));
        }
        self.pieces.clear();
        let is_over = end != StreamEnd::Open;
        if is_over {
            interest = interest.and_then(|_| stream.end()).map(|()| StreamAction::Read);
        }
        if is_over || interest == Ok(StreamAction::Stop) {
            self.unidirectional.remove(&id);
        }
        match interest {
            Err(fault) => self.fail(id, fault),
            Ok(StreamAction::Stop) => {
                let _is_over = self
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
        control::open(&mut bytes, MAX_FIELD_SECTION_SIZE as u64);
        self.write_control(&bytes);
    }

    fn write_control(&mut self, bytes: &[u8]) {
        if let Some(id) = self.control {
            // They are few in the life of a connection, and there is a window for them.
            let _stopped = self.driver.connection.send_stream(id).write(bytes);
        }
    }

    /// Something has taken too long.
    fn handle_deadline(&mut self) {
        match self.phase {
            Http3Phase::Streams => self.expire(),
            Http3Phase::Idle => self.begin_shutdown(),
            Http3Phase::ShuttingDown | Http3Phase::Busy => {
                self.close(Http3Error::new(Http3ErrorCode::NoError, ""))
            }
        }
        // To be waited for anew.
        self.phase = Http3Phase::Busy;
        self.deadline.due_within(Duration::MAX);
    }

    /// Gives up the requests that have not got on for too long.
    fn expire(&mut self) {
        let limit = self.context.worker.timeouts.body;
        let late =
            self.streams.iter().filter(|(_, stream)| stream.is_late(limit)).map(|(id, _)| *id);
        for id in late.collect::<Vec<_>>() {
            match self.streams.get_mut(&id).and_then(Http3Stream::take_waiting) {
                Some(waiting) => self.reply(id, &waiting.refuse(&BODY_TOO_SLOW)),
                None => {
                    self.streams.remove(&id);
                    self.refuse(id, Http3ErrorCode::RequestCancelled);
                }
            }
        }
    }

    /// Begins to wait for something, unless it waits for it already.
    fn enter_phase(&mut self, phase: Http3Phase) {
        if mem::replace(&mut self.phase, phase) == phase {
            return;
        }
        let timeouts = &self.context.worker.timeouts;
        match phase {
            Http3Phase::Idle => {
                self.deadline.idle_for(timeouts.idle.saturating_sub(self.idle.elapsed()))
            }
            Http3Phase::Streams => self.deadline.due_within(timeouts.body),
            Http3Phase::ShuttingDown => self.deadline.due_within(TICK),
            Http3Phase::Busy => self.deadline.due_within(Duration::MAX),
        }
    }

    /// Tells the client to ask for nothing more; what it has asked is answered.
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

    fn close(&mut self, fault: Http3Error) {
        // Of what came together, more than one thing may be too much.
        if self.state == Http3CloseState::Closed {
            return;
        }
        if fault.code == Http3ErrorCode::ExcessiveLoad {
            self.context.record_abuse();
        }
        let reason = Bytes::from_static(fault.reason.as_bytes());
        self.driver.connection.close(clock::instant(), quic_code(fault.code), reason);
        self.end();
    }

    /// Nothing is answered any more.
    fn end(&mut self) {
        self.state = Http3CloseState::Closed;
        self.streams.clear();
        self.waiting.clear();
        self.unidirectional.clear();
    }
}

/// A code as quinn has it.
fn quic_code(code: Http3ErrorCode) -> VarInt {
    VarInt::from_u64(code.number()).unwrap_or(VarInt::MAX)
}
